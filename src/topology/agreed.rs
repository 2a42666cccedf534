//! What the compared views agree on: the picture of the cluster from which the slot table, the
//! members and the snapshot are made. Immutable; the next round compares itself with it.

use std::collections::BTreeMap;

use super::node::NodeAddr;
use super::table::SLOTS;
use super::view::ServerInfo;

/// The cluster as the accepted views have it.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    /// Every node some accepted view knows, by cluster id.
    pub nodes: BTreeMap<String, AgreedNode>,
    /// Cluster ids that `slots` points into.
    pub owners: Vec<String>,
    /// Owner (index into `owners`) and the config epoch of its claim, per slot.
    pub slots: Vec<Option<(u16, u64)>>,
    /// Slots under way.
    pub migrations: Vec<OpenMigration>,
    /// The node whose view came first: the address it was reached at.
    pub base: NodeAddr,
    /// Highest current epoch of the accepted views.
    pub current_epoch: u64,
    /// At least one accepted view says `cluster_state:ok`.
    pub state_ok: bool,
    /// Version of the base node.
    pub server: ServerInfo,
    /// Taken at the start from nodes that are cut off, for want of better: protects nothing.
    pub tentative: bool,
    /// How many views were compared.
    pub compared: usize,
    /// In how many rounds in a row a lower claim was held back.
    pub held_rounds: u32,
    /// Servers there were before there was no primary, where sentinels name it: only as something to know the
    /// deployment by.
    pub before: Vec<NodeAddr>,
}

/// One node of [`Agreed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgreedNode {
    pub addr: Option<NodeAddr>,
    pub aliases: Vec<NodeAddr>,
    pub flags_text: String,
    pub replica: bool,
    pub primary_id: Option<String>,
    pub config_epoch: u64,
    /// Why it gets no traffic, if so.
    pub ignored: Option<Ignored>,
}

/// A slot on its way from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpenMigration {
    pub slot: u16,
    pub from: String,
    pub to: String,
}

/// Why a node the cluster lists gets no traffic and is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// Most views flag it `fail`.
    Fail,
    /// It has not joined, or tries to come back after it was forgotten.
    Handshake,
    /// The cluster has no address for it.
    NoAddr,
    /// A primary without slots, or a replica of one.
    Slotless,
    /// A replica that most views flag `fail?` or have no link to.
    Unhealthy,
    /// Less than half of the views know it.
    Unknown,
}

impl Ignored {
    /// All of them, in the order of the metric.
    pub const ALL: [Ignored; 6] = [
        Ignored::Fail,
        Ignored::Handshake,
        Ignored::NoAddr,
        Ignored::Slotless,
        Ignored::Unhealthy,
        Ignored::Unknown,
    ];

    /// Label of the metric, word of `slotway topology`.
    pub fn label(self) -> &'static str {
        match self {
            Ignored::Fail => "fail",
            Ignored::Handshake => "handshake",
            Ignored::NoAddr => "noaddr",
            Ignored::Slotless => "slotless",
            Ignored::Unhealthy => "unhealthy",
            Ignored::Unknown => "unknown",
        }
    }
}

/// One shard as the table will have it: cluster ids and inclusive slot ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgreedShard {
    pub primary: String,
    pub replicas: Vec<String>,
    pub ranges: Vec<(u16, u16)>,
    /// Highest config epoch of its claims.
    pub epoch: u64,
}

// === impl Agreed ===

impl Agreed {
    /// True when most views flag the node of that cluster id `fail`.
    pub(crate) fn has_failed(&self, id: &str) -> bool {
        self.nodes.get(id).is_some_and(|node| node.ignored == Some(Ignored::Fail))
    }

    /// Owner of a slot, whether or not it may get traffic.
    pub(crate) fn owner(&self, slot: usize) -> Option<(&str, u64)> {
        let (index, epoch) = (*self.slots.get(slot)?)?;
        self.owners.get(usize::from(index)).map(|id| (id.as_str(), epoch))
    }

    /// Shards with a primary that may get traffic, ordered by their first slot.
    pub(crate) fn shards(&self) -> Vec<AgreedShard> {
        self.shards_where(|id| self.is_served(id))
    }

    /// Shards whose primary may not get traffic.
    pub(crate) fn unserved(&self) -> Vec<AgreedShard> {
        self.shards_where(|id| !self.is_served(id))
    }

    /// A node gets no traffic for now, but may again when it is back.
    pub(crate) fn lacks_nodes(&self) -> bool {
        self.nodes.values().any(|node| matches!(node.ignored, Some(Ignored::Fail | Ignored::Unhealthy)))
    }

    /// What each owner has, whether or not it may get traffic.
    pub(crate) fn owned(&self) -> Vec<(String, Vec<(u16, u16)>)> {
        let mut owned: Vec<_> = self.owners.iter().map(|id| (id.clone(), Vec::new())).collect();
        for (slot, owner) in (0..).zip(&self.slots) {
            let at = owner.and_then(|(index, _)| owned.get_mut(usize::from(index)));
            at.into_iter().for_each(|(_, ranges)| extend(ranges, slot));
        }
        owned
    }

    /// Ranges of slots that nobody owns.
    pub(crate) fn unowned(&self) -> Vec<(u16, u16)> {
        let mut ranges = Vec::new();
        let free = (0..SLOTS as u16).filter(|slot| self.owner(usize::from(*slot)).is_none());
        free.for_each(|slot| extend(&mut ranges, slot));
        ranges
    }

    fn shards_where(&self, take: impl Fn(&str) -> bool) -> Vec<AgreedShard> {
        let mut shards: Vec<AgreedShard> = Vec::new();
        let mut place: BTreeMap<&str, usize> = BTreeMap::new();
        for slot in 0..SLOTS as u16 {
            let Some((id, epoch)) = self.owner(usize::from(slot)).filter(|(id, _)| take(id)) else {
                continue;
            };
            let at = *place.entry(id).or_insert_with(|| {
                let (primary, replicas) = (id.to_owned(), self.replicas_of(id));
                let epoch = self.nodes.get(id).map_or(0, |node| node.config_epoch);
                shards.push(AgreedShard { primary, replicas, ranges: Vec::new(), epoch });
                shards.len() - 1
            });
            if let Some(shard) = shards.get_mut(at) {
                extend(&mut shard.ranges, slot);
                shard.epoch = shard.epoch.max(epoch);
            }
        }
        shards
    }

    fn is_served(&self, id: &str) -> bool {
        self.nodes.get(id).is_some_and(|node| node.ignored.is_none())
    }

    /// Healthy replicas, in the order of their ids so that equal clusters give equal tables.
    fn replicas_of(&self, primary: &str) -> Vec<String> {
        let is_replica =
            |node: &AgreedNode| node.ignored.is_none() && node.primary_id.as_deref() == Some(primary);
        let of = self.nodes.iter().filter(|(id, node)| *id != primary && node.replica && is_replica(node));
        of.map(|(id, _)| id.clone()).collect()
    }
}

/// Adds a slot that is higher than all before.
fn extend(ranges: &mut Vec<(u16, u16)>, slot: u16) {
    match ranges.last_mut() {
        Some((_, last)) if *last + 1 == slot => *last = slot,
        _ => ranges.push((slot, slot)),
    }
}
