//! `dedicated-max-per-node`: how many dedicated connections the process has to each node, whatever they are for
//! and whichever worker they belong to. Owns the counts; a connection owns a [`Permit`].

use std::cell::Cell;
use std::sync::Arc;

use dashmap::DashMap;

use crate::telemetry::clock_ms;
use crate::topology::node::NodeId;

/// How long workers give up connections that nobody uses after one asked for room, in milliseconds: a few of
/// their ticks.
const WANTED: u64 = 250;

/// Places beyond `dedicated-max-per-node`, for SCRIPT KILL, FUNCTION KILL and the like: where all connections wait
/// behind a script, one of them has to be made yet.
const SPARE: usize = 2;

/// Dedicated connections, by node.
#[derive(Debug, Default)]
pub struct DedicatedCount(DashMap<NodeId, Count>);

#[derive(Debug, Default)]
struct Count {
    taken: usize,
    /// Of those taken, how many nobody uses.
    idle: usize,
    /// Until when unused ones are to be closed, by `clock_ms`.
    wanted_until: u64,
}

/// One of the places `dedicated-max-per-node` grants.
#[derive(Debug)]
pub struct Permit {
    counts: Arc<DedicatedCount>,
    node: NodeId,
    idle: Cell<bool>,
}

impl DedicatedCount {
    /// A place at `node`, while fewer than `most` are taken.
    pub fn take(self: &Arc<Self>, node: NodeId, most: usize) -> Option<Permit> {
        let mut count = self.0.entry(node).or_default();
        if count.taken >= most {
            return None;
        }
        count.taken += 1;
        Some(Permit { counts: Arc::clone(self), node, idle: Cell::new(false) })
    }

    /// A place beyond the bound, for what ends the work that took all others.
    pub fn take_spare(self: &Arc<Self>, node: NodeId, most: usize) -> Option<Permit> {
        self.take(node, most.saturating_add(SPARE))
    }

    /// How many there are to `node`.
    pub fn taken(&self, node: NodeId) -> usize {
        self.0.get(&node).map_or(0, |count| count.taken)
    }

    /// Has all workers close connections to `node` that nobody uses; false when there are none.
    pub fn make_room(&self, node: NodeId) -> bool {
        let Some(mut count) = self.0.get_mut(&node) else { return false };
        count.wanted_until = clock_ms() + WANTED;
        count.idle > 0
    }

    /// True while somebody waits for a place at `node`.
    pub fn wants_room(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|count| count.wanted_until > clock_ms())
    }
}

impl Permit {
    /// Says whether anybody uses the connection.
    pub fn set_idle(&self, idle: bool) {
        if self.idle.replace(idle) == idle {
            return;
        }
        if let Some(mut count) = self.counts.0.get_mut(&self.node) {
            count.idle = if idle { count.idle + 1 } else { count.idle.saturating_sub(1) };
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.set_idle(false);
        if let Some(mut count) = self.counts.0.get_mut(&self.node) {
            count.taken = count.taken.saturating_sub(1);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_per_node_and_given_back() {
        let counts = Arc::new(DedicatedCount::default());
        let (here, there) = (NodeId(1), NodeId(2));
        let first = counts.take(here, 2).unwrap();
        let second = counts.take(here, 2).unwrap();
        assert!(counts.take(here, 2).is_none() && counts.take(there, 2).is_some());
        assert!(!counts.make_room(here), "all are in use");
        second.set_idle(true);
        second.set_idle(true);
        assert!(counts.make_room(here) && counts.wants_room(here) && !counts.wants_room(there));
        drop(second);
        assert!(!counts.make_room(here));
        assert_eq!((counts.taken(here), counts.taken(there)), (1, 0));
        drop(first);
        assert_eq!(counts.taken(here), 0);
    }
}
