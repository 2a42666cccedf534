//! Replies: in every split the frames are those of the oracle; passing a reply on while it is coming in
//! gives the same bytes, and never one of the next reply.

use proptest::prelude::*;
use redis_protocol::{resp2, resp3};
use slotway::protocol::reply::{BadReply, ReplyScanner, array_elements, integer};

use super::generate::{Reply, aggregate, odd_reply3, reply2, reply3};
use super::{all_splits, bytes_of, cases, cuts, halves, pieces};

/// Reads as a lane does: replies in whole, or piece by piece from `pass_from` bytes on. The replies as
/// they were passed on, and how many bytes are left over.
fn read(stream: &[&[u8]], pass_from: usize) -> Result<(Vec<Reply>, usize), BadReply> {
    let mut scanner = ReplyScanner::new();
    let (mut replies, mut flowing, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for piece in stream {
        rest.extend_from_slice(piece);
        while !rest.is_empty() {
            if let Some(len) = scanner.scan(&rest)? {
                assert!(len <= rest.len());
                flowing.extend(rest.drain(..len));
                replies.push(std::mem::take(&mut flowing));
                scanner.reset();
                continue;
            }
            let passable = scanner.passable(rest.len());
            assert!(passable <= rest.len());
            if !flowing.is_empty() || passable >= pass_from {
                flowing.extend(rest.drain(..passable));
                scanner.rebase(passable);
            }
            break;
        }
    }
    Ok((replies, flowing.len() + rest.len()))
}

/// Passes on at once, late, or never.
const PASS_FROM: [usize; 3] = [0, 10, usize::MAX];

fn assert_read(stream: &[&[u8]], replies: &[Reply]) {
    for pass_from in PASS_FROM {
        let (read, left) = read(stream, pass_from).unwrap();
        assert_eq!((&read[..], left), (replies, 0), "from {pass_from}: {stream:?}");
    }
}

fn oracle2(bytes: &[u8]) -> Option<usize> {
    resp2::decode::decode(bytes).unwrap().map(|(_, len)| len)
}

fn oracle3(bytes: &[u8]) -> Option<usize> {
    resp3::decode::complete::decode(bytes).unwrap().map(|(_, len)| len)
}

#[test]
fn every_split_there_is() {
    for replies in [
        &["+OK\r\n", ":1\r\n", "_\r\n"][..],
        &["*2\r\n:1\r\n+a\r\n"],
        &["$3\r\n\r\n\r\r\n", "#t\r\n"],
        &["|1\r\n+\r\n+\r\n_\r\n"],
        &["*-1\r\n", "$-1\r\n", "*0\r\n"],
        &["%1\r\n,1\r\n(1\r\n"],
    ] {
        let replies: Vec<_> = replies.iter().map(|text| text.as_bytes().to_vec()).collect();
        for split in all_splits(&replies.concat()) {
            assert_read(&split, &replies);
        }
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn resp2_in_every_two_pieces(replies in proptest::collection::vec(reply2(), 1..4)) {
        for reply in &replies {
            prop_assert_eq!(oracle2(reply), Some(reply.len()));
        }
        let stream = replies.concat();
        assert_read(&bytes_of(&stream), &replies);
        halves(&stream).for_each(|split| assert_read(&split, &replies));
    }

    #[test]
    fn resp3_in_every_two_pieces(replies in proptest::collection::vec(reply3(), 1..4)) {
        for reply in &replies {
            prop_assert_eq!(oracle3(reply), Some(reply.len()));
        }
        let stream = replies.concat();
        assert_read(&bytes_of(&stream), &replies);
        halves(&stream).for_each(|split| assert_read(&split, &replies));
    }

    #[test]
    fn what_the_oracle_does_not_know(replies in proptest::collection::vec(odd_reply3(), 1..4), cuts in cuts()) {
        let stream = replies.concat();
        assert_read(&bytes_of(&stream), &replies);
        assert_read(&pieces(&stream, &cuts), &replies);
    }

    #[test]
    fn long_streams_in_random_pieces(
        replies in proptest::collection::vec(prop_oneof![reply2(), reply3(), odd_reply3()], 1..60),
        cuts in cuts(),
    ) {
        assert_read(&pieces(&replies.concat(), &cuts), &replies);
    }

    /// What the oracle does not take for a whole reply, the scanner does not either.
    #[test]
    fn a_part_of_a_reply_is_no_reply(reply in reply3(), short in reply2()) {
        for end in 1..short.len() {
            prop_assert_eq!(oracle2(&short[..end]), None);
        }
        for reply in [reply, short] {
            for end in 1..reply.len() {
                prop_assert_eq!(ReplyScanner::new().scan(&reply[..end]), Ok(None));
            }
        }
    }

    #[test]
    fn garbage_is_refused_or_read(garbage in proptest::collection::vec(any::<u8>(), 0..60), start in "[*$%|~>=!]?[0-9]{0,3}(\r\n)?") {
        let stream = [start.as_bytes(), &garbage].concat();
        let whole = read(&[&stream], usize::MAX);
        prop_assert_eq!(&read(&bytes_of(&stream), 0), &whole);
        if let Ok((replies, left)) = whole {
            prop_assert_eq!(replies.concat().len() + left, stream.len());
        }
    }

    #[test]
    fn elements_of_an_array(elements in proptest::collection::vec(prop_oneof![reply2(), odd_reply3()], 0..8)) {
        let frame = aggregate('*', elements.len(), &elements);
        let mut seen = Vec::new();
        let whole = array_elements(&frame, elements.len(), |index, start, len| {
            assert_eq!(index, seen.len());
            seen.push(frame[start..start + len].to_vec());
        });
        prop_assert!(whole);
        prop_assert_eq!(&seen, &elements);
        let fits = |frame: &[u8], count| array_elements(frame, count, |_, _, _| {});
        prop_assert!(!fits(&frame, elements.len() + 1));
        prop_assert!(!fits(&[&frame[..], b"\r"].concat(), elements.len()));
        prop_assert!(!fits(&frame[..frame.len() - 1], elements.len()));
    }
}

#[test]
fn integers() {
    for number in [0, 1, -1, i64::MAX, i64::MIN] {
        assert_eq!(integer(format!(":{number}\r\n").as_bytes()), Some(number));
    }
    for bad in [":\r\n", "+1\r\n", ":1", ":1 \r\n", ":9223372036854775808\r\n", "", "_\r\n", ":\u{e9}\r\n"] {
        assert_eq!(integer(bad.as_bytes()), None, "{bad:?}");
    }
}

#[test]
fn one_hundred_thousand_nested_arrays() {
    let depth = 100_000;
    for (kind, end) in
        [("*1\r\n", ":1\r\n"), ("%1\r\n:1\r\n", "_\r\n"), ("|1\r\n+k\r\n", "+v\r\n"), (">1\r\n", "*0\r\n")]
    {
        // An attribute is followed by what it belongs to: one more reply for each.
        let owed = if kind.starts_with('|') { depth + 1 } else { 1 };
        let reply = [kind.repeat(depth), end.repeat(owed)].concat().into_bytes();
        let stream: Vec<_> = reply.chunks(1024).collect();
        for pass_from in [0, usize::MAX] {
            assert_eq!(read(&stream, pass_from).unwrap(), (vec![reply.clone()], 0), "{kind:?}");
        }
    }
}

#[test]
fn aggregates_that_claim_too_much() {
    let scan = |text: &str| ReplyScanner::new().scan(text.as_bytes());
    for kind in ['*', '%', '~', '>', '|'] {
        assert_eq!(scan(&format!("{kind}9223372036854775807\r\n")), Err(BadReply));
        assert_eq!(scan(&format!("{kind}999999999999999999\r\n")), Ok(None), "claimed, not allocated");
        let nested = format!("{kind}999999999999999999\r\n").repeat(40);
        assert_eq!(scan(&nested), Err(BadReply), "what is owed does not fit a counter");
    }
    assert_eq!(scan("$999999999999999999\r\nabc"), Ok(None));
    assert_eq!(scan("*2\r\n$999999999999999999\r\nabc"), Ok(None));
}

#[test]
fn what_is_not_resp() {
    let bad = [
        "$-2\r\n",
        "*-2\r\n",
        "%-2\r\n",
        "$x\r\n",
        "$\r\n",
        "*\r\n",
        "*01\r\n",
        "$+1\r\n",
        "*?\r\n",
        "$?\r\n",
        "$-0\r\n",
        "HELLO\r\n",
        "\r\n",
        "\n",
        " ",
        "1",
        "*1\r\n\r\n",
        ";4\r\n",
        ".\r\n",
        "$1 \r\n",
        "*--1\r\n",
        "\0",
        "$ 1\r\n",
    ];
    for text in bad {
        assert_eq!(read(&[text.as_bytes()], usize::MAX), Err(BadReply), "{text:?}");
        assert_eq!(read(&bytes_of(text.as_bytes()), 0), Err(BadReply), "{text:?}");
    }
    let signs = format!("*{}", "-".repeat(1 << 20));
    assert_eq!(read(&[signs.as_bytes()], usize::MAX), Err(BadReply));
}
