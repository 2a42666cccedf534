//! Dedicated connections: one request at a time, so that one that takes long on the wire holds up nobody
//! else's. A worker's shared lane to a node carries everything smaller. Bounded by
//! `dedicated-max-per-node`; kept for a while after use, because large requests seldom come alone.

use std::rc::Rc;

use bytes::Bytes;

use super::lane::{Lane, LaneKey, LaneState};
use super::permit::Permit;
use super::send::Way;
use super::ticket::{Aim, Errand, NO_SLOT, Parcel};
use crate::error::ProxyError;
use crate::session::SessionInner;
use crate::session::state::Resp;
use crate::topology::node::NodeId;
use crate::worker::WorkerContext;

/// How long an idle dedicated connection is kept, in microseconds.
const KEPT: u64 = 10_000_000;

impl WorkerContext {
    /// Sends a large request that has just been read on a connection of its own. The session has nothing
    /// else in flight, and takes no further request before this one is answered: two connections keep no
    /// order between them.
    pub fn send_dedicated(self: &Rc<Self>, inner: &mut SessionInner, errand: Errand, bytes: Bytes) {
        if let Some(aim) = self.aim_of_large(inner, &errand) {
            return self.park_new(inner, Parcel { errand, bytes, aim });
        }
        let aim = match self.owner(errand.slot, errand.session.id) {
            None => Aim::Table,
            Some(node) => match self.free_dedicated(node, errand.resp) {
                Some(key) => Aim::Dedicated(key),
                None => {
                    let session = Rc::clone(&errand.session);
                    return inner.fail(&session, &errand, ProxyError::DedicatedFull);
                }
            },
        };
        self.park_new(inner, Parcel { errand, bytes, aim });
    }

    /// Sends the parts of a large request that has just been read: those of a node on one connection of their
    /// own. The rules of [`Self::send_dedicated`] hold. Without a free connection to every node nothing is sent.
    pub fn send_parts_dedicated(self: &Rc<Self>, inner: &mut SessionInner, parts: Vec<(Errand, Bytes)>) {
        let mut ways: Vec<(NodeId, Option<LaneKey>)> = Vec::new();
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(errand, bytes)| (self.aim_of_large(inner, &errand), errand, bytes))
            .collect();
        for (_, errand, _) in parts.iter().filter(|(aim, ..)| aim.is_none()) {
            if let Some(node) = self.owner(errand.slot, errand.session.id)
                && !ways.iter().any(|(known, _)| *known == node)
            {
                ways.push((node, self.free_dedicated(node, errand.resp)));
            }
        }
        let full = ways.iter().any(|(_, key)| key.is_none());
        for (aim, errand, bytes) in parts {
            if full {
                let session = Rc::clone(&errand.session);
                inner.fail(&session, &errand, ProxyError::DedicatedFull);
                continue;
            }
            let node = self.owner(errand.slot, errand.session.id);
            let key = ways.iter().find_map(|(known, key)| key.filter(|_| Some(*known) == node));
            let aim = aim.unwrap_or_else(|| key.map_or(Aim::Table, Aim::Dedicated));
            self.park_new(inner, Parcel { errand, bytes, aim });
        }
    }

    /// A dedicated connection to `node` that nobody uses: an open one if there is one. `None` at the bound.
    fn free_dedicated(&self, node: NodeId, resp: Resp) -> Option<LaneKey> {
        let mut lanes = self.lanes.borrow_mut();
        let mut highest = 0;
        let mut free: Option<&Rc<Lane>> = None;
        for lane in lanes.dedicated(node) {
            highest = highest.max(lane.key.dedicated);
            if lane.key.resp == resp && self.is_free(lane) && free.is_none_or(|best| !best.is_ready()) {
                free = Some(lane);
            }
        }
        if let Some(lane) = free {
            if let Some(permit) = &*lane.permit.borrow() {
                permit.set_idle(false);
            }
            return Some(lane.key);
        }
        let permit = self.dedicated_place(node)?;
        let known = self.table.borrow().node(node).cloned()?;
        let key = LaneKey { dedicated: highest.checked_add(1)?, ..LaneKey::shared(node, resp) };
        let lane = lanes.add(key, known);
        *lane.permit.borrow_mut() = Some(permit);
        Some(key)
    }

    fn dedicated_place(&self, node: NodeId) -> Option<Permit> {
        let most = self.limits.dedicated_connections;
        let free = || self.process.dedicated.take(node, most);
        free().or_else(|| if self.drop_idle_line(node) { free() } else { None }).or_else(|| {
            // Not this time, but for the next one.
            self.process.dedicated.make_room(node);
            None
        })
    }

    fn is_free(&self, lane: &Lane) -> bool {
        lane.inner().tickets.is_empty() && !self.waiting.borrow().wants_dedicated(lane.key)
    }

    /// The way over a dedicated connection; `None` when the slot has moved to another node meanwhile.
    pub(super) fn dedicated_way(self: &Rc<Self>, key: LaneKey, slot: u16) -> Option<Way> {
        if slot != NO_SLOT && self.table.borrow().primary(slot) != Some(key.node) {
            return None;
        }
        let lane = self.lanes.borrow().by_key(&key).map(Rc::clone)?;
        Some(self.way_by(lane))
    }

    /// Closes dedicated connections that nobody has used for a while. Once per tick.
    pub fn close_idle_dedicated(&self) {
        let now = self.clock.now();
        for lane in self.lanes.borrow().iter().filter(|lane| lane.key.dedicated > 0) {
            if !self.is_free(lane) {
                lane.idle_since.set(0);
                continue;
            }
            if lane.idle_since.get() == 0 {
                lane.idle_since.set(now.max(1));
                if let Some(permit) = &*lane.permit.borrow() {
                    permit.set_idle(true);
                }
            }
            let wanted = self.process.dedicated.wants_room(lane.key.node);
            if wanted || now.saturating_sub(lane.idle_since.get()) >= KEPT {
                lane.condemn("not used any more");
            }
        }
        let gone = |lane: &Lane| lane.state.get() == LaneState::Idle && lane.idle_since.get() > 0;
        let trackers = self.trackers.borrow();
        let orphan = |lane: &Lane| {
            lane.key.private > 0
                && !trackers.contains_key(&lane.key.private)
                && lane.state.get() == LaneState::Idle
        };
        self.lanes.borrow_mut().retain(|lane| !orphan(lane) && (lane.key.dedicated == 0 || !gone(lane)));
    }
}
