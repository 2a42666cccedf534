//! CLIENT TRACKING: a session that tracks has connections of its own, one per node, on which tracking is
//! switched on before its first request; what the nodes say there is the client's (`hear`). Owns the session's
//! side: which lanes are its own, and when the client has to forget everything: when a connection is lost, a slot
//! gets another owner or begins to move, or a read went where nobody keeps track of it. Must never let stale data
//! stand.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::lane::Lane;
use crate::command::Command;
use crate::error::ProxyError;
use crate::operation::Operation;
use crate::protocol::encode;
use crate::session::{Session, SessionInner};
use crate::worker::WorkerContext;

pub mod behind;
pub mod hear;
pub mod options;
pub mod side;

use options::{TrackingRequest, TrackingState};

/// "Forget everything", as a push.
const FLUSH: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// One of the places `tracking-clients-max` grants.
#[derive(Debug)]
pub struct TrackingPlace(Arc<AtomicUsize>);

impl TrackingPlace {
    /// A place, while fewer than `most` are taken.
    pub fn take(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let fits = |now: usize| (now < most).then_some(now + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for TrackingPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// CLIENT TRACKING.
///
/// # Errors
/// No place or no connection is left, or with BCAST not every primary can be reached within `owner-wait`.
pub async fn switch(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let (session, worker) = (&operation.session, &operation.worker);
    let asked = {
        let inner = session.inner();
        let now = inner.client.tracking.as_ref().map(|state| &state.options);
        let exists = |id: u64| worker.process.registry.contains_key(&id);
        options::parse(&operation.request.args(), now, exists)
    };
    let mut out = Vec::new();
    match asked {
        Err(text) => {
            encode::error(&mut out, text);
            return Ok(out);
        }
        Ok(TrackingRequest::Off) => worker.stop_tracking(session, &mut session.inner()),
        Ok(TrackingRequest::On(options)) => {
            if session.lane_set.get() == 0
                && options.is_heard(operation.resp)
                && let Some(refusal) = side::refusal(operation).await?
            {
                return Ok(refusal);
            }
            let before = session.inner().client.tracking.take();
            let again = before.is_some();
            let place = match before {
                Some(state) => state.place,
                None => TrackingPlace::take(&worker.process.tracking, worker.limits.tracking_clients)
                    .ok_or(ProxyError::TrackingFull)?,
            };
            let heard = options.is_heard(operation.resp);
            let waits = options.bcast && heard;
            let state =
                TrackingState { options, caching: None, broken_redirect: false, listens: false, place };
            session.inner().client.tracking = Some(Box::new(state));
            worker.new_lane_set(session, heard);
            session.inner().settle_mode();
            if again {
                worker.flush_tracking(session);
            }
            if waits {
                for node in operation.primaries().await? {
                    operation.private_lane(node).await.map_err(ProxyError::from)?;
                }
            }
            if let Some(state) = &mut session.inner().client.tracking {
                state.listens = true;
            }
        }
    }
    encode::simple(&mut out, "OK");
    Ok(out)
}

impl WorkerContext {
    /// Gives a session lanes of its own (or the shared ones again); those it had are closed.
    fn new_lane_set(&self, session: &Rc<Session>, private: bool) {
        let old = session.lane_set.get();
        if private {
            let next = self.lane_sets.get().wrapping_add(1).max(1);
            self.lane_sets.set(next);
            session.lane_set.set(next);
            self.trackers.borrow_mut().insert(next, Rc::clone(session));
        } else {
            session.lane_set.set(0);
        }
        if old != 0 {
            self.trackers.borrow_mut().remove(&old);
            for lane in self.lanes.borrow().iter().filter(|lane| lane.key.private == old) {
                lane.condemn("its client tracks no more");
            }
        }
    }

    /// Switches tracking off; also when the session ends.
    pub fn stop_tracking(&self, session: &Rc<Session>, inner: &mut SessionInner) {
        if inner.client.tracking.take().is_some() {
            (inner.behind, inner.caching) = (None, None);
            self.new_lane_set(session, false);
            inner.settle_mode();
        }
    }

    /// The client's version has changed: from now on its requests take connections that speak it, and what those
    /// before were told to keep track of is forgotten.
    pub(crate) fn renew_lanes(self: &Rc<Self>, session: &Rc<Session>) {
        let heard = {
            let inner = session.inner();
            let Some(state) = &inner.client.tracking else { return };
            state.options.is_heard(inner.client.resp)
        };
        self.new_lane_set(session, heard);
        // What was asked for meanwhile may have gone elsewhere.
        session.inner().flush_behind();
        self.settle_trackers();
    }

    /// The session a private lane belongs to.
    pub fn tracker_of(&self, lane: &Lane) -> Option<Rc<Session>> {
        self.trackers.borrow().get(&lane.key.private).cloned()
    }

    /// The slot table, or what is on its way, changed: a key may live, or come to live, where nobody knows that
    /// it was read.
    pub fn flush_trackers(&self) {
        for session in self.all_trackers() {
            self.flush_tracking(&session);
            // Replies that were given before may still be on their way.
            session.inner().flush_behind();
        }
    }

    /// Sessions that hear of all keys have a connection to every primary that can be reached.
    pub fn settle_trackers(self: &Rc<Self>) {
        for session in self.all_trackers() {
            let inner = session.inner();
            let resp = inner.client.resp;
            let wants = inner.client.tracking.as_ref().is_some_and(|state| state.options.bcast);
            drop(inner);
            if wants {
                let table = Arc::clone(&self.table.borrow());
                for shard in table.shards() {
                    self.open_private_lane(&session, shard.primary, resp);
                }
            }
        }
    }

    /// A session's own connection stands (again). What happened to the keys of its node until then nobody told a
    /// client that hears of all of them.
    pub fn private_lane_opened(&self, lane: &Lane) {
        let Some(session) = self.tracker_of(lane) else { return };
        let missed = {
            let inner = session.inner();
            inner.client.tracking.as_ref().is_some_and(|state| state.options.bcast && state.listens)
        };
        if missed {
            self.flush_tracking(&session);
        }
    }

    /// A node said ASK of `slot`. True where clients track and this is the first they could know of it: keys that
    /// were not there when they were read may come to life at the other node.
    pub fn is_news_to_trackers(&self, slot: u16) -> bool {
        self.process.tracking.load(Ordering::Relaxed) > 0 && self.asked_slots.borrow_mut().insert(slot)
    }

    fn all_trackers(&self) -> Vec<Rc<Session>> {
        self.trackers.borrow().values().cloned().collect()
    }
}

impl SessionInner {
    /// A request of a tracking session is about to be handled: CLIENT CACHING holds for this one.
    pub fn arm_caching(&mut self, command: &Command) {
        if command.name.starts_with("client|") || command.name == "multi" {
            return;
        }
        if let Some(state) = &mut self.client.tracking {
            self.caching = state.caching.take();
        }
    }
}

/// CLIENT CACHING as a request.
pub fn caching_request(yes: bool) -> &'static [u8] {
    if yes {
        b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n"
    } else {
        b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$2\r\nNO\r\n"
    }
}
