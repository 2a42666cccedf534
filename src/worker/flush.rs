//! Writes are collected: whoever appends bytes marks the lane or session, and one task, woken once,
//! writes to every marked socket when all tasks that became ready in this turn of the loop have run.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::WorkerContext;
use crate::backend::lane::Lane;
use crate::backend::ticket::lost_error;
use crate::session::{Session, order};

/// What is to be written at the end of this turn.
#[derive(Debug, Default)]
pub struct Flusher {
    lanes: RefCell<Vec<Rc<Lane>>>,
    sessions: RefCell<Vec<Rc<Session>>>,
    waker: RefCell<Option<Waker>>,
    armed: Cell<bool>,
}

impl Flusher {
    /// `lane` has something to write. Called once per turn and lane.
    #[inline]
    pub fn add_lane(&self, lane: &Rc<Lane>) {
        self.lanes.borrow_mut().push(Rc::clone(lane));
        self.arm();
    }

    /// `session` has something to write. Called once per turn and session.
    #[inline]
    pub fn add_session(&self, session: &Rc<Session>) {
        self.sessions.borrow_mut().push(Rc::clone(session));
        self.arm();
    }

    fn poll_armed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.waker.borrow().is_none() {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
        }
        if self.armed.get() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Has the flusher run at the end of this turn.
    #[inline]
    pub fn arm(&self) {
        if !self.armed.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }
}

/// The flusher's task; never ends. A client that is still owed replies by other nodes gets one look at
/// the sockets more before its bytes leave, so that a pipeline over several shards is answered in one
/// write instead of one per shard; it never waits for a reply.
pub async fn run(worker: Rc<WorkerContext>) {
    let (mut lanes, mut sessions) = (Vec::new(), Vec::new());
    let mut late: Vec<Rc<Session>> = Vec::new();
    let flusher = &worker.flusher;
    loop {
        if late.is_empty() {
            poll_fn(|cx| flusher.poll_armed(cx)).await;
        } else {
            tokio::task::yield_now().await;
        }
        flusher.armed.set(false);
        settle(&worker);
        std::mem::swap(&mut lanes, &mut *flusher.lanes.borrow_mut());
        lanes.drain(..).for_each(|lane| Lane::flush(&lane));
        late.drain(..).for_each(|session| Session::flush(&session));
        std::mem::swap(&mut sessions, &mut *flusher.sessions.borrow_mut());
        for session in sessions.drain(..) {
            if session.expects_more() {
                late.push(session);
            } else {
                session.flush();
            }
        }
    }
}

/// What could not be done where it came up, for something was borrowed there.
fn settle(worker: &Rc<WorkerContext>) {
    if worker.has_orphans() {
        for errand in worker.take_orphans() {
            errand.session.fail(&errand, lost_error(&errand));
        }
    }
    for session in worker.take_tellings() {
        worker.tell_behind(&session);
    }
    if !worker.ordering.borrow().is_empty() {
        let sessions = std::mem::take(&mut *worker.ordering.borrow_mut());
        for session in sessions {
            session.ordered.set(false);
            order::advance(worker, &session);
        }
    }
}
