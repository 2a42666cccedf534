//! Bytes on their way to a socket: small ones copied together, large ones as shared slices, written
//! with as few system calls as they need. Must never reorder.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;

use super::transport::WriteSide;

/// From this size on bytes travel as a slice of the buffer they were read into; below it a copy is
/// cheaper than a reference count and a piece of its own in the vectored write.
pub const LARGE: usize = 16 << 10;
/// A run of copied bytes is closed at this size, so that what is written can be given back.
pub const CHUNK: usize = 64 << 10;
/// Pieces of one vectored write; Linux allows 1024, beyond some tens nothing is gained.
pub const PIECES: usize = 64;

/// What is kept of a buffer may keep at most so many times its size from being freed: the budget sees
/// the slice, not the buffer it was cut from.
const PINNED: usize = 4;

/// True when `len` bytes to be kept are only a small part of the `buffer` bytes they lie in, and are to be
/// copied out.
#[inline]
pub fn is_small_part(len: usize, buffer: usize) -> bool {
    len < buffer / PINNED
}

/// A slice to be kept, of a buffer of `buffer` bytes.
pub fn unpinned(slice: Bytes, buffer: usize) -> Bytes {
    if is_small_part(slice.len(), buffer) { Bytes::copy_from_slice(&slice) } else { slice }
}

/// A contiguous run of bytes.
#[derive(Debug)]
pub enum Chunk {
    /// Copied together.
    Copied(Vec<u8>),
    /// A slice of a larger buffer.
    Slice(Bytes),
}

impl Chunk {
    /// Its bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Slice(bytes) => bytes,
        }
    }
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing is left.
    All,
    /// The socket takes no more now.
    Blocked,
}

/// Writes pieces once; the number of bytes taken, or `None` when the socket takes no more now.
pub fn write_pieces(socket: &WriteSide, pieces: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    let result = match pieces {
        [one] => socket.try_write(one),
        many => socket.try_write_vectored(many),
    };
    match result {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(n) => Ok(Some(n)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes owed to one client.
#[derive(Debug, Default)]
pub struct Outgoing {
    queue: VecDeque<Chunk>,
    tail: Vec<u8>,
    /// Bytes of the front chunk (or of `tail`, when the queue is empty) that are written already.
    written: usize,
    len: usize,
}

impl Outgoing {
    /// Bytes not yet written.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Pieces that wait beside the one that is being filled.
    pub fn chunks(&self) -> usize {
        self.queue.len()
    }

    /// True when everything is written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes behind what is there; `spare` gives a buffer when there is none.
    #[inline]
    pub fn append(&mut self, bytes: &[u8], spare: impl FnOnce() -> Vec<u8>) {
        if self.tail.len() + bytes.len() > CHUNK && !self.tail.is_empty() {
            self.close_tail();
        }
        if self.tail.capacity() == 0 {
            self.tail = spare();
        }
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends a slice without copying.
    pub fn push(&mut self, slice: Bytes) {
        if slice.is_empty() {
            return;
        }
        self.close_tail();
        self.len += slice.len();
        self.queue.push_back(Chunk::Slice(slice));
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(Chunk::Copied(std::mem::take(&mut self.tail)));
        }
    }

    /// Writes until nothing is left or the socket takes no more. Buffers that are done go to `done`.
    pub fn write_to(
        &mut self,
        socket: &WriteSide,
        mut done: impl FnMut(Vec<u8>),
    ) -> io::Result<(Flushed, usize)> {
        let mut total = 0;
        while self.len > 0 {
            let taken = if self.queue.is_empty() {
                let rest = self.tail.get(self.written..).unwrap_or(&[]);
                write_pieces(socket, &[IoSlice::new(rest)])?
            } else {
                self.write_queue(socket)?
            };
            let Some(taken) = taken else { return Ok((Flushed::Blocked, total)) };
            total += taken;
            self.advance(taken, &mut done);
        }
        if self.tail.capacity() > 0 {
            done(std::mem::take(&mut self.tail));
        }
        if self.queue.capacity() > 16 {
            self.queue = VecDeque::new();
        }
        self.written = 0;
        Ok((Flushed::All, total))
    }

    fn write_queue(&self, socket: &WriteSide) -> io::Result<Option<usize>> {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let mut used = 0;
        let mut skip = self.written;
        let all = self.queue.iter().map(Chunk::bytes).chain(std::iter::once(self.tail.as_slice()));
        for (slot, bytes) in pieces.iter_mut().zip(all) {
            *slot = IoSlice::new(bytes.get(skip..).unwrap_or(&[]));
            skip = 0;
            used += 1;
        }
        write_pieces(socket, pieces.get(..used).unwrap_or(&[]))
    }

    fn advance(&mut self, taken: usize, done: &mut impl FnMut(Vec<u8>)) {
        self.len -= taken;
        self.written += taken;
        while let Some(front) = self.queue.front() {
            let size = front.bytes().len();
            if self.written < size {
                return;
            }
            self.written -= size;
            if let Some(Chunk::Copied(buffer)) = self.queue.pop_front() {
                done(buffer);
            }
        }
    }
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(crate) mod tests;
