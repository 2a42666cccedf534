//! A worker without a thread and clients without a network, for unit tests of what lies between a socket
//! and a lane. To be used inside [`run`].

use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use tokio::net::UnixStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

use super::WorkerContext;
use super::limits::WorkerLimits;
use super::mailbox::{Process, WorkerHandle};
use super::transport::Transport;
use crate::backend::handshake::Credentials;
use crate::command::CommandTable;
use crate::config::Config;
use crate::session::Session;
use crate::session::state::{ClientState, Resp, SessionMode};
use crate::telemetry::Counters;
use crate::topology::Topology;

/// Runs a test on a runtime as a worker has it.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(test)
}

/// A worker that has seen no cluster: every request with keys waits for an owner.
pub(crate) fn worker(change: impl FnOnce(&mut Config)) -> Rc<WorkerContext> {
    let mut config = Config::default();
    change(&mut config);
    let counters = Counters::new(CommandTable::builtin().len());
    let handle = WorkerHandle {
        mailbox: mpsc::channel(1).0,
        clients: AtomicUsize::new(0),
        memory: AtomicU64::new(0),
        snapshot: counters.snapshot(),
    };
    let limits = WorkerLimits::new(&config, Credentials::default());
    let process = Process::new(config, Topology::channel().0, vec![handle]);
    WorkerContext::new(process, 0, counters, limits)
}

/// A client of `worker`, and the other end of its connection.
pub(crate) fn client(worker: &Rc<WorkerContext>) -> (Rc<Session>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = ClientState {
        id: worker.process.next_client_id(),
        peer: None,
        local: None,
        connected: Instant::now(),
        resp: Resp::V2,
        authenticated: true,
        mode: SessionMode::Normal,
        names: None,
        commands: 0,
        last_command: None,
        last_active_ms: 0,
    };
    let session = Session::new(Rc::clone(worker), client, Transport::Unix(ours).split().1);
    worker.sessions.borrow_mut().add(&session);
    (session, theirs)
}
