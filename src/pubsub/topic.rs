//! One channel, pattern or shard channel that clients of this worker want: who they are, and where it is
//! subscribed. Owns the list of its clients. Must never call into a session while its places are borrowed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use super::echo::{self, Echoes};
use super::leaving::Leaving;
use super::places::Places;
use super::{Kind, Name, glob};
use crate::router::slot::slot_of;
use crate::session::Session;
use crate::topology::node::NodeId;

/// Memory a topic takes beside its name, reckoned.
const OVERHEAD: usize = 512 + echo::BYTES;

/// Something the node owes an answer to.
#[derive(Debug)]
pub enum Ask {
    /// A subscription.
    Join(Rc<Topic>),
    /// The end of one. `told`: the node said that it ended, of its own accord or as the answer.
    Leave {
        /// Of this topic.
        topic: Rc<Topic>,
        /// See above.
        told: bool,
        /// What is to know of its end.
        leaving: Leaving,
    },
    /// A sign of life, asked for at that time of the worker's clock; also marks the end of what was asked before it.
    Ping(u64),
}

/// Why nodes do not take the subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It will be asked for again.
    NotNow,
    /// A node's error, which is for the client: the line without `-` and line end.
    Refused(Box<[u8]>),
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The slot of its name.
    pub slot: u16,
    /// Keyspace events can come to it: it is subscribed at every primary.
    pub wide: bool,
    /// Where it is subscribed.
    pub places: RefCell<Places>,
    /// When a message last came, from any place.
    pub heard: Cell<u64>,
    /// What its clients were told lately.
    pub echoes: RefCell<Echoes>,
    /// A place was confirmed, or refused.
    pub changed: Notify,
    /// What a node last said against it.
    pub trouble: RefCell<Option<Trouble>>,
    /// A node that a redirect named, and the table's epoch then.
    pub detour: Cell<Option<(NodeId, u64)>>,
    /// Redirects since it last stood somewhere.
    pub hops: Cell<u8>,
    /// Not to be asked for before this time of the worker's clock.
    pub retry_at: Cell<u64>,
    /// Among those the hub looks at with every tick.
    pub restless: Cell<bool>,
    /// Nobody wants it any more: what is still said about it means nothing.
    pub gone: Cell<bool>,
    clients: RefCell<Clients>,
    interests: Cell<usize>,
}

/// The clients, each at a place that does not change while it is subscribed.
#[derive(Debug, Default)]
struct Clients {
    places: Vec<Option<Rc<Session>>>,
    free: Vec<u32>,
}

impl Topic {
    /// One that nobody has asked any node for.
    pub fn new(kind: Kind, name: Name) -> Rc<Self> {
        let wide = match kind {
            Kind::Channel => glob::is_event_channel(&name),
            Kind::Pattern => glob::can_match_events(&name),
            Kind::Shard => false,
        };
        Rc::new(Self {
            slot: slot_of(&name),
            kind,
            name,
            wide,
            places: RefCell::default(),
            heard: Cell::new(0),
            echoes: RefCell::default(),
            changed: Notify::new(),
            trouble: RefCell::default(),
            detour: Cell::new(None),
            hops: Cell::new(0),
            retry_at: Cell::new(0),
            restless: Cell::new(false),
            gone: Cell::new(false),
            clients: RefCell::default(),
            interests: Cell::new(0),
        })
    }

    /// Memory it takes, its clients included.
    pub fn bytes(&self) -> usize {
        OVERHEAD + 2 * self.name.len()
    }

    /// Takes a client in; its place.
    pub fn add(&self, session: &Rc<Session>) -> u32 {
        let mut clients = self.clients.borrow_mut();
        let index = clients.free.pop().unwrap_or(clients.places.len() as u32);
        match clients.places.get_mut(index as usize) {
            Some(place) => *place = Some(Rc::clone(session)),
            None => clients.places.push(Some(Rc::clone(session))),
        }
        index
    }

    /// Lets a client go.
    pub fn remove(&self, index: u32) {
        let mut clients = self.clients.borrow_mut();
        if let Some(place) = clients.places.get_mut(index as usize)
            && place.take().is_some()
        {
            clients.free.push(index);
        }
    }

    /// Calls `each` for every client. It must not subscribe or unsubscribe anybody.
    #[inline]
    pub fn each_client(&self, each: impl FnMut(&Rc<Session>)) {
        self.clients.borrow().places.iter().flatten().for_each(each);
    }

    /// How many clients it has.
    pub fn clients(&self) -> usize {
        let clients = self.clients.borrow();
        clients.places.len() - clients.free.len()
    }

    /// Somebody waits for it to stand.
    pub fn begin_interest(&self) {
        self.interests.set(self.interests.get() + 1);
    }

    /// Somebody does not wait any more.
    pub fn end_interest(&self) {
        self.interests.set(self.interests.get().saturating_sub(1));
    }

    /// True while a client has it or waits for it.
    pub fn is_wanted(&self) -> bool {
        self.interests.get() > 0 || self.clients() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::testkit::{block_on, session, worker_with};

    #[test]
    fn clients_keep_their_places() {
        block_on(async {
            let worker = worker_with(|_| {});
            let sessions: Vec<_> = (0..3).map(|_| session(&worker)).collect();
            let topic = Topic::new(Kind::Channel, Name::from_static(b"c"));
            let places: Vec<u32> = sessions.iter().map(|(session, _)| topic.add(session)).collect();
            topic.remove(places[1]);
            topic.remove(places[1]);
            assert_eq!(topic.clients(), 2);
            let mut seen = Vec::new();
            topic.each_client(|session| seen.push(session.id));
            assert_eq!(seen, [sessions[0].0.id, sessions[2].0.id]);
            assert_eq!(topic.add(&sessions[1].0), places[1]);
            places.iter().for_each(|&place| topic.remove(place));
            assert!(!topic.is_wanted());
            topic.begin_interest();
            assert!(topic.is_wanted());
            topic.end_interest();
            assert!(!topic.is_wanted());
        });
    }
}
