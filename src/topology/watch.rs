//! The nodes of the table, each with its control connection and health. It starts and ends control
//! connections so that they fit the table, and knows who can be asked. A node that left the table is watched
//! as long as requests can be in flight there: nobody else would notice that it does not answer them. What follows from a node's
//! health is decided by `service`.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::agreed::Agreed;
use super::control::{Control, Fact, Report};
use super::health::{Down, Health};
use super::node::{Node, NodeId};
use super::replication::{Member, Ranges, Replicas, Sample};
use super::round::Known;
use super::settings::TopologyConfig;
use super::snapshot::Snapshot;
use super::zone::ZoneRule;

/// A node the table needs watched.
pub(crate) struct Wanted {
    pub(crate) node: Arc<Node>,
    /// Cluster id that must answer there.
    pub(crate) cluster_id: String,
    /// Its primary, for a replica. A node without one owns slots; only such a node's trouble makes refreshes
    /// frequent.
    pub(crate) primary: Option<NodeId>,
    /// What it or its primary owns by the table.
    pub(crate) slots: Ranges,
    /// Its addresses and host names.
    pub(crate) names: Vec<String>,
}

/// A node of the table and its control connection.
pub(crate) struct Watched {
    pub(crate) node: Arc<Node>,
    pub(crate) health: Health,
    /// Tells this control connection's reports from those of an earlier one of the same node.
    pub(crate) serial: u64,
    control: Control,
    cluster_id: String,
    is_primary: bool,
    /// What it said last of its role, where that is asked.
    says_primary: Option<bool>,
    names: Vec<String>,
}

/// All watched nodes.
pub(crate) struct WatchList {
    config: Rc<TopologyConfig>,
    reports: mpsc::Sender<Report>,
    nodes: HashMap<NodeId, Watched>,
    /// Those that left the table, and when.
    left: HashMap<NodeId, (Watched, Instant)>,
    serial: u64,
    /// How far replicas are behind.
    pub(crate) replicas: Replicas,
}

impl Watched {
    /// It answered after so long. Smoothed: one late answer makes nobody far away.
    pub(crate) fn note_distance(&self, after: Duration) {
        let now = u32::try_from(after.as_micros()).unwrap_or(u32::MAX).max(1);
        let before = self.node.distance();
        self.node.set_distance(if before == 0 { now } else { before - before / 8 + now / 8 });
    }

    /// It said what role it has. True when the table is to be looked at again: it is no primary any more, or
    /// a replica became one.
    pub(crate) fn note_role(&mut self, primary: bool) -> bool {
        let before = self.says_primary.replace(primary);
        primary != self.is_primary && (self.is_primary || before != Some(primary))
    }

    /// Something is wrong; a PING now shows whether it still is.
    pub(crate) fn suspect(&mut self, now: Instant) {
        if !self.health.is_suspect() {
            self.control.nudge();
        }
        self.health.suspect(now);
    }
}

impl WatchList {
    /// Watches nothing yet.
    pub(crate) fn new(config: Rc<TopologyConfig>, reports: mpsc::Sender<Report>) -> Self {
        let replicas = Replicas::new(config.replica_max_lag);
        Self { config, reports, nodes: HashMap::new(), left: HashMap::new(), serial: 0, replicas }
    }

    /// Starts and ends control connections so that they fit the table. A node that another cluster id
    /// is expected at now is connected anew. True when a node went up or down by that.
    pub(crate) fn fit(&mut self, wanted: HashMap<NodeId, Wanted>, agreed: &Agreed) -> bool {
        let mut changed = false;
        self.replicas.fit(wanted.values().map(|want| Member {
            node: want.node.clone(),
            primary: want.primary,
            slots: want.slots.clone(),
        }));
        let stays = |id: &NodeId, watched: &Watched| {
            wanted.get(id).is_some_and(|want| want.cluster_id == watched.cluster_id)
        };
        let now = Instant::now();
        for (id, watched) in self.nodes.extract_if(|id, watched| !stays(id, watched)) {
            // One that answers is, to whoever still dials it, a node like any other. For one that does not, what
            // is owed there must not wait; nor must a node that the cluster has replaced say OK to a write when it
            // wakes up, before it hears that it is no primary.
            let failed = agreed.has_failed(&watched.cluster_id);
            let is_well = !failed && !watched.health.is_suspect();
            changed |= watched.node.set_up(is_well);
            if is_well {
                watched.control.nudge();
                self.left.insert(id, (watched, now));
            }
        }
        for (id, want) in wanted {
            self.left.remove(&id);
            match self.nodes.get_mut(&id) {
                Some(watched) => {
                    (watched.is_primary, watched.names) = (want.primary.is_none(), want.names);
                }
                None => changed |= self.start(id, want),
            }
            self.place(id);
        }
        changed
    }

    /// True when the node was down from an earlier time.
    fn start(&mut self, id: NodeId, want: Wanted) -> bool {
        self.serial += 1;
        let Wanted { node, cluster_id, primary, names, .. } = want;
        let (addr, config, reports) = (node.addr.clone(), self.config.clone(), self.reports.clone());
        let control = Control::start((id, self.serial), addr, cluster_id.clone(), config, reports);
        let health = Health::new(self.config.eject_after_failures);
        let (serial, is_primary) = (self.serial, primary.is_none());
        let changed = node.set_up(true);
        node.set_late(false);
        let says_primary = None;
        let watched = Watched { node, health, serial, control, cluster_id, is_primary, says_primary, names };
        self.nodes.insert(id, watched);
        changed
    }

    /// Looks at a report of a node that left the table. It is given up at the first sign of trouble, for nothing
    /// waits for its return, and is watched no longer than a request can wait. True when it was given up.
    pub(crate) fn see_left(&mut self, Report { node, serial, fact }: &Report) -> bool {
        let Some((watched, since)) = self.left.get(node).filter(|(w, _)| w.serial == *serial) else {
            return false;
        };
        let is_well = !matches!(fact, Fact::Late | Fact::Lost(_) | Fact::ConnectFailed(_) | Fact::Silent);
        if is_well && since.elapsed() <= self.config.request_deadline {
            return false;
        }
        let given_up = !is_well && watched.node.set_up(false);
        self.left.remove(node);
        given_up
    }

    /// What a node said of its data. True when it owns other slots than the table says.
    pub(crate) fn see(&mut self, id: NodeId, sample: Sample) -> bool {
        let says_zone = sample.zone.is_some();
        let nodes = &self.nodes;
        let is_up = |id| nodes.get(&id).is_some_and(|watched| watched.health.down().is_none());
        let moved = self.replicas.see(id, sample, is_up);
        if says_zone {
            self.place(id);
        }
        moved
    }

    /// After something about a node's health: what is not well has proven nothing.
    pub(crate) fn settle(&mut self, id: NodeId) {
        let Some(watched) = self.nodes.get(&id) else { return };
        watched.node.set_late(watched.health.is_suspect());
        if watched.health.is_suspect() || watched.health.down().is_some() {
            self.replicas.doubt(id);
        }
    }

    /// Notes whether a node is in our own zone.
    fn place(&self, id: NodeId) {
        let Some(watched) = self.nodes.get(&id) else { return };
        watched.node.set_near(self.config.zone.is_some() && self.zone(id) == self.config.zone.as_deref());
    }

    /// The zone a node is in: by the configuration, else by its own word.
    fn zone(&self, id: NodeId) -> Option<&str> {
        let names = self.nodes.get(&id).map_or(&[][..], |watched| &watched.names);
        ZoneRule::zone_of(&self.config.node_zones, names).or_else(|| self.replicas.zone(id))
    }

    /// A node by its id.
    pub(crate) fn get(&self, id: NodeId) -> Option<&Watched> {
        self.nodes.get(&id)
    }

    /// A node by its id, to change its health.
    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut Watched> {
        self.nodes.get_mut(&id)
    }

    /// These have answered on whatever connection: who is not connected tries it now.
    pub(crate) fn answered(&self, nodes: impl Iterator<Item = NodeId>) {
        for watched in nodes.filter_map(|id| self.nodes.get(&id)).filter(|w| !w.health.is_askable()) {
            watched.control.nudge();
        }
    }

    /// How many nodes are watched.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Some primary is suspect or out since less than `window`.
    pub(crate) fn is_troubled(&self, now: Instant, window: Duration) -> bool {
        self.nodes.values().any(|w| w.is_primary && w.health.troubled(now, window))
    }

    /// At least one node can be asked.
    pub(crate) fn is_any_askable(&self) -> bool {
        self.nodes.values().any(|w| w.health.is_askable())
    }

    /// Whom to ask, in random order, but first the replicas of primaries in trouble (one of them will
    /// be the first to know) and last the suspects themselves.
    pub(crate) fn askable(&self, agreed: Option<&Agreed>) -> Vec<Known> {
        let suspects = self.nodes.values().filter(|w| w.health.is_suspect());
        let suspects: Vec<&str> = suspects.map(|w| w.cluster_id.as_str()).collect();
        let primary_is_suspect = |w: &Watched| {
            let primary = agreed.and_then(|a| a.nodes.get(&w.cluster_id)?.primary_id.as_deref());
            primary.is_some_and(|id| suspects.contains(&id))
        };
        let mut nodes: Vec<&Watched> = self.nodes.values().filter(|w| w.health.is_askable()).collect();
        fastrand::shuffle(&mut nodes);
        nodes.sort_by_key(|w| (w.health.is_suspect(), !primary_is_suspect(w)));
        nodes.into_iter().map(|w| Known { addr: w.node.addr.clone(), asks: w.control.asks() }).collect()
    }

    /// Fills in what is known of the nodes now.
    pub(crate) fn describe(&self, snapshot: &mut Snapshot) {
        let now = Instant::now();
        let ids: HashMap<String, NodeId> =
            self.nodes.iter().map(|(id, watched)| (watched.node.addr.to_string(), *id)).collect();
        for node in snapshot.nodes_mut() {
            let Some((id, watched)) = ids.get(&node.addr).and_then(|id| Some((*id, self.nodes.get(id)?)))
            else {
                node.health = "unknown".to_owned();
                continue;
            };
            node.health = watched.health.down().map_or("up", Down::label).to_owned();
            node.zone = self.zone(id).map(str::to_owned);
            if self.config.watch_replicas && !watched.is_primary {
                node.stand(&self.replicas.standing(id, now), watched.health.down().is_none());
            }
        }
    }
}
