//! Buffers for replies and requests on their way, used again so that a busy turn allocates nothing.
//! Keeps a bounded number of bounded buffers; must never hold bytes of a client that is idle.

use std::cell::RefCell;

/// Most buffers kept.
const KEPT: usize = 256;
/// A buffer that grew beyond this is given back to the allocator.
const KEPT_BYTES: usize = 32 << 10;
/// Room a fresh buffer starts with.
const FRESH: usize = 1 << 10;

/// Free buffers, the warmest on top.
#[derive(Debug, Default)]
pub struct BufferPool {
    free: RefCell<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// An empty buffer.
    #[inline]
    pub fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(FRESH))
    }

    /// Gives a buffer back.
    #[inline]
    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT && (1..=KEPT_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            free.push(buffer);
        }
    }
}
