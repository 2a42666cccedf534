//! Cuts requests out of a byte stream. Resumable: `pos` only moves forward, so input that arrives a
//! byte at a time costs the same as input that arrives at once (a length line of at most 20 digits is
//! the one thing read again). Framing equals Redis' own (networking.c, `processMultibulkBuffer`): what
//! is forwarded as bytes must mean the same to the node. Owns no bytes and never allocates by a length
//! that a client claims.

use memchr::{memchr, memchr2};

use super::inline::split_inline;
use super::request::Span;
use super::{Limits, ProtocolError};

/// Spans kept allocated between requests; a larger request's list is given back.
const SPANS_KEPT: usize = 1024;

/// What a call of [`RequestScanner::scan`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A whole request: the first `n` bytes of the buffer.
    Request(usize),
    /// An inline command: it took the first `n` bytes and stands, as an array, in
    /// [`RequestScanner::inline_frame`].
    Inline(usize),
    /// Bytes that mean nothing (an empty line, `*0`): skip `n` bytes, no reply is owed.
    Nothing(usize),
    /// More input is needed; this many bytes in all would be the least.
    More(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    BulkHeader,
    BulkBody { len: usize },
    Inline,
}

/// The state of one unfinished request.
#[derive(Debug)]
pub struct RequestScanner {
    state: State,
    pos: usize,
    left: u64,
    spans: Vec<Span>,
    inline: Vec<u8>,
}

impl Default for RequestScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestScanner {
    /// At the start of a request.
    pub fn new() -> Self {
        Self { state: State::Start, pos: 0, left: 0, spans: Vec::new(), inline: Vec::new() }
    }

    /// Where the arguments of the request just completed lie in its frame.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The array form of the inline command just completed.
    pub fn inline_frame(&self) -> &[u8] {
        &self.inline
    }

    /// Ready for the next request.
    #[inline]
    pub fn reset(&mut self) {
        self.state = State::Start;
        self.pos = 0;
        self.left = 0;
        if self.spans.capacity() > SPANS_KEPT {
            self.spans = Vec::new();
        } else {
            self.spans.clear();
        }
        if self.inline.capacity() > 0 {
            self.inline = Vec::new();
        }
    }

    /// Goes on where the last call stopped. `buf` starts at the request's first byte and holds at
    /// least what it held at the last call.
    #[inline]
    pub fn scan(
        &mut self,
        buf: &[u8],
        limits: &Limits,
        authenticated: bool,
    ) -> Result<Scanned, ProtocolError> {
        if self.state == State::Start {
            match buf.first() {
                None => return Ok(Scanned::More(1)),
                Some(b'*') => {
                    let (count, next) = match read_length(buf, 1) {
                        Line::Number(n, next) => (n, next),
                        Line::More => return Ok(Scanned::More(buf.len() + 1)),
                        Line::Bad => {
                            return bad_line(
                                buf,
                                1,
                                limits,
                                ProtocolError::MultibulkLength,
                                ProtocolError::MultibulkLine,
                            );
                        }
                    };
                    if count <= 0 {
                        return Ok(Scanned::Nothing(next));
                    }
                    if count as u64 > limits.elements {
                        return Err(multibulk_error(authenticated, count));
                    }
                    self.left = count as u64;
                    self.pos = next;
                    self.state = State::BulkHeader;
                }
                Some(_) => self.state = State::Inline,
            }
        }
        if self.state == State::Inline {
            self.scan_inline(buf, limits)
        } else {
            self.scan_bulks(buf, limits, authenticated)
        }
    }

    #[inline]
    fn scan_bulks(
        &mut self,
        buf: &[u8],
        limits: &Limits,
        authenticated: bool,
    ) -> Result<Scanned, ProtocolError> {
        loop {
            if self.state == State::BulkHeader {
                if self.left == 0 {
                    return Ok(Scanned::Request(self.pos));
                }
                match buf.get(self.pos) {
                    None => return Ok(Scanned::More(self.pos + 1)),
                    Some(b'$') => {}
                    Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
                }
                match read_length(buf, self.pos + 1) {
                    Line::More => return Ok(Scanned::More(buf.len() + 1)),
                    Line::Bad => {
                        let from = self.pos + 1;
                        return bad_line(
                            buf,
                            from,
                            limits,
                            ProtocolError::BulkLength,
                            ProtocolError::BulkLine,
                        );
                    }
                    Line::Number(n, next) => {
                        let len = u64::try_from(n).map_err(|_| ProtocolError::BulkLength)?;
                        if len > limits.bulk_bytes {
                            return Err(bulk_error(authenticated, len));
                        }
                        if next as u64 + len + 2 > limits.request_bytes.min(u64::from(u32::MAX)) {
                            return Err(ProtocolError::RequestTooBig);
                        }
                        self.pos = next;
                        self.state = State::BulkBody { len: len as usize };
                    }
                }
            }
            if let State::BulkBody { len } = self.state {
                let end = self.pos + len + 2;
                if buf.len() < end {
                    return Ok(Scanned::More(end));
                }
                self.spans.push(Span { start: self.pos as u32, len: len as u32 });
                self.pos = end;
                self.left -= 1;
                self.state = State::BulkHeader;
            }
        }
    }

    fn scan_inline(&mut self, buf: &[u8], limits: &Limits) -> Result<Scanned, ProtocolError> {
        // Redis looks for the line end as in a C string: a NUL before it, and the line never ends.
        let found = memchr2(b'\n', 0, buf.get(self.pos..).unwrap_or(&[]));
        let found = found.filter(|at| buf.get(self.pos + at) == Some(&b'\n'));
        let Some(found) = found else {
            self.pos = memchr(0, buf.get(self.pos..).unwrap_or(&[])).map_or(buf.len(), |at| self.pos + at);
            if buf.len() > limits.inline_bytes {
                return Err(ProtocolError::InlineTooBig);
            }
            return Ok(Scanned::More(buf.len() + 1));
        };
        let end = self.pos + found;
        let line = buf.get(..end).unwrap_or(&[]);
        // The `\r` counts, for it did before the `\n` was there: what is too long must not depend on how
        // the bytes arrive.
        if line.len() > limits.inline_bytes {
            return Err(ProtocolError::InlineTooBig);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        split_inline(line, &mut self.inline, &mut self.spans)?;
        Ok(if self.spans.is_empty() { Scanned::Nothing(end + 1) } else { Scanned::Inline(end + 1) })
    }
}

/// A length line that is not a length: an error once it ends, another once it is too long to end. The
/// line is at most `inline-bytes-max` long, which bounds what looking for its end again can cost.
#[cold]
fn bad_line(
    buf: &[u8],
    from: usize,
    limits: &Limits,
    not_a_length: ProtocolError,
    too_long: ProtocolError,
) -> Result<Scanned, ProtocolError> {
    let line = buf.get(from..).unwrap_or(&[]);
    let end = memchr(b'\r', line);
    match end {
        _ if end.unwrap_or(line.len()) >= limits.inline_bytes => Err(too_long),
        Some(_) => Err(not_a_length),
        None => Ok(Scanned::More(buf.len() + 1)),
    }
}

fn multibulk_error(authenticated: bool, count: i64) -> ProtocolError {
    if authenticated || count > i64::from(i32::MAX) {
        ProtocolError::MultibulkLength
    } else {
        ProtocolError::UnauthenticatedMultibulk
    }
}

fn bulk_error(authenticated: bool, len: u64) -> ProtocolError {
    if authenticated || len > 512 << 20 {
        ProtocolError::BulkLength
    } else {
        ProtocolError::UnauthenticatedBulk
    }
}

/// A length line: `-?[0-9]+\r\n`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its value and where the next byte after the line end is.
    Number(i64, usize),
    /// Not whole yet.
    More,
    /// Not a number in the form Redis accepts (`string2ll`: no sign but `-`, no leading zero).
    Bad,
}

/// Reads a decimal at `from` up to its `\r\n`. Like Redis it takes the byte after `\r` unseen.
#[inline]
pub(super) fn read_length(buf: &[u8], from: usize) -> Line {
    let Some(rest) = buf.get(from..) else { return Line::More };
    let mut value: i64 = 0;
    for (i, &byte) in rest.iter().enumerate() {
        match byte {
            b'0'..=b'9' if i < 18 => value = value * 10 + i64::from(byte - b'0'),
            b'\r' if i > 0 => return finish_length(rest, i, value, from),
            b'-' if i == 0 => return read_negative(rest, from),
            _ => return Line::Bad,
        }
    }
    Line::More
}

#[inline]
fn finish_length(rest: &[u8], digits: usize, value: i64, from: usize) -> Line {
    if rest.len() < digits + 2 {
        return Line::More;
    }
    if digits > 1 && rest.first() == Some(&b'0') {
        return Line::Bad;
    }
    Line::Number(value, from + digits + 2)
}

#[cold]
fn read_negative(rest: &[u8], from: usize) -> Line {
    // A second sign must not lead back here: a line of nothing but signs would nest once per sign.
    if rest.get(1) == Some(&b'-') {
        return Line::Bad;
    }
    match read_length(rest, 1) {
        Line::Number(0, _) => Line::Bad,
        Line::Number(n, next) => Line::Number(-n, from + next),
        other => other,
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
