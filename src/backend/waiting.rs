//! Requests that cannot be sent now: their slot has no reachable owner, or its lane is not connected.
//! They wait in order of arrival, bounded in time, number and bytes, and are looked at again whenever
//! a lane becomes ready, the table changes or a node's health does. Must never hold up a request of
//! another slot.

use std::collections::{HashMap, VecDeque};

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

    /// True when the request is among the waiting, and was not executed for sure.
    pub fn holds(&self, session: u64, seq: u32) -> bool {
        let same = |errand: &Errand| errand.session.id == session && errand.seq == seq;
        self.queue.iter().any(|w| same(&w.parcel.errand) && !w.parcel.is_in_doubt())
    }

    /// True when a request waits for this very node.
    pub fn wants_node(&self, node: NodeId) -> bool {
        self.queue.iter().any(|w| matches!(w.parcel.aim, Aim::Node { node: aim, .. } if aim == node))
    }

    /// Since when requests have waited for an owner of `slot`.
    pub fn orphaned_since(&mut self, slot: u16, now: u64) -> u64 {
        *self.orphaned.entry(slot).or_insert(now)
    }

    /// Forgets slots that have an owner again.
    pub fn retain_orphaned(&mut self, still: impl Fn(u16) -> bool) {
        self.orphaned.retain(|slot, _| still(*slot));
    }
}
