//! Cuts replies out of a node's byte stream: RESP2 and RESP3, resumable, without recursion. One
//! counter of elements still owed is all the state that nesting needs: a leaf takes one, an array of n
//! adds n - 1, a map 2n - 1, an attribute 2n. Owns no bytes. Streamed types (`*?`) are never sent by
//! Redis and are refused.

use memchr::memchr;

use super::scan::{Line, read_length};

/// A node sent something that is not RESP. The connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node sent bytes that are not RESP")]
pub struct BadReply;

/// The state of one unfinished reply.
#[derive(Debug)]
pub struct ReplyScanner {
    pos: usize,
    searched: usize,
    left: u64,
}

impl Default for ReplyScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyScanner {
    /// At the start of a reply.
    pub fn new() -> Self {
        Self { pos: 0, searched: 0, left: 1 }
    }

    /// Ready for the next reply.
    #[inline]
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// The first `taken` bytes of the buffer were passed on and cut off: a reply may be forwarded
    /// while it is still coming in. `taken` must not exceed what the last call was given.
    pub fn rebase(&mut self, taken: usize) {
        self.pos = self.pos.saturating_sub(taken);
        self.searched = self.searched.saturating_sub(taken);
    }

    /// How many of the buffer's `len` bytes belong to elements already seen and may be passed on
    /// before the reply is whole: everything, but for a line that is cut in two.
    pub fn passable(&self, len: usize) -> usize {
        self.pos.min(len)
    }

    /// Goes on where the last call stopped; the length of the reply once it is whole. `buf` starts at
    /// the reply's first byte (or as `rebase` left it).
    #[inline]
    pub fn scan(&mut self, buf: &[u8]) -> Result<Option<usize>, BadReply> {
        while self.left > 0 {
            let Some(&kind) = buf.get(self.pos) else { return Ok(None) };
            match kind {
                b'$' | b'=' | b'!' => {
                    let Some((len, next)) = self.length(buf)? else { return Ok(None) };
                    self.left -= 1;
                    self.pos = match usize::try_from(len) {
                        Ok(len) => next + len + 2,
                        Err(_) => next,
                    };
                }
                b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {
                    if !self.line(buf) {
                        return Ok(None);
                    }
                    self.left -= 1;
                }
                b'*' | b'~' | b'>' | b'%' | b'|' => {
                    let Some((n, next)) = self.length(buf)? else { return Ok(None) };
                    self.open(kind, n)?;
                    self.pos = next;
                }
                _ => return Err(BadReply),
            }
        }
        Ok((self.pos <= buf.len()).then_some(self.pos))
    }

    fn length(&mut self, buf: &[u8]) -> Result<Option<(i64, usize)>, BadReply> {
        match read_length(buf, self.pos + 1) {
            Line::Number(n, next) if n >= -1 => Ok(Some((n, next))),
            Line::More => Ok(None),
            _ => Err(BadReply),
        }
    }

    /// Passes a line; false while its end is not there. `searched` keeps a long line linear.
    #[inline]
    fn line(&mut self, buf: &[u8]) -> bool {
        let from = self.pos.max(self.searched);
        match memchr(b'\r', buf.get(from..).unwrap_or(&[])) {
            Some(found) => {
                self.pos = from + found + 2;
                self.searched = 0;
                true
            }
            None => {
                self.searched = buf.len();
                false
            }
        }
    }

    /// Adds the elements of an aggregate to what is owed.
    fn open(&mut self, kind: u8, n: i64) -> Result<(), BadReply> {
        let (per_element, takes) = match kind {
            b'%' => (2, 1),
            b'|' => (2, 0),
            _ => (1, 1),
        };
        let children = u64::try_from(n).unwrap_or(0).checked_mul(per_element).ok_or(BadReply)?;
        self.left = (self.left - takes).checked_add(children).ok_or(BadReply)?;
        Ok(())
    }
}

/// Calls `each` with every element of a whole array reply; false if `frame` is not an array of exactly
/// `count` elements.
pub fn array_elements(frame: &[u8], count: usize, each: impl FnMut(usize, usize, usize)) -> bool {
    let right = matches!(list_head(frame), Some((b'*', n, _)) if n == count);
    right && list_elements(frame, each).is_some()
}

/// Kind (`*`, `~` or `>`), number of elements and length of the header of a whole list reply; `None` if it is
/// none, or null.
pub fn list_head(frame: &[u8]) -> Option<(u8, usize, usize)> {
    let kind = *frame.first().filter(|kind| b"*~>".contains(kind))?;
    let Line::Number(n, start) = read_length(frame, 1) else { return None };
    Some((kind, usize::try_from(n).ok()?, start))
}

/// Calls `each` with index, place and length of every element of a whole list reply; how many there are, `None`
/// if it is no list.
pub fn list_elements(frame: &[u8], mut each: impl FnMut(usize, usize, usize)) -> Option<usize> {
    let (_, count, mut pos) = list_head(frame)?;
    let mut scanner = ReplyScanner::new();
    for index in 0..count {
        scanner.reset();
        let len = scanner.scan(frame.get(pos..)?).ok()??;
        each(index, pos, len);
        pos += len;
    }
    (pos == frame.len()).then_some(count)
}

/// The bytes of a whole bulk, verbatim or simple string; `None` for anything else, and for null.
pub fn string(frame: &[u8]) -> Option<&[u8]> {
    if let Some(text) = frame.strip_prefix(b"+") {
        return text.strip_suffix(b"\r\n");
    }
    let kind = *frame.first().filter(|kind| b"$=".contains(kind))?;
    let Line::Number(len, start) = read_length(frame, 1) else { return None };
    let text = frame.get(start..start.checked_add(usize::try_from(len).ok()?)?)?;
    // `txt:` in front of the text.
    if kind == b'=' { text.get(4..) } else { Some(text) }
}

/// The elements of a whole array reply; the content of those that are bulk strings with the header. `None` if
/// `frame` is no array.
pub fn elements(frame: &[u8]) -> Option<Vec<&[u8]>> {
    let Line::Number(count, _) = read_length(frame, 1) else { return None };
    let mut elements = Vec::new();
    let whole = array_elements(frame, usize::try_from(count).ok()?, |_, start, len| {
        elements.push(frame.get(start..start + len).unwrap_or(&[]));
    });
    whole.then_some(elements)
}

/// The value of an integer reply.
pub fn integer(frame: &[u8]) -> Option<i64> {
    let digits = frame.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "reply_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
