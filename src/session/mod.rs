//! One client: its state, the requests it has in flight, its way back. A session is reached from two
//! sides: its own task reads requests, and whoever gets a reply puts it into the session's outgoing
//! bytes. No borrow of `inner` is ever held while another session or lane is called into that could
//! call back.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::task::Waker;

pub mod cell;
pub mod clients;
pub mod deliver;
pub mod dispatch;
pub mod exec;
pub mod expire;
pub mod input;
pub mod learned;
pub mod local;
pub mod modes;
pub mod order;
pub mod pending;
pub mod push;
pub mod route;
pub mod script;
pub mod show;
pub mod state;
pub mod task;
#[cfg(test)]
mod tests;
pub mod transaction;
mod under_way;
pub mod window;
pub mod written;

use self::exec::Push;
use self::order::Order;
use self::pending::Pending;
use self::push::HeldPushes;
use self::state::ClientState;
use self::transaction::{Transaction, Watch};
use self::window::Window;
use self::written::Written;
use crate::operation::Running;
use crate::operation::ending::Ending;
use crate::operation::monitor::Monitor;
use crate::protocol::scan::RequestScanner;
use crate::pubsub::client::Subscriptions;
use crate::pubsub::ways::Ways;
use crate::telemetry::CloseReason;
use crate::tracking::behind::Behind;
use crate::worker::WorkerContext;
use crate::worker::outgoing::{Flushed, LARGE, Outgoing};
use crate::worker::transport::WriteSide;
use bytes::BytesMut;

/// An epoch no table has: whatever is in flight has to be answered before the next request, which takes
/// another connection.
pub const OTHER_LANE: u64 = u64::MAX;

/// A request that has not arrived as a whole.
#[derive(Debug, Default)]
pub struct Partial {
    /// What has arrived.
    pub buffer: BytesMut,
    /// How far it is read.
    pub scanner: RequestScanner,
    /// Least number of bytes that could complete it.
    pub wanted: usize,
}

/// One client connection of one worker.
pub struct Session {
    /// Unique across instances.
    pub id: u64,
    worker: Rc<WorkerContext>,
    /// Place in the worker's list of sessions.
    pub index: Cell<u32>,
    dirty: Cell<bool>,
    /// Among those whose held requests are looked at this turn.
    pub ordered: Cell<bool>,
    timed: Cell<bool>,
    /// Its own set of lanes; 0 while it uses those that all share.
    pub lane_set: Cell<u32>,
    inner: RefCell<SessionInner>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the two sides share.
pub struct SessionInner {
    /// Identity and settings.
    pub client: ClientState,
    /// Replies owed.
    pub pending: Pending,
    /// Bytes for the client.
    pub out: Outgoing,
    /// How many requests may be in flight.
    pub window: Window,
    /// The socket; `None` once closed. Shared with whoever watches it for its end.
    pub writer: Option<Rc<WriteSide>>,
    /// The session's task.
    pub waker: Option<Waker>,
    /// Bytes of a request that is not whole, or that may not be handled yet.
    pub partial: Option<Box<Partial>>,
    /// Redirected requests and what they wait for; almost always `None`.
    pub order: Option<Box<Order>>,
    /// What was queued since MULTI.
    pub transaction: Option<Box<Transaction>>,
    /// Watched keys.
    pub watch: Option<Box<Watch>>,
    /// A transaction that its operation is about to send.
    pub push: Option<Box<Push>>,
    /// What was published inside transactions.
    pub ways: Option<Box<Ways>>,
    /// What WAIT has to know.
    pub written: Written,
    /// MONITOR.
    pub monitor: Option<Box<Monitor>>,
    /// CLIENT CACHING, for the request at hand.
    pub caching: Option<bool>,
    /// Invalidations that go out once more behind replies; almost always `None`.
    pub behind: Option<Box<Behind>>,
    /// The operation that is under way; nothing else is then.
    pub operation: Option<Box<Running>>,
    /// What the client is subscribed to.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// Pushes that may not go out yet; almost always `None`.
    pub held_pushes: Option<Box<HeldPushes>>,
    /// Bytes of pushes given to `out` since it was last empty.
    pub pushed: usize,
    /// Epoch of the table under which the requests in flight were routed.
    pub epoch: u64,
    /// No more requests are taken; the session ends when everything owed is written.
    pub closing: Option<CloseReason>,
    /// The connection is of no more use: end at once.
    pub broken: Option<CloseReason>,
    /// The socket takes no more: the task waits until it does.
    pub write_blocked: bool,
    /// Reading stopped at a bound or for the sake of order; wake the task when that has passed.
    pub paused: bool,
    /// A large request is next, which goes alone: once nothing else is in flight.
    pub alone: bool,
    /// CLIENT PAUSE holds back the request that is next.
    pub postponed: bool,
    /// The client will send no more, or is not listened to any more.
    pub read_closed: bool,
    /// The client closed its side.
    pub peer_closed: bool,
    /// The process stops: one read more, and what was read is answered.
    pub draining: bool,
    /// Bytes charged to the worker's budget.
    pub charged: usize,
    /// When a byte last moved in either direction, on the worker's clock.
    pub progress: u64,
}

impl Session {
    /// A session that is not registered yet.
    pub fn new(worker: Rc<WorkerContext>, client: ClientState, writer: WriteSide) -> Rc<Self> {
        let progress = worker.clock.now();
        Rc::new(Self {
            id: client.id,
            worker,
            index: Cell::new(u32::MAX),
            dirty: Cell::new(false),
            ordered: Cell::new(false),
            timed: Cell::new(false),
            lane_set: Cell::new(0),
            inner: RefCell::new(SessionInner {
                client,
                pending: Pending::default(),
                out: Outgoing::default(),
                window: Window::default(),
                writer: Some(Rc::new(writer)),
                waker: None,
                partial: None,
                order: None,
                transaction: None,
                watch: None,
                push: None,
                ways: None,
                written: Written::default(),
                monitor: None,
                caching: None,
                behind: None,
                operation: None,
                subscriptions: None,
                held_pushes: None,
                pushed: 0,
                epoch: 0,
                closing: None,
                broken: None,
                write_blocked: false,
                paused: false,
                alone: false,
                postponed: false,
                read_closed: false,
                peer_closed: false,
                draining: false,
                charged: 0,
                progress,
            }),
        })
    }

    /// The worker it lives on.
    #[inline]
    pub fn worker(&self) -> &Rc<WorkerContext> {
        &self.worker
    }

    /// Its changeable part. Not to be held across a call into another session or lane.
    #[inline]
    pub fn inner(&self) -> RefMut<'_, SessionInner> {
        self.inner.borrow_mut()
    }

    /// Has the flusher write at the end of this turn, and the timer wheel look after the session.
    #[inline]
    pub fn touch(self: &Rc<Self>) {
        if !self.dirty.replace(true) {
            self.worker.flusher.add_session(self);
        }
    }

    /// Has the timer wheel look after the session while it owes or is owed anything.
    #[inline]
    pub fn watch(&self) {
        if !self.timed.replace(true) {
            self.worker.wheel.add(self, self.worker.clock.now() + self.worker.limits.first_check);
        }
    }

    /// The wheel let go of the session; `watch` has to be called again.
    pub fn unwatch(&self) {
        self.timed.set(false);
    }

    /// Reads what this client has sent by now, and then no more: the session ends when everything owed is
    /// written.
    pub fn drain(&self) {
        let mut inner = self.inner();
        inner.draining = true;
        inner.end_wait(Ending::Shutdown);
        inner.wake();
    }

    /// True when more replies are on their way and little is to be written yet.
    pub fn expects_more(&self) -> bool {
        let inner = self.inner();
        inner.pending.open() > 0 && (1..LARGE).contains(&inner.out.len())
    }

    /// Writes what is owed, as far as the socket takes it. Called by the flusher.
    pub fn flush(&self) {
        self.dirty.set(false);
        let mut inner = self.inner();
        inner.flush(&self.worker);
        inner.charge(&self.worker.budget);
        if inner.wants_task(&self.worker) {
            inner.wake();
        }
    }
}

impl SessionInner {
    /// Writes what is owed, as far as the socket takes it.
    #[inline]
    pub fn flush(&mut self, worker: &WorkerContext) {
        let Some(writer) = &self.writer else { return };
        if self.write_blocked || self.out.is_empty() {
            return;
        }
        match self.out.write_to(writer, |buffer| worker.pool.give(buffer)) {
            Ok((flushed, written)) => {
                if written > 0 {
                    self.progress = worker.clock.now();
                    worker.counters.bytes_out(written);
                }
                self.write_blocked = flushed == Flushed::Blocked;
            }
            Err(_) => self.broken = Some(CloseReason::Error),
        }
    }

    /// True when there is something only the session's own task can do.
    #[inline]
    pub fn wants_task(&self, worker: &WorkerContext) -> bool {
        self.write_blocked
            || self.broken.is_some()
            || (self.paused && self.may_take(worker))
            || ((self.read_closed || self.closing.is_some()) && self.is_settled())
    }

    /// True while another request may be taken from this client: within its bounds, and in an order
    /// that holds. Requests in flight were routed under one table; with a newer one the next request
    /// waits until they are answered, so that two requests for a slot never race on two connections.
    #[inline]
    pub fn may_take(&self, worker: &WorkerContext) -> bool {
        self.closing.is_none()
            && self.broken.is_none()
            && self.order.is_none()
            && !self.postponed
            && self.pending.len() < worker.limits.pending_requests
            && !(worker.budget.is_full() && self.partial.is_some())
            && self.window.is_open(
                self.pending.open(),
                self.out.len() + self.pending.bytes(),
                worker.limits.pending_bytes,
            )
            && (self.pending.open() == 0 || (self.epoch == worker.epoch() && !self.alone))
    }

    /// True when nothing is owed and everything is written.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.out.is_empty()
    }

    /// Schedules the session's task.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
