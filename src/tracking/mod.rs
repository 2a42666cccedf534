//! CLIENT TRACKING: a session that tracks has connections of its own, one per node, on which tracking is
//! switched on before its first request; what the nodes say there is the client's. Owns the session's side:
//! which lanes are its own, and when the client has to forget everything: when a connection is lost, a slot
//! gets another owner, or a read went where nobody keeps track of it. Must never let stale data stand.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::lane::Lane;
use crate::command::Command;
use crate::error::ProxyError;
use crate::operation::Operation;
use crate::protocol::encode;
use crate::session::push::PushFrame;
use crate::session::state::Resp;
use crate::session::{Session, SessionInner};
use crate::worker::WorkerContext;
use crate::worker::mailbox::{Letter, Process};

pub mod options;
pub mod side;

use options::{TrackingRequest, TrackingState};

/// "Forget everything", as a push.
const FLUSH: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";
/// How every invalidation begins.
const INVALIDATE: &[u8] = b">2\r\n$10\r\ninvalidate\r\n";
/// The same for a RESP2 client that listens to the channel of invalidations.
const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";

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
/// No place is left, or with BCAST not every primary can be reached within `owner-wait`.
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
            let before = session.inner().client.tracking.take();
            let again = before.is_some();
            let place = match before {
                Some(state) => state.place,
                None => TrackingPlace::take(&worker.process.tracking, worker.limits.tracking_clients)
                    .ok_or(ProxyError::TrackingFull)?,
            };
            let bcast = options.bcast;
            // Without RESP3 or a redirection there is nobody to tell: a single Redis tells nobody either.
            let heard = operation.resp == Resp::V3 || options.redirect.is_some();
            let state = TrackingState { options, caching: None, broken_redirect: false, place };
            session.inner().client.tracking = Some(Box::new(state));
            worker.new_lane_set(session, heard);
            session.inner().settle_mode();
            if again {
                worker.flush_tracking(session);
            }
            if bcast && heard {
                for node in operation.primaries().await? {
                    operation.private_lane(node).await.map_err(ProxyError::from)?;
                }
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
            self.new_lane_set(session, false);
            inner.settle_mode();
        }
    }

    /// A push came in on a lane of a session's own.
    pub fn pushed(&self, lane: &Lane, frame: &[u8]) {
        if let Some(session) = self.tracker_of(lane)
            && let Some(keys) = frame.strip_prefix(INVALIDATE)
        {
            self.tell(&session, frame, keys);
        }
    }

    /// The session a private lane belongs to.
    pub fn tracker_of(&self, lane: &Lane) -> Option<Rc<Session>> {
        self.trackers.borrow().get(&lane.key.private).cloned()
    }

    /// Has a tracking client forget everything.
    pub fn flush_tracking(&self, session: &Rc<Session>) {
        self.tell(session, FLUSH, b"_\r\n");
    }

    /// The table changed: a slot may have another owner, whose connection may not have been there.
    pub fn flush_trackers(self: &Rc<Self>) {
        let trackers: Vec<_> = self.trackers.borrow().values().cloned().collect();
        for session in trackers {
            self.flush_tracking(&session);
            let inner = session.inner();
            let bcast = inner.client.tracking.as_ref().is_some_and(|state| state.options.bcast);
            let resp = inner.client.resp;
            drop(inner);
            if bcast {
                let primaries: Vec<_> =
                    self.table.borrow().shards().iter().map(|shard| shard.primary).collect();
                for node in primaries {
                    self.open_private_lane(&session, node, resp);
                }
            }
        }
    }

    fn tell(&self, session: &Rc<Session>, push: &[u8], keys: &[u8]) {
        let redirect = {
            let inner = session.inner();
            inner.client.tracking.as_ref().and_then(|state| state.options.redirect)
        };
        match redirect {
            None => {
                if session.inner().client.resp == Resp::V3 {
                    session.push(&mut PushFrame::new(push, 1));
                }
            }
            Some(id) if id == session.id => session.hear_invalidation(push, keys),
            Some(id) => {
                let Some(at) = self.process.registry.get(&id).map(|at| *at) else {
                    return broken_redirect(session, id);
                };
                if at == self.index {
                    let target = self.sessions.borrow().iter().find(|target| target.id == id).cloned();
                    if let Some(target) = target {
                        target.hear_invalidation(push, keys);
                    }
                } else if let Some(worker) = self.process.workers.get(at) {
                    let letter = Letter::Invalidation(id, push.to_vec());
                    if worker.mailbox.try_send(letter).is_err() {
                        flush_later(&self.process, at, id);
                    }
                }
            }
        }
    }

    /// An invalidation from another worker for one of our clients.
    pub fn hear_invalidation(&self, id: u64, push: &[u8]) {
        let target = self.sessions.borrow().iter().find(|target| target.id == id).cloned();
        if let (Some(target), Some(keys)) = (target, push.strip_prefix(INVALIDATE)) {
            target.hear_invalidation(push, keys);
        }
    }
}

/// The mailbox of the worker that has the client is full: what is lost now, a flush makes good as soon as there
/// is room.
fn flush_later(process: &Arc<Process>, worker: usize, id: u64) {
    let Some(handle) = process.workers.get(worker) else { return };
    let mailbox = handle.mailbox.clone();
    tokio::task::spawn_local(async move {
        // A worker that has ended has no clients.
        let _gone = mailbox.send(Letter::Invalidation(id, FLUSH.to_vec())).await;
    });
}

/// The client that got the invalidations is gone: Redis says so, once.
fn broken_redirect(session: &Rc<Session>, id: u64) {
    let first = {
        let mut inner = session.inner();
        let resp = inner.client.resp;
        let state = inner.client.tracking.as_mut();
        state.is_some_and(|state| !std::mem::replace(&mut state.broken_redirect, true)) && resp == Resp::V3
    };
    if first {
        let push = format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{id}\r\n");
        session.push(&mut PushFrame::new(push.as_bytes(), 1));
    }
}

impl Session {
    /// An invalidation for this client, be it its own or another's. A RESP2 client hears of it only while it is
    /// subscribed to something, as with a single Redis.
    fn hear_invalidation(self: &Rc<Self>, push: &[u8], keys: &[u8]) {
        let (resp, subscribed) = {
            let inner = self.inner();
            (inner.client.resp, inner.client.subscribed)
        };
        match resp {
            Resp::V3 => {
                self.push(&mut PushFrame::new(push, 1));
            }
            Resp::V2 if subscribed => {
                let keys = if keys == b"_\r\n" { b"*-1\r\n" } else { keys };
                self.push(&mut PushFrame::new(&[MESSAGE, keys].concat(), 1));
            }
            Resp::V2 => {}
        }
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

    /// A read may have gone where nobody keeps track of it: once everything is answered the client forgets all.
    pub fn distrust_reads(&mut self) {
        self.flush_after = self.client.tracking.is_some();
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
