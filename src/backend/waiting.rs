//! Requests that cannot be sent now: their slot has no reachable owner, or its lane is not connected.
//! They wait in order of arrival, bounded in time, number and bytes, and are looked at again whenever
//! a lane becomes ready, the table changes or a node's health does. Must never hold up a request of
//! another slot.

use std::collections::{HashMap, VecDeque};

use super::lane::LaneKey;
use super::ticket::{Aim, Errand, Parcel};
use crate::topology::node::NodeId;

/// A request and since when it waits.
#[derive(Debug)]
pub struct Waiter {
    /// The request.
    pub parcel: Parcel,
    /// When it began to wait, on the worker's clock.
    pub since: u64,
}

/// The waiting requests of one worker.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    queue: VecDeque<Waiter>,
    bytes: u64,
    /// Slots that have no owner, and since when requests for them have waited.
    orphaned: HashMap<u16, u64>,
    /// Primaries without a replica that can be read from: since when reads have waited for one, and one of the slots.
    unreadable: HashMap<NodeId, (u64, u16)>,
}

impl WaitingRoom {
    /// Bytes of the requests that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// True when there is room for one more request of `len` bytes. One may wait however large it is.
    pub fn has_room(&self, len: usize, requests: usize, bytes: u64) -> bool {
        let fits = self.queue.is_empty() || self.bytes + len as u64 <= bytes;
        self.queue.len() < requests && fits
    }

    /// Takes a request in.
    pub fn push(&mut self, waiter: Waiter) {
        self.bytes += waiter.parcel.bytes.len() as u64;
        self.queue.push_back(waiter);
    }

    /// Everyone leaves, in order; who still cannot go is pushed again.
    pub fn take_all(&mut self) -> VecDeque<Waiter> {
        self.bytes = 0;
        std::mem::take(&mut self.queue)
    }

    /// How many parts of the request (one, if it is not split) are among the waiting, and were not
    /// executed for sure.
    pub fn count(&self, session: u64, seq: u32) -> usize {
        let same = |errand: &Errand| errand.session.id == session && errand.seq == seq;
        self.queue.iter().filter(|w| same(&w.parcel.errand) && !w.parcel.is_in_doubt()).count()
    }

    /// True when a request waits for this dedicated connection.
    pub fn wants_dedicated(&self, key: LaneKey) -> bool {
        self.queue.iter().any(|w| w.parcel.aim == Aim::Dedicated(key))
    }

    /// True when a request waits for this very node.
    pub fn wants_node(&self, node: NodeId) -> bool {
        self.queue.iter().any(|w| matches!(w.parcel.aim, Aim::Node { node: aim, .. } if aim == node))
    }

    /// Since when requests have waited for an owner of `slot`.
    pub fn orphaned_since(&mut self, slot: u16, now: u64) -> u64 {
        *self.orphaned.entry(slot).or_insert(now)
    }

    /// Since when reads of `slot`, which belongs to `primary`, have waited for a replica.
    pub fn unreadable_since(&mut self, primary: NodeId, slot: u16, now: u64) -> u64 {
        self.unreadable.entry(primary).or_insert((now, slot)).0
    }

    /// Forgets primaries that have a replica again; `still` tells by a slot that there is none.
    pub fn retain_unreadable(&mut self, still: impl Fn(u16) -> bool) {
        self.unreadable.retain(|_, (_, slot)| still(*slot));
    }

    /// True when a request of this session for `slot` waits.
    pub fn waits(&self, session: u64, slot: u16) -> bool {
        self.queue.iter().any(|w| w.parcel.errand.session.id == session && w.parcel.errand.slot == slot)
    }

    /// Forgets slots that have an owner again.
    pub fn retain_orphaned(&mut self, still: impl Fn(u16) -> bool) {
        self.orphaned.retain(|slot, _| still(*slot));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::worker::testkit;

    #[test]
    fn bounded_in_number_and_bytes_and_in_order() {
        testkit::block_on(async {
            let worker = testkit::worker(Config::default());
            let (session, _peer) = testkit::session(&worker);
            let mut room = WaitingRoom::default();
            assert!(room.has_room(1 << 30, 2, 100), "one may wait however large it is");
            for slot in 0..2 {
                let errand = testkit::expect(&session, "get", slot, 0);
                let mut parcel = testkit::parcel(&errand, &["k"]);
                parcel.aim = Aim::Node { node: NodeId(slot), asking: false };
                assert!(room.has_room(parcel.bytes.len(), 2, 100));
                room.push(Waiter { parcel, since: 7 });
            }
            let bytes = room.bytes();
            assert_eq!((room.queue.len(), bytes), (2, 2 * 20));
            assert!(
                !room.has_room(1, 2, 100) && !room.has_room(1, 3, bytes) && room.has_room(1, 3, bytes + 1)
            );
            assert_eq!([room.count(session.id, 1), room.count(session.id, 2)], [1, 0]);
            assert_eq!(room.count(session.id + 1, 1), 0);
            assert!(room.wants_node(NodeId(1)) && !room.wants_node(NodeId(2)));
            let everyone: Vec<u32> = room.take_all().iter().map(|w| w.parcel.errand.seq).collect();
            assert_eq!(everyone, [0, 1]);
            assert_eq!((room.is_empty(), room.bytes()), (true, 0));
        });
    }

    #[test]
    fn slots_without_an_owner_are_remembered_until_they_have_one() {
        let mut room = WaitingRoom::default();
        assert_eq!(
            [(1, 10), (2, 20), (1, 30)].map(|(slot, now)| room.orphaned_since(slot, now)),
            [10, 20, 10]
        );
        room.retain_orphaned(|slot| slot == 2);
        assert_eq!([(1, 40), (2, 40)].map(|(slot, now)| room.orphaned_since(slot, now)), [40, 20]);
    }
}
