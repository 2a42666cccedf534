//! The process: starts topology, workers, listener and admin port in this order, waits for a signal,
//! and stops them in the reverse one. Owns the main thread. Must never lose a reply that is owed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) mod settings;
mod status;

use self::status::Status;
use crate::admin;
use crate::backend::handshake::Credentials;
use crate::command::CommandTable;
use crate::config::Config;
use crate::listener::accept;
use crate::telemetry::{Counters, Telemetry};
use crate::topology::{Topology, TopologyTask};
use crate::worker::limits::WorkerLimits;
use crate::worker::mailbox::{Letter, MAILBOX, Process, WorkerHandle};

/// Why the process could not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The Unix socket cannot be listened on.
    #[error("cannot listen on {path}: {error}", path = .0.display(), error = .1)]
    ListenUnix(PathBuf, std::io::Error),
    /// A worker's loop ended by a fault of ours; its clients are gone, so the process must be too.
    #[error("worker {0} failed")]
    Worker(usize),
    /// A file named in the configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// The operating system refused something else.
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
}

/// Runs until a signal ends it.
pub fn run(config: Config) -> Result<(), AppError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|error| AppError::System("start the runtime", error))?;
    let ended = runtime.block_on(serve(config));
    // A look-up of a name that hangs must not hold up the end.
    runtime.shutdown_background();
    ended
}

struct Workers {
    threads: Vec<JoinHandle<()>>,
    process: Arc<Process>,
    /// Hears from a worker that ended before it was told to.
    ended: mpsc::Receiver<usize>,
}

async fn serve(config: Config) -> Result<(), AppError> {
    let mut signals = Signals::new().map_err(|error| AppError::System("catch signals", error))?;
    let listener = accept::bind(config.listen).map_err(|e| AppError::Listen(config.listen, e))?;
    let admin = accept::bind(config.admin_listen).map_err(|e| AppError::Listen(config.admin_listen, e))?;
    let credentials = settings::credentials(&config).map_err(AppError::Config)?;
    let asked = settings::topology(&config, credentials.clone()).map_err(AppError::Config)?;
    let (topology, task) = TopologyTask::new(asked);
    tokio::task::spawn_local(task.run());
    let unix = bind_unix(&config)?;
    let (mut workers, telemetry) = start_workers(config, credentials, topology)?;
    let process = Arc::clone(&workers.process);
    let status = Rc::new(Status { process: Arc::clone(&process), telemetry });
    tokio::task::spawn_local(admin::serve(admin, status));
    tracing::info!(listen = %process.config.listen, admin = %process.config.admin_listen, "listening");
    let mut accepting = vec![tokio::task::spawn_local(accept::run(listener, Arc::clone(&process)))];
    if let Some(listener) = unix {
        accepting.push(tokio::task::spawn_local(accept::run_unix(listener, Arc::clone(&process))));
    }
    let ended = tokio::select! {
        () = signals.wait() => {
            stop(&workers, accepting, &mut signals).await;
            Ok(())
        }
        Some(index) = workers.ended.recv() => Err(AppError::Worker(index)),
    };
    if let Some(path) = &process.config.listen_unix {
        let _gone = std::fs::remove_file(path);
    }
    ended
}

/// The Unix socket, if one is configured.
fn bind_unix(config: &Config) -> Result<Option<UnixListener>, AppError> {
    let bind =
        |path: &PathBuf| accept::bind_unix(path).map_err(|error| AppError::ListenUnix(path.clone(), error));
    config.listen_unix.as_ref().map(bind).transpose()
}

fn start_workers(
    config: Config,
    credentials: Credentials,
    topology: Arc<Topology>,
) -> Result<(Workers, Telemetry), AppError> {
    let count = config.worker_count();
    let (mut handles, mut mailboxes) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (sender, receiver) = mpsc::channel(MAILBOX);
        let counters = Counters::new(CommandTable::builtin().len() + 1);
        handles.push(WorkerHandle {
            mailbox: sender,
            clients: AtomicUsize::new(0),
            memory: AtomicU64::new(0),
            snapshot: counters.snapshot(),
        });
        mailboxes.push((receiver, counters));
    }
    let process = Process::new(config, topology, handles);
    let (end, ended) = mpsc::channel(count);
    let (mut threads, mut snapshots) = (Vec::new(), Vec::new());
    for (index, (mailbox, counters)) in mailboxes.into_iter().enumerate() {
        snapshots.push(counters.snapshot());
        let limits = WorkerLimits::new(&process.config, credentials.clone());
        let (process, end) = (Arc::clone(&process), end.clone());
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            if let Err(error) = crate::worker::run::run(process, index, counters, limits, mailbox) {
                tracing::error!(%error, index, "a worker failed");
            }
            let _nobody_listens_any_more = end.try_send(index);
        });
        threads.push(thread.map_err(|error| AppError::System("start a worker", error))?);
    }
    let names = CommandTable::builtin().iter().map(|command| command.name.to_owned());
    // What was learned is counted together: a cluster's names make no label.
    let names = names.chain(["(learned)".to_owned()]).collect();
    let seen = Arc::clone(&process);
    let telemetry = Telemetry::new(snapshots, names, move || status::gauges(&seen));
    Ok((Workers { threads, process, ended }, telemetry))
}

/// Not ready, wait for the endpoints to change, stop accepting, finish what is in flight.
async fn stop(workers: &Workers, accepting: Vec<tokio::task::JoinHandle<()>>, signals: &mut Signals) {
    let process = &workers.process;
    process.draining.store(true, Ordering::Relaxed);
    tracing::info!(clients = process.clients(), "stopping");
    tokio::select! {
        () = tokio::time::sleep(process.config.drain_accept_grace) => {}
        () = signals.wait() => return tracing::warn!("second signal: ending at once"),
    }
    accepting.iter().for_each(tokio::task::JoinHandle::abort);
    let deadline = Instant::now() + process.config.drain_timeout;
    for index in 0..process.workers.len() {
        // A mailbox may be full: that must not keep the others, nor a second signal, waiting.
        let process = Arc::clone(process);
        tokio::task::spawn_local(async move {
            if let Some(worker) = process.workers.get(index) {
                let _ = worker.mailbox.send(Letter::Drain).await;
            }
        });
    }
    while !workers.threads.iter().all(JoinHandle::is_finished) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            () = signals.wait() => return tracing::warn!("second signal: ending at once"),
        }
        if Instant::now() >= deadline {
            return tracing::warn!(
                clients = process.clients(),
                "drain-timeout passed with clients connected"
            );
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
