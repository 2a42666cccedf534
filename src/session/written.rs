//! What a session wrote, as far as WAIT needs to know it: to which nodes, and in which slots since the last
//! WAIT that was kept. Nothing is remembered per write: a slot that was noted is noted.
//!
//! `Losses` is the other half, kept by the worker: when each slot last changed its owner, and when the
//! connection to each node last broke. A write from before may be lost, whatever replicas say now.

use std::cell::{Cell, RefCell};

use smallvec::SmallVec;

use crate::backend::ticket::NO_SLOT;
use crate::topology::node::NodeId;
use crate::topology::table::{SLOTS, SlotTable};

/// Slots noted one by one; beyond that a session answers for all slots of the nodes it wrote to.
const SLOTS_MAX: usize = 8;
/// `last` before the first write: no slot, and not [`NO_SLOT`] either.
const NOTHING: u16 = NO_SLOT - 1;

/// What a session wrote.
#[derive(Debug)]
pub struct Written {
    /// Slot of the last write, so that most writes cost one comparison.
    last: u16,
    /// Nodes (by the bit of their id, the first 64) of which all slots are answered for: a write there adds nothing.
    sure: u64,
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest {
    /// Every node written to.
    nodes: SmallVec<[NodeId; 4]>,
    /// Slots written to since `since`, and where.
    slots: SmallVec<[(u16, NodeId); SLOTS_MAX]>,
    /// More than these.
    many: bool,
    /// The worker's count of losses when the first of `slots` was noted.
    since: u64,
    /// A WAIT has said 0 for a loss; it stays so until the next write.
    lost: bool,
}

impl Default for Written {
    fn default() -> Self {
        Self { last: NOTHING, sure: 0, rest: None }
    }
}

impl Written {
    /// A write in `slot` goes to `node`.
    #[inline]
    pub fn note(&mut self, slot: u16, node: NodeId, losses: &Losses) {
        if self.last != slot && self.sure & bit(node) == 0 {
            self.add(slot, node, losses);
        }
    }

    /// The same, where it may be another node than the slot's last write went to.
    #[cold]
    pub fn add(&mut self, slot: u16, node: NodeId, losses: &Losses) {
        self.last = slot;
        let rest = self.rest.get_or_insert_default();
        if rest.lost {
            **rest = Rest::default();
        }
        if !rest.nodes.contains(&node) {
            rest.nodes.push(node);
        }
        if rest.slots.is_empty() {
            rest.since = losses.count.get();
        }
        if rest.slots.len() < SLOTS_MAX {
            if !rest.slots.contains(&(slot, node)) {
                rest.slots.push((slot, node));
            }
        } else if !rest.slots.contains(&(slot, node)) {
            rest.many = true;
        }
        if rest.many {
            self.sure |= bit(node);
        }
    }

    /// The nodes written to.
    pub fn nodes(&self) -> &[NodeId] {
        self.rest.as_ref().map_or(&[], |rest| &rest.nodes)
    }

    /// True when a write since the last WAIT that was kept may be lost.
    pub fn is_lost(&mut self, losses: &Losses) -> bool {
        let Some(rest) = &mut self.rest else { return false };
        rest.lost |= match rest.many {
            true => rest.nodes.iter().any(|&node| losses.of_node(node) > rest.since),
            false => rest.slots.iter().any(|&(slot, node)| losses.of(slot, node) > rest.since),
        };
        if rest.lost {
            (self.last, self.sure) = (NOTHING, 0);
        }
        rest.lost
    }

    /// As many replicas as asked for have all that was written when `count` losses were known.
    pub fn kept(&mut self, count: u64) {
        let Some(rest) = &mut self.rest else { return };
        rest.slots.clear();
        (rest.many, rest.since) = (false, count);
        (self.last, self.sure) = (NOTHING, 0);
    }
}

/// The bit of a node; none for an id beyond 63.
#[inline]
fn bit(node: NodeId) -> u64 {
    1u64.checked_shl(u32::from(node.0)).unwrap_or(0)
}

/// Events by which writes may be lost, counted per worker.
#[derive(Debug, Default)]
pub struct Losses {
    count: Cell<u64>,
    /// By slot: the event by which it changed its owner.
    slots: RefCell<Vec<u64>>,
    /// By node: its last broken connection, and the last of these or of its slots' changes.
    nodes: RefCell<Vec<(u64, u64)>>,
}

impl Losses {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// The connection to `node` broke.
    pub fn connection_lost(&self, node: NodeId) {
        let count = self.next();
        self.with_node(node, |entry| *entry = (count, count));
    }

    /// Another table is in use. To have no owner is a change, too.
    pub fn table_changed(&self, old: &SlotTable, new: &SlotTable) {
        let mut slots = self.slots.borrow_mut();
        for slot in 0..SLOTS as u16 {
            let (Some(before), after) = (old.primary(slot), new.primary(slot)) else { continue };
            if after == Some(before) {
                continue;
            }
            let count = self.next();
            slots.resize(SLOTS, 0);
            if let Some(entry) = slots.get_mut(usize::from(slot)) {
                *entry = count;
            }
            self.with_node(before, |entry| entry.1 = count);
        }
    }

    fn next(&self) -> u64 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    fn with_node(&self, node: NodeId, change: impl FnOnce(&mut (u64, u64))) {
        let mut nodes = self.nodes.borrow_mut();
        if nodes.len() <= node.index() {
            nodes.resize(node.index() + 1, (0, 0));
        }
        if let Some(entry) = nodes.get_mut(node.index()) {
            change(entry);
        }
    }

    fn of(&self, slot: u16, node: NodeId) -> u64 {
        let connection = self.nodes.borrow().get(node.index()).map_or(0, |entry| entry.0);
        let slot = self.slots.borrow().get(usize::from(slot)).copied().unwrap_or(0);
        connection.max(slot)
    }

    fn of_node(&self, node: NodeId) -> u64 {
        self.nodes.borrow().get(node.index()).map_or(0, |entry| entry.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::table::Shard;

    fn table(ranges: &[(u16, u16, u16)]) -> SlotTable {
        let shards = (0..3).map(|id| Shard { primary: NodeId(id), replicas: vec![] }).collect();
        SlotTable::new(1, shards, ranges, vec![])
    }

    #[test]
    fn only_what_concerns_the_slots_written_to_counts() {
        let losses = Losses::default();
        let mut written = Written::default();
        assert!(written.nodes().is_empty() && !written.is_lost(&losses));
        losses.connection_lost(NodeId(0));
        written.note(5, NodeId(0), &losses);
        written.note(5, NodeId(0), &losses);
        written.note(NO_SLOT, NodeId(1), &losses);
        assert_eq!(written.nodes(), [NodeId(0), NodeId(1)]);
        let old = table(&[(0, 10, 0), (11, 16383, 1)]);
        losses.table_changed(&old, &table(&[(0, 9, 0), (10, 10, 2), (11, 16383, 1)]));
        losses.connection_lost(NodeId(2));
        assert!(!written.is_lost(&losses));
        losses.table_changed(&old, &table(&[(0, 4, 0), (5, 10, 2), (11, 16383, 1)]));
        assert!(written.is_lost(&losses) && written.is_lost(&losses), "until there is another write");
        written.note(5, NodeId(2), &losses);
        assert!(!written.is_lost(&losses));
        assert_eq!(written.nodes(), [NodeId(2)]);
        losses.connection_lost(NodeId(2));
        assert!(written.is_lost(&losses));
    }

    #[test]
    fn what_a_wait_kept_is_safe_and_many_slots_answer_for_their_nodes() {
        let losses = Losses::default();
        let mut written = Written::default();
        for slot in 0..20 {
            written.note(slot, NodeId(0), &losses);
        }
        written.kept(losses.count());
        let old = table(&[(0, 10000, 0), (10001, 16383, 1)]);
        losses.table_changed(&old, &table(&[(0, 10, 0), (11, 16383, 1)]));
        assert!(written.is_lost(&losses).eq(&false));
        for slot in 0..20 {
            written.note(slot, NodeId(0), &losses);
        }
        losses.table_changed(&old, &table(&[(0, 9999, 0), (10000, 16383, 1)]));
        assert!(written.is_lost(&losses), "one of its slots");
        assert_eq!(written.nodes(), [NodeId(0)]);
    }
}
