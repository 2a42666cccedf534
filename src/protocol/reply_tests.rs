//! That the reply scanner never looks back: what it has passed is overwritten, and it must not notice.
//! The framing itself is tested against the oracle in tests/scanner.

use super::*;

/// Scans `reply` as it comes in, `step` bytes at a time, overwriting what was passed with bytes that are
/// no reply, and what was searched of a line with ends of lines. Cuts the passed bytes off once there
/// are more than `keep`, as when a reply passes through. The most bytes any call looked at again.
fn scan_forgetting(reply: &[u8], step: usize, keep: usize) -> usize {
    let mut scanner = ReplyScanner::new();
    let mut buffer = Vec::with_capacity(reply.len().min(keep) + step);
    let (mut forgotten, mut searched, mut again, mut given, mut cut) = (0, 0, 0, 0, 0);
    for piece in reply.chunks(step) {
        given += piece.len();
        buffer.extend_from_slice(piece);
        if let Some(len) = scanner.scan(&buffer).unwrap() {
            assert_eq!((cut + len, given), (reply.len(), reply.len()));
            return again;
        }
        let now = scanner.passable(buffer.len());
        assert!(now >= forgotten, "from {forgotten} back to {now}");
        buffer[forgotten..now].fill(b'\r');
        // The byte that says what kind of line it is stays: it is looked at again.
        if let Some(line) = buffer.get_mut(searched.max(now + 1)..scanner.searched) {
            line.fill(b'\r');
        }
        searched = scanner.searched;
        again = again.max(buffer.len().saturating_sub(now.max(scanner.searched)));
        forgotten = now;
        if now > keep {
            scanner.rebase(now);
            drop(buffer.drain(..now));
            cut += now;
            (forgotten, searched) = (0, scanner.searched);
        }
    }
    panic!("no whole reply");
}

/// Work is linear in the bytes and the calls: only an unfinished length line is read again.
#[test]
fn a_million_elements_in_pieces_of_a_kibibyte() {
    let reply = [&b"*1000000\r\n"[..], &b"$5\r\nvalue\r\n".repeat(1_000_000)].concat();
    for keep in [usize::MAX, 16 << 10] {
        let again = scan_forgetting(&reply, 1024, keep);
        assert!(again < 22, "{again} bytes are looked at again");
    }
}

#[test]
fn a_mebibyte_a_byte_at_a_time() {
    let long = vec![b'x'; 1 << 20];
    let replies = [
        [b"$1048576\r\n", &long[..], b"\r\n"].concat(),
        [b"+", &long[..], b"\r\n"].concat(),
        [b"*2\r\n:1\r\n(", &long[..], b"\r\n"].concat(),
        [&b"%50000\r\n"[..], &b"+k\r\n$5\r\nvalue\r\n".repeat(50_000)].concat(),
        [&b"*1\r\n".repeat(250_000)[..], b"_\r\n"].concat(),
    ];
    for reply in replies {
        for keep in [usize::MAX, 100] {
            let again = scan_forgetting(&reply, 1, keep);
            assert!(again < 22, "{again} bytes are looked at again");
        }
    }
}

#[test]
fn a_line_cut_before_its_last_byte() {
    let mut scanner = ReplyScanner::new();
    assert_eq!(scanner.scan(b"*2\r\n+a\r"), Ok(None));
    assert_eq!(scanner.passable(7), 7);
    scanner.rebase(7);
    assert_eq!(scanner.scan(b"\n:1\r"), Ok(None));
    scanner.rebase(scanner.passable(4));
    assert_eq!(scanner.scan(b"\n+next\r\n"), Ok(Some(1)), "the next reply is not touched");
}

#[test]
fn what_may_pass() {
    let passable = |text: &str| {
        let mut scanner = ReplyScanner::new();
        assert_eq!(scanner.scan(text.as_bytes()), Ok(None));
        scanner.passable(text.len())
    };
    assert_eq!(passable("$10\r\nabc"), 8);
    assert_eq!(passable("$10"), 0);
    assert_eq!(passable("+abc"), 0);
    assert_eq!(passable("*2\r\n+abc"), 4);
    assert_eq!(passable("*2\r\n+abc\r\n$"), 10);
}
