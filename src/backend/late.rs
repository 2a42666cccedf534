//! Replicas that do not answer in time, and shards without a replica that can be read from. Must never do a read a
//! second time while its node may still be at it, nor touch one whose reply is on its way.

use std::rc::Rc;

use super::lane::{Lane, LaneInner};
use super::ticket::{Errand, Parcel};
use crate::telemetry::ReadRole;
use crate::worker::WorkerContext;

/// What waits at a replica that does not answer PINGs goes elsewhere when it owes a reply for so long, in
/// microseconds.
const LATE: u64 = 1_000_000;
/// Requests that were queued so close together may have come to the node as one, in microseconds: any of them may be
/// the one that takes long.
const TOGETHER: u64 = 1_000;

impl WorkerContext {
    /// A replica that does not answer PINGs in time is frozen, or busy with one of the reads at the front of its
    /// lanes. That is not done a second time elsewhere while the node counts as up; what waits behind it is read
    /// elsewhere, and the replica's own replies are swallowed should they come. Once per tick.
    pub fn pass_by_late_replicas(self: &Rc<Self>) {
        let now = self.clock.now();
        let late = |lane: &&Rc<Lane>| lane.key.read_only && lane.is_ready() && lane.node.is_late();
        let lanes: Vec<Rc<Lane>> = self.lanes.borrow().iter().filter(late).map(Rc::clone).collect();
        for lane in lanes {
            for parcel in self.waiting_behind(&lane, now) {
                if parcel.errand.session.inner().pending.wants(&parcel.errand) {
                    self.counters.read_from(ReadRole::Again);
                    self.send(parcel);
                }
            }
        }
    }

    /// Takes what waits on a lane behind a reply that is late.
    fn waiting_behind(&self, lane: &Lane, now: u64) -> Vec<Parcel> {
        let mut inner = lane.inner();
        let LaneInner { tickets, send, .. } = &mut *inner;
        let Some(front) = tickets.front().map(|ticket| ticket.queued) else { return Vec::new() };
        if now.saturating_sub(front) < LATE {
            return Vec::new();
        }
        let behind = tickets.iter_mut().skip_while(|ticket| ticket.queued <= front + TOGETHER);
        let mut parcels = Vec::new();
        for ticket in behind {
            let often = |errand: &Errand| usize::from(errand.redirects) >= self.limits.redirects;
            if ticket.errand().is_none_or(often) {
                continue;
            }
            if let Some(mut errand) = ticket.take() {
                errand.redirects += 1;
                let (aim, bytes) = (self.aim_again(lane, &errand), send.request(ticket.start, ticket.len));
                parcels.push(Parcel { errand, bytes, aim });
            }
        }
        parcels
    }

    /// Forgets that shards had no replica to read from, where they have again. Once per tick.
    pub fn forget_readable(&self) {
        self.waiting.borrow_mut().retain_unreadable(|slot| {
            let table = self.table.borrow();
            let mut replicas = table.replicas(slot).iter().filter_map(|id| table.node(*id));
            !replicas.any(|node| self.is_fit(node, 0))
        });
    }
}
