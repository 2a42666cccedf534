//! The slot table: which shard owns which slot, and its nodes. Immutable; a change is a new table
//! with a new epoch.

use std::sync::Arc;

use super::node::{Node, NodeId};

/// Number of hash slots (Redis Cluster specification).
pub const SLOTS: usize = 16384;

/// `owner` of a slot that no shard covers.
const NO_SHARD: u16 = u16::MAX;

/// Set in the `owner` of a slot without a primary whose replicas are known: the rest is their index. There are
/// never so many shards.
const BEREFT: u16 = 1 << 15;

/// One primary and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The node that owns the slots.
    pub primary: NodeId,
    /// Its healthy replicas.
    pub replicas: Vec<NodeId>,
}

/// Replicas without their primary, and the slots they have.
pub type Bereft = (Vec<NodeId>, Vec<(u16, u16)>);

/// Slot to shard, for all slots.
#[derive(Debug)]
pub struct SlotTable {
    epoch: u64,
    owner: Box<[u16; SLOTS]>,
    shards: Vec<Shard>,
    /// Replicas of primaries that get no traffic.
    bereft: Vec<Vec<NodeId>>,
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
            bereft: Vec::new(),
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
        let (bereft, members) = (Vec::new(), vec![false; nodes.len()]);
        let table = Self { epoch, owner, shards, bereft, members, nodes, covered };
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

    /// Adds shards whose primary gets no traffic: their healthy replicas and their slots, as inclusive ranges. Such
    /// slots stay without an owner.
    pub fn with_bereft(mut self, shards: impl IntoIterator<Item = Bereft>) -> Self {
        for (replicas, ranges) in shards {
            let Ok(index) = u16::try_from(self.bereft.len()) else { break };
            for (first, last) in ranges {
                let slots = self.owner.get_mut(usize::from(first)..=usize::from(last)).into_iter().flatten();
                slots.filter(|owner| **owner == NO_SHARD).for_each(|owner| *owner = BEREFT | index);
            }
            self.bereft.push(replicas);
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

    /// The healthy replicas of the slot's primary, also where that gets no traffic.
    pub fn replicas(&self, slot: u16) -> &[NodeId] {
        let index = self.owner.get(usize::from(slot)).copied().unwrap_or(NO_SHARD);
        match self.shards.get(usize::from(index)) {
            Some(shard) => &shard.replicas,
            None => self.bereft.get(usize::from(index & !BEREFT)).map_or(&[], Vec::as_slice),
        }
    }

    /// True for a replica that may be read from.
    pub fn is_replica(&self, id: NodeId) -> bool {
        self.shards.iter().map(|shard| &shard.replicas).chain(&self.bereft).any(|of| of.contains(&id))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_known_with_and_without_their_primary() {
        let shard = |primary, replica| Shard { primary: NodeId(primary), replicas: vec![NodeId(replica)] };
        let table = SlotTable::new(1, vec![shard(0, 3), shard(1, 4)], &[(0, 9, 0), (20, 29, 1)], Vec::new());
        let table = table.with_bereft([(vec![NodeId(5)], vec![(10, 21)]), (vec![], vec![(40, 40)])]);
        let primary = |slot| table.primary(slot).map(|id| id.0);
        let replicas = |slot| table.replicas(slot).iter().map(|id| id.0).collect::<Vec<_>>();
        assert_eq!([9, 10, 19, 20, 29, 30].map(primary), [Some(0), None, None, Some(1), Some(1), None]);
        assert_eq!(
            [9, 10, 19, 20, 30, 40].map(replicas),
            [vec![3], vec![5], vec![5], vec![4], vec![], vec![]]
        );
        assert_eq!(table.covered(), 20, "a slot without a primary is not covered");
        assert_eq!([3, 5, 0, 7].map(|id| table.is_replica(NodeId(id))), [true, true, false, false]);
        assert_eq!((primary(u16::MAX), replicas(u16::MAX)), (None, vec![]));
    }
}
