//! What the buffers hold in all, against `max-memory`. Sessions and operations report their own as it changes,
//! lanes and the waiting room are added up at every tick. When the process has reached its ceiling, new work
//! is refused with an error and unfinished requests are not read on, until it has fallen below.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::WorkerContext;
use crate::backend::lane::Lane;
use crate::session::SessionInner;
use crate::telemetry::CloseReason;

/// One worker's account.
#[derive(Debug, Default)]
pub struct Budget {
    account: Rc<Cell<usize>>,
    full: Cell<bool>,
}

impl Budget {
    /// True while no new work is taken.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.full.get()
    }

    /// A session's buffers changed from `before` to `after` bytes.
    #[inline]
    pub fn charge(&self, before: usize, after: usize) {
        self.account.set((self.account.get() + after).saturating_sub(before));
    }

    /// Charges `bytes` that an operation holds, until the answer is dropped.
    pub fn hold(&self, bytes: usize) -> Held {
        let held = Held { account: Rc::clone(&self.account), bytes: Cell::new(0) };
        held.add(bytes);
        held
    }
}

/// Bytes held outside of sessions and lanes, charged while this lives.
#[derive(Debug, Default)]
pub struct Held {
    account: Rc<Cell<usize>>,
    bytes: Cell<usize>,
}

impl Held {
    /// Another one of the same account, of nothing so far.
    pub fn another(&self) -> Self {
        Self { account: Rc::clone(&self.account), bytes: Cell::new(0) }
    }

    /// So many more.
    pub fn add(&self, bytes: usize) {
        self.account.set(self.account.get() + bytes);
        self.bytes.set(self.bytes.get() + bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.set(self.account.get().saturating_sub(self.bytes.get()));
    }
}

impl WorkerContext {
    /// Closes the client whose replies take the most memory, if they take more than a client may hold:
    /// what a client has asked for cannot be refused any more, only forgotten.
    fn close_largest_client(&self) {
        let sessions = self.sessions.borrow();
        let candidates = sessions.iter().filter(|session| !session.inner().client.settings.no_evict);
        let Some(largest) = candidates.max_by_key(|session| session.inner().footprint()) else { return };
        let mut inner = largest.inner();
        if inner.footprint() > self.limits.pending_bytes {
            tracing::warn!(
                client = largest.id,
                held = inner.footprint(),
                "max-memory: closing the largest client"
            );
            inner.broken = Some(CloseReason::Memory);
            inner.wake();
        }
    }

    /// Publishes what this worker holds and takes note of what all hold. Once per tick.
    pub fn settle_budget(&self) {
        let held_by = |lane: &Rc<Lane>| lane.inner().send.kept() + lane.receiving.get() as u64;
        let lanes: u64 = self.lanes.borrow().iter().map(held_by).sum();
        let subscriptions = self.hub.bytes() as u64;
        let held = self.budget.account.get() as u64 + lanes + self.waiting.borrow().bytes() + subscriptions;
        if let Some(me) = self.process.workers.get(self.index) {
            me.memory.store(held, Ordering::Relaxed);
        }
        let full = self.process.is_memory_full();
        if full {
            self.close_largest_client();
        }
        if self.budget.full.replace(full) != full {
            if full {
                tracing::warn!(held, "max-memory is reached: refusing new work");
            } else {
                tracing::info!(held, "below max-memory again");
                self.wake_paused();
            }
        }
    }
}

impl SessionInner {
    /// Bytes this session's buffers hold.
    #[inline]
    pub fn footprint(&self) -> usize {
        self.subscriptions.as_ref().map_or(0, |subscriptions| subscriptions.bytes())
            + self.held_push_bytes()
            + self.out.len()
            + self.pending.bytes()
            + self.partial.as_ref().map_or(0, |partial| partial.buffer.capacity())
            + self.order.as_ref().map_or(0, |order| order.bytes())
            + self.transaction.as_ref().map_or(0, |transaction| transaction.bytes())
            + self.push.as_ref().map_or(0, |push| push.footprint())
            + self.ways.as_ref().map_or(0, |ways| ways.footprint())
    }

    /// Brings the worker's account up to date with this session.
    #[inline]
    pub fn charge(&mut self, budget: &Budget) {
        let now = self.footprint();
        if now != self.charged {
            budget.charge(self.charged, now);
            self.charged = now;
        }
    }
}
