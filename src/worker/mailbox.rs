//! How the threads of the process talk to a worker: one bounded mailbox each, and what all threads
//! share. Nothing here is on the path of a request.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::{mpsc, oneshot};

use crate::backend::permit::DedicatedCount;
use crate::backend::turns::Turns;
use crate::command::CommandTable;
use crate::command::local::ClientsRequest;
use crate::config::Config;
use crate::error::ProxyError;
use crate::pubsub::counts::Counts;
use crate::script::ScriptCache;
use crate::script::keyless::KeylessScripts;
use crate::session::clients::Told;
use crate::telemetry::snapshot::{Snapshot, Traffic};
use crate::topology::Topology;

/// Letters a mailbox holds; the sender waits when it is full.
pub const MAILBOX: usize = 1024;

/// A connection that was just accepted.
#[derive(Debug)]
pub enum Accepted {
    /// Over TCP, from this peer.
    Tcp(TcpStream, SocketAddr),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// What a worker can be asked.
#[derive(Debug)]
pub enum Letter {
    /// Take this client.
    Client(Accepted),
    /// Tell this client why it is not taken.
    Refuse(Accepted, ProxyError),
    /// Do your part of this, which the client with this id asked for, and answer.
    Clients(ClientsRequest, u64, oneshot::Sender<Told>),
    /// Tell this client of an invalidation.
    Invalidation(u64, Vec<u8>),
    /// Publish your counters as they are now, and answer.
    Publish(oneshot::Sender<()>),
    /// Close every client at a reply boundary, then end.
    Drain,
}

/// One worker, seen from the other threads.
#[derive(Debug)]
pub struct WorkerHandle {
    /// Its mailbox.
    pub mailbox: mpsc::Sender<Letter>,
    /// Clients placed on it and not closed yet.
    pub clients: AtomicUsize,
    /// Bytes its buffers hold, as of its last tick.
    pub memory: AtomicU64,
    /// Its published counters.
    pub snapshot: Arc<Snapshot>,
}

/// Where INFO's own counts begin: nowhere, or at the last CONFIG RESETSTAT. Metrics are never set back.
#[derive(Debug, Default)]
pub struct Baseline {
    /// Requests and bytes.
    pub traffic: Traffic,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused.
    pub refused: u64,
    /// Each command, by `CommandId`.
    pub commands: Vec<u64>,
    /// Each error, in the order of `ProxyError::ALL`.
    pub errors: Vec<u64>,
}

/// What all threads share.
#[derive(Debug)]
pub struct Process {
    /// The effective configuration.
    pub config: Config,
    /// Who owns what.
    pub topology: Arc<Topology>,
    /// The workers, by index.
    pub workers: Vec<WorkerHandle>,
    /// Which worker has which client.
    pub registry: DashMap<u64, usize>,
    /// When the process started.
    pub started: Instant,
    /// 40 hexadecimal digits that name this run, as INFO shows them.
    pub run_id: String,
    /// Connections accepted since.
    pub accepted: AtomicU64,
    /// Connections refused since, for `max-clients`.
    pub refused: AtomicU64,
    /// Bytes all buffers together may hold (`max-memory`).
    pub memory_ceiling: u64,
    /// The process stops: not ready.
    pub draining: AtomicBool,
    /// Clients that track.
    pub tracking: Arc<AtomicUsize>,
    /// Scripts by their SHA1.
    pub scripts: ScriptCache,
    /// Scripts without keys that nodes have not answered.
    pub keyless: Arc<KeylessScripts>,
    /// Dedicated connections in use.
    pub dedicated: Arc<DedicatedCount>,
    /// Whose turn it is to make one.
    pub turns: Turns,
    /// Who is subscribed to what.
    pub pubsub: Counts,
    /// What INFO takes off its counts.
    pub baseline: ArcSwap<Baseline>,
    next_client: AtomicU64,
}

impl Process {
    /// Shared state for these workers.
    pub fn new(config: Config, topology: Arc<Topology>, workers: Vec<WorkerHandle>) -> Arc<Self> {
        // Ids are unique across instances and stay below 2^53, which every client's numbers can hold.
        let first = (u64::from(fastrand::u32(1..1 << 20)) << 32) + 1;
        Arc::new(Self {
            scripts: ScriptCache::new(config.script_cache_bytes),
            keyless: Arc::default(),
            memory_ceiling: config.memory_ceiling(),
            turns: Turns::new(config.node_connects_max),
            config,
            topology,
            workers,
            registry: DashMap::new(),
            started: Instant::now(),
            run_id: (0..5).map(|_| format!("{:08x}", fastrand::u32(..))).collect(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            tracking: Arc::default(),
            draining: AtomicBool::new(false),
            dedicated: Arc::default(),
            pubsub: Counts::default(),
            baseline: ArcSwap::default(),
            next_client: AtomicU64::new(first),
        })
    }

    /// An id no other client has.
    pub fn next_client_id(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// Open client connections.
    pub fn clients(&self) -> usize {
        self.workers.iter().map(|worker| worker.clients.load(Ordering::Relaxed)).sum()
    }

    /// Requests and bytes of all clients, as of the workers' last publish.
    pub fn traffic(&self) -> Traffic {
        self.workers.iter().map(|worker| worker.snapshot.traffic()).sum()
    }

    /// How often each command was received, by `CommandId`.
    pub fn all_commands(&self) -> Vec<u64> {
        let mut calls = vec![0; CommandTable::builtin().len()];
        self.workers.iter().for_each(|worker| worker.snapshot.add_commands(&mut calls));
        calls
    }

    /// How often clients were answered with each error of ours, in the order of `ProxyError::ALL`.
    pub fn all_errors(&self) -> Vec<u64> {
        let mut counts = vec![0; ProxyError::ALL.len()];
        self.workers.iter().for_each(|worker| worker.snapshot.add_errors(&mut counts));
        counts
    }

    /// INFO's counts begin here, as of the workers' last publish.
    pub fn reset_stats(&self) {
        self.baseline.store(Arc::new(Baseline {
            traffic: self.traffic(),
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            commands: self.all_commands(),
            errors: self.all_errors(),
        }));
    }

    /// Requests and bytes of all clients per second.
    pub fn rates(&self) -> Traffic {
        self.workers.iter().map(|worker| worker.snapshot.rates()).sum()
    }

    /// True while the buffers of all workers hold as much as they may.
    pub fn is_memory_full(&self) -> bool {
        let held: u64 = self.workers.iter().map(|worker| worker.memory.load(Ordering::Relaxed)).sum();
        held >= self.memory_ceiling
    }

    /// The worker with the fewest clients, which now has one more.
    pub fn place_client(&self) -> Option<&WorkerHandle> {
        let least = self.workers.iter().min_by_key(|worker| worker.clients.load(Ordering::Relaxed))?;
        least.clients.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some(least)
    }

    /// A client of `worker` is gone.
    pub fn client_closed(&self, worker: usize, id: u64) {
        self.registry.remove(&id);
        if let Some(worker) = self.workers.get(worker) {
            worker.clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
