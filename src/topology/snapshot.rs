//! The cluster as shown to people and programs: `/topology` and `slotway topology`. Built from what
//! was agreed; holds no password and nothing that is not also in CLUSTER NODES.

use std::collections::BTreeMap;

use serde::Serialize;

use super::agreed::{Agreed, AgreedNode};
use super::judge::Verdict;
use super::node::NodeAddr;
use super::replication::Standing;
use super::table::SLOTS;
use super::view::View;

/// What the cluster looks like to us.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Epoch of the slot table (0: none yet, or not asked by the service).
    pub table_epoch: u64,
    /// A complete table was loaded once.
    pub ready: bool,
    /// Why not, if not.
    pub not_ready_reason: Option<String>,
    /// Seconds since the table was last confirmed.
    pub age_seconds: Option<f64>,
    /// `ok` or `fail`, as the nodes say.
    pub cluster_state: String,
    /// The cluster's current epoch.
    pub current_epoch: u64,
    /// Slots with an owner that gets traffic.
    pub slots_covered: u16,
    /// `redis` or `valkey`.
    pub server: Option<String>,
    /// Its own version.
    pub server_version: Option<String>,
    /// Commands learned from the cluster beyond the built-in ones (0 where the service was not asked).
    pub learned_commands: usize,
    /// The node whose view details were taken from.
    pub taken_from: Option<String>,
    /// Every node that was asked and what became of its view.
    pub views: Vec<ViewSnapshot>,
    /// Nodes that were asked and gave no view.
    pub failures: Vec<FailureSnapshot>,
    /// Shards, ordered by their first slot.
    pub shards: Vec<ShardSnapshot>,
    /// Slots without an owner that gets traffic.
    pub uncovered: Vec<UncoveredSnapshot>,
    /// Slots under way.
    pub migrations: Vec<MigrationSnapshot>,
    /// Nodes that are listed but get no traffic.
    pub ignored: Vec<IgnoredSnapshot>,
}

/// One view.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ViewSnapshot {
    /// Address it was asked at.
    pub addr: String,
    /// Cluster id.
    pub id: String,
    /// Current epoch it knows.
    pub current_epoch: u64,
    /// What became of it.
    pub verdict: String,
}

/// One address without a view.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailureSnapshot {
    /// Address.
    pub addr: String,
    /// What went wrong.
    pub error: String,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardSnapshot {
    /// Slot ranges, inclusive.
    pub slots: Vec<[u16; 2]>,
    /// Number of slots.
    pub slot_count: u32,
    /// Its primary.
    pub primary: NodeSnapshot,
    /// Its healthy replicas.
    pub replicas: Vec<NodeSnapshot>,
}

/// One node that may get traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeSnapshot {
    /// Cluster id.
    pub id: String,
    /// Where it is dialled.
    pub addr: String,
    /// Flags of CLUSTER NODES, without `myself`.
    pub flags: String,
    /// Configuration epoch.
    pub config_epoch: u64,
    /// `up`, or why not; `unknown` where nobody probes it.
    pub health: String,
    /// Its availability zone.
    pub zone: Option<String>,
    /// Of a replica: `yes` if it is fit to be read from, else `no` and why; `None` where replicas are not read.
    pub reads: Option<String>,
    /// Of a replica: its data are no older than this.
    pub lag_seconds: Option<f64>,
    /// Of a replica: bytes of replication it did not have yet when it was last asked.
    pub lag_bytes: Option<u64>,
}

/// Slots without an owner that gets traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UncoveredSnapshot {
    /// Slot ranges, inclusive.
    pub slots: Vec<[u16; 2]>,
    /// Who owns them, if anybody.
    pub owner: Option<String>,
    /// Healthy replicas of the owner: candidates for its place.
    pub replicas: Vec<String>,
}

/// One slot under way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MigrationSnapshot {
    /// The slot.
    pub slot: u16,
    /// Where it leaves: an address, or a cluster id.
    pub from: String,
    /// Where it goes.
    pub to: String,
}

/// One node without traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IgnoredSnapshot {
    /// Cluster id.
    pub id: String,
    /// Its address, if it has one.
    pub addr: Option<String>,
    /// Flags of CLUSTER NODES, without `myself`.
    pub flags: String,
    /// `fail`, `handshake`, `noaddr`, `slotless`, `unhealthy` or `unknown`.
    pub reason: String,
}

impl Snapshot {
    /// The agreed part. `health` tells how a node does.
    pub(crate) fn of(agreed: &Agreed, health: impl Fn(&NodeAddr) -> &'static str) -> Self {
        let node = |id: &str| -> Option<NodeSnapshot> {
            let node = agreed.nodes.get(id)?;
            let addr = node.addr.as_ref()?;
            let (flags, config_epoch) = (node.flags_text.clone(), node.config_epoch);
            Some(NodeSnapshot {
                id: id.to_owned(),
                addr: addr.to_string(),
                flags,
                config_epoch,
                health: health(addr).to_owned(),
                zone: None,
                reads: None,
                lag_seconds: None,
                lag_bytes: None,
            })
        };
        let shards = agreed.shards().into_iter().filter_map(|shard| {
            Some(ShardSnapshot {
                slot_count: shard.ranges.iter().map(|(first, last)| u32::from(last - first) + 1).sum(),
                slots: pairs(&shard.ranges),
                primary: node(&shard.primary)?,
                replicas: shard.replicas.iter().filter_map(|id| node(id)).collect(),
            })
        });
        let shards: Vec<ShardSnapshot> = shards.collect();
        let covered: u32 = shards.iter().map(|shard| shard.slot_count).sum();
        let server = &agreed.server;
        Self {
            cluster_state: if agreed.state_ok { "ok" } else { "fail" }.to_owned(),
            current_epoch: agreed.current_epoch,
            slots_covered: u16::try_from(covered).unwrap_or(SLOTS as u16),
            server: server.redis_version.as_ref().map(|_| server_name(server.valkey_version.is_some())),
            server_version: server.valkey_version.clone().or_else(|| server.redis_version.clone()),
            taken_from: Some(agreed.base.to_string()),
            uncovered: uncovered(agreed),
            migrations: migrations(agreed),
            ignored: ignored(&agreed.nodes),
            shards,
            ..Self::default()
        }
    }

    /// Every node that may get traffic.
    pub(crate) fn nodes_mut(&mut self) -> impl Iterator<Item = &mut NodeSnapshot> {
        self.shards
            .iter_mut()
            .flat_map(|shard| std::iter::once(&mut shard.primary).chain(&mut shard.replicas))
    }

    /// Adds what each asked node said.
    pub(crate) fn with_views(mut self, views: &[View], verdicts: &[Verdict]) -> Self {
        let each = views.iter().zip(verdicts).map(|(view, verdict)| ViewSnapshot {
            addr: view.dialled.to_string(),
            id: view.my_id.clone(),
            current_epoch: view.cluster.current_epoch,
            verdict: verdict.label().to_owned(),
        });
        self.views = each.collect();
        self.views.sort_by(|a, b| a.addr.cmp(&b.addr));
        self
    }
}

impl NodeSnapshot {
    /// Adds how a replica stands to its primary.
    pub(crate) fn stand(&mut self, standing: &Standing, is_up: bool) {
        let reads = match (is_up, standing.proven) {
            (true, true) => "yes".to_owned(),
            (true, false) => format!("no: {}", standing.why_not),
            (false, _) => format!("no: {}", self.health),
        };
        self.reads = Some(reads);
        self.lag_seconds = standing.age.map(|age| age.as_secs_f64());
        self.lag_bytes = standing.behind;
    }
}

fn server_name(valkey: bool) -> String {
    if valkey { "valkey" } else { "redis" }.to_owned()
}

/// A node's address; its id, if it has none.
fn name(agreed: &Agreed, id: &str) -> String {
    let addr = agreed.nodes.get(id).and_then(|node| node.addr.as_ref());
    addr.map_or_else(|| id.to_owned(), ToString::to_string)
}

fn pairs(ranges: &[(u16, u16)]) -> Vec<[u16; 2]> {
    ranges.iter().map(|&(first, last)| [first, last]).collect()
}

fn uncovered(agreed: &Agreed) -> Vec<UncoveredSnapshot> {
    let unserved = agreed.unserved();
    let mut uncovered: Vec<UncoveredSnapshot> = unserved
        .iter()
        .map(|shard| UncoveredSnapshot {
            slots: pairs(&shard.ranges),
            owner: Some(name(agreed, &shard.primary)),
            replicas: shard.replicas.iter().map(|id| name(agreed, id)).collect(),
        })
        .collect();
    let unowned = agreed.unowned();
    if !unowned.is_empty() {
        uncovered.push(UncoveredSnapshot { slots: pairs(&unowned), owner: None, replicas: Vec::new() });
    }
    uncovered
}

fn migrations(agreed: &Agreed) -> Vec<MigrationSnapshot> {
    let name = |id: &String| name(agreed, id);
    let each = agreed.migrations.iter();
    each.map(|m| MigrationSnapshot { slot: m.slot, from: name(&m.from), to: name(&m.to) }).collect()
}

fn ignored(nodes: &BTreeMap<String, AgreedNode>) -> Vec<IgnoredSnapshot> {
    let each = nodes.iter().filter_map(|(id, node)| {
        Some(IgnoredSnapshot {
            id: id.clone(),
            addr: node.addr.as_ref().map(ToString::to_string),
            flags: node.flags_text.clone(),
            reason: node.ignored?.label().to_owned(),
        })
    });
    each.collect()
}
