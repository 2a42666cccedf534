//! Requests: in every split the frames and arguments are those of the oracle, in order, and nothing is
//! asked for that a request does not need.

use proptest::prelude::*;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use slotway::protocol::request::Args;
use slotway::protocol::scan::{RequestScanner, Scanned};
use slotway::protocol::{Limits, ProtocolError};

use super::generate::{Request, argument, array_of_bulks, request};
use super::{all_splits, bytes_of, cases, cuts, halves, pieces};

/// What the scanner cut out of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A request with its length in the stream and its arguments.
    Request(usize, Vec<Vec<u8>>),
    /// So many bytes that mean nothing.
    Nothing(usize),
    /// The stream can't be read on.
    Error(ProtocolError),
    /// So many bytes that are no whole request.
    Rest(usize),
}

fn args_of(frame: &[u8], scanner: &RequestScanner) -> Vec<Vec<u8>> {
    Args::new(frame, scanner.spans()).iter().map(<[u8]>::to_vec).collect()
}

/// Reads as a session does: what is not whole stays, and is scanned on when more is there.
pub fn read(stream: &[&[u8]], limits: &Limits, authenticated: bool) -> Vec<Seen> {
    let mut scanner = RequestScanner::new();
    let (mut buffer, mut start, mut wanted) = (Vec::new(), 0, 0);
    let mut seen = Vec::new();
    for piece in stream {
        buffer.extend_from_slice(piece);
        while start < buffer.len() {
            let rest = &buffer[start..];
            let taken = match scanner.scan(rest, limits, authenticated) {
                Ok(Scanned::Request(len)) => {
                    assert!(wanted <= len, "{wanted} bytes were wanted for a request of {len}");
                    seen.push(Seen::Request(len, args_of(&rest[..len], &scanner)));
                    len
                }
                Ok(Scanned::Inline(len)) => {
                    assert_oracle(scanner.inline_frame(), &args_of(scanner.inline_frame(), &scanner));
                    seen.push(Seen::Request(len, args_of(scanner.inline_frame(), &scanner)));
                    len
                }
                Ok(Scanned::Nothing(len)) => {
                    seen.push(Seen::Nothing(len));
                    len
                }
                Ok(Scanned::More(least)) => {
                    assert!(least > rest.len(), "{least} bytes were wanted and are there");
                    wanted = least;
                    break;
                }
                Err(error) => {
                    seen.push(Seen::Error(error));
                    return seen;
                }
            };
            start += taken;
            wanted = 0;
            scanner.reset();
        }
    }
    if start < buffer.len() {
        seen.push(Seen::Rest(buffer.len() - start));
    }
    seen
}

fn read_open(stream: &[&[u8]]) -> Vec<Seen> {
    read(stream, &Limits::default(), true)
}

/// The oracle reads this frame as an array of just these arguments.
fn assert_oracle(frame: &[u8], args: &[Vec<u8>]) {
    let (decoded, len) = decode(frame).unwrap().expect("a whole frame");
    assert_eq!(len, frame.len());
    let OwnedFrame::Array(elements) = decoded else { panic!("{decoded:?}") };
    let expected: Vec<_> = args.iter().map(|arg| OwnedFrame::BulkString(arg.clone())).collect();
    assert_eq!(elements, expected);
}

fn expected(requests: &[Request]) -> Vec<Seen> {
    let one = |request: &Request| {
        let bytes = request.bytes();
        let args = request.args();
        if let Request::Array(_) = request {
            assert_oracle(&bytes, &args);
        }
        if args.is_empty() { Seen::Nothing(bytes.len()) } else { Seen::Request(bytes.len(), args) }
    };
    requests.iter().map(one).collect()
}

#[test]
fn every_split_there_is() {
    for text in [
        "*1\r\n$1\r\na\r\n",
        "*1\r\n$0\r\n\r\nX\n",
        "a 'b' c\r\n",
        "\r\n*0\r\nPING\n",
        "*-1\r\n\"\\x41\"\r\n",
    ] {
        let whole = read_open(&[text.as_bytes()]);
        assert!(
            !whole.is_empty() && !whole.iter().any(|seen| matches!(seen, Seen::Rest(_) | Seen::Error(_)))
        );
        for split in all_splits(text.as_bytes()) {
            assert_eq!(read_open(&split), whole, "{split:?}");
        }
    }
}

#[test]
fn errors_are_the_same_in_every_split() {
    for text in [
        "*1\r\n$-1\r\n",
        "*x\r\n",
        "*01\r\n$1\r\n",
        "*1\r\n:1\r\n",
        "GET 'a\r\n",
        "*--1\r\n",
        "*1\r\n$1a\r\n",
    ] {
        let whole = read_open(&[text.as_bytes()]);
        assert!(matches!(whole[..], [Seen::Error(_)]), "{text:?}: {whole:?}");
        for split in all_splits(text.as_bytes()) {
            assert_eq!(read_open(&split), whole, "{split:?}");
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn small_requests_in_every_two_pieces(requests in proptest::collection::vec(request(), 1..4)) {
        let expected = expected(&requests);
        let stream = requests.iter().flat_map(Request::bytes).collect::<Vec<u8>>();
        prop_assert_eq!(&read_open(&bytes_of(&stream)), &expected);
        for split in halves(&stream) {
            prop_assert_eq!(&read_open(&split), &expected, "{:?}", split);
        }
    }

    #[test]
    fn large_requests_in_random_pieces(
        sizes in proptest::collection::vec(prop_oneof![0..200_usize, Just(16 << 10), Just(70_000)], 1..4),
        more in proptest::collection::vec(request(), 0..3),
        cuts in cuts(),
    ) {
        let large = Request::Array(sizes.iter().map(|size| b"\r\n\0$".iter().copied().cycle().take(*size).collect()).collect());
        let requests: Vec<_> = [large].into_iter().chain(more).collect();
        let stream = requests.iter().flat_map(Request::bytes).collect::<Vec<u8>>();
        prop_assert_eq!(read_open(&pieces(&stream, &cuts)), expected(&requests));
    }

    /// What the oracle does not take for a whole request, the scanner does not either.
    #[test]
    fn a_part_of_a_request_is_no_request(args in proptest::collection::vec(argument(), 1..4)) {
        let frame = array_of_bulks(&args);
        for end in 1..frame.len() {
            prop_assert_eq!(decode(&frame[..end]).unwrap(), None);
            prop_assert_eq!(read_open(&[&frame[..end]]), vec![Seen::Rest(end)]);
        }
    }
}
