//! One pipelined connection to one node, shared by all sessions of a worker that speak its version of
//! the protocol. Owns the bytes sent and the queue of tickets: replies come in the order of requests.
//! Must never answer a session while its own queue is borrowed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use super::call::{Call, Room};
use super::permit::Permit;
use super::sendbuf::{SendBuffer, is_large};
use super::ticket::{Errand, Parcel, Ticket};
use crate::script::keyless::KeylessScript;
use crate::session::script::Loaded;
use crate::session::state::Resp;
use crate::topology::node::{Node, NodeId};
use crate::tracking::side::Listener;
use crate::worker::WorkerContext;
use crate::worker::outgoing::Flushed;
use crate::worker::transport::WriteSide;

/// ASKING as a request; its `+OK` is swallowed.
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// What tells two lanes of a worker apart: shapes of RESP3 can't be derived from RESP2 or back, users
/// may differ, so may databases, and a replica answers reads only after READONLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneKey {
    /// The node.
    pub node: NodeId,
    /// Protocol version.
    pub resp: Resp,
    /// Who we are at the node; 0 is the user of the configuration.
    pub identity: u16,
    /// Database.
    pub db: u16,
    /// For reads at a replica.
    pub read_only: bool,
    /// 0 for the lane that all share; else the number of a dedicated connection, which carries one
    /// request at a time.
    pub dedicated: u16,
    /// 0 for all sessions; else the number of the one session's set that it belongs to.
    pub private: u32,
}

impl LaneKey {
    /// The lane of ordinary requests.
    pub fn shared(node: NodeId, resp: Resp) -> Self {
        Self { node, resp, identity: 0, db: 0, read_only: false, dedicated: 0, private: 0 }
    }
}

impl LaneKey {
    /// The lane of reads at a replica.
    pub fn reading(node: NodeId, resp: Resp) -> Self {
        Self { read_only: true, ..Self::shared(node, resp) }
    }

    /// A lane of the session with this set of lanes; 0 means the one that all share.
    #[inline]
    pub fn private(node: NodeId, resp: Resp, set: u32) -> Self {
        Self { private: set, ..Self::shared(node, resp) }
    }
}

/// How far a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// No connection, nobody dials.
    Idle,
    /// Its task dials, shakes hands, or waits to try again.
    Connecting,
    /// Requests can be sent.
    Ready,
}

/// The parts a lane's reader and its senders share.
pub struct LaneInner {
    /// Bytes to the node.
    pub send: SendBuffer,
    /// What is owed for them, in order.
    pub tickets: VecDeque<Ticket>,
    /// The socket while the lane is ready.
    pub writer: Option<WriteSide>,
    /// The reader's task.
    pub waker: Option<Waker>,
    /// The socket takes no more: the reader's task waits until it does.
    pub write_blocked: bool,
    /// The connection is to be given up, for this reason.
    pub condemned: Option<&'static str>,
}

/// A lane.
pub struct Lane {
    /// What it is for.
    pub key: LaneKey,
    /// The node it goes to.
    pub node: Arc<Node>,
    /// How far it is.
    pub state: Cell<LaneState>,
    /// Since when it could not be reached, on the worker's clock; 0 while it can, or was never tried.
    pub down_since: Cell<u64>,
    /// Bytes held for a large reply that is coming in.
    pub receiving: Cell<usize>,
    /// Since when a dedicated connection has had nothing to do, on the worker's clock; 0 while it has.
    pub idle_since: Cell<u64>,
    /// Number of its connection; grows with every new one.
    pub connection: Cell<u32>,
    /// Fingerprint of the run id of the process at the other end; 0 until somebody asked it.
    pub run: Cell<u16>,
    /// The place of a dedicated connection.
    pub permit: RefCell<Option<Permit>>,
    /// What listens for invalidations beside it.
    pub listener: RefCell<Option<Listener>>,
    /// Scripts that were sent to the node on this connection.
    pub loaded: RefCell<Loaded>,
    dirty: Cell<bool>,
    inner: RefCell<LaneInner>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("key", &self.key).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Lane {
    /// A lane without a connection.
    pub fn new(key: LaneKey, node: Arc<Node>) -> Rc<Self> {
        Rc::new(Self {
            key,
            node,
            state: Cell::new(LaneState::Idle),
            down_since: Cell::new(0),
            receiving: Cell::new(0),
            idle_since: Cell::new(0),
            connection: Cell::new(0),
            run: Cell::new(0),
            permit: RefCell::new(None),
            listener: RefCell::default(),
            loaded: RefCell::default(),
            dirty: Cell::new(false),
            inner: RefCell::new(LaneInner {
                send: SendBuffer::default(),
                tickets: VecDeque::new(),
                writer: None,
                waker: None,
                write_blocked: false,
                condemned: None,
            }),
        })
    }

    /// The changeable part. Not to be held across a call into a session.
    pub fn inner(&self) -> std::cell::RefMut<'_, LaneInner> {
        self.inner.borrow_mut()
    }

    /// True when requests can be sent.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.state.get() == LaneState::Ready
    }

    /// Queues a request of `len` bytes; the flusher sends it at the end of this turn. Gives the errand
    /// back when the node's queue is full.
    #[inline]
    pub fn send(
        self: &Rc<Self>,
        worker: &WorkerContext,
        errand: Errand,
        len: usize,
        shared: Option<&Bytes>,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Errand> {
        let mut inner = self.inner();
        if inner.is_full(worker, len) {
            return Err(errand);
        }
        let start = inner.send.end();
        match shared {
            Some(bytes) => inner.send.push(bytes.clone()),
            None if is_large(len) => {
                let mut bytes = Vec::with_capacity(len);
                fill(&mut bytes);
                inner.send.push(bytes.into());
            }
            None => inner.send.append_with(len, fill),
        }
        inner.tickets.push_back(self.ticket(worker, errand, (start, len)));
        drop(inner);
        self.queued(worker);
        Ok(())
    }

    /// Queues a request again, with ASKING before it if asked for: both leave in one push, so nothing
    /// can come between them.
    pub fn resend(
        self: &Rc<Self>,
        worker: &WorkerContext,
        parcel: Parcel,
        asking: bool,
    ) -> Result<(), Errand> {
        let len = parcel.bytes.len();
        let mut inner = self.inner();
        if inner.is_full(worker, len) {
            return Err(parcel.errand);
        }
        if asking {
            inner.send.append(ASKING);
        }
        let start = inner.send.end();
        if is_large(len) {
            inner.send.push(parcel.bytes);
        } else {
            inner.send.append(&parcel.bytes);
        }
        let ticket = self.ticket(worker, parcel.errand, (start, len));
        inner.tickets.push_back(if asking { ticket.after_asking() } else { ticket });
        drop(inner);
        self.queued(worker);
        Ok(())
    }

    #[inline]
    fn ticket(&self, worker: &WorkerContext, errand: Errand, (start, len): (u64, usize)) -> Ticket {
        let mut ticket = Ticket::new(errand, start, len, worker.clock.now());
        if ticket.is_keyless_script() {
            ticket.keep(KeylessScript::new(&worker.process.keyless, &self.node));
        }
        ticket
    }

    /// Queues a request of the proxy's own that is answered by `frames` frames. `None` when the node's
    /// queue is full.
    pub fn call(self: &Rc<Self>, worker: &WorkerContext, request: &[u8], frames: u16) -> Option<Rc<Call>> {
        self.call_sharing(
            worker,
            request,
            frames,
            &Room::new(worker.limits.merge_reply_bytes, &worker.budget),
        )
    }

    /// The same for one of several calls that share `room`, in bytes, for their replies.
    pub fn call_sharing(
        self: &Rc<Self>,
        worker: &WorkerContext,
        request: &[u8],
        frames: u16,
        room: &Rc<Room>,
    ) -> Option<Rc<Call>> {
        let mut inner = self.inner();
        if inner.is_full(worker, request.len()) {
            return None;
        }
        let call = Call::new(frames, Rc::clone(room));
        let place = (inner.send.end(), request.len());
        inner.send.append(request);
        inner.tickets.push_back(Ticket::of_call(Rc::clone(&call), frames, place, worker.clock.now()));
        drop(inner);
        self.queued(worker);
        Some(call)
    }

    #[inline]
    fn queued(self: &Rc<Self>, worker: &WorkerContext) {
        worker.counters.backend_request(self.key.node);
        if !self.dirty.replace(true) {
            worker.flusher.add_lane(self);
        }
    }

    /// Writes what is queued, as far as the socket takes it. Called by the flusher.
    pub fn flush(&self) {
        self.dirty.set(false);
        let mut inner = self.inner();
        let LaneInner { send, writer: Some(writer), write_blocked, condemned, .. } = &mut *inner else {
            return;
        };
        if *write_blocked || condemned.is_some() {
            return;
        }
        match send.write_to(writer) {
            Ok(Flushed::All) => return,
            Ok(Flushed::Blocked) => *write_blocked = true,
            Err(_) => *condemned = Some("write failed"),
        }
        inner.wake();
    }

    /// Gives the connection up; the reader's task does the rest.
    pub fn condemn(&self, why: &'static str) {
        let mut inner = self.inner();
        if inner.writer.is_some() && inner.condemned.is_none() {
            inner.condemned = Some(why);
            inner.wake();
        }
    }
}

impl LaneInner {
    /// The last request taken may go beyond the bound, however large it is: on a busy lane it would never
    /// find room else. Behind it there is still room for small ones, so that it shuts nobody out.
    fn is_full(&self, worker: &WorkerContext, len: usize) -> bool {
        let limits = &worker.limits;
        let room = if is_large(len) { 0 } else { limits.protocol.request_bytes };
        self.tickets.len() >= limits.node_requests
            || self.send.kept() > limits.node_bytes.saturating_add(room)
    }

    /// Schedules the reader's task.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
