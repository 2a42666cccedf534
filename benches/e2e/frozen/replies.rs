//! Reads replies one by one and judges whether each belongs to its request.
//!
//! Owns the bytes of a connection that are not yet a whole reply, and what is known about every key. It must never let
//! a reply pass that another request could have caused.

use memchr::memchr;

use super::schedule::{Key, Request, Schedule, Side, writer_of};
use crate::Result;

/// How slotway's two errors for a passed deadline begin.
const DEADLINE: &[u8] = b"ERR slotway: request deadline passed";

/// A reply to GET or SET.
#[derive(Debug)]
pub enum Reply<'a> {
    Status(&'a [u8]),
    Error(&'a [u8]),
    Value(&'a [u8]),
    Null,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The node's own reply.
    Served,
    /// The deadline's error.
    Deadline,
}

/// The bytes of one connection.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Inbox {
    /// Adds what has arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole reply.
    ///
    /// # Errors
    /// When the bytes are none that GET or SET can cause.
    pub fn next(&mut self) -> Result<Option<Reply<'_>>> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some(end) = memchr(b'\n', rest) else { return Ok(None) };
        let wrong = || format!("not a reply: {:?}", String::from_utf8_lossy(rest));
        let Some((kind, [text @ .., b'\r'])) = rest.get(..end).and_then(<[u8]>::split_first) else {
            return Err(wrong().into());
        };
        let (reply, length) = match kind {
            b'+' => (Reply::Status(text), end + 1),
            b'-' => (Reply::Error(text), end + 1),
            b'$' if text == b"-1" => (Reply::Null, end + 1),
            b'$' => {
                let length: usize = std::str::from_utf8(text)?.parse()?;
                let Some(value) = rest.get(end + 1..end + 1 + length + 2) else { return Ok(None) };
                let value = value.strip_suffix(b"\r\n").ok_or_else(wrong)?;
                (Reply::Value(value), end + 1 + length + 2)
            }
            _ => return Err(wrong().into()),
        };
        self.taken += length;
        Ok(Some(reply))
    }
}

/// What the replies so far have told about every key.
pub struct Judge<'a> {
    keys: &'a [Key],
    schedule: &'a Schedule,
    /// The request that wrote the value a key held when it was last heard of.
    known: Vec<usize>,
}

impl<'a> Judge<'a> {
    /// Every key holds the value of the preload.
    pub fn new(keys: &'a [Key], schedule: &'a Schedule) -> Self {
        Self { keys, schedule, known: vec![0; keys.len()] }
    }

    /// Judges the reply to the request at `place`.
    ///
    /// # Errors
    /// When it is not a reply to this request, or an error that must not be.
    pub fn judge(&mut self, place: usize, reply: &Reply<'_>) -> Result<Ending> {
        let asked = self.schedule.requests.get(place);
        let (Some(request), Some(key)) = (asked, asked.and_then(|asked| self.keys.get(asked.key))) else {
            return Err("a reply nobody asked for".into());
        };
        let wrong = || {
            let (command, what) = (if request.is_set { "SET" } else { "GET" }, shown(reply));
            let name = &key.name;
            format!("{command} {name}, request {} at {:?}: wrong reply {what}", place + 1, request.due)
        };
        let known = self.known.get(request.key).copied().unwrap_or_default();
        let now_known = match reply {
            Reply::Error(text) if key.side == Side::Frozen && text.starts_with(DEADLINE) => {
                return Ok(Ending::Deadline);
            }
            Reply::Status(b"OK") if request.is_set => place + 1,
            Reply::Value(bytes) if !request.is_set => {
                let writer = writer_of(&key.name, bytes).ok_or_else(wrong)?;
                if !self.may_see(request, key.side, writer, known, place) {
                    return Err(format!("{}; the key was last known to be of {known}", wrong()).into());
                }
                writer
            }
            _ => return Err(wrong().into()),
        };
        if let Some(known) = self.known.get_mut(request.key) {
            *known = now_known;
        }
        Ok(Ending::Served)
    }

    /// Whether a GET may find the value of request `writer`: exactly the last one written; on the node that froze also
    /// a later one whose SET ended with the deadline's error, for it may have been executed.
    fn may_see(&self, get: &Request, side: Side, writer: usize, known: usize, place: usize) -> bool {
        let wrote_it = || {
            let set = writer.checked_sub(1).and_then(|place| self.schedule.requests.get(place));
            set.is_some_and(|set| set.is_set && set.key == get.key)
        };
        writer == known || side == Side::Frozen && writer > known && writer <= place && wrote_it()
    }
}

fn shown(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Status(text) => format!("+{}", String::from_utf8_lossy(text)),
        Reply::Error(text) => format!("-{}", String::from_utf8_lossy(text)),
        Reply::Value(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Reply::Null => "null".to_owned(),
    }
}
