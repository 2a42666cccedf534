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
use serde::Deserialize;
use smallvec::SmallVec;
use tokio::task::AbortHandle;

pub mod ask;
mod census;
mod cursor;
mod everyone;
mod flush;
mod keys;
mod keyspace;
mod leaving;
mod scan;
pub mod watch;

use crate::backend::ticket::{Aim, Errand, NO_SLOT, Parcel};
use crate::command::Command;
use crate::error::ProxyError;
use crate::protocol::request::{Args, Span};
use crate::reply::merge::error_line;
use crate::session::pending::CellState;
use crate::session::state::Resp;
use crate::session::{OTHER_LANE, Session, SessionInner};
use crate::worker::WorkerContext;

/// Which operation a command is; `operation = "…"` in `overrides.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// DBSIZE.
    Dbsize,
    /// KEYS.
    Keys,
    /// RANDOMKEY.
    Randomkey,
    /// SCAN.
    Scan,
    /// FLUSHALL, FLUSHDB.
    Flush,
    /// WATCH.
    Watch,
    /// UNWATCH, after a WATCH.
    Unwatch,
    /// EXEC, after a WATCH.
    Exec,
    /// A learned command whose keys a node has to tell.
    AskKeys,
}

impl OperationKind {
    /// How such a command is handled, for the table of commands.
    pub fn words(self) -> &'static str {
        match self {
            Self::Dbsize | Self::Keys | Self::Randomkey | Self::Scan | Self::Flush => "all shards",
            Self::AskKeys => "route by key, asked for",
            Self::Watch | Self::Unwatch | Self::Exec => "dedicated connection",
        }
    }

    /// True for what does not wait inside a transaction, and goes to the owner of its keys like any command.
    pub fn is_routed_in_transaction(self) -> bool {
        false
    }
}

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
}

/// What a session knows of its operation.
#[derive(Debug)]
pub struct Running {
    seq: u32,
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
}

/// Gives the request a cell and begins its operation.
pub fn start(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, kind): (&'static Command, OperationKind),
    args: &Args<'_>,
) {
    let seq = inner.expect(session, command, NO_SLOT, CellState::Waiting);
    inner.epoch = OTHER_LANE;
    let progress = Rc::new(Progress::default());
    let operation = Operation {
        worker: Rc::clone(session.worker()),
        session: Rc::clone(session),
        request: OwnedRequest::new(args),
        command,
        resp: inner.client.resp,
        arrived: session.worker().clock.now(),
        seq,
        progress: Rc::clone(&progress),
    };
    let task = tokio::task::spawn_local(run(operation, kind));
    inner.operation = Some(Box::new(Running { seq, abort: task.abort_handle(), progress }));
}

async fn run(operation: Operation, kind: OperationKind) {
    operation.alone().await;
    let reply = match kind {
        OperationKind::AskKeys => match keys::slot(&operation).await {
            Ok(slot) => return operation.go_on(slot),
            Err(error) => Err(error),
        },
        OperationKind::Watch => watch::watch(&operation).await,
        OperationKind::Unwatch => watch::unwatch(&operation).await,
        OperationKind::Exec => watch::exec(&operation).await,
        kind => Box::pin(everyone::run(&operation, kind)).await,
    };
    operation.finish(reply);
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
        drop(inner);
        let errand = Errand::new(&self.session, self.seq, slot, self.command, self.resp);
        self.worker.send(Parcel { errand, bytes: self.request.frame, aim: Aim::Table });
    }

    /// Answers the client.
    fn finish(self, reply: Result<Vec<u8>, ProxyError>) {
        let frame = reply.unwrap_or_else(|error| {
            self.worker.counters.error(error);
            error_line(error)
        });
        self.session.inner().operation = None;
        let errand = Errand::new(&self.session, self.seq, NO_SLOT, self.command, self.resp);
        self.session.deliver(&errand, &frame, None);
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
        running.abort.abort();
        Some(running.progress.sent.get())
    }

    /// The client is gone, and its operation with it.
    pub fn drop_operation(&mut self) {
        if let Some(running) = self.operation.take() {
            running.abort.abort();
        }
    }
}
