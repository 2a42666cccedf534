//! What nodes say on the connections of a tracking session, on its way to whom it is for: the client itself, or
//! the client it redirects to, on whichever worker. Must never lose an invalidation: what cannot be delivered
//! becomes "forget everything" as soon as it can.

use std::rc::Rc;
use std::sync::Arc;

use super::FLUSH;
use crate::backend::lane::Lane;
use crate::session::Session;
use crate::session::push::PushFrame;
use crate::session::state::Resp;
use crate::worker::WorkerContext;
use crate::worker::mailbox::{Letter, Process};

/// How every invalidation begins.
const INVALIDATE: &[u8] = b">2\r\n$10\r\ninvalidate\r\n";
/// The same for a RESP2 client that listens to the channel of invalidations.
const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";

impl WorkerContext {
    /// A push came in on a lane of a session's own.
    pub fn pushed(&self, lane: &Lane, frame: &[u8]) {
        if let Some(session) = self.tracker_of(lane)
            && frame.starts_with(INVALIDATE)
        {
            self.tell(&session, frame);
            session.inner().repeat_behind_values(frame);
        }
    }

    /// Has a tracking client forget everything.
    pub fn flush_tracking(&self, session: &Rc<Session>) {
        self.tell(session, FLUSH);
        session.inner().repeat_behind_values(FLUSH);
    }

    /// Gives an invalidation to whom the session wants it given.
    pub(super) fn tell(&self, session: &Rc<Session>, push: &[u8]) {
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
            Some(id) if id == session.id => session.hear_invalidation(push),
            Some(id) => {
                let Some(at) = self.process.registry.get(&id).map(|at| *at) else {
                    return broken_redirect(session, id);
                };
                if at == self.index {
                    self.hear_invalidation(id, push);
                } else if let Some(worker) = self.process.workers.get(at) {
                    let letter = Letter::Invalidation(id, push.to_vec());
                    if worker.mailbox.try_send(letter).is_err() {
                        flush_later(&self.process, at, id);
                    }
                }
            }
        }
    }

    /// An invalidation for one of our clients, perhaps from another worker.
    pub fn hear_invalidation(&self, id: u64, push: &[u8]) {
        let target = self.sessions.borrow().iter().find(|target| target.id == id).cloned();
        if let Some(target) = target {
            target.hear_invalidation(push);
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

/// The client that got the invalidations is gone: the one that tracks is told so instead of each of them.
fn broken_redirect(session: &Rc<Session>, id: u64) {
    let resp = {
        let mut inner = session.inner();
        if let Some(state) = &mut inner.client.tracking {
            state.broken_redirect = true;
        }
        inner.client.resp
    };
    if resp == Resp::V3 {
        let push = format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{id}\r\n");
        session.push(&mut PushFrame::new(push.as_bytes(), 1));
    }
}

impl Session {
    /// An invalidation for this client, be it its own or another's. A RESP2 client hears of it only while it is
    /// subscribed to something, as with a single Redis.
    fn hear_invalidation(self: &Rc<Self>, push: &[u8]) {
        let (resp, subscribed) = {
            let inner = self.inner();
            (inner.client.resp, inner.client.subscribed)
        };
        match resp {
            Resp::V3 => {
                self.push(&mut PushFrame::new(push, 1));
            }
            Resp::V2 if subscribed => {
                let Some(keys) = push.strip_prefix(INVALIDATE) else { return };
                let keys = if keys == b"_\r\n" { b"*-1\r\n" } else { keys };
                self.push(&mut PushFrame::new(&[MESSAGE, keys].concat(), 1));
            }
            Resp::V2 => {}
        }
    }
}
