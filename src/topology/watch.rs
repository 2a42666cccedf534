//! The nodes of the table, each with its control connection and health. It starts and ends control
//! connections so that they fit the table, and knows who can be asked. What follows from a node's
//! health is decided by `service`.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::agreed::Agreed;
use super::control::{Control, Report};
use super::health::{Down, Health};
use super::node::{Node, NodeId};
use super::round::Known;
use super::settings::TopologyConfig;

/// A node the table needs watched.
pub(crate) struct Wanted {
    pub(crate) node: Arc<Node>,
    /// Cluster id that must answer there.
    pub(crate) cluster_id: String,
    /// Owns slots; only such a node's trouble makes refreshes frequent.
    pub(crate) is_primary: bool,
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
}

/// All watched nodes.
pub(crate) struct WatchList {
    config: Rc<TopologyConfig>,
    reports: mpsc::Sender<Report>,
    nodes: HashMap<NodeId, Watched>,
    serial: u64,
}

impl Watched {
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
        Self { config, reports, nodes: HashMap::new(), serial: 0 }
    }

    /// Starts and ends control connections so that they fit the table. A node that another cluster id
    /// is expected at now is connected anew.
    pub(crate) fn fit(&mut self, wanted: HashMap<NodeId, Wanted>) {
        self.nodes.retain(|id, watched| {
            let stays = wanted.get(id).is_some_and(|w| w.cluster_id == watched.cluster_id);
            if !stays {
                // Nobody probes it any more: to whoever still dials it, it is a node like any other.
                watched.node.set_up(true);
            }
            stays
        });
        for (id, want) in wanted {
            match self.nodes.get_mut(&id) {
                Some(watched) => watched.is_primary = want.is_primary,
                None => self.start(id, want),
            }
        }
    }

    fn start(&mut self, id: NodeId, want: Wanted) {
        self.serial += 1;
        let Wanted { node, cluster_id, is_primary } = want;
        let (addr, config, reports) = (node.addr.clone(), self.config.clone(), self.reports.clone());
        let control = Control::start((id, self.serial), addr, cluster_id.clone(), config, reports);
        let health = Health::new(self.config.eject_after_failures);
        self.nodes.insert(id, Watched { node, health, serial: self.serial, control, cluster_id, is_primary });
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

    /// Address to `up` or why not.
    pub(crate) fn health(&self) -> HashMap<String, &'static str> {
        let each = self.nodes.values();
        each.map(|w| (w.node.addr.to_string(), w.health.down().map_or("up", Down::label))).collect()
    }
}
