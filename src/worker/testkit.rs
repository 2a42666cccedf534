//! A worker without a thread and clients without a network, for unit tests of what lies between a socket
//! and a lane. To be used inside [`run`].

use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

use super::WorkerContext;
use super::limits::WorkerLimits;
use super::mailbox::{Process, WorkerHandle};
use super::transport::Transport;
use crate::backend::handshake::Credentials;
use crate::backend::ticket::{Aim, Errand, Parcel};
use crate::command::{Command, CommandTable};
use crate::config::Config;
use crate::session::Session;
use crate::session::pending::CellState;
use crate::session::state::{ClientState, Resp, SessionMode};
use crate::telemetry::{CommandClass, Counters};
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
    Errand {
        session: Rc::clone(session),
        seq,
        part: 0,
        split: false,
        slot,
        command: command(name),
        redirects: 0,
        waiting_since: 0,
    }
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
