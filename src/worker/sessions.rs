//! The clients of one worker, by place. A place is used again after its client is gone; the id tells
//! whether it is still the same client.

use std::rc::Rc;

use super::WorkerContext;
use crate::session::Session;
use crate::telemetry::CloseReason;

/// The list.
#[derive(Debug, Default)]
pub struct Sessions {
    places: Vec<Option<Rc<Session>>>,
    free: Vec<u32>,
}

impl Sessions {
    /// Takes a session in and tells it its place.
    pub fn add(&mut self, session: &Rc<Session>) {
        let index = self.free.pop().unwrap_or(self.places.len() as u32);
        if let Some(place) = self.places.get_mut(index as usize) {
            *place = Some(Rc::clone(session));
        } else {
            self.places.push(Some(Rc::clone(session)));
        }
        session.index.set(index);
    }

    /// The session at a place, if it is still the one with this id.
    pub fn get(&self, index: u32, id: u64) -> Option<Rc<Session>> {
        self.places.get(index as usize)?.as_ref().filter(|session| session.id == id).map(Rc::clone)
    }

    /// Lets a session go; false when it had gone already.
    pub fn remove(&mut self, session: &Session) -> bool {
        let index = session.index.get();
        match self.places.get_mut(index as usize) {
            Some(place) if place.as_ref().is_some_and(|s| s.id == session.id) => {
                *place = None;
                self.free.push(index);
                true
            }
            _ => false,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// True without clients.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Session>> {
        self.places.iter().flatten()
    }
}

impl WorkerContext {
    /// Ends a session: what it still owes its client is dropped, late replies to it are swallowed.
    pub fn close_session(&self, session: &Rc<Session>, reason: CloseReason) {
        if !self.sessions.borrow_mut().remove(session) {
            return;
        }
        let mut inner = session.inner();
        let owed = inner.pending.len();
        inner.pending.clear();
        inner.release_order(self);
        inner.drop_operation();
        inner.unsubscribe_all(self);
        self.stop_tracking(session, &mut inner);
        inner.transaction = None;
        inner.watch = None;
        inner.monitor = None;
        inner.writer = None;
        inner.waker = None;
        inner.partial = None;
        inner.out = Default::default();
        inner.charge(&self.budget);
        self.counters.in_flight(-(owed as i64));
        self.counters.client_closed();
        self.counters.closed(reason);
        self.process.client_closed(self.index, session.id);
    }
}
