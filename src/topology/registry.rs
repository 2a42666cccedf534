//! Interns node addresses to `NodeId`s. Owned by the topology task alone; others see nodes through
//! the slot table.
//!
//! Pods change their addresses for years, ids are 16 bits wide and index vectors in every worker,
//! so ids must not run out. Rule: an address keeps its id as long as it is in the cluster, and
//! after that until more than [`SOFT_NODES`] ids exist **and** the address has been out of the
//! cluster for [`QUARANTINE`]; then the id forgotten longest is given to a new address, as a new
//! [`Node`]. Every lane to a forgotten node is closed long before (its requests have deadlines of
//! seconds); whoever keeps a `NodeId` for longer keeps the `Arc<Node>` and compares it with
//! `SlotTable::node`. When not even that frees an id ([`HARD_NODES`] addresses within one hour) the
//! address is refused: its slots stay uncovered and an error is logged; the next refresh tries again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::node::{Node, NodeAddr, NodeId};

/// Up to here every address ever seen has an id of its own.
pub const SOFT_NODES: usize = 4_096;

/// Never more ids than this.
pub const HARD_NODES: usize = 65_000;

/// How long an address must have been out of the cluster before its id is used again.
pub const QUARANTINE: Duration = Duration::from_secs(3_600);

/// Address to id and back.
#[derive(Debug)]
pub struct NodeRegistry {
    by_addr: HashMap<NodeAddr, NodeId>,
    nodes: Vec<Arc<Node>>,
    /// Out of the cluster, longest first.
    forgotten: VecDeque<(NodeId, Instant)>,
    soft: usize,
    hard: usize,
}

impl NodeRegistry {
    /// An empty registry with the bounds above.
    pub fn new() -> Self {
        Self::with_bounds(SOFT_NODES, HARD_NODES)
    }

    fn with_bounds(soft: usize, hard: usize) -> Self {
        let (by_addr, nodes, forgotten) = (HashMap::new(), Vec::new(), VecDeque::new());
        Self { by_addr, nodes, forgotten, soft, hard }
    }

    /// The id of `addr`, a new one if needed; `None` when no id is free.
    pub fn intern(&mut self, addr: &NodeAddr, now: Instant) -> Option<NodeId> {
        if let Some(&id) = self.by_addr.get(addr) {
            self.forgotten.retain(|(other, _)| *other != id);
            return Some(id);
        }
        if self.nodes.len() >= self.soft
            && let Some(id) = self.reuse(now)
        {
            return Some(self.assign(id, addr));
        }
        if self.nodes.len() >= self.hard {
            tracing::error!(node = %addr, ids = self.nodes.len(), "no node id is free, address refused");
            return None;
        }
        let id = NodeId(u16::try_from(self.nodes.len()).ok()?);
        Some(self.assign(id, addr))
    }

    /// The id of an address seen before.
    pub fn get(&self, addr: &NodeAddr) -> Option<NodeId> {
        self.by_addr.get(addr).copied()
    }

    /// Says which nodes are in the cluster now; all others start (or go on with) their quarantine.
    pub fn set_members(&mut self, members: &HashSet<NodeId>, now: Instant) {
        self.forgotten.retain(|(id, _)| !members.contains(id));
        let waiting: HashSet<NodeId> = self.forgotten.iter().map(|(id, _)| *id).collect();
        for node in &self.nodes {
            if !members.contains(&node.id) && !waiting.contains(&node.id) {
                self.forgotten.push_back((node.id, now));
            }
        }
    }

    /// Every node, indexed by `NodeId`.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    fn reuse(&mut self, now: Instant) -> Option<NodeId> {
        let (id, since) = *self.forgotten.front()?;
        if now.saturating_duration_since(since) < QUARANTINE {
            return None;
        }
        self.forgotten.pop_front();
        if let Some(node) = self.nodes.get(id.index()) {
            self.by_addr.remove(&node.addr);
        }
        Some(id)
    }

    fn assign(&mut self, id: NodeId, addr: &NodeAddr) -> NodeId {
        let node = Arc::new(Node::new(id, addr.clone()));
        match self.nodes.get_mut(id.index()) {
            Some(place) => *place = node,
            None => self.nodes.push(node),
        }
        self.by_addr.insert(addr.clone(), id);
        id
    }
}

impl Default for NodeRegistry {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn addr(n: u16) -> NodeAddr {
        NodeAddr { host: "10.0.0.1".into(), port: n }
    }

    #[test]
    fn an_address_keeps_its_id() {
        let (mut registry, now) = (NodeRegistry::new(), Instant::now());
        let first = registry.intern(&addr(1), now);
        assert_eq!(first, Some(NodeId(0)));
        assert_eq!(registry.intern(&addr(2), now), Some(NodeId(1)));
        registry.set_members(&HashSet::new(), now);
        assert_eq!(registry.intern(&addr(1), now + QUARANTINE * 2), first);
    }

    #[test]
    fn ids_of_forgotten_nodes_come_back_after_quarantine() {
        let (mut registry, now) = (NodeRegistry::with_bounds(2, 3), Instant::now());
        registry.intern(&addr(1), now);
        registry.intern(&addr(2), now);
        let old = registry.nodes()[0].clone();
        registry.set_members(&HashSet::from([NodeId(1)]), now);
        assert_eq!(registry.intern(&addr(3), now), Some(NodeId(2)), "quarantine not over: a fresh id");
        assert_eq!(registry.intern(&addr(4), now), None, "full");
        let later = now + QUARANTINE;
        assert_eq!(registry.intern(&addr(4), later), Some(NodeId(0)));
        assert!(!Arc::ptr_eq(&old, &registry.nodes()[0]), "a reused id is another node");
        assert_eq!(registry.get(&addr(1)), None);
        assert_eq!(registry.intern(&addr(5), later), None, "a member's id is never reused");
    }

    #[test]
    fn an_interned_address_is_not_robbed_in_the_same_round() {
        let (mut registry, now) = (NodeRegistry::with_bounds(1, 2), Instant::now());
        registry.intern(&addr(1), now);
        registry.set_members(&HashSet::new(), now);
        let later = now + QUARANTINE;
        assert_eq!(registry.intern(&addr(1), later), Some(NodeId(0)));
        assert_eq!(registry.intern(&addr(2), later), Some(NodeId(1)));
    }
}
