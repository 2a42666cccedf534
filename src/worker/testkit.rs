//! A worker and its sessions for tests: everything real but the threads, the nodes and the topology task.

use std::future::Future;
use std::os::unix::net::UnixStream as Peer;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

use super::WorkerContext;
use super::limits::WorkerLimits;
use super::mailbox::{Process, WorkerHandle};
use super::transport::{ReadSide, Transport};
use crate::backend::handshake::Credentials;
use crate::backend::ticket::{Aim, Errand, Parcel};
use crate::command::{Command, CommandTable};
use crate::config::Config;
use crate::session::Session;
use crate::session::pending::CellState;
use crate::session::state::{ClientSettings, ClientState, Resp, SessionMode};
use crate::telemetry::{CommandClass, Counters};
use crate::topology::Topology;

/// Runs on a runtime like a worker's.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(test)
}

/// A worker that knows no cluster.
pub(crate) fn worker(config: Config) -> Rc<WorkerContext> {
    let (topology, _) = Topology::channel();
    let counters = Counters::new(CommandTable::builtin().len());
    let (mailbox, _) = mpsc::channel(1);
    let handle = WorkerHandle {
        mailbox,
        clients: AtomicUsize::new(0),
        memory: AtomicU64::new(0),
        snapshot: counters.snapshot(),
    };
    let limits = WorkerLimits::new(&config, Credentials::default());
    let process: Arc<Process> = Process::new(config, topology, vec![handle]);
    WorkerContext::new(process, 0, counters, limits)
}

/// The same with a configuration that differs from the default.
pub(crate) fn worker_with(change: impl FnOnce(&mut Config)) -> Rc<WorkerContext> {
    let mut config = Config::default();
    change(&mut config);
    worker(config)
}

/// A new client without a task, and its end of the connection. Needs a runtime.
pub(crate) fn session(worker: &Rc<WorkerContext>) -> (Rc<Session>, Peer) {
    let (session, _, theirs) = connection(worker);
    (session, theirs)
}

/// A new client, what its task reads from, and its end of the connection. Needs a runtime.
pub(crate) fn connection(worker: &Rc<WorkerContext>) -> (Rc<Session>, ReadSide, Peer) {
    let (ours, theirs) = Peer::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let (reader, writer) = Transport::Unix(UnixStream::from_std(ours).unwrap()).split();
    let id = worker.process.next_client_id();
    let client = ClientState {
        id,
        peer: None,
        local: None,
        connected: Instant::now(),
        resp: Resp::V2,
        authenticated: true,
        mode: SessionMode::Normal,
        settings: ClientSettings::default(),
        subscribed: false,
        tracking: None,
        names: None,
        commands: 0,
        last_command: None,
        last_active_ms: 0,
    };
    worker.process.place_client();
    let session = Session::new(Rc::clone(worker), client, writer);
    worker.sessions.borrow_mut().add(&session);
    worker.process.registry.insert(id, worker.index);
    worker.counters.client_opened();
    (session, reader, theirs)
}

/// A command of the built-in table.
pub(crate) fn command(name: &str) -> &'static Command {
    CommandTable::builtin().iter().find(|command| command.name == name).unwrap()
}

/// A request as bytes.
pub(crate) fn request(words: &[&str]) -> Bytes {
    let mut bytes = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| bytes.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    bytes.into()
}

/// A place in `session` for a request with keys in `slot`, read at `arrived`, and its errand.
pub(crate) fn expect(session: &Rc<Session>, name: &str, slot: u16, arrived: u64) -> Errand {
    let seq = session.inner().pending.push(CommandClass::Other, slot, arrived, CellState::Waiting);
    errand(session, seq, name, slot)
}

/// The errand of request `seq`.
pub(crate) fn errand(session: &Rc<Session>, seq: u32, name: &str, slot: u16) -> Errand {
    let resp = session.inner().client.resp;
    Errand::new(session, seq, slot, command(name), resp)
}

/// The request of `errand`: its command and `words`, for whom the table says.
pub(crate) fn parcel(errand: &Errand, words: &[&str]) -> Parcel {
    let words: Vec<&str> = [errand.command.name].iter().chain(words).copied().collect();
    Parcel { errand: errand.clone(), bytes: request(&words), aim: Aim::Table }
}

/// Cases of a property test: always the same ones, and no file is written when one fails.
pub(crate) fn cases(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    Config { rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::with_cases(cases) }
}
