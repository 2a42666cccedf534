//! The slot table: which shard owns which slot, and its nodes. Immutable; a change is a new table
//! with a new epoch.

use std::sync::Arc;

use super::node::{Node, NodeId};

/// Number of hash slots (Redis Cluster specification).
pub const SLOTS: usize = 16384;

/// `owner` of a slot that no shard covers.
const NO_SHARD: u16 = u16::MAX;

/// One primary and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The node that owns the slots.
    pub primary: NodeId,
    /// Its healthy replicas.
    pub replicas: Vec<NodeId>,
}

/// Slot to shard, for all slots.
#[derive(Debug)]
pub struct SlotTable {
    epoch: u64,
    owner: Box<[u16; SLOTS]>,
    shards: Vec<Shard>,
    nodes: Vec<Arc<Node>>,
    /// By `NodeId`: belongs to the cluster.
    members: Vec<bool>,
    covered: u16,
}

impl SlotTable {
    /// The table before the first refresh: nothing is covered.
    pub fn empty() -> Self {
        Self {
            epoch: 0,
            owner: Box::new([NO_SHARD; SLOTS]),
            shards: Vec::new(),
            nodes: Vec::new(),
            members: Vec::new(),
            covered: 0,
        }
    }

    /// Builds a table. `ranges` are (first slot, last slot, index into `shards`), inclusive;
    /// anything out of bounds is ignored. `nodes` is indexed by `NodeId` and holds every node ever
    /// interned.
    pub fn new(epoch: u64, shards: Vec<Shard>, ranges: &[(u16, u16, u16)], nodes: Vec<Arc<Node>>) -> Self {
        let mut owner = Box::new([NO_SHARD; SLOTS]);
        for &(first, last, shard) in ranges {
            if usize::from(shard) >= shards.len() || first > last {
                continue;
            }
            if let Some(slots) = owner.get_mut(usize::from(first)..=usize::from(last)) {
                slots.fill(shard);
            }
        }
        let covered = owner.iter().filter(|&&s| s != NO_SHARD).count() as u16;
        let table = Self { epoch, owner, shards, members: vec![false; nodes.len()], nodes, covered };
        let serving: Vec<NodeId> =
            table.shards.iter().flat_map(|s| [&[s.primary][..], &s.replicas].concat()).collect();
        table.with_members(serving)
    }

    /// Adds nodes that belong to the cluster without serving slots: a redirect of a running migration
    /// may point to one. The nodes of all shards are members anyway.
    pub fn with_members(mut self, members: impl IntoIterator<Item = NodeId>) -> Self {
        for id in members {
            if let Some(member) = self.members.get_mut(id.index()) {
                *member = true;
            }
        }
        self
    }

    /// Grows by one with every table that differs from the one before.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The primary that owns `slot`, if any shard covers it.
    #[inline]
    pub fn primary(&self, slot: u16) -> Option<NodeId> {
        self.shard(slot).map(|s| s.primary)
    }

    /// The shard that owns `slot`.
    #[inline]
    pub fn shard(&self, slot: u16) -> Option<&Shard> {
        let index = *self.owner.get(usize::from(slot))?;
        self.shards.get(usize::from(index))
    }

    /// All shards that own at least one slot.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Every node ever interned, by `NodeId`.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(id.index())
    }

    /// Whether a node belongs to the cluster, with or without slots. A lane to any other can be closed.
    pub fn is_member(&self, id: NodeId) -> bool {
        self.members.get(id.index()).copied().unwrap_or(false)
    }

    /// Which nodes are members, by `NodeId`.
    pub(super) fn members(&self) -> &[bool] {
        &self.members
    }

    /// How many of the 16384 slots have an owner.
    pub fn covered(&self) -> u16 {
        self.covered
    }
}
