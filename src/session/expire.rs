//! What time does to a session: requests whose deadline passed get their error, a client that takes
//! no bytes is closed. Called by the timer wheel, never on the path of a request.

use std::rc::Rc;

use super::pending::CellState;
use super::{Session, SessionInner};
use crate::error::ProxyError;
use crate::reply::merge::error_line;
use crate::telemetry::CloseReason;
use crate::worker::limits::WorkerLimits;

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
        if let Some((limit, reason, why)) = inner.stands_still(limits) {
            let ends = inner.progress.saturating_add(limit);
            if ends <= now {
                tracing::info!(client = self.id, unsent = inner.out.len(), "closing a client {why}");
                inner.broken = Some(reason);
                inner.wake();
                return None;
            }
            next = next.min(ends);
        }
        Some(next)
    }
}

impl SessionInner {
    /// Who has to move a byte next, if it is not a matter of a request's deadline: how long the connection
    /// may stand still for it.
    fn stands_still(&self, limits: &WorkerLimits) -> Option<(u64, CloseReason, &'static str)> {
        let waits_for_us = self.paused && (self.pending.open() > 0 || self.postponed);
        if !self.out.is_empty() || (self.partial.is_some() && !waits_for_us) {
            return Some((limits.stall, CloseReason::Stalled, "that makes no progress"));
        }
        // Half a reply is out and the node sends no more of it: no error can follow.
        self.pending.is_flowing().then_some((
            limits.deadline,
            CloseReason::Error,
            "whose reply stopped half way",
        ))
    }

    /// The oldest request that waits for a node. One whose reply is coming in has no deadline: its
    /// clock stands still while bytes move (see `stands_still`), and a broken connection ends it.
    fn oldest_open(&self) -> Option<(u32, u64)> {
        self.pending
            .iter()
            .find(|(seq, cell)| {
                cell.is_open() && !matches!(cell.state, CellState::Flowing) && !self.is_timeless(*seq)
            })
            .map(|(seq, cell)| (seq, cell.arrived))
    }

    fn expire_one(&mut self, session: &Rc<Session>, seq: u32) {
        let worker = session.worker();
        let waiting = || worker.waiting_parts(session, seq);
        let in_doubt = self.order.as_ref().is_some_and(|order| order.is_in_doubt(seq));
        let operation = self.end_operation(seq);
        let error = match self.pending.cell(seq).map(|cell| (&cell.state, cell.held)) {
            Some(_) if operation == Some(false) => ProxyError::DeadlineUnsent,
            // A held part is not under way.
            Some((CellState::Merging(merge), _)) if merge.only_under_way() == Some(waiting()) => {
                ProxyError::DeadlineUnsent
            }
            Some((CellState::Merging(merge), _)) if merge.is_write() => ProxyError::PartlyFailed,
            Some((CellState::Merging(_), _)) | None => ProxyError::DeadlineSent,
            Some((_, held)) if (held && !in_doubt) || waiting() > 0 => ProxyError::DeadlineUnsent,
            Some(_) => ProxyError::DeadlineSent,
        };
        worker.counters.error(error);
        self.pending.settle(seq, &error_line(error));
        self.settled_one(session, worker);
    }
}
