//! Invalidations that are said once more. One comes the moment its node sends it, but the client's own reads go
//! to several nodes: a value that was read before may still wait for the replies in front of it, and would be
//! cached after its key was called invalid. So what is said while values wait is said again behind them. Owns
//! what is to be repeated; bounded: much of it becomes "forget everything".

use std::collections::VecDeque;
use std::rc::Rc;

use super::FLUSH;
use crate::session::{Session, SessionInner};
use crate::worker::WorkerContext;

/// Bytes kept for one round; more of them are one flush.
const KEPT: usize = 16 << 10;

/// What is said again once a request is answered.
#[derive(Debug)]
struct Round {
    /// The last request in front of it.
    until: u32,
    /// Whole pushes.
    pushes: Vec<Box<[u8]>>,
    bytes: usize,
    /// Everything is to be forgotten: no push says more.
    all: bool,
    /// The session gets connections of its own anew.
    renew: bool,
}

/// At most two rounds: what comes while two wait joins the second, so that the first is never put off.
#[derive(Debug, Default)]
pub struct Behind(VecDeque<Round>);

impl Behind {
    fn round(&mut self, until: u32) -> Option<&mut Round> {
        let joins = self.0.len() > 1 || self.0.back().is_some_and(|last| last.until == until);
        if !joins {
            self.0.push_back(Round { until, pushes: Vec::new(), bytes: 0, all: false, renew: false });
        }
        let last = self.0.back_mut()?;
        if (until.wrapping_sub(last.until) as i32) > 0 {
            last.until = until;
        }
        Some(last)
    }
}

impl Round {
    fn add(&mut self, push: &[u8]) {
        self.bytes += push.len();
        if push == FLUSH || self.bytes > KEPT {
            self.all = true;
            self.pushes = Vec::new();
        }
        if !self.all {
            self.pushes.push(push.into());
        }
    }
}

impl SessionInner {
    /// `push` was said: if values wait that were read before, it is said again behind them.
    pub(super) fn repeat_behind_values(&mut self, push: &[u8]) {
        if let Some(until) = self.pending.last_kept()
            && let Some(round) = self.behind.get_or_insert_default().round(until)
        {
            round.add(push);
        }
    }

    /// What is asked for now may be answered with what nobody keeps track of: the client forgets everything
    /// behind it. With nothing open there is nothing to do.
    pub(crate) fn flush_behind(&mut self) {
        if self.client.tracking.is_none() || self.pending.is_empty() {
            return;
        }
        let last = self.pending.last_seq();
        if let Some(round) = self.behind.get_or_insert_default().round(last) {
            round.add(FLUSH);
        }
    }

    /// The version has changed: behind everything that was asked for before, the session gets connections of its
    /// own anew, and its client forgets everything.
    pub fn renew_behind(&mut self, session: &Rc<Session>) {
        if self.client.tracking.is_none() {
            return;
        }
        let last = self.pending.last_seq();
        if let Some(round) = self.behind.get_or_insert_default().round(last) {
            round.add(FLUSH);
            round.renew = true;
        }
        self.look_behind(session);
    }

    /// A read may go where nobody keeps track of it. `caching`: what CLIENT CACHING said for it.
    pub fn distrust_reads(&mut self, caching: Option<bool>) {
        let Some(state) = &self.client.tracking else { return };
        let options = &state.options;
        let untold = (options.optin && caching != Some(true)) || (options.optout && caching == Some(false));
        if !untold {
            self.flush_behind();
        }
    }

    /// Has the flusher say again what is due, if anything is.
    #[cold]
    pub fn look_behind(&mut self, session: &Rc<Session>) {
        if self.is_due() {
            session.worker().tell_later(session);
        }
    }

    fn is_due(&mut self) -> bool {
        let until = self.behind.as_ref().and_then(|behind| behind.0.front()).map(|round| round.until);
        until.is_some_and(|seq| self.pending.cell(seq).is_none())
    }
}

impl WorkerContext {
    /// Says again what is due. No session or lane may be borrowed.
    pub fn tell_behind(self: &Rc<Self>, session: &Rc<Session>) {
        loop {
            let round = {
                let mut inner = session.inner();
                if !inner.is_due() {
                    return;
                }
                let round = inner.behind.as_mut().and_then(|behind| behind.0.pop_front());
                if inner.behind.as_ref().is_some_and(|behind| behind.0.is_empty()) {
                    inner.behind = None;
                }
                round
            };
            let Some(round) = round else { return };
            if round.renew {
                self.renew_lanes(session);
            }
            if round.all {
                self.tell(session, FLUSH);
            } else {
                round.pushes.iter().for_each(|push| self.tell(session, push));
            }
        }
    }
}
