//! Requests of sessions whose reads may go to replicas: which node a read goes to, and what a write waits for.
//! Nobody else's requests come here. A replica that cannot answer costs its read a way more, never a wrong or a
//! lost reply: what it sends away goes to the primary, or, with `replica-only`, to another replica.

use std::cmp::Reverse;
use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::lane::{Lane, LaneKey};
use super::send::Way;
use super::ticket::{Aim, Errand, NO_SLOT, Parcel};
use crate::config::ReadFrom;
use crate::error::ProxyError;
use crate::session::SessionInner;
use crate::session::state::Resp;
use crate::telemetry::{CommandClass, ReadRole};
use crate::topology::node::{Node, NodeId};
use crate::worker::WorkerContext;

/// A node is as near as the nearest if it takes at most a quarter and this many microseconds longer to answer.
const AS_NEAR: u32 = 200;

/// Where a read goes.
enum Choice {
    /// Over this lane to a replica.
    Replica(Rc<Lane>),
    /// To the primary, for this reason.
    Primary(ReadRole),
    /// To a replica, once there is one that can be used.
    Later,
    /// To a replica, behind a read of this session that waits for one.
    Behind,
}

/// A node that may be read from.
struct Candidate<'a> {
    node: &'a Node,
    is_primary: bool,
}

impl WorkerContext {
    /// As `send_new`, for a session whose reads may go to replicas.
    #[cold]
    pub(super) fn send_choosing(
        self: &Rc<Self>,
        inner: &mut SessionInner,
        errand: Errand,
        shared: Option<&Bytes>,
        len: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        let bytes = |fill: &mut dyn FnMut(&mut Vec<u8>)| {
            shared.cloned().unwrap_or_else(|| {
                let mut bytes = Vec::with_capacity(len);
                fill(&mut bytes);
                bytes.into()
            })
        };
        let mut fill = Some(fill);
        let mut once = |run: &mut Vec<u8>| {
            if let Some(fill) = fill.take() {
                fill(run);
            }
        };
        if !errand.command.is_read_only() {
            if inner.must_wait_for_reads(&errand) {
                let session = Rc::clone(&errand.session);
                let parcel = Parcel { errand, bytes: bytes(&mut once), aim: Aim::Table };
                inner.hold(parcel, self.clock.now(), self);
                return self.advance_later(&session);
            }
            return self.send_to_owner(inner, errand, shared, len, once);
        }
        if !self.may_read_elsewhere(inner, &errand) {
            return self.send_to_owner(inner, errand, shared, len, once);
        }
        match self.choose(inner, &errand) {
            Choice::Primary(role) => {
                self.counters.read_from(role);
                self.send_to_owner(inner, errand, shared, len, once);
            }
            Choice::Replica(lane) => {
                self.counters.read_from(ReadRole::Replica);
                self.goes_away(inner, &errand);
                self.sees(inner, &errand, &lane);
                if errand.command.class == CommandClass::Script {
                    let request = bytes(&mut once);
                    self.load_scripts_of(&lane, &errand, &request);
                    return self.send_over(inner, &lane, errand, Some(&request), (len, |_: &mut Vec<u8>| {}));
                }
                self.send_over(inner, &lane, errand, shared, (len, once));
            }
            Choice::Later => {
                self.counters.read_from(ReadRole::Replica);
                self.goes_away(inner, &errand);
                self.park_new(inner, Parcel { errand, bytes: bytes(&mut once), aim: Aim::Replica });
            }
            Choice::Behind => {
                self.counters.read_from(ReadRole::Replica);
                self.goes_away(inner, &errand);
                let session = Rc::clone(&errand.session);
                inner.hold(
                    Parcel { errand, bytes: bytes(&mut once), aim: Aim::Replica },
                    self.clock.now(),
                    self,
                );
                self.advance_later(&session);
            }
        }
    }

    fn send_over(
        &self,
        inner: &mut SessionInner,
        lane: &Rc<Lane>,
        errand: Errand,
        shared: Option<&Bytes>,
        (len, fill): (usize, impl FnOnce(&mut Vec<u8>)),
    ) {
        if let Err(errand) = lane.send(self, errand, len, shared, fill) {
            let session = Rc::clone(&errand.session);
            inner.fail(&session, &errand, ProxyError::NodeQueueFull);
        }
    }

    fn goes_away(&self, inner: &mut SessionInner, errand: &Errand) {
        if let Some(reads) = &mut inner.reads {
            reads.goes_away(errand.slot);
        }
    }

    /// A large read, which goes alone; the aim for it, where that is a replica.
    pub(super) fn aim_of_large(&self, inner: &mut SessionInner, errand: &Errand) -> Option<Aim> {
        let mode = errand.session.read_from.get();
        if mode == ReadFrom::Primary {
            return None;
        }
        if !errand.command.is_read_only() {
            inner.must_wait_for_reads(errand);
            return None;
        }
        (mode == ReadFrom::ReplicaOnly && self.may_read_elsewhere(inner, errand)).then_some(Aim::Replica)
    }

    /// True for a read that a replica can answer and whose session does not need the primary's word: what WATCH is
    /// about to guard, and what a node tracks, is read where it is written.
    fn may_read_elsewhere(&self, inner: &SessionInner, errand: &Errand) -> bool {
        errand.command.reads_at_replicas
            && errand.slot != NO_SLOT
            && errand.session.lane_set.get() == 0
            && inner.watch.is_none()
            && errand.before == 0
    }

    /// The session is about to see what the replica at the end of `lane` is proven to have, at least.
    fn sees(&self, inner: &mut SessionInner, errand: &Errand, lane: &Lane) {
        if let (Some(reads), Some(at)) = (&mut inner.reads, lane.node.as_of())
            && let Some(primary) = self.table.borrow().primary(errand.slot)
        {
            reads.sees(primary, at);
        }
    }

    fn choose(self: &Rc<Self>, inner: &mut SessionInner, errand: &Errand) -> Choice {
        let (mode, resp) = (errand.session.read_from.get(), errand.resp);
        let alone = inner.pending.open() == 1;
        if mode == ReadFrom::ReplicaOnly
            && !alone
            && self.waiting.borrow().waits(errand.session.id, errand.slot)
        {
            return Choice::Behind;
        }
        if mode == ReadFrom::PreferPrimary && self.primary_is_fine(errand.slot, resp) {
            return Choice::Primary(ReadRole::Primary);
        }
        let floor = match inner.read_floor(errand, self.clock.process_ms()) {
            _ if mode == ReadFrom::ReplicaOnly => 0,
            Some(floor) => floor,
            None => return Choice::Primary(ReadRole::OwnWrite),
        };
        let with_primary = mode == ReadFrom::Nearest;
        let seen = match self.table.borrow().primary(errand.slot) {
            Some(primary) if mode != ReadFrom::ReplicaOnly => {
                inner.reads.as_ref().map_or(0, |reads| reads.seen(primary))
            }
            _ => 0,
        };
        let wrote = floor > seen;
        let floor = floor.max(seen);
        match self.pick(errand, floor, with_primary) {
            Pick::Replica(way) => match way {
                Way::Open(lane) => Choice::Replica(lane),
                _ if mode == ReadFrom::ReplicaOnly => Choice::Later,
                _ => Choice::Primary(ReadRole::Connecting),
            },
            Pick::Primary => Choice::Primary(ReadRole::Primary),
            Pick::Nobody if mode == ReadFrom::ReplicaOnly => Choice::Later,
            Pick::Nobody if wrote && !matches!(self.pick(errand, 0, false), Pick::Nobody) => {
                Choice::Primary(ReadRole::OwnWrite)
            }
            Pick::Nobody => Choice::Primary(ReadRole::Unusable),
        }
    }

    /// The way of a request that must go to a replica.
    pub(super) fn replica_way(self: &Rc<Self>, errand: &Errand) -> Way {
        match self.pick(errand, 0, false) {
            Pick::Replica(way) => way,
            Pick::Primary | Pick::Nobody => Way::NoReplica,
        }
    }

    /// Where a read that came back from a replica goes.
    pub fn aim_again(&self, lane: &Lane, errand: &Errand) -> Aim {
        match errand.session.read_from.get() {
            ReadFrom::ReplicaOnly if lane.key.read_only => Aim::Replica,
            _ => Aim::Table,
        }
    }

    /// Where a learned command goes when a node has told its keys: a read to a replica only if it must not go
    /// elsewhere.
    pub fn aim_of_told(&self, errand: &Errand) -> Aim {
        if must_be_replica(errand) { Aim::Replica } else { Aim::Table }
    }

    /// False while the primary of `slot` is known not to be reachable.
    fn primary_is_fine(&self, slot: u16, resp: Resp) -> bool {
        let table = self.table.borrow();
        let Some(node) = table.primary(slot) else { return false };
        let lanes = self.lanes.borrow();
        let tried = lanes.get(node, resp);
        table.node(node).is_some_and(|node| node.is_up())
            && tried.is_none_or(|lane| lane.is_ready() || lane.down_since.get() == 0)
    }

    /// The node to read `errand`'s slot at: a replica that is proven to have its primary's data as of `floor` (and
    /// of no longer ago than `replica-max-lag`), or the primary, where that takes part. Of those equally good each
    /// client has its own, and stays with it.
    fn pick(self: &Rc<Self>, errand: &Errand, floor: u64, with_primary: bool) -> Pick {
        let table = self.table.borrow();
        let replicas = table.replicas(errand.slot).iter().filter_map(|id| table.node(*id));
        let replicas = replicas.filter(|node| self.is_fit(node, floor));
        let replicas = replicas.map(|node| Candidate { node, is_primary: false });
        let primary = table.primary(errand.slot).filter(|_| with_primary).and_then(|id| table.node(id));
        let primary = primary.filter(|node| node.is_up()).map(|node| Candidate { node, is_primary: true });
        let mut candidates: SmallVec<[Candidate<'_>; 4]> = replicas.chain(primary).collect();
        keep_best(&mut candidates, with_primary);
        let mut ids: SmallVec<[(NodeId, bool); 4]> =
            candidates.iter().map(|candidate| (candidate.node.id, candidate.is_primary)).collect();
        drop(candidates);
        drop(table);
        ids.sort_unstable_by_key(|(node, _)| Reverse(rank(errand.session.id, *node)));
        let mut coming = None;
        for (node, is_primary) in &ids {
            if *is_primary {
                return Pick::Primary;
            }
            let Some(lane) = self.reading_lane(*node, errand.resp) else { continue };
            match self.way_by(lane) {
                Way::Open(lane) => return Pick::Replica(Way::Open(lane)),
                // It was tried, and did not come about.
                Way::Unreachable(since) if since > 0 => {}
                way => coming = Some(way),
            }
        }
        coming.map_or(Pick::Nobody, Pick::Replica)
    }

    /// True for a replica that is proven to have its primary's data as of `floor`, and of no longer ago than
    /// `replica-max-lag`.
    pub(super) fn is_fit(&self, node: &Node, floor: u64) -> bool {
        let oldest = self.clock.process_ms().saturating_sub(self.limits.replica_lag_ms).max(floor);
        node.is_up() && node.as_of().is_some_and(|at| at >= oldest)
    }

    /// The lane for reads at a replica, made when there is none.
    fn reading_lane(&self, node: NodeId, resp: Resp) -> Option<Rc<Lane>> {
        if let Some(lane) = self.lanes.borrow().reading(node, resp) {
            return Some(Rc::clone(lane));
        }
        let known = self.table.borrow().node(node).cloned()?;
        Some(self.lanes.borrow_mut().add(LaneKey::reading(node, resp), known))
    }
}

/// True for a read that goes to replicas or nowhere.
pub(super) fn must_be_replica(errand: &Errand) -> bool {
    errand.session.read_from.get() == ReadFrom::ReplicaOnly
        && errand.session.lane_set.get() == 0
        && errand.command.reads_at_replicas
        && errand.slot != NO_SLOT
}

/// What came of looking for a node to read from.
enum Pick {
    /// A replica, with its lane or what is in the way of it.
    Replica(Way),
    Primary,
    Nobody,
}

/// How much a client likes a node: a number that looks drawn by lot for each pair. The node it likes best is the same
/// whichever others there are, so one that comes or goes moves only clients of its own.
fn rank(client: u64, node: NodeId) -> u64 {
    let mut mixed = client.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (u64::from(node.0) + 1).rotate_left(32);
    for _ in 0..2 {
        mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    }
    mixed ^ (mixed >> 32)
}

/// Leaves the candidates in our own zone, if there are any; and where the nearest is asked for and zones do not
/// tell, those that answer about as soon as the soonest.
fn keep_best(candidates: &mut SmallVec<[Candidate<'_>; 4]>, nearest: bool) {
    let any_near = candidates.iter().any(|candidate| candidate.node.is_near());
    if any_near {
        candidates.retain(|candidate| candidate.node.is_near());
    } else if nearest {
        let soonest = candidates.iter().map(|candidate| candidate.node.distance()).min().unwrap_or(0);
        let bound = soonest.saturating_add(soonest / 4).saturating_add(AS_NEAR);
        candidates.retain(|candidate| candidate.node.distance() <= bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::node::NodeAddr;

    /// Which of nodes with these distances, in our zone or not, are left.
    fn left(nodes: &[(u32, bool)], nearest: bool) -> Vec<u16> {
        let make = |(id, &(distance, near)): (usize, &(u32, bool))| {
            let node = Node::new(NodeId(id as u16), NodeAddr { host: "h".to_owned(), port: 1 });
            node.set_distance(distance);
            node.set_near(near);
            node
        };
        let nodes: Vec<Node> = nodes.iter().enumerate().map(make).collect();
        let candidate = |node| Candidate { node, is_primary: false };
        let mut candidates: SmallVec<[Candidate<'_>; 4]> = nodes.iter().map(candidate).collect();
        keep_best(&mut candidates, nearest);
        candidates.iter().map(|candidate| candidate.node.id.0).collect()
    }

    #[test]
    fn clients_are_spread_and_a_node_that_leaves_moves_only_its_own() {
        let best = |client: u64, nodes: &[u16]| {
            let nodes = nodes.iter().map(|node| NodeId(*node));
            nodes.max_by_key(|node| rank(client, *node)).map(|node| node.0)
        };
        let mut counts = [0; 3];
        for client in (0..3_000).map(|n| (7 << 40) + n) {
            let all = best(client, &[4, 5, 6]);
            counts[usize::from(all.unwrap_or(0)) - 4] += 1;
            for gone in [4, 5, 6] {
                let left: Vec<u16> = [4, 5, 6].into_iter().filter(|node| *node != gone).collect();
                assert!(all == Some(gone) || best(client, &left) == all, "{client} without {gone}");
            }
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }

    #[test]
    fn our_zone_comes_before_distance_and_distance_counts_for_the_nearest_only() {
        let apart = [(500, false), (825, false), (826, false), (90_000, false)];
        assert_eq!(left(&apart, true), [0, 1], "a quarter and a little more is as near");
        assert_eq!(left(&apart, false), [0, 1, 2, 3]);
        let zoned = [(500, false), (90_000, true), (400, true)];
        assert_eq!([left(&zoned, true), left(&zoned, false)], [[1, 2], [1, 2]]);
        assert_eq!(left(&[(0, false), (150, false)], true), [0, 1], "not measured yet");
        assert!(left(&[], true).is_empty());
    }
}
