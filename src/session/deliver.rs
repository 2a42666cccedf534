//! A reply comes back to its session: in whole, as a part of a split command, or piece by piece while
//! it is still coming in.

use std::rc::Rc;

use bytes::Bytes;

use super::pending::Merged;
use super::{Session, SessionInner};
use crate::backend::ticket::Errand;
use crate::error::ProxyError;
use crate::reply::merge::error_line;
use crate::worker::WorkerContext;
use crate::worker::outgoing::LARGE;

impl Session {
    /// The reply to an errand. `shared` is the same bytes as a slice, where they are large.
    #[inline]
    pub fn deliver(self: &Rc<Self>, errand: &Errand, frame: &[u8], shared: Option<Bytes>) {
        let worker = &self.worker;
        let mut inner = self.inner();
        inner.window.learn(frame.len());
        let SessionInner { pending, out, .. } = &mut *inner;
        let wanted = match shared {
            None => pending.answer(errand.seq, frame, out, &worker.pool),
            Some(slice) => pending.answer_large(errand.seq, slice, out),
        };
        if wanted || inner.complete_transaction(self, errand, frame) {
            inner.settled_one(self, worker);
        }
    }

    /// The reply to one part of a split command.
    pub fn deliver_part(self: &Rc<Self>, errand: &Errand, frame: &[u8], shared: Option<&Bytes>) {
        let mut inner = self.inner();
        inner.window.learn(frame.len());
        let merged = inner.pending.merge_part(errand.seq, |merge| merge.accept(errand.part, frame, shared));
        // While parts are missing nothing can go out; what is large is charged at once.
        let settles = match merged {
            Merged::Unwanted => false,
            Merged::Complete => true,
            Merged::More => inner.order.is_some() || inner.pending.bytes() >= inner.charged + LARGE,
        };
        if settles {
            inner.settled_one(self, &self.worker);
        }
    }

    /// An errand ends in an error of the proxy's own.
    pub fn fail(self: &Rc<Self>, errand: &Errand, error: ProxyError) {
        self.inner().fail(self, errand, error);
    }

    /// Tries to let the reply of `errand` through while it is still coming in.
    pub fn begin_flow(&self, errand: &Errand) -> bool {
        self.inner().pending.begin_flow(errand.seq)
    }

    /// More bytes of a flowing reply. Written from where they lie if nothing is before them.
    pub fn flow(self: &Rc<Self>, bytes: &[u8]) {
        let worker = &self.worker;
        let mut inner = self.inner();
        let mut rest = bytes;
        if inner.out.is_empty()
            && !inner.write_blocked
            && let Some(writer) = &inner.writer
            && let Ok(written) = writer.try_write(bytes)
        {
            rest = bytes.get(written..).unwrap_or(&[]);
            worker.counters.bytes_out(written);
            inner.progress = worker.clock.now();
        }
        if !rest.is_empty() && inner.writer.is_some() {
            inner.out.append(rest, || worker.pool.take());
            self.touch();
        }
        self.watch();
    }

    /// The last byte of a flowing reply is through.
    pub fn end_flow(self: &Rc<Self>, errand: &Errand, len: usize) {
        let mut inner = self.inner();
        inner.window.learn(len);
        inner.pending.end_flow(errand.seq);
        inner.settled_one(self, &self.worker);
    }
}

impl SessionInner {
    /// An errand ends in an error of the proxy's own.
    pub fn fail(&mut self, session: &Rc<Session>, errand: &Errand, error: ProxyError) {
        let worker = session.worker();
        let part = errand.split
            && self.pending.merge_part(errand.seq, |merge| merge.fail_part(errand.part, error))
                != Merged::Unwanted;
        if part || self.pending.settle(errand.seq, &error_line(error)) {
            worker.counters.error(error);
            self.settled_one(session, worker);
        } else if self.is_flowing(errand.seq) {
            // Half a reply is out: nothing can follow it that the client would read right.
            self.broken = Some(crate::telemetry::CloseReason::Error);
            self.wake();
        }
    }

    /// After a reply came in: lets out what may go, and sees whether held requests may go on.
    #[inline]
    pub fn settled_one(&mut self, session: &Rc<Session>, worker: &WorkerContext) {
        let now = worker.clock.now();
        if self.held_pushes.is_some() {
            // Before replies behind the one they waited for, which may be the end of their subscription.
            self.release_pushes(worker);
        }
        self.pending.drain(&mut self.out, &worker.pool, |(class, arrived)| {
            worker.counters.request_done(class, now.saturating_sub(arrived));
            worker.counters.in_flight(-1);
        });
        if self.held_pushes.is_some() {
            self.release_pushes(worker);
        }
        if self.order.is_some() {
            worker.advance_later(session);
        }
        if self.operation.is_some() {
            self.wake_operation();
        }
        if self.behind.is_some() {
            self.look_behind(session);
        }
        // A part of a merge that is not complete changes nothing for the client.
        if !self.out.is_empty() || self.paused || self.read_closed || self.closing.is_some() {
            session.touch();
        } else {
            self.charge(&worker.budget);
        }
    }

    fn is_flowing(&mut self, seq: u32) -> bool {
        self.pending.cell(seq).is_some_and(|cell| matches!(cell.state, super::pending::CellState::Flowing))
    }
}
