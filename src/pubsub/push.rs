//! What a node says on a subscribing connection, told apart: messages, confirmations, the rest. The same in
//! RESP2 and RESP3 but for the first byte. Pure.

use super::Kind;
use crate::protocol::reply::BadReply;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Push<'a> {
    /// A message.
    Message {
        /// How it came to us.
        kind: Kind,
        /// The channel or pattern that was subscribed to.
        topic: &'a [u8],
        /// The channel it was published to.
        channel: &'a [u8],
        /// What was published.
        payload: &'a [u8],
    },
    /// A subscription stands.
    Joined(Kind, &'a [u8]),
    /// A subscription ended, asked for or not.
    Left(Kind, &'a [u8]),
    /// The answer to PING.
    Pong,
    /// An error; the whole line without `-` and line end.
    Error(&'a [u8]),
    /// A push that is none of the above.
    Other,
}

/// Reads a whole frame.
///
/// # Errors
/// It is not something a subscribing connection brings.
pub fn parse(frame: &[u8]) -> Result<Push<'_>, BadReply> {
    match frame.first() {
        Some(b'*' | b'>') => parse_elements(frame),
        Some(b'-') => Ok(Push::Error(frame.get(1..frame.len().saturating_sub(2)).unwrap_or(&[]))),
        Some(b'+') => Ok(Push::Pong),
        _ => Err(BadReply),
    }
}

fn parse_elements(frame: &[u8]) -> Result<Push<'_>, BadReply> {
    let mut rest = frame.get(line_end(frame)? + 2..).unwrap_or(&[]);
    let word = bulk(&mut rest)?;
    let push = match word {
        b"message" => message(Kind::Channel, &mut rest)?,
        b"smessage" => message(Kind::Shard, &mut rest)?,
        b"pmessage" => {
            let topic = bulk(&mut rest)?;
            let (channel, payload) = (bulk(&mut rest)?, bulk(&mut rest)?);
            Push::Message { kind: Kind::Pattern, topic, channel, payload }
        }
        b"pong" => Push::Pong,
        _ => {
            let of = |word_of: fn(Kind) -> &'static str| {
                Kind::ALL.into_iter().find(|&kind| word_of(kind).as_bytes() == word)
            };
            match (of(Kind::join_word), of(Kind::leave_word)) {
                (Some(kind), _) => Push::Joined(kind, bulk(&mut rest)?),
                (None, Some(kind)) => Push::Left(kind, bulk(&mut rest)?),
                (None, None) if frame.first() == Some(&b'>') => Push::Other,
                (None, None) => return Err(BadReply),
            }
        }
    };
    Ok(push)
}

fn message<'a>(kind: Kind, rest: &mut &'a [u8]) -> Result<Push<'a>, BadReply> {
    let (channel, payload) = (bulk(rest)?, bulk(rest)?);
    Ok(Push::Message { kind, topic: channel, channel, payload })
}

fn line_end(bytes: &[u8]) -> Result<usize, BadReply> {
    memchr::memchr(b'\r', bytes).ok_or(BadReply)
}

/// The next bulk string; moves `rest` behind it.
fn bulk<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadReply> {
    let end = line_end(rest)?;
    let digits = rest.get(..end).and_then(|line| line.strip_prefix(b"$")).ok_or(BadReply)?;
    let len = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<usize>().ok());
    let start = end + 2;
    let stop = len.and_then(|len| start.checked_add(len)).ok_or(BadReply)?;
    let text = rest.get(start..stop).ok_or(BadReply)?;
    *rest = rest.get(stop + 2..).ok_or(BadReply)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn tells_frames_apart() {
        let frame = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\na\r\nb\r\n";
        let message = |kind, topic, channel, payload| Push::Message { kind, topic, channel, payload };
        assert_eq!(parse(frame), Ok(message(Kind::Channel, b"c", b"c", b"a\r\nb")));
        let frame = b"*4\r\n$8\r\npmessage\r\n$2\r\np*\r\n$2\r\npq\r\n$0\r\n\r\n";
        assert_eq!(parse(frame), Ok(message(Kind::Pattern, b"p*", b"pq", b"")));
        let frame = b">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n";
        assert_eq!(parse(frame), Ok(Push::Left(Kind::Shard, b"c")));
        let frame = b"*3\r\n$10\r\npsubscribe\r\n$1\r\nc\r\n:7\r\n";
        assert_eq!(parse(frame), Ok(Push::Joined(Kind::Pattern, b"c")));
        assert_eq!(parse(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"), Ok(Push::Pong));
        assert_eq!(parse(b"+PONG\r\n"), Ok(Push::Pong));
        assert_eq!(parse(b"-MOVED 1 a:1\r\n"), Ok(Push::Error(b"MOVED 1 a:1")));
        assert_eq!(parse(b">2\r\n$10\r\ninvalidate\r\n_\r\n"), Ok(Push::Other));
    }

    #[test]
    fn what_does_not_belong_there_is_refused() {
        for frame in
            [&b":1\r\n"[..], b"*1\r\n$3\r\nGET\r\n", b"*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n", b"*0\r\n"]
        {
            assert_eq!(parse(frame), Err(BadReply), "{frame:?}");
        }
    }
}
