//! What of a session's requests is at a node, what is held back, what still wants a reply. Asked by whoever sends
//! requests again; the cells themselves are `Pending`'s.

use super::cell::CellState;
use super::pending::Pending;
use crate::backend::ticket::Errand;

impl Pending {
    /// Marks a request (or part) as held back, or as under way again. False when it wants no reply
    /// any more.
    pub fn set_held(&mut self, errand: &Errand, held: bool) -> bool {
        let Some(cell) = self.cell(errand.seq) else { return false };
        match &mut cell.state {
            CellState::Waiting | CellState::Completing(_) => {
                cell.held = held;
                true
            }
            CellState::Merging(merge) => {
                merge.set_held(errand.part, held);
                merge.wants(errand.part)
            }
            _ => false,
        }
    }

    /// True when the request (or part) has no part of its reply yet.
    pub fn wants(&mut self, errand: &Errand) -> bool {
        match self.cell(errand.seq).map(|cell| &cell.state) {
            Some(CellState::Waiting | CellState::Completing(_)) => !errand.split,
            Some(CellState::Merging(merge)) => errand.split && merge.wants(errand.part),
            _ => false,
        }
    }

    /// Names the slot of every request (or part) that is at a node, or waits in a queue to be sent.
    pub fn each_slot_at_node(&self, mut each: impl FnMut(u16)) {
        for (_, cell) in self.iter() {
            match &cell.state {
                CellState::Waiting | CellState::Completing(_) | CellState::Flowing if !cell.held => {
                    each(cell.slot)
                }
                CellState::Merging(merge) => merge.slots_at_node().for_each(&mut each),
                _ => {}
            }
        }
    }
}
