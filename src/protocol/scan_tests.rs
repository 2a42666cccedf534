//! That the request scanner never looks back: what it has passed is overwritten, and it must not notice.
//! The framing itself is tested against the oracle in tests/scanner.

use super::*;
use crate::protocol::request::Args;

/// What a scanner goes on to look at in a request of bulk strings starts here: all before is passed.
fn passed(scanner: &RequestScanner) -> usize {
    if scanner.state == State::Start { 0 } else { scanner.pos }
}

/// Scans `request` as it comes in, `step` bytes at a time. What was passed is overwritten with bytes
/// that would end any request. The scanner, the number of calls and the largest number of bytes that
/// any call left to be looked at again.
fn scan_forgetting(request: &[u8], step: usize) -> (RequestScanner, usize, usize) {
    let mut scanner = RequestScanner::new();
    let mut buffer = Vec::with_capacity(request.len());
    let (mut forgotten, mut calls, mut again) = (0, 0, 0);
    for piece in request.chunks(step) {
        buffer.extend_from_slice(piece);
        calls += 1;
        match scanner.scan(&buffer, &Limits::default(), true).unwrap() {
            Scanned::More(least) => assert!(least > buffer.len()),
            done => {
                assert_eq!((done, buffer.len()), (Scanned::Request(request.len()), request.len()));
                return (scanner, calls, again);
            }
        }
        let now = passed(&scanner);
        assert!(now >= forgotten, "from {forgotten} back to {now}");
        let upto = now.min(buffer.len());
        buffer[forgotten..upto].fill(b'\n');
        forgotten = upto;
        if scanner.state == State::BulkHeader {
            again = again.max(buffer.len() - upto);
        }
    }
    panic!("no whole request in {calls} calls");
}

fn array(count: usize, arg: &[u8]) -> Vec<u8> {
    let one = [format!("${}\r\n", arg.len()).as_bytes(), arg, b"\r\n"].concat();
    [format!("*{count}\r\n").into_bytes(), one.repeat(count)].concat()
}

/// Every byte is passed once; only an unfinished length line, of less than 22 bytes, is read again by the
/// next call. So the work is linear in the bytes and the calls.
#[test]
fn a_million_elements_in_pieces_of_a_kibibyte() {
    let request = array(1_000_000, b"value");
    let (scanner, calls, again) = scan_forgetting(&request, 1024);
    assert_eq!(calls, request.len().div_ceil(1024));
    assert!(again < 22, "{again} bytes are looked at again");
    let args = Args::new(&request, scanner.spans());
    assert_eq!(args.len(), 1_000_000);
    assert!(args.iter().all(|arg| arg == b"value"));
}

#[test]
fn a_mebibyte_a_byte_at_a_time() {
    for request in [array(95_000, b"value"), array(1, &[b'x'; 1 << 20]), array(170_000, b"")] {
        let (_, calls, again) = scan_forgetting(&request, 1);
        assert_eq!(calls, request.len());
        assert!(again < 22, "{again} bytes are looked at again");
    }
}

/// An inline command is searched for its end once; `\n` in what was searched would be found.
#[test]
fn a_long_line_a_byte_at_a_time() {
    let limits = Limits { inline_bytes: 2 << 20, ..Limits::default() };
    let mut scanner = RequestScanner::new();
    let mut buffer = Vec::new();
    for at in 0..1 << 20 {
        buffer.push(b'a');
        assert_eq!(scanner.scan(&buffer, &limits, true), Ok(Scanned::More(at + 2)));
        assert_eq!(scanner.pos, buffer.len());
        if at > 0 {
            buffer[at] = b'\n';
        }
    }
    assert_eq!(scanner.inline.capacity() + scanner.spans.capacity(), 0);
}

/// The rest of a line behind a NUL is looked at once, too.
#[test]
fn a_nul_ends_the_search_for_good() {
    let mut scanner = RequestScanner::new();
    let mut buffer = b"GET a\0".to_vec();
    for _ in 0..1000 {
        assert_eq!(scanner.scan(&buffer, &Limits::default(), true), Ok(Scanned::More(buffer.len() + 1)));
        assert_eq!(scanner.pos, 5);
        buffer.extend_from_slice(b"b\n");
    }
}

#[test]
fn nothing_is_allocated_by_a_claim() {
    let mut scanner = RequestScanner::new();
    let claim = b"*1048576\r\n$536870912\r\n";
    assert_eq!(
        scanner.scan(claim, &Limits::default(), true),
        Ok(Scanned::More(claim.len() + (512 << 20) + 2))
    );
    assert_eq!(scanner.spans.capacity(), 0);
}

#[test]
fn reset_gives_back_what_a_large_request_took() {
    let mut scanner = RequestScanner::new();
    for (count, kept) in [(10, true), (SPANS_KEPT * 2, false)] {
        let request = array(count, b"v");
        assert_eq!(scanner.scan(&request, &Limits::default(), true), Ok(Scanned::Request(request.len())));
        assert_eq!(scanner.spans().len(), count);
        scanner.reset();
        assert_eq!(scanner.spans.capacity() > 0, kept);
    }
    assert_eq!(scanner.scan(b"PING\r\n", &Limits::default(), true), Ok(Scanned::Inline(6)));
    assert_eq!(scanner.inline_frame(), b"*1\r\n$4\r\nPING\r\n");
    scanner.reset();
    assert!(scanner.inline_frame().is_empty());
}

#[test]
fn length_lines() {
    let read = |text: &str| read_length(text.as_bytes(), 0);
    for number in [0, 1, 9, 10, 123_456, 999_999_999_999_999_999, -1, -9, -10, -999_999_999_999_999_999] {
        let text = format!("{number}\r\n");
        assert_eq!(read(&text), Line::Number(number, text.len()));
        for end in 0..text.len() {
            assert_eq!(read(&text[..end]), Line::More, "{:?}", &text[..end]);
        }
    }
    for bad in [
        "\r\n",
        "00\r\n",
        "01\r\n",
        "-0\r\n",
        "-01\r\n",
        "--1\r\n",
        "-\r\n",
        "+1\r\n",
        "1x\r\n",
        "1000000000000000000\r\n",
    ] {
        assert_eq!(read(bad), Line::Bad, "{bad:?}");
    }
    assert_eq!(read("1\rx"), Line::Number(1, 3), "as in Redis, the byte after \\r is not looked at");
    assert_eq!(read_length(b"1\r\n", 7), Line::More);
}
