//! Makes the slot table and the member list of what was agreed, and publishes them if they differ
//! from those in use.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::agreed::{Agreed, Ignored};
use super::claims::{Claims, ShardClaim};
use super::handle::{Members, Topology};
use super::node::NodeId;
use super::registry::NodeRegistry;
use super::replication::Ranges as SlotRanges;
use super::table::{Bereft, Shard, SlotTable};
use super::watch::Wanted;

/// (first slot, last slot, index of the shard), as `SlotTable::new` takes them.
type Ranges = Vec<(u16, u16, u16)>;

/// Owns the registry and remembers what is published.
#[derive(Default)]
pub(crate) struct Publisher {
    registry: NodeRegistry,
    epoch: u64,
    shards: Vec<Shard>,
    ranges: Ranges,
    bereft: Vec<Bereft>,
    /// By replica: its primary and what that owns, of the table in use.
    replicas: HashMap<NodeId, (NodeId, SlotRanges)>,
    members: Members,
}

impl Publisher {
    /// Epoch of the table in use; 0 before the first.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Publishes; says whether there is a new table, and which nodes it wants watched.
    pub(crate) fn publish(
        &mut self,
        agreed: &Agreed,
        shared: &Topology,
        now: Instant,
    ) -> (bool, HashMap<NodeId, Wanted>) {
        let members = self.intern_members(agreed, now);
        let (shards, ranges) = self.shards(agreed);
        let bereft = self.bereft(agreed);
        shared.claims.store(Arc::new(self.claims(agreed)));
        let wanted = self.wanted(agreed);
        let ids: HashSet<NodeId> = members.values().flatten().map(|(_, id)| *id).collect();
        self.registry.set_members(&ids, now);
        let reasons = agreed.nodes.values().filter_map(|node| node.ignored);
        shared.stats().set_accepted(reasons);
        let nodes = self.registry.nodes().to_vec();
        let table = SlotTable::new(self.epoch + 1, shards.clone(), &ranges, nodes);
        let table = table.with_bereft(bereft.iter().cloned()).with_members(ids);
        let current = shared.table();
        let same_nodes = current.nodes().len() == table.nodes().len()
            && current.nodes().iter().zip(table.nodes()).all(|(a, b)| Arc::ptr_eq(a, b))
            && current.members() == table.members();
        let same_shards = shards == self.shards && ranges == self.ranges && bereft == self.bereft;
        let same = same_nodes && same_shards && self.epoch > 0;
        if members != self.members {
            self.members.clone_from(&members);
            shared.members.store(Arc::new(members));
        }
        if same {
            return (false, wanted);
        }
        self.epoch += 1;
        self.distrust(&wanted);
        (self.shards, self.ranges, self.bereft) = (shards, ranges, bereft);
        shared.cell.store(Arc::new(table));
        shared.bump();
        (true, wanted)
    }

    /// Every node of the cluster that can have an address and has not failed, under all its names. Also
    /// slotless nodes: a redirect of a running migration may point to one.
    fn intern_members(&mut self, agreed: &Agreed, now: Instant) -> Members {
        let mut members = Members::new();
        let mut names = Vec::new();
        for node in agreed.nodes.values() {
            if matches!(node.ignored, Some(Ignored::Handshake | Ignored::NoAddr | Ignored::Fail)) {
                continue;
            }
            let Some(id) = node.addr.as_ref().and_then(|addr| self.registry.intern(addr, now)) else {
                continue;
            };
            // Addresses before aliases: a name that is one node's address is never another's.
            names.extend(node.addr.iter().map(|addr| (0, addr, id)));
            names.extend(node.aliases.iter().map(|addr| (1, addr, id)));
        }
        names.sort();
        for (_, addr, id) in names {
            let ports = members.entry(addr.host.clone()).or_default();
            if !ports.iter().any(|(port, _)| *port == addr.port) {
                ports.push((addr.port, id));
            }
        }
        members
    }

    /// Shards by id. A shard whose primary got no id is left out: its slots are uncovered.
    fn shards(&self, agreed: &Agreed) -> (Vec<Shard>, Ranges) {
        let (mut shards, mut ranges) = (Vec::new(), Ranges::new());
        for shard in agreed.shards() {
            let Some(primary) = self.find(agreed, &shard.primary) else { continue };
            let Ok(index) = u16::try_from(shards.len()) else { break };
            ranges.extend(shard.ranges.iter().map(|&(first, last)| (first, last, index)));
            let replicas = shard.replicas.iter().filter_map(|id| self.find(agreed, id)).collect();
            shards.push(Shard { primary, replicas });
        }
        (shards, ranges)
    }

    /// Replicas whose primary is not served.
    fn bereft(&self, agreed: &Agreed) -> Vec<Bereft> {
        let replicas = |ids: &[String]| ids.iter().filter_map(|id| self.find(agreed, id)).collect();
        let shards = agreed.unserved().into_iter().filter(|shard| !shard.replicas.is_empty());
        shards.map(|shard| (replicas(&shard.replicas), shard.ranges)).collect()
    }

    /// A replica that has another primary than before, or one with other slots, has proven nothing about what is
    /// there now. Before anybody sees the table.
    fn distrust(&mut self, wanted: &HashMap<NodeId, Wanted>) {
        let mut replicas = HashMap::new();
        for (id, wanted) in wanted {
            let Some(primary) = wanted.primary else { continue };
            let now = (primary, wanted.slots.clone());
            if self.replicas.get(id) != Some(&now) {
                wanted.node.set_as_of(None);
            }
            replicas.insert(*id, now);
        }
        self.replicas = replicas;
    }

    fn claims(&self, agreed: &Agreed) -> Claims {
        let shards = agreed.shards();
        let claims: Vec<ShardClaim> = shards
            .iter()
            .filter_map(|shard| {
                let node = self.find(agreed, &shard.primary)?;
                Some(ShardClaim { node, id: shard.primary.clone(), epoch: shard.epoch })
            })
            .collect();
        let complete = agreed.unowned().is_empty() && agreed.unserved().is_empty();
        Claims {
            complete: complete && claims.len() == shards.len(),
            shards: claims,
            members: agreed
                .nodes
                .keys()
                .filter_map(|id| Some((id.clone(), self.find(agreed, id)?)))
                .collect(),
        }
    }

    /// Every node that may get traffic, and the replicas of failed primaries: one of those will be
    /// promoted, and is the first to know.
    fn wanted(&self, agreed: &Agreed) -> HashMap<NodeId, Wanted> {
        let nodes = agreed.nodes.iter().filter(|(_, node)| node.ignored.is_none());
        let owned: HashMap<String, SlotRanges> = agreed.owned().into_iter().collect();
        let wanted = nodes.filter_map(|(cluster_id, node)| {
            let id = self.find(agreed, cluster_id)?;
            let watched = self.registry.nodes().get(id.index())?.clone();
            // A replica of a primary without an address is one of nobody known.
            let of = |primary: &String| self.find(agreed, primary);
            let primary = node.replica.then(|| node.primary_id.as_ref().and_then(of).unwrap_or(id));
            let names = node.addr.iter().chain(&node.aliases).map(|addr| addr.host.clone()).collect();
            let owner = node.primary_id.as_ref().filter(|_| node.replica).unwrap_or(cluster_id);
            let slots = owned.get(owner).cloned().unwrap_or_default();
            Some((id, Wanted { node: watched, cluster_id: cluster_id.clone(), primary, slots, names }))
        });
        wanted.collect()
    }

    fn find(&self, agreed: &Agreed, cluster_id: &str) -> Option<NodeId> {
        self.registry.get(agreed.nodes.get(cluster_id)?.addr.as_ref()?)
    }
}
