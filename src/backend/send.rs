//! From an errand to the lane that serves it, or into the waiting room when there is none now. The one
//! place that decides whether a request is sent, waits or fails for want of a node.

use std::rc::Rc;

use bytes::Bytes;

use super::doubt::{LOOKS, Verdict};
use super::lane::{Lane, LaneKey, LaneState};
use super::reads::must_be_replica;
use super::ticket::{Aim, Beside, Errand, NO_SLOT, Parcel};
use super::waiting::Waiter;
use crate::config::ReadFrom;
use crate::error::ProxyError;
use crate::session::state::Resp;
use crate::session::{Session, SessionInner};
use crate::telemetry::CommandClass;
use crate::topology::node::NodeId;
use crate::topology::{Event, Trigger};
use crate::tracking::caching_request;
use crate::worker::WorkerContext;

/// What stands between a request and its node.
pub(super) enum Way {
    /// Nothing.
    Open(Rc<Lane>),
    /// The node is there but can't be reached (yet); since when, 0 for "never tried".
    Unreachable(u64),
    /// The table names no owner.
    NoOwner,
    /// A round of refreshing is not over.
    Refreshing,
    /// It has to be a replica, and none can be read from now.
    NoReplica,
    /// The redirect it followed was a script's own words: they are the reply.
    Untrue,
}

impl WorkerContext {
    /// Sends a request that has just been read. `fill` writes its `len` bytes; `shared` is the same as
    /// a slice, for large ones.
    #[inline]
    pub fn send_new(
        self: &Rc<Self>,
        inner: &mut SessionInner,
        errand: Errand,
        shared: Option<&Bytes>,
        len: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        if errand.session.read_from.get() != ReadFrom::Primary {
            return self.send_choosing(inner, errand, shared, len, fill);
        }
        self.send_to_owner(inner, errand, shared, len, fill);
    }

    /// The same, to the owner of its slot whatever it is.
    #[inline]
    pub(super) fn send_to_owner(
        self: &Rc<Self>,
        inner: &mut SessionInner,
        mut errand: Errand,
        shared: Option<&Bytes>,
        len: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        if let Some(yes) = inner.caching
            && errand.beside == Beside::Nothing
        {
            errand.beside = Beside::Caching(yes);
        }
        let Some(lane) = self.ready_lane(errand.slot, &errand.session, inner.client.resp) else {
            let bytes = shared.cloned().unwrap_or_else(|| {
                let mut bytes = Vec::with_capacity(len);
                fill(&mut bytes);
                bytes.into()
            });
            return self.park_new(inner, Parcel { errand, bytes, aim: Aim::Table });
        };
        if !errand.command.is_read_only() {
            inner.written.note(errand.slot, lane.key.node, &self.losses);
        }
        self.announce_caching(&lane, &errand);
        if let Err(errand) = lane.send(self, errand, len, shared, fill) {
            let session = Rc::clone(&errand.session);
            inner.fail(&session, &errand, ProxyError::NodeQueueFull);
        }
    }

    /// Says CLIENT CACHING on a lane where nobody else sends: the next request there is the one at hand.
    #[inline]
    fn announce_caching(&self, lane: &Rc<Lane>, errand: &Errand) {
        if let Beside::Caching(yes) = errand.beside
            && lane.key.private > 0
        {
            lane.call(self, caching_request(yes), 1);
        }
    }

    /// The lane a new request of `session` for `slot` takes now, if it is connected.
    #[inline]
    pub fn ready_lane(&self, slot: u16, session: &Session, resp: Resp) -> Option<Rc<Lane>> {
        let node = self.owner(slot, session.id)?;
        let lanes = self.lanes.borrow();
        let lane = match session.lane_set.get() {
            0 => lanes.get(node, resp),
            set => lanes.by_key(&LaneKey::private(node, resp, set)),
        };
        lane.filter(|lane| lane.is_ready()).map(Rc::clone)
    }

    /// Sends a request that has just been read to `node`, whoever owns its slot.
    #[cold]
    pub fn send_to(self: &Rc<Self>, inner: &mut SessionInner, errand: Errand, bytes: Bytes, node: NodeId) {
        self.park_new(inner, Parcel { errand, bytes, aim: Aim::Node { node, asking: false } });
    }

    /// True for a node of the cluster that can be reached, as far as is known.
    pub fn is_usable(&self, node: NodeId) -> bool {
        let table = self.table.borrow();
        table.is_member(node) && table.node(node).is_some_and(|node| node.is_up())
    }

    #[cold]
    pub(super) fn park_new(self: &Rc<Self>, inner: &mut SessionInner, mut parcel: Parcel) {
        let way = self.way(&mut parcel);
        self.note_write(inner, &parcel.errand, &way);
        if let Err((errand, error)) = self.go_or_wait(parcel, way) {
            let session = Rc::clone(&errand.session);
            inner.fail(&session, &errand, error);
        }
    }

    /// Sends a request (again) that is not in any lane. No session may be borrowed.
    pub fn send(self: &Rc<Self>, mut parcel: Parcel) {
        let way = self.way(&mut parcel);
        self.note_write(&mut parcel.errand.session.inner(), &parcel.errand, &way);
        if let Err((errand, error)) = self.go_or_wait(parcel, way) {
            errand.session.fail(&errand, error);
        }
    }

    /// The node that owns `slot`; for a request without keys the first reachable primary from a place
    /// that depends on the client, so that one client stays with one node.
    #[inline]
    pub fn owner(&self, slot: u16, client: u64) -> Option<NodeId> {
        let table = self.table.borrow();
        if slot != NO_SLOT {
            return table.primary(slot);
        }
        let shards = table.shards();
        let start = client as usize % shards.len().max(1);
        let up = |node: NodeId| table.node(node).is_some_and(|n| n.is_up());
        let rotated = || shards.iter().cycle().skip(start).take(shards.len()).map(|shard| shard.primary);
        rotated().find(|&node| up(node)).or_else(|| rotated().next())
    }

    fn way(self: &Rc<Self>, parcel: &mut Parcel) -> Way {
        let node = match &parcel.aim {
            Aim::WithScript(_) if must_be_replica(&parcel.errand) => return self.replica_way(&parcel.errand),
            Aim::Table | Aim::WithScript(_) => self.owner(parcel.errand.slot, parcel.errand.session.id),
            Aim::Dedicated(key) => {
                if let Some(way) = self.dedicated_way(*key, parcel.errand.slot) {
                    return way;
                }
                parcel.aim = Aim::Table;
                return self.way(parcel);
            }
            Aim::Replica => return self.replica_way(&parcel.errand),
            Aim::Node { node, .. } => Some(*node),
            Aim::IfTrue(doubt) if self.topology.round() < doubt.round => return Way::Refreshing,
            Aim::IfTrue(doubt) => match self.judge(&parcel.errand, doubt) {
                Verdict::True(aim) => {
                    parcel.aim = aim;
                    return self.way(parcel);
                }
                Verdict::Open if doubt.looks < LOOKS => {
                    parcel.aim = self.look_again_at(doubt);
                    return Way::Refreshing;
                }
                Verdict::Open | Verdict::Untrue => return Way::Untrue,
            },
        };
        let Some(node) = node else { return Way::NoOwner };
        let set = parcel.errand.session.lane_set.get();
        let Some(lane) = self.lane(node, parcel.errand.resp, set) else { return Way::NoOwner };
        self.way_by(lane)
    }

    /// What stands between a request and the node at the other end of `lane`; has it connect if need be.
    pub(super) fn way_by(self: &Rc<Self>, lane: Rc<Lane>) -> Way {
        if lane.is_ready() {
            return Way::Open(lane);
        }
        if lane.state.get() == LaneState::Idle {
            if lane.node.is_up() {
                super::connect::start(self, &lane);
            } else if lane.down_since.get() == 0 {
                lane.down_since.set(self.clock.now().max(1));
            }
        }
        Way::Unreachable(lane.down_since.get())
    }

    /// A request that did not go straight to its lane goes to one now: WAIT has to know where a write went.
    fn note_write(&self, inner: &mut SessionInner, errand: &Errand, way: &Way) {
        if let Way::Open(lane) = way
            && !errand.command.is_read_only()
        {
            inner.written.add(errand.slot, lane.key.node, &self.losses);
            if let Some(ways) = inner.ways.as_mut().filter(|_| errand.before > 0) {
                ways.went_to(lane.key.node, self.clock.now());
            }
        }
    }

    /// The lane to `node`, made when there is none.
    fn lane(self: &Rc<Self>, node: NodeId, resp: Resp, set: u32) -> Option<Rc<Lane>> {
        let key = LaneKey::private(node, resp, set);
        if let Some(lane) = self.lanes.borrow().by_key(&key) {
            return Some(Rc::clone(lane));
        }
        let listed = self.table.borrow().node(node).cloned();
        let known = listed.or_else(|| self.topology.node(node))?;
        Some(self.lanes.borrow_mut().add(key, known))
    }

    /// The shared lane to `node` if it can be used now; has it connect if need be.
    pub fn usable_lane(self: &Rc<Self>, node: NodeId, resp: Resp) -> Option<Rc<Lane>> {
        match self.way_by(self.lane(node, resp, 0)?) {
            Way::Open(lane) => Some(lane),
            _ => None,
        }
    }

    /// The lane of `session` alone to `node`; has it connect if need be. `None` until it is connected.
    pub fn open_private_lane(
        self: &Rc<Self>,
        session: &Session,
        node: NodeId,
        resp: Resp,
    ) -> Option<Rc<Lane>> {
        match self.way_by(self.lane(node, resp, session.lane_set.get())?) {
            Way::Open(lane) => Some(lane),
            _ => None,
        }
    }

    fn go_or_wait(self: &Rc<Self>, parcel: Parcel, way: Way) -> Result<(), (Errand, ProxyError)> {
        let now = self.clock.now();
        let without_replica = matches!(way, Way::NoReplica);
        let waiting_since = match way {
            Way::Open(lane) => {
                let asking = matches!(parcel.aim, Aim::Node { asking: true, .. });
                if parcel.errand.command.class == CommandClass::Script || parcel.errand.before > 0 {
                    self.load_scripts_of(&lane, &parcel.errand, &parcel.bytes);
                }
                self.announce_caching(&lane, &parcel.errand);
                return lane
                    .resend(self, parcel, asking)
                    .map_err(|errand| (errand, ProxyError::NodeQueueFull));
            }
            Way::Untrue => {
                if let Aim::IfTrue(doubt) = &parcel.aim {
                    parcel.errand.session.deliver(&parcel.errand, &doubt.frame, None);
                }
                return Ok(());
            }
            Way::NoReplica => self.unreadable_since(parcel.errand.slot, now),
            Way::Refreshing | Way::Unreachable(0) => now,
            Way::Unreachable(since) => since,
            Way::NoOwner => {
                self.topology.report(Event::Refresh(Trigger::Uncovered));
                self.waiting.borrow_mut().orphaned_since(parcel.errand.slot, now)
            }
        };
        if now.saturating_sub(waiting_since) >= self.limits.owner_wait {
            return Err((parcel.errand, self.no_owner_error(without_replica)));
        }
        let mut room = self.waiting.borrow_mut();
        // A split request counts with its first part: refused are whole requests.
        let requests = if parcel.errand.part == 0 { self.limits.waiting_requests } else { usize::MAX };
        if !room.has_room(parcel.bytes.len(), requests, self.limits.waiting_bytes) {
            let in_doubt = parcel.is_in_doubt();
            return Err((
                parcel.errand,
                if in_doubt { ProxyError::BadReply } else { ProxyError::WaitQueueFull },
            ));
        }
        room.push(Waiter { parcel, since: now });
        Ok(())
    }

    /// Since when reads of `slot` have waited for a replica.
    fn unreadable_since(&self, slot: u16, now: u64) -> u64 {
        let primary = self.table.borrow().primary(slot);
        let mut room = self.waiting.borrow_mut();
        match primary {
            Some(primary) => room.unreadable_since(primary, slot, now),
            None => room.orphaned_since(slot, now),
        }
    }

    fn no_owner_error(&self, without_replica: bool) -> ProxyError {
        match self.table.borrow().epoch() {
            _ if without_replica => ProxyError::NoReplica,
            0 if self.topology.is_no_cluster() => ProxyError::NoCluster,
            0 => ProxyError::NotReady,
            _ => ProxyError::ClusterDown,
        }
    }

    /// Looks at everything that waits: what has a way goes, what has waited too long fails. No session
    /// or lane may be borrowed.
    pub fn serve_waiting(self: &Rc<Self>) {
        self.changed.notify_waiters();
        if self.waiting.borrow().is_empty() {
            return;
        }
        let now = self.clock.now();
        let everyone = self.waiting.borrow_mut().take_all();
        for Waiter { mut parcel, since } in everyone {
            let errand = &parcel.errand;
            if !errand.session.inner().pending.wants(errand) {
                continue;
            }
            let way = self.way(&mut parcel);
            self.note_write(&mut parcel.errand.session.inner(), &parcel.errand, &way);
            if let Way::Open(_) | Way::Untrue = way {
                if let Err((errand, error)) = self.go_or_wait(parcel, way) {
                    errand.session.fail(&errand, error);
                }
            } else if now.saturating_sub(since) >= self.limits.owner_wait {
                let in_doubt = parcel.is_in_doubt();
                let without_replica = matches!(way, Way::NoReplica);
                let error =
                    if in_doubt { ProxyError::BadReply } else { self.no_owner_error(without_replica) };
                parcel.errand.session.fail(&parcel.errand, error);
            } else {
                self.waiting.borrow_mut().push(Waiter { parcel, since });
            }
        }
    }
}
