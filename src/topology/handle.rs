//! The part of the topology service that all threads share: what they read, and where they report.
//! Nothing here waits or locks; everything is written by the topology task alone, except events.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, watch};

use super::claims::Claims;
use super::heard::Heard;
use super::node::{Node, NodeId};
use super::snapshot::Snapshot;
use super::stats::{TopologyStats, Trigger};
use super::table::SlotTable;
use crate::command::LearnedTable;

/// Events waiting for the topology task. More are dropped: whatever they ask for is pending then.
const EVENTS_MAX: usize = 1_024;

/// What workers tell the topology task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Please refresh.
    Refresh(Trigger),
    /// A connect to this node, or the handshake on it, failed.
    ConnectFailed(NodeId),
    /// An established connection to this node broke.
    ConnectionLost(NodeId),
    /// A connect to this node, handshake included, succeeded.
    Connected(NodeId),
}

/// One node of the table, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Its index.
    pub id: NodeId,
    /// Its address as text.
    pub name: String,
    /// False while it is ejected.
    pub up: bool,
}

/// Host to (port, node): asked with a borrowed host, so a look-up allocates nothing.
pub(crate) type Members = HashMap<String, Vec<(u16, NodeId)>>;

/// Shared handle of the topology service.
#[derive(Debug)]
pub struct Topology {
    pub(crate) cell: Arc<ArcSwap<SlotTable>>,
    pub(crate) members: ArcSwap<Members>,
    pub(crate) claims: ArcSwap<Claims>,
    generation: watch::Sender<u64>,
    rounds_started: AtomicU64,
    rounds_finished: AtomicU64,
    pub(crate) migrations: AtomicU64,
    events: mpsc::Sender<Event>,
    pub(crate) ready: AtomicBool,
    pub(crate) no_cluster: AtomicBool,
    pub(crate) reason: ArcSwapOption<String>,
    pub(crate) version: ArcSwapOption<String>,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) learned: ArcSwap<LearnedTable>,
    pub(crate) commands_read: AtomicBool,
    pub(crate) heard: ArcSwap<Heard>,
    stats: TopologyStats,
}

impl Topology {
    pub(crate) fn channel() -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let topology = Self {
            cell: Arc::new(ArcSwap::from_pointee(SlotTable::empty())),
            members: ArcSwap::default(),
            claims: ArcSwap::default(),
            generation: watch::Sender::new(0),
            rounds_started: AtomicU64::new(0),
            rounds_finished: AtomicU64::new(0),
            migrations: AtomicU64::new(0),
            events,
            ready: AtomicBool::new(false),
            no_cluster: AtomicBool::new(false),
            reason: ArcSwapOption::from_pointee("the cluster has not been asked yet".to_owned()),
            version: ArcSwapOption::empty(),
            snapshot: ArcSwap::default(),
            learned: ArcSwap::default(),
            commands_read: AtomicBool::new(false),
            heard: ArcSwap::default(),
            stats: TopologyStats::new(),
        };
        (Arc::new(topology), inbox)
    }

    /// The slot table in use. Whoever looks often keeps it and asks again when the generation grows.
    pub fn table(&self) -> Arc<SlotTable> {
        self.cell.load_full()
    }

    /// A node by its id, in the table in use.
    pub fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        self.cell.load().node(id).cloned()
    }

    /// Grows with every new table, every node that goes up or down, and the end of every refresh
    /// round, whatever came of it.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// How many refresh rounds are over, whatever came of them. Stored before the generation grows.
    pub fn round(&self) -> u64 {
        self.rounds_finished.load(Ordering::Acquire)
    }

    /// The number of the first round that starts after now. Who reads it, *then* reports an event and
    /// waits until [`round`](Self::round) is at least this has seen a whole refresh that began after the
    /// event; `round() + 1` may be one that was already under way.
    pub fn next_round(&self) -> u64 {
        self.rounds_started.load(Ordering::Acquire) + 1
    }

    /// Grows whenever other slots than before are on their way from one node to another. Stored before the
    /// generation grows.
    pub fn migrations(&self) -> u64 {
        self.migrations.load(Ordering::Acquire)
    }

    /// Tells the topology task something; never waits.
    pub fn report(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.stats.count_dropped_event();
        }
    }

    /// The node at an address, by any name the cluster gives it (announced endpoint, IP, host name;
    /// IPv6 without brackets), if it belongs to the cluster as last seen. That includes nodes
    /// without slots, which a redirect of a running migration may point to.
    pub fn node_by_addr(&self, host: &str, port: u16) -> Option<NodeId> {
        let members = self.members.load();
        members.get(host)?.iter().find(|(p, _)| *p == port).map(|(_, id)| *id)
    }

    /// Who claims slots under which config epoch, as last agreed; stored before the table it belongs to.
    pub fn claims(&self) -> Arc<Claims> {
        self.claims.load_full()
    }

    /// A complete table (all slots, or the cluster itself says that it is ok) was loaded once.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// A cluster is expected, and all that answers is a server that is none.
    pub fn is_no_cluster(&self) -> bool {
        self.no_cluster.load(Ordering::Relaxed)
    }

    /// Why not ready; `None` when ready.
    pub fn not_ready_reason(&self) -> Option<String> {
        if self.ready() { None } else { self.reason.load().as_deref().cloned() }
    }

    /// `redis_version` of the node whose view was taken last.
    pub fn server_version(&self) -> Option<String> {
        self.version.load().as_deref().cloned()
    }

    /// The commands the cluster has beyond the built-in ones, as far as they are believed.
    pub fn learned(&self) -> Arc<LearnedTable> {
        self.learned.load_full()
    }

    /// The cluster was asked for its commands once, whatever came of it; or learning is off.
    pub fn commands_read(&self) -> bool {
        self.commands_read.load(Ordering::Acquire)
    }

    /// The cluster as shown to people and programs.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        snapshot.ready = self.ready();
        snapshot.not_ready_reason = self.not_ready_reason();
        snapshot.learned_commands = self.learned.load().len();
        snapshot.age_seconds = self.stats.age().map(|age| age.as_secs_f64());
        snapshot
    }

    /// Counters and gauges.
    pub fn stats(&self) -> &TopologyStats {
        &self.stats
    }

    /// Slots that have an owner (`slotway_slots_covered`).
    pub fn slots_covered(&self) -> u16 {
        self.cell.load().covered()
    }

    /// Every node that serves slots or a replica of one (`slotway_backend_up{node}`).
    pub fn node_states(&self) -> Vec<NodeState> {
        let table = self.cell.load();
        let ids =
            table.shards().iter().flat_map(|shard| std::iter::once(&shard.primary).chain(&shard.replicas));
        let nodes = ids.filter_map(|id| table.node(*id));
        nodes.map(|node| NodeState { id: node.id, name: node.addr.to_string(), up: node.is_up() }).collect()
    }

    pub(crate) fn bump(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    pub(crate) fn round_started(&self) {
        self.rounds_started.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn round_finished(&self) {
        self.rounds_finished.store(self.rounds_started.load(Ordering::Acquire), Ordering::Release);
        self.bump();
    }
}
