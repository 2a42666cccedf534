//! What time does to a session: requests whose deadline passed get their error, a client that takes
//! no bytes is closed. Called by the timer wheel, never on the path of a request.

use std::rc::Rc;

use super::pending::CellState;
use super::{Session, SessionInner};
use crate::error::ProxyError;
use crate::reply::merge::error_line;
use crate::telemetry::CloseReason;

impl Session {
    /// Looks after the session; when to look again, or `None` when there is nothing to look after.
    pub fn expire(self: &Rc<Self>, now: u64) -> Option<u64> {
        let limits = &self.worker().limits;
        let mut inner = self.inner();
        inner.writer.as_ref()?;
        if inner.pending.is_empty() && inner.out.is_empty() && inner.partial.is_none() {
            inner.pending.shrink();
            return None;
        }
        let mut next = now.saturating_add(limits.deadline);
        while let Some((seq, arrived)) = inner.oldest_open() {
            if arrived + limits.deadline > now {
                next = next.min(arrived + limits.deadline);
                break;
            }
            inner.expire_one(self, seq);
        }
        if !inner.out.is_empty() || inner.partial.is_some() {
            let stalled_at = inner.progress.saturating_add(limits.stall);
            if stalled_at <= now {
                tracing::info!(
                    client = self.id,
                    unsent = inner.out.len(),
                    "closing a client that makes no progress"
                );
                inner.broken = Some(CloseReason::Stalled);
                inner.wake();
                return None;
            }
            next = next.min(stalled_at);
        }
        Some(next)
    }
}

impl SessionInner {
    /// The oldest request that waits for a node. One whose reply is coming in has no deadline: its
    /// clock stands still while bytes move, and a broken connection ends it.
    fn oldest_open(&self) -> Option<(u32, u64)> {
        self.pending
            .iter()
            .find(|(_, cell)| cell.is_open() && !matches!(cell.state, CellState::Flowing))
            .map(|(seq, cell)| (seq, cell.arrived))
    }

    fn expire_one(&mut self, session: &Rc<Session>, seq: u32) {
        let worker = session.worker();
        let error = match self.pending.cell(seq) {
            Some(cell) if cell.held => ProxyError::DeadlineUnsent,
            Some(cell) if matches!(&cell.state, CellState::Merging(merge) if merge.is_write()) => {
                ProxyError::PartlyFailed
            }
            Some(_) if worker.is_waiting(session, seq) => ProxyError::DeadlineUnsent,
            _ => ProxyError::DeadlineSent,
        };
        worker.counters.error(error);
        self.pending.settle(seq, &error_line(error));
        self.settled_one(session, worker);
    }
}
