//! Commands that take more than one request upstream, or one that waits: an operation is a task of its own
//! that asks nodes and makes one reply of what they say. A session does nothing else meanwhile: the operation
//! begins when everything before it is answered, and nothing after it is taken before it is done, so that
//! order needs no further thought here (an operation may touch every key).
//!
//! An operation ends with its session, with its deadline, or with its reply. Dropping it must leave nothing
//! behind: what it asked for on a lane is swallowed, a `Line` of its own is closed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

mod administration;
pub mod ask;
mod block;
mod broadcast;
mod census;
mod cursor;
pub mod ending;
pub mod everyone;
mod flush;
mod info;
mod keys;
mod keyspace;
pub mod kind;
mod last_ids;
mod latency;
mod leaving;
mod memory;
pub mod monitor;
pub mod ping;
mod scan;
mod scripts;
pub mod seek;
mod settings;
mod slot_keys;
mod survey;
mod timeout;
mod tree;
mod visit;
mod wait;
pub mod watch;

use self::ending::Ending;
pub use self::kind::OperationKind;
use crate::backend::ticket::{Aim, Beside, Errand, NO_SLOT, Parcel};
use crate::command::{Command, CommandClass};
use crate::error::ProxyError;
use crate::protocol::request::{Args, Span};
use crate::reply::merge::error_line;
use crate::session::exec;
use crate::session::pending::CellState;
use crate::session::state::{Resp, SessionMode};
use crate::session::{OTHER_LANE, Session, SessionInner};
use crate::worker::WorkerContext;
use crate::worker::budget::Held;
use crate::worker::outgoing::LARGE;

/// A request that outlives the read it came with.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    frame: Bytes,
    spans: SmallVec<[Span; 8]>,
}

impl OwnedRequest {
    /// A copy.
    pub fn new(args: &Args<'_>) -> Self {
        Self { frame: Bytes::copy_from_slice(args.frame()), spans: args.spans().into() }
    }

    /// Its arguments.
    pub fn args(&self) -> Args<'_> {
        Args::new(&self.frame, &self.spans)
    }

    /// The request as an array.
    pub fn bytes(&self) -> &Bytes {
        &self.frame
    }

    /// Bytes held.
    pub fn footprint(&self) -> usize {
        let spans = if self.spans.spilled() { self.spans.capacity() * size_of::<Span>() } else { 0 };
        self.frame.len() + spans
    }
}

/// What a session knows of its operation.
#[derive(Debug)]
pub struct Running {
    seq: u32,
    waits: bool,
    abort: AbortHandle,
    progress: Rc<Progress>,
}

/// What an operation tells of itself while it runs.
#[derive(Debug, Default)]
struct Progress {
    /// It may have had an effect.
    sent: Cell<bool>,
    /// No `request-deadline` for it: it waits as long as its client wants.
    timeless: Cell<bool>,
    /// Why its wait is to end, if it is.
    ending: Cell<Option<Ending>>,
    told: Notify,
    waker: RefCell<Option<Waker>>,
}

/// One operation.
pub struct Operation {
    /// Where it runs.
    pub worker: Rc<WorkerContext>,
    /// Whose it is.
    pub session: Rc<Session>,
    /// What was asked for.
    pub request: OwnedRequest,
    /// The same, as the table knows it.
    pub command: &'static Command,
    /// The version the reply has to have.
    pub resp: Resp,
    /// When the request came, on the worker's clock.
    pub arrived: u64,
    seq: u32,
    progress: Rc<Progress>,
    _held: Held,
}

/// Gives the request a cell and begins its operation.
pub fn start(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, kind): (&'static Command, OperationKind),
    args: &Args<'_>,
) {
    let class = if kind.waits() { CommandClass::Blocking } else { command.class };
    session.watch();
    let seq = inner.pending.push(class, NO_SLOT, session.worker().clock.now(), CellState::Waiting);
    inner.epoch = OTHER_LANE;
    let progress = Rc::new(Progress { timeless: Cell::new(kind.is_timeless()), ..Progress::default() });
    let operation = Operation {
        worker: Rc::clone(session.worker()),
        session: Rc::clone(session),
        request: OwnedRequest::new(args),
        command,
        resp: inner.client.resp,
        arrived: session.worker().clock.now(),
        seq,
        progress: Rc::clone(&progress),
        _held: session.worker().budget.hold(args.frame().len()),
    };
    let task = tokio::task::spawn_local(run(operation, kind));
    inner.operation =
        Some(Box::new(Running { seq, waits: kind.waits(), abort: task.abort_handle(), progress }));
}

async fn run(operation: Operation, kind: OperationKind) {
    operation.alone().await;
    let _blocked = kind.waits().then(|| Blocked::new(&operation));
    let reply = match kind {
        OperationKind::AskKeys => match keys::slot(&operation).await {
            Ok(slot) => return operation.go_on(slot),
            Err(error) => Err(error),
        },
        OperationKind::Info => info::info(&operation).await,
        OperationKind::Ping => ping::ping(&operation).await,
        OperationKind::Settings => settings::config_get(&operation).await,
        OperationKind::Watch => watch::watch(&operation).await,
        OperationKind::Unwatch => watch::unwatch(&operation).await,
        OperationKind::Exec if operation.session.inner().watch.is_none() => {
            return operation.send_transaction();
        }
        OperationKind::Exec => {
            operation.distrust_reads();
            watch::exec(&operation).await
        }
        OperationKind::Block => {
            if operation.command.is_read_only() {
                operation.distrust_reads();
            }
            block::block(&operation).await
        }
        OperationKind::Wait => wait::wait(&operation).await,
        OperationKind::Subscribe => crate::pubsub::subscribe::subscribe(&operation).await,
        OperationKind::Unsubscribe => crate::pubsub::subscribe::unsubscribe(&operation).await,
        OperationKind::Pubsub => crate::pubsub::inspect::pubsub(&operation).await,
        OperationKind::Monitor => monitor::monitor(&operation).await,
        OperationKind::Tracking => crate::tracking::switch(&operation).await,
        OperationKind::Everyone(kind) => Box::pin(everyone::run(&operation, kind)).await,
    };
    operation.finish(reply);
}

/// While it lives, its client counts as blocked.
struct Blocked(Rc<WorkerContext>);

impl Blocked {
    fn new(operation: &Operation) -> Self {
        let mut inner = operation.session.inner();
        inner.client.mode = SessionMode::Blocked;
        if inner.draining {
            inner.end_wait(Ending::Shutdown);
        }
        operation.worker.counters.blocked(1);
        Self(Rc::clone(&operation.worker))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.0.counters.blocked(-1);
    }
}

impl Operation {
    /// Waits until everything the session asked for before is answered.
    async fn alone(&self) {
        poll_fn(|cx| {
            if self.session.inner().pending.open() <= 1 {
                return Poll::Ready(());
            }
            *self.progress.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// From now on it may have had an effect: what ends it says so.
    pub fn mark_sent(&self) {
        self.progress.sent.set(true);
    }

    /// What it answers with is no reply but a push: the client gets it whatever CLIENT REPLY says.
    pub fn is_heard(&self) {
        if let Some(cell) = self.session.inner().pending.cell(self.seq) {
            cell.frames = 1;
        }
    }

    /// What it reads nobody keeps track of: its client forgets it at once.
    pub fn distrust_reads(&self) {
        let mut inner = self.session.inner();
        let caching = inner.caching;
        inner.distrust_reads(caching);
    }

    /// From now on `request-deadline` does not end it.
    pub fn wait_for_ever(&self) {
        self.progress.timeless.set(true);
    }

    /// The request goes its way like any other, to the owner of `slot`; the operation is over.
    fn go_on(self, slot: u16) {
        let mut inner = self.session.inner();
        inner.operation = None;
        if let Some(cell) = inner.pending.cell(self.seq) {
            cell.slot = slot;
        }
        let mut errand = Errand::new(&self.session, self.seq, slot, self.command, self.resp);
        errand.beside = inner.caching.map_or(Beside::Nothing, Beside::Caching);
        drop(inner);
        self.worker.send(Parcel { errand, bytes: self.request.frame, aim: Aim::Table });
    }

    /// The transaction goes its way; the operation is over.
    fn send_transaction(self) {
        let mut inner = self.session.inner();
        inner.operation = None;
        let Some(push) = inner.push.take() else { return };
        if let Some(cell) = inner.pending.cell(self.seq) {
            cell.slot = push.slot;
        }
        exec::send(&self.session, &mut inner, (self.command, self.seq), *push);
    }

    /// Answers the client.
    fn finish(self, reply: Result<Vec<u8>, ProxyError>) {
        let frame = reply.unwrap_or_else(|error| {
            self.worker.counters.error(error);
            error_line(error)
        });
        {
            let mut inner = self.session.inner();
            if inner.operation.take().is_some_and(|running| running.waits) {
                inner.settle_mode();
            }
        }
        let errand = Errand::new(&self.session, self.seq, NO_SLOT, self.command, self.resp);
        let frame = Bytes::from(frame);
        let shared = (frame.len() >= LARGE).then(|| frame.clone());
        self.session.deliver(&errand, &frame, shared);
    }
}

impl SessionInner {
    /// A reply came in: an operation that waits for its turn looks whether this was the last one before it.
    #[cold]
    pub fn wake_operation(&self) {
        if let Some(waker) =
            self.operation.as_ref().and_then(|running| running.progress.waker.borrow_mut().take())
        {
            waker.wake();
        }
    }

    /// True while request `seq` is an operation without a deadline.
    pub fn is_timeless(&self, seq: u32) -> bool {
        self.operation.as_ref().is_some_and(|running| running.seq == seq && running.progress.timeless.get())
    }

    /// Ends the operation of request `seq`, if it is one: whether it may have had an effect.
    pub fn end_operation(&mut self, seq: u32) -> Option<bool> {
        let running = self.operation.take_if(|running| running.seq == seq)?;
        self.push = None;
        running.abort.abort();
        if running.waits {
            self.settle_mode();
        }
        Some(running.progress.sent.get())
    }

    /// The client is gone, and its operation with it.
    pub fn drop_operation(&mut self) {
        if let Some(running) = self.operation.take() {
            running.abort.abort();
        }
    }
}
