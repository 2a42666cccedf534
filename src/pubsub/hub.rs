//! The hub of a worker: all its topics and the links to the nodes; keeps every topic where it belongs. Owns
//! both. Must never hold a borrow of its lists while a topic, link or session is called into.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use smallvec::{SmallVec, smallvec};

use super::events::Doubtful;
use super::leaving::{Ends, Leaving};
use super::link::Link;
use super::places::{Standing, State, View};
use super::topic::{Topic, Trouble};
use super::{Kind, Name, events};
use crate::topology::node::NodeId;
use crate::worker::WorkerContext;

/// The topics and links of a worker.
#[derive(Debug, Default)]
pub struct Hub {
    topics: RefCell<[HashMap<Name, Rc<Topic>>; 3]>,
    links: RefCell<HashMap<NodeId, Rc<Link>>>,
    restless: RefCell<Vec<Rc<Topic>>>,
    /// Subscriptions of clients, and those they wait for.
    held: Cell<usize>,
    bytes: Cell<usize>,
    /// What places depend on, as last seen: the table's epoch, and which of its nodes are up (a hash).
    seen: Cell<(u64, u64)>,
    /// Events whose key seems to be another node's.
    pub(super) doubtful: RefCell<Doubtful>,
    /// `notify-keyspace-events` is being looked at.
    pub(super) looking: Cell<bool>,
    /// It is to be looked at, again if it is now.
    pub(super) look_again: Cell<bool>,
    /// That it can't be was logged.
    pub(super) complained: Cell<bool>,
}

impl Hub {
    /// The topic of that name.
    #[inline]
    pub fn topic(&self, kind: Kind, name: &[u8]) -> Option<Rc<Topic>> {
        self.topics.borrow().get(kind.index())?.get(name).map(Rc::clone)
    }

    /// Subscriptions of clients, and those they wait for.
    pub fn held(&self) -> usize {
        self.held.get()
    }

    pub(super) fn hold(&self, more: isize) {
        self.held.set(self.held.get().saturating_add_signed(more));
    }

    /// Memory topics, links and doubtful events take.
    pub fn bytes(&self) -> usize {
        let links: usize = self.links.borrow().values().map(|link| link.bytes()).sum();
        self.bytes.get() + links + self.doubtful.borrow().bytes()
    }

    /// How many different channels, patterns and shard channels its clients have.
    pub fn topics(&self) -> usize {
        self.topics.borrow().iter().map(HashMap::len).sum()
    }

    /// True while somebody may get keyspace events.
    pub(super) fn has_wide(&self) -> bool {
        self.topics.borrow().iter().any(|topics| topics.values().any(|topic| topic.wide))
    }

    fn all(&self) -> Vec<Rc<Topic>> {
        self.topics.borrow().iter().flat_map(HashMap::values).map(Rc::clone).collect()
    }

    fn link(&self, node: NodeId) -> Option<Rc<Link>> {
        self.links.borrow().get(&node).map(Rc::clone)
    }

    fn rest_not(&self, topic: &Rc<Topic>) {
        if !topic.restless.replace(true) {
            self.restless.borrow_mut().push(Rc::clone(topic));
        }
    }
}

/// The topic of that name, made where there is none. The caller must make somebody want it.
pub(super) fn make(worker: &Rc<WorkerContext>, kind: Kind, name: &[u8]) -> Rc<Topic> {
    if let Some(topic) = worker.hub.topic(kind, name) {
        return topic;
    }
    let name = Name::copy_from_slice(name);
    let topic = Topic::new(kind, name.clone());
    worker.hub.bytes.set(worker.hub.bytes.get() + topic.bytes());
    if let Some(topics) = worker.hub.topics.borrow_mut().get_mut(kind.index()) {
        topics.insert(name, Rc::clone(&topic));
    }
    settle(worker, &topic);
    if topic.wide {
        events::look(worker);
    }
    topic
}

/// Gives a topic up when nobody wants it any more; `ends` knows when nodes have, too.
pub(super) fn release(worker: &WorkerContext, topic: &Rc<Topic>, ends: &Rc<Ends>) {
    if topic.is_wanted() || topic.gone.replace(true) {
        return;
    }
    let hub = &worker.hub;
    hub.bytes.set(hub.bytes.get().saturating_sub(topic.bytes()));
    if let Some(topics) = hub.topics.borrow_mut().get_mut(topic.kind.index()) {
        topics.remove(&topic.name);
    }
    let nodes: SmallVec<[NodeId; 4]> = topic.places.borrow().nodes().collect();
    for node in nodes {
        let state = topic.places.borrow_mut().lost(node);
        if let Some(state @ (State::Asked | State::Confirmed(_))) = state {
            leave(worker, topic, (node, matches!(state, State::Confirmed(_))), ends);
        }
    }
}

/// Ends a subscription at a node; `stood`: it was confirmed.
fn leave(worker: &WorkerContext, topic: &Rc<Topic>, end: (NodeId, bool), ends: &Rc<Ends>) {
    let leaving = Leaving::new(worker, topic, end, ends);
    if let Some(link) = worker.hub.link(end.0).filter(|link| link.is_ready()) {
        link.leave(topic, leaving, worker.clock.now());
    }
}

/// Brings a topic's places in line with the table.
pub(super) fn settle(worker: &Rc<WorkerContext>, topic: &Rc<Topic>) {
    if topic.gone.get() {
        return;
    }
    let now = worker.clock.now();
    let desired = desired(worker, topic);
    let view =
        View { desired: &desired, now, heard: topic.heard.get(), exclusive: topic.kind == Kind::Shard };
    let standing = |node| standing(worker, node);
    let plan = topic.places.borrow_mut().plan(view, standing);
    for link in plan.prove.iter().filter_map(|node| worker.hub.link(*node)) {
        link.prove(topic.heard.get(), now);
    }
    if plan.quiet {
        topic.echoes.borrow_mut().forget();
    }
    for end in plan.leave {
        leave(worker, topic, end, &Rc::default());
    }
    let early = topic.retry_at.get() > now;
    if plan.restless || (early && !plan.ask.is_empty()) {
        worker.hub.rest_not(topic);
    }
    if early {
        return;
    }
    for node in plan.ask {
        if link_to(worker, node).is_some_and(|link| ask(&link, topic)) {
            topic.places.borrow_mut().set(node, State::Asked);
        }
    }
}

fn ask(link: &Link, topic: &Rc<Topic>) -> bool {
    let ready = link.is_ready();
    if ready {
        link.join(topic);
    }
    ready
}

/// The link to `node`, opened if need be; `None` while the node is down or unknown.
fn link_to(worker: &Rc<WorkerContext>, node: NodeId) -> Option<Rc<Link>> {
    if let Some(link) = worker.hub.link(node) {
        return Some(link);
    }
    let known = worker.topology.node(node).filter(|known| known.is_up())?;
    let link = Link::open(worker, known);
    worker.hub.links.borrow_mut().insert(node, Rc::clone(&link));
    Some(link)
}

fn standing(worker: &WorkerContext, node: NodeId) -> Standing {
    let table = worker.table.borrow();
    let well = table.is_member(node) && table.node(node).is_some_and(|node| node.is_up());
    Standing { well, answered: worker.hub.link(node).and_then(|link| link.answered()) }
}

/// Where a topic should be, the best home first; empty when the table does not say.
fn desired(worker: &WorkerContext, topic: &Topic) -> SmallVec<[NodeId; 4]> {
    let table = worker.table.borrow();
    let owner = table.primary(topic.slot);
    if topic.kind == Kind::Shard {
        let detour = topic.detour.get().filter(|(_, epoch)| *epoch == table.epoch()).map(|(node, _)| node);
        return detour.or(owner).into_iter().collect();
    }
    let shards = table.shards();
    let first = usize::from(topic.slot) % shards.len().max(1);
    let turn = || shards.iter().cycle().skip(first).take(shards.len()).map(|shard| shard.primary);
    let up = |node: &NodeId| table.node(*node).is_some_and(|node| node.is_up());
    if topic.wide {
        let others = turn().filter(|node| Some(*node) != owner);
        return owner.into_iter().chain(others).collect();
    }
    owner.filter(up).or_else(|| turn().find(up)).map_or_else(SmallVec::new, |node| smallvec![node])
}

/// True when a topic is subscribed everywhere it has to be for its client to be told.
pub(super) fn stands(worker: &WorkerContext, topic: &Topic) -> bool {
    let places = topic.places.borrow();
    if !topic.wide {
        return places.home().is_some();
    }
    let desired = desired(worker, topic);
    !desired.is_empty() && desired.iter().all(|&node| places.is_confirmed(node))
}

// === what links report ===

/// True while a topic is, or should be, at `node`.
pub(super) fn uses(worker: &WorkerContext, node: NodeId) -> bool {
    let at_node = |topic: &Rc<Topic>| topic.places.borrow().state(node).is_some();
    worker.hub.topics.borrow().iter().any(|topics| topics.values().any(at_node))
}

/// A connection stands: asks for everything that waits for it.
pub(super) fn link_ready(worker: &Rc<WorkerContext>, link: &Rc<Link>) {
    let node = link.node.id;
    for topic in worker.hub.all() {
        if topic.places.borrow().state(node) == Some(State::Wanted) {
            settle(worker, &topic);
        }
    }
    if worker.hub.has_wide() {
        events::look(worker);
    }
}

/// A connection broke, and all subscriptions on it with it.
pub(super) fn link_lost(worker: &Rc<WorkerContext>, node: NodeId) {
    for topic in worker.hub.all() {
        let state = topic.places.borrow_mut().lost(node);
        if let Some(state) = state {
            if let State::Confirmed(_) = state {
                worker.process.pubsub.link(topic.kind, &topic.name, node, false);
            }
            settle(worker, &topic);
        }
    }
}

/// A link's task is over.
pub(super) fn link_ended(worker: &Rc<WorkerContext>, link: &Rc<Link>) {
    let node = link.node.id;
    let ours = worker.hub.link(node).is_some_and(|known| Rc::ptr_eq(&known, link));
    if ours {
        worker.hub.links.borrow_mut().remove(&node);
    }
    link_lost(worker, node);
}

/// A subscription stands.
pub(super) fn joined(worker: &Rc<WorkerContext>, node: NodeId, topic: &Rc<Topic>) {
    let before = topic.places.borrow_mut().set(node, State::Confirmed(worker.clock.now()));
    match before {
        Some(State::Confirmed(_)) | None => {}
        Some(_) => worker.process.pubsub.link(topic.kind, &topic.name, node, true),
    }
    *topic.trouble.borrow_mut() = None;
    topic.hops.set(0);
    settle(worker, topic);
    topic.changed.notify_waiters();
}

/// The node ended a subscription: the slot of the shard channel has left it.
pub(super) fn dropped(worker: &Rc<WorkerContext>, node: NodeId, topic: &Rc<Topic>) {
    let before = topic.places.borrow_mut().lost(node);
    if let Some(State::Confirmed(_)) = before {
        worker.process.pubsub.link(topic.kind, &topic.name, node, false);
    }
    settle(worker, topic);
}

/// The node refused a subscription. It is asked again, here or elsewhere, not before `pause` has passed.
pub(super) fn refused(
    worker: &Rc<WorkerContext>,
    (node, topic): (NodeId, &Rc<Topic>),
    trouble: Trouble,
    pause: u64,
) {
    topic.places.borrow_mut().lost(node);
    *topic.trouble.borrow_mut() = Some(trouble);
    topic.retry_at.set(if pause > 0 { worker.clock.now() + pause } else { 0 });
    settle(worker, topic);
    topic.changed.notify_waiters();
}

// === time and table ===

impl WorkerContext {
    /// Puts every topic where the new table wants it. After each change of the table, and of what is known of
    /// its nodes.
    pub fn settle_subscriptions(self: &Rc<Self>) {
        events::judge(self);
        if self.hub.topics() == 0 {
            return;
        }
        let seen = {
            let table = self.table.borrow();
            let mut up = DefaultHasher::new();
            for node in table.shards().iter().map(|shard| shard.primary) {
                (node, table.node(node).is_some_and(|node| node.is_up())).hash(&mut up);
            }
            (table.epoch(), up.finish())
        };
        let links: Vec<_> = self.hub.links.borrow().values().map(Rc::clone).collect();
        for link in links.iter().filter(|link| !link.node.is_up()) {
            link.condemn("the node does not answer");
        }
        if self.hub.seen.replace(seen) == seen {
            return;
        }
        self.hub.all().iter().for_each(|topic| settle(self, topic));
        if self.hub.has_wide() {
            events::look(self);
        }
    }

    /// Looks at topics that wait for a moment of their own. Once per tick.
    pub fn tick_subscriptions(self: &Rc<Self>) {
        let restless = std::mem::take(&mut *self.hub.restless.borrow_mut());
        for topic in restless {
            topic.restless.set(false);
            settle(self, &topic);
        }
        events::judge(self);
    }
}
