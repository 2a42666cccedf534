//! Broken and hostile requests: Redis' own errors (checked against redis-server 7.0.15 by hand), bounded
//! memory, and never a panic.

use proptest::prelude::*;
use slotway::protocol::scan::{RequestScanner, Scanned};
use slotway::protocol::{Limits, ProtocolError};

use super::requests::{Seen, read};
use super::{bytes_of, cases, cuts, pieces};

/// The error of a stream, which must not depend on whether it arrives at once or a byte at a time.
fn error_with(stream: &[u8], limits: &Limits, authenticated: bool) -> ProtocolError {
    let at_once = read(&[stream], limits, authenticated);
    let Some(Seen::Error(error)) = at_once.last() else { panic!("{stream:?}: {at_once:?}") };
    assert_eq!(read(&bytes_of(stream), limits, authenticated), at_once, "{stream:?}");
    *error
}

fn error(stream: &[u8]) -> String {
    error_with(stream, &Limits::default(), true).to_string()
}

fn waits(stream: &[u8], limits: &Limits, authenticated: bool) -> bool {
    read(&[stream], limits, authenticated) == [Seen::Rest(stream.len())]
}

#[test]
fn multibulk_lengths() {
    for line in ["", "x", " 1", "1 ", "+1", "-", "-0", "--1", "01", "-01", "00", "1-", "0x1", "1.0"] {
        assert_eq!(error(format!("*{line}\r\n").as_bytes()), "invalid multibulk length", "{line:?}");
    }
    for line in
        ["1048577", "2147483647", "9223372036854775807", "9223372036854775808", "99999999999999999999999"]
    {
        assert_eq!(error(format!("*{line}\r\n").as_bytes()), "invalid multibulk length", "{line:?}");
    }
    for line in ["0", "-1", "-5", "-2147483648"] {
        let stream = format!("*{line}\r\n*1\r\n$4\r\nPING\r\n");
        let seen = read(&bytes_of(stream.as_bytes()), &Limits::default(), true);
        assert_eq!(seen[0], Seen::Nothing(line.len() + 3));
        assert_eq!(seen[1], Seen::Request(14, vec![b"PING".to_vec()]));
    }
    assert!(waits(b"*1048576\r\n", &Limits::default(), true));
}

#[test]
fn bulk_lengths() {
    for line in
        ["", "x", " 1", "1 ", "+1", "-", "-0", "-1", "-2", "01", "00", "536870913", "9223372036854775808"]
    {
        assert_eq!(error(format!("*2\r\n${line}\r\n").as_bytes()), "invalid bulk length", "{line:?}");
    }
    assert!(waits(b"*1\r\n$536870912\r\n", &Limits::default(), true));
    assert_eq!(error(b"*1\r\n:1\r\n"), "expected '$', got ':'");
    assert_eq!(error(b"*2\r\n$1\r\na\r\n*1\r\n"), "expected '$', got '*'");
}

#[test]
fn lines_without_an_end() {
    let limits = Limits { inline_bytes: 100, ..Limits::default() };
    for (start, byte, text) in [
        ("*", b'1', "too big mbulk count string"),
        ("*", b'-', "too big mbulk count string"),
        ("*1\r\n$", b'1', "too big bulk count string"),
        ("", b'a', "too big inline request"),
        ("a", b'\0', "too big inline request"),
    ] {
        let endless = [start.as_bytes(), &[byte; 200]].concat();
        assert_eq!(error_with(&endless, &limits, true).to_string(), text);
        let ended = [&endless[..], b"\r\n"].concat();
        assert_eq!(error_with(&ended, &limits, true).to_string(), text, "what is too long stays so");
        assert!(waits(&endless[..99], &limits, true));
    }
    for (len, fits) in [(99, true), (100, false)] {
        let line = [&[b'a'; 100][..len], b"\r\n"].concat();
        let whole = Seen::Request(len + 2, vec![vec![b'a'; len]]);
        let too_big = Seen::Error(ProtocolError::InlineTooBig);
        let expected = [if fits { whole } else { too_big }];
        assert_eq!(read(&[&line], &limits, true), expected);
        assert_eq!(read(&bytes_of(&line), &limits, true), expected);
    }
}

#[test]
fn quotes() {
    for line in ["GET \"a\r\n", "GET 'a\r\n", "GET 'a'b\r\n", "GET \"a\"'b'\r\n", "\"\r\n"] {
        assert_eq!(error(line.as_bytes()), "unbalanced quotes in request", "{line:?}");
    }
}

#[test]
fn limits_of_the_configuration() {
    let limits = Limits { bulk_bytes: 10, elements: 3, inline_bytes: 64, request_bytes: 40 };
    assert_eq!(error_with(b"*4\r\n", &limits, true), ProtocolError::MultibulkLength);
    assert_eq!(error_with(b"*1\r\n$11\r\n", &limits, true), ProtocolError::BulkLength);
    let three = b"*3\r\n$10\r\n0123456789\r\n$10\r\n0123456789\r\n$1\r\n";
    assert_eq!(error_with(three, &limits, true), ProtocolError::RequestTooBig);
    let fits = b"*2\r\n$10\r\n0123456789\r\n$10\r\n01234567\r\n\r\n";
    assert_eq!(fits.len(), 38);
    assert!(matches!(read(&[fits], &limits, true)[..], [Seen::Request(38, _)]));
    let exact = Limits { request_bytes: 38, ..limits };
    assert!(matches!(read(&[fits], &exact, true)[..], [Seen::Request(38, _)]));
    let short = Limits { request_bytes: 37, ..limits };
    assert_eq!(error_with(fits, &short, true), ProtocolError::RequestTooBig);
}

#[test]
fn before_auth() {
    let limits = Limits::default().unauthenticated();
    let text = |stream: &[u8]| error_with(stream, &limits, false).to_string();
    assert_eq!(text(b"*11\r\n"), "unauthenticated multibulk length");
    assert_eq!(text(b"*2147483647\r\n"), "unauthenticated multibulk length");
    assert_eq!(text(b"*2147483648\r\n"), "invalid multibulk length");
    assert_eq!(text(b"*1\r\n$16385\r\n"), "unauthenticated bulk length");
    assert_eq!(text(b"*1\r\n$536870913\r\n"), "invalid bulk length");
    assert_eq!(text(b"*1\r\n$-1\r\n"), "invalid bulk length");
    assert!(waits(b"*10\r\n$16384\r\n", &limits, false));
}

#[test]
fn a_span_never_leaves_32_bits() {
    let limits = Limits { bulk_bytes: 8 << 30, request_bytes: u64::MAX, ..Limits::default() };
    assert_eq!(error_with(b"*1\r\n$4294967295\r\n", &limits, true), ProtocolError::RequestTooBig);
    assert_eq!(error_with(b"*1\r\n$8589934592\r\n", &limits, true), ProtocolError::RequestTooBig);
    for digits in 10..19 {
        let stream = format!("*1\r\n${}\r\n", "9".repeat(digits));
        assert_eq!(error_with(stream.as_bytes(), &Limits::unlimited(), true), ProtocolError::RequestTooBig);
    }
}

/// A line of signs must not nest: it once did, once per sign.
#[test]
fn a_megabyte_of_signs() {
    let limits = Limits { inline_bytes: usize::MAX, ..Limits::default() };
    for start in ["*", "*1\r\n$"] {
        let stream = [start.as_bytes(), &vec![b'-'; 1 << 20], b"1\r\n"].concat();
        assert!(matches!(read(&[&stream], &limits, true)[..], [Seen::Error(_)]));
    }
}

/// Requests have no depth: an array inside one is an error at once.
#[test]
fn nested_arrays() {
    let nested = b"*1\r\n".repeat(100_000);
    assert_eq!(error_with(&nested, &Limits::default(), true), ProtocolError::ExpectedBulk(b'*'));
}

fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let telling = ["\r\n", "*", "$", "1", "*2\r\n", "$1\r\na\r\n", "-", "\0", "\"", "99999999", "GET "];
    let telling = proptest::sample::select(telling.to_vec());
    let random = proptest::collection::vec(any::<u8>(), 0..6);
    let piece = prop_oneof![3 => telling.prop_map(|text| text.as_bytes().to_vec()), 1 => random];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn garbage_reads_the_same_however_it_comes(garbage in garbage(), cuts in cuts(), open in any::<bool>()) {
        let limits = if open { Limits::default() } else { Limits::default().unauthenticated() };
        let at_once = read(&[&garbage], &limits, open);
        prop_assert_eq!(&read(&pieces(&garbage, &cuts), &limits, open), &at_once);
        prop_assert_eq!(&read(&bytes_of(&garbage), &limits, open), &at_once);
        let taken = |seen: &Seen| match seen {
            Seen::Request(len, _) | Seen::Nothing(len) | Seen::Rest(len) => *len,
            Seen::Error(_) => 0,
        };
        let sum: usize = at_once.iter().map(taken).sum();
        prop_assert!(sum == garbage.len() || matches!(at_once.last(), Some(Seen::Error(_))));
    }

    /// What a scanner holds is bounded by what it was given, not by what it was told.
    #[test]
    fn memory_follows_the_input(garbage in garbage()) {
        let mut scanner = RequestScanner::new();
        let scanned = scanner.scan(&garbage, &Limits::default(), true);
        prop_assert!(scanner.spans().len() <= garbage.len());
        prop_assert!(scanner.inline_frame().len() <= 10 + 7 * garbage.len());
        if let Ok(Scanned::Request(len) | Scanned::Inline(len) | Scanned::Nothing(len)) = scanned {
            prop_assert!(len <= garbage.len());
        }
    }
}
