//! The byte stream to one node. A request keeps its bytes here until it is answered, so that it can be
//! sent again elsewhere: a ticket remembers where in the stream its request starts. Must never move a
//! byte once it is in, and never drop one before `release`.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;

use crate::worker::outgoing::{Chunk, Flushed, LARGE, PIECES, write_pieces};
use crate::worker::transport::WriteSide;

/// Size of the runs that small requests are copied into. A request never lies in two of them.
const RUN: usize = 16 << 10;

/// A run of the stream, starting at `start`.
#[derive(Debug)]
struct Run {
    start: u64,
    chunk: Chunk,
}

impl Run {
    fn end(&self) -> u64 {
        self.start + self.chunk.bytes().len() as u64
    }
}

/// Bytes for a node: unsent ones, and sent ones whose reply is still owed.
#[derive(Debug, Default)]
pub struct SendBuffer {
    runs: VecDeque<Run>,
    /// Index into `runs` of the one that holds the byte at `written`.
    writing: usize,
    written: u64,
    end: u64,
    /// A run that is done, for the next one.
    spare: Option<Vec<u8>>,
}

impl SendBuffer {
    /// Stream position behind the last byte appended.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Stream position behind the last byte the kernel took.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes kept, sent or not.
    #[inline]
    pub fn kept(&self) -> u64 {
        self.end - self.runs.front().map_or(self.end, |run| run.start)
    }

    /// Appends a request of exactly `len` bytes, written by `fill`; its bytes will lie together.
    #[inline]
    pub fn append_with(&mut self, len: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        match self.runs.back_mut() {
            Some(Run { chunk: Chunk::Copied(run), .. }) if run.len() + len <= RUN => fill(run),
            _ => {
                let mut run = self.spare.take().unwrap_or_default();
                run.reserve(RUN.max(len));
                fill(&mut run);
                self.runs.push_back(Run { start: self.end, chunk: Chunk::Copied(run) });
            }
        }
        self.end += len as u64;
    }

    /// Appends one request.
    #[inline]
    pub fn append(&mut self, request: &[u8]) {
        self.append_with(request.len(), |run| run.extend_from_slice(request));
    }

    /// Appends a large request without copying it.
    pub fn push(&mut self, request: Bytes) {
        let start = self.end;
        self.end += request.len() as u64;
        self.runs.push_back(Run { start, chunk: Chunk::Slice(request) });
    }

    /// The bytes of a request that is still kept. A large one is shared, a small one copied.
    pub fn request(&self, start: u64, len: usize) -> Bytes {
        let index = self.runs.partition_point(|run| run.end() <= start);
        let Some(run) = self.runs.get(index) else { return Bytes::new() };
        let from = (start - run.start) as usize;
        match &run.chunk {
            Chunk::Slice(bytes) if from + len <= bytes.len() => bytes.slice(from..from + len),
            other => Bytes::copy_from_slice(other.bytes().get(from..from + len).unwrap_or(&[])),
        }
    }

    /// Everything before `upto` has been answered.
    #[inline]
    pub fn release(&mut self, upto: u64) {
        while let Some(front) = self.runs.front_mut() {
            if front.end() > upto || front.end() > self.written {
                return;
            }
            if self.runs.len() == 1
                && let Some(Run { start, chunk: Chunk::Copied(run) }) = self.runs.front_mut()
            {
                *start = self.end;
                run.clear();
                return;
            }
            if let Some(Run { chunk: Chunk::Copied(mut run), .. }) = self.runs.pop_front()
                && run.capacity() <= 2 * RUN
            {
                run.clear();
                self.spare = Some(run);
            }
            self.writing = self.writing.saturating_sub(1);
        }
    }

    /// Writes until the kernel has everything or takes no more.
    pub fn write_to(&mut self, socket: &WriteSide) -> io::Result<Flushed> {
        while self.written < self.end {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut used = 0;
            for (piece, run) in pieces.iter_mut().zip(self.runs.range(self.writing.min(self.runs.len())..)) {
                let from = self.written.saturating_sub(run.start) as usize;
                *piece = IoSlice::new(run.chunk.bytes().get(from..).unwrap_or(&[]));
                used += 1;
            }
            let Some(taken) = write_pieces(socket, pieces.get(..used).unwrap_or(&[]))? else {
                return Ok(Flushed::Blocked);
            };
            self.written += taken as u64;
            while self.runs.get(self.writing).is_some_and(|run| run.end() <= self.written)
                && self.writing + 1 < self.runs.len()
            {
                self.writing += 1;
            }
        }
        Ok(Flushed::All)
    }
}

/// Whether a request of this size travels as a slice.
pub fn is_large(len: usize) -> bool {
    len >= LARGE
}

#[cfg(test)]
#[path = "sendbuf_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
