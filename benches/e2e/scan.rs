//! Counts replies in a byte stream as cheaply as possible.
//!
//! Owns the place in the stream: how many elements of the current reply are still to come and how many payload bytes
//! of the current bulk string. It must never keep or copy a value, and it is deliberately independent of slotway's own
//! scanner: a tool that measures a parser must not share its mistakes.

use std::io;

use memchr::memchr;

/// Longest header line accepted; the first line of an error reply is the longest a server sends.
const LINE_MAX: usize = 8 * 1024;

/// Resumable RESP2 reply counter, one per connection.
#[derive(Default)]
pub struct ReplyScanner {
    /// Elements still missing from the current top-level reply; 0 between two replies.
    elements_left: u64,
    /// Bytes still to skip of the current bulk string, its CRLF included.
    skip: usize,
    /// The beginning of a header line whose end has not arrived.
    line: Vec<u8>,
}

/// What has been seen, on any number of connections.
#[derive(Default, Debug)]
pub struct Seen {
    /// Complete top-level replies.
    pub replies: u64,
    /// Error lines, at any depth.
    pub errors: u64,
    /// Nulls, at any depth: a GET or a part of an MGET that found nothing.
    pub misses: u64,
    /// The first error line, for the message to the user.
    pub first_error: Option<String>,
}

impl ReplyScanner {
    /// True when the last reply was complete and nothing of the next one has arrived.
    pub fn is_between_replies(&self) -> bool {
        self.elements_left == 0 && self.skip == 0 && self.line.is_empty()
    }

    /// Takes the next bytes of the stream; adds to `seen`.
    ///
    /// # Errors
    /// `InvalidData` when the bytes are not RESP2.
    pub fn feed(&mut self, mut input: &[u8], seen: &mut Seen) -> io::Result<()> {
        while !input.is_empty() {
            if self.skip > 0 {
                let taken = self.skip.min(input.len());
                self.skip -= taken;
                input = input.get(taken..).unwrap_or_default();
                if self.skip == 0 {
                    self.element_done(seen);
                }
                continue;
            }
            let Some(end) = memchr(b'\n', input) else {
                if self.line.len() + input.len() > LINE_MAX {
                    return Err(invalid("endless line", &self.line));
                }
                self.line.extend_from_slice(input);
                return Ok(());
            };
            let (head, rest) = input.split_at(end + 1);
            input = rest;
            if self.line.is_empty() {
                self.header(head, seen)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(head);
                self.header(&line, seen)?;
                line.clear();
                self.line = line;
            }
        }
        Ok(())
    }

    /// One header line, its CRLF included.
    fn header(&mut self, line: &[u8], seen: &mut Seen) -> io::Result<()> {
        let Some((kind, [text @ .., b'\r', b'\n'])) = line.split_first() else {
            return Err(invalid("not a RESP line", line));
        };
        self.elements_left = self.elements_left.max(1);
        match kind {
            b'$' => match number(text) {
                Some(length) => self.skip = length + 2,
                None => self.null(text, seen)?,
            },
            b'*' => match number(text) {
                Some(0) => self.element_done(seen),
                Some(count) => self.elements_left += count as u64 - 1,
                None => self.null(text, seen)?,
            },
            b'+' | b':' => self.element_done(seen),
            b'-' => {
                seen.errors += 1;
                if seen.first_error.is_none() {
                    seen.first_error = Some(String::from_utf8_lossy(text).into_owned());
                }
                self.element_done(seen);
            }
            _ => return Err(invalid("not a RESP2 type", line)),
        }
        Ok(())
    }

    fn null(&mut self, length: &[u8], seen: &mut Seen) -> io::Result<()> {
        if length != b"-1" {
            return Err(invalid("not a length", length));
        }
        seen.misses += 1;
        self.element_done(seen);
        Ok(())
    }

    fn element_done(&mut self, seen: &mut Seen) {
        self.elements_left -= 1;
        if self.elements_left == 0 {
            seen.replies += 1;
        }
    }
}

/// A decimal length of at most nine digits; anything else is None.
fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    let mut value = 0;
    for digit in text {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + usize::from(digit - b'0');
    }
    Some(value)
}

fn invalid(what: &str, bytes: &[u8]) -> io::Error {
    let shown = String::from_utf8_lossy(bytes.get(..80.min(bytes.len())).unwrap_or_default()).into_owned();
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {shown:?}"))
}
