//! RESP2 replies of a node's control connection: finds where a reply ends, then lets the
//! `redis-protocol` crate decode it.
//!
//! The end is searched here because that decoder starts at byte 0 on every call and recurses
//! without a limit: this scan is resumable, and bounded in depth, count and bytes. It must never be
//! used for the replies of clients' requests.

use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

/// Largest reply taken: CLUSTER SLOTS of 16384 single-slot ranges with five replicas each stays
/// below 20 MB.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// Longest header or simple string.
const LINE_BYTES_MAX: usize = 64 << 10;

/// CLUSTER SLOTS nests four deep.
const DEPTH_MAX: usize = 8;

/// The bytes are not a reply this proxy takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad reply: {0}")]
pub(crate) struct WireError(pub(crate) &'static str);

/// Bytes of one connection and how far they were looked at.
#[derive(Debug)]
pub(crate) struct Replies {
    buffer: BytesMut,
    bytes_max: usize,
    depth_max: usize,
    /// Everything before belongs to the reply under way and was looked at.
    seen: usize,
    /// Elements still missing in each open array, outermost first.
    open: Vec<u64>,
}

impl Default for Replies {
    fn default() -> Self {
        Self::bounded(REPLY_BYTES_MAX, DEPTH_MAX)
    }
}

impl Replies {
    /// Takes replies of at most `bytes_max` bytes, nested at most `depth_max` deep.
    pub(crate) fn bounded(bytes_max: usize, depth_max: usize) -> Self {
        let bytes_max = bytes_max.min(REPLY_BYTES_MAX);
        Self { buffer: BytesMut::new(), bytes_max, depth_max, seen: 0, open: Vec::new() }
    }

    /// Where a read appends.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole reply, raw; `None` until more bytes came.
    pub(crate) fn next_raw(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            let Some(done) = self.element()? else {
                if self.buffer.len() > self.bytes_max {
                    return Err(WireError("too long"));
                }
                return Ok(None);
            };
            if done && self.seen > self.bytes_max {
                return Err(WireError("too long"));
            }
            if done {
                let end = std::mem::take(&mut self.seen);
                let raw = self.buffer.copy_to_bytes(end);
                return Ok(Some(raw));
            }
        }
    }

    /// Steps over one element (or an array header); true when it was the last of the reply.
    fn element(&mut self) -> Result<Option<bool>, WireError> {
        let rest = self.buffer.get(self.seen..).unwrap_or(&[]);
        let Some(lf) = memchr::memchr(b'\n', rest) else {
            return if rest.len() > LINE_BYTES_MAX { Err(WireError("line too long")) } else { Ok(None) };
        };
        let Some((kind, value)) =
            rest.get(..lf).and_then(|l| l.strip_suffix(b"\r")).and_then(|l| l.split_first())
        else {
            return Err(WireError("line without CRLF"));
        };
        let mut length = lf + 1;
        match kind {
            b'+' | b'-' | b':' => {}
            b'$' => {
                if let Some(bulk) = count(value)? {
                    length += bulk + 2;
                }
                if length > self.bytes_max {
                    return Err(WireError("too long"));
                }
                if rest.len() < length {
                    return Ok(None);
                }
            }
            b'*' => {
                if let Some(items @ 1..) = count(value)? {
                    self.seen += length;
                    self.open.push(items as u64);
                    return if self.open.len() > self.depth_max {
                        Err(WireError("too deep"))
                    } else {
                        Ok(Some(false))
                    };
                }
            }
            _ => return Err(WireError("not RESP2")),
        }
        self.seen += length;
        Ok(Some(self.close()))
    }

    /// Counts one finished element in the arrays around it.
    fn close(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

/// A length; `None` for null.
fn count(value: &[u8]) -> Result<Option<usize>, WireError> {
    if value == b"-1" {
        return Ok(None);
    }
    let text = std::str::from_utf8(value).map_err(|_| WireError("bad length"))?;
    match text.parse::<usize>() {
        Ok(n) if n <= REPLY_BYTES_MAX => Ok(Some(n)),
        _ => Err(WireError("bad length")),
    }
}

/// Decodes a reply that [`Replies::next_raw`] cut.
pub(crate) fn decode_reply(raw: &[u8]) -> Result<OwnedFrame, WireError> {
    match decode(raw) {
        Ok(Some((frame, _))) => Ok(frame),
        _ => Err(WireError("cannot be decoded")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const REPLIES: &[&[u8]] = &[
        b"+OK\r\n",
        b"-ERR x\r\n",
        b":-12\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"$0\r\n\r\n",
        b"$4\r\na\r\nb\r\n",
        b"*2\r\n*3\r\n:0\r\n:5\r\n*4\r\n$1\r\na\r\n:1\r\n$2\r\nid\r\n*0\r\n+x\r\n",
    ];

    #[test]
    fn cut_at_every_split() {
        let all: Vec<u8> = REPLIES.concat();
        for split in 0..all.len() {
            let mut replies = Replies::default();
            let mut got = Vec::new();
            for part in [&all[..split], &all[split..]] {
                replies.buffer().extend_from_slice(part);
                while let Some(raw) = replies.next_raw().unwrap() {
                    decode_reply(&raw).unwrap();
                    got.push(raw.to_vec());
                }
            }
            assert_eq!(got, REPLIES.iter().map(|r| r.to_vec()).collect::<Vec<_>>(), "split at {split}");
        }
    }

    #[test]
    fn hostile_replies_end_in_an_error() {
        let deep = b"*1\r\n".repeat(100_000);
        let long = vec![b'+'; LINE_BYTES_MAX + 2];
        for bytes in
            [&deep[..], &long, b"HTTP/1.1 200 OK\r\n", b"$99999999999\r\n", b"*-5\r\n", b"\n", b"%1\r\n"]
        {
            let mut replies = Replies::default();
            replies.buffer().extend_from_slice(bytes);
            assert!(replies.next_raw().is_err(), "{:?}", &bytes[..bytes.len().min(20)]);
        }
    }

    #[test]
    fn a_large_array_in_small_pieces_is_linear() {
        let mut replies = Replies::default();
        let mut all = b"*200000\r\n".to_vec();
        all.extend(b"$5\r\nvalue\r\n".repeat(200_000));
        let mut whole = None;
        for piece in all.chunks(1_024) {
            replies.buffer().extend_from_slice(piece);
            whole = replies.next_raw().unwrap();
        }
        assert_eq!(whole.unwrap().len(), all.len());
    }
}
