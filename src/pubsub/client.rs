//! A client's subscriptions: what it has, how they begin and end, and what it is told of that. A subscription is
//! confirmed to the client when nodes have confirmed it, and messages come from then on. Owns the list a session
//! keeps; the hub has the session in its topics as long as the list says so.

use std::collections::HashMap;
use std::rc::Rc;

use smallvec::SmallVec;

use super::leaving::Ends;
use super::topic::Topic;
use super::{Act, Kind, Name, PubSubCommand, hub};
use crate::backend::ticket::NO_SLOT;
use crate::command::{Command, Handling};
use crate::operation::{self, OperationKind};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::dispatch::Frame;
use crate::session::pending::CellState;
use crate::session::state::{Resp, SessionMode};
use crate::session::{Session, SessionInner};
use crate::worker::WorkerContext;

/// Memory one subscription takes beside its name, reckoned.
const OVERHEAD: usize = 64;

/// What a client is subscribed to: the place it has in each topic.
#[derive(Debug, Default)]
pub struct Subscriptions {
    names: [HashMap<Name, u32>; 3],
    bytes: usize,
}

impl Subscriptions {
    /// How many of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.names.get(kind.index()).map_or(0, HashMap::len)
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.names.iter().map(HashMap::len).sum()
    }

    /// Memory they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a confirmation counts: shard channels on their own, channels and patterns together.
    fn told(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.count(kind),
            Kind::Channel | Kind::Pattern => self.count(Kind::Channel) + self.count(Kind::Pattern),
        }
    }

    fn has(&self, kind: Kind, name: &[u8]) -> bool {
        self.names.get(kind.index()).is_some_and(|names| names.contains_key(name))
    }
}

/// Handles the commands of publish and subscribe but for PUBSUB.
pub fn handle(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, what): (&'static Command, PubSubCommand),
    frame: Frame<'_>,
    args: &Args<'_>,
) {
    match what.act() {
        Act::Publish(_) => super::publish::publish(session, inner, command, frame, args),
        Act::Leave(kind) if is_last(session, inner, kind, args) => {
            operation::start(session, inner, (command, OperationKind::Unsubscribe), args);
        }
        Act::Leave(kind) => {
            let frames = leave(session, inner, kind, args, &Rc::default());
            confirm(session, inner, command, &frames);
        }
        Act::Join(kind) => match ready(session, inner, kind, args) {
            Some(topics) => {
                let frames = join(session, inner, kind, &topics);
                confirm(session, inner, command, &frames);
            }
            None => operation::start(session, inner, (command, OperationKind::Subscribe), args),
        },
    }
}

/// Confirmations are pushes: CLIENT REPLY does not hold them back, and their place is still that of a reply.
fn confirm(session: &Rc<Session>, inner: &mut SessionInner, command: &'static Command, frames: &[u8]) {
    let seq = inner.expect(session, command, NO_SLOT, CellState::Waiting);
    if let Some(cell) = inner.pending.cell(seq) {
        cell.frames = 1;
    }
    let SessionInner { pending, out, .. } = inner;
    pending.answer(seq, frames, out, &session.worker().pool);
    inner.settled_one(session, session.worker());
}

/// The topics, if all of them stand and the client is owed nothing that must come before their messages.
fn ready(
    session: &Session,
    inner: &SessionInner,
    kind: Kind,
    args: &Args<'_>,
) -> Option<SmallVec<[Rc<Topic>; 1]>> {
    let worker = session.worker();
    if !inner.pending.is_empty() || !has_room(worker, inner, kind, args) {
        return None;
    }
    let topic = |name| worker.hub.topic(kind, name).filter(|topic| hub::stands(worker, topic));
    args.iter().skip(1).map(topic).collect()
}

/// True when a topic that the client leaves has no other client: nodes have to be told.
fn is_last(session: &Session, inner: &SessionInner, kind: Kind, args: &Args<'_>) -> bool {
    let Some(names) = inner.subscriptions.as_ref().and_then(|have| have.names.get(kind.index())) else {
        return false;
    };
    let last = |name: &[u8]| session.worker().hub.topic(kind, name).is_some_and(|topic| topic.clients() <= 1);
    match args.len() {
        1 => names.keys().any(|name| last(name)),
        _ => args.iter().skip(1).any(|name| names.contains_key(name) && last(name)),
    }
}

/// False when the client, or all clients of the worker, would have too many subscriptions.
pub(super) fn has_room(worker: &WorkerContext, inner: &SessionInner, kind: Kind, args: &Args<'_>) -> bool {
    let have = inner.subscriptions.as_deref();
    let is_new = |name: &&[u8]| !have.is_some_and(|have| have.has(kind, name));
    let more = args.iter().skip(1).filter(is_new).count();
    have.map_or(0, Subscriptions::total) + more <= worker.limits.client_subscriptions
        && worker.hub.held() + more <= worker.limits.worker_subscriptions
}

/// Subscribes the client to topics that stand; what it is told.
pub(super) fn join(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    kind: Kind,
    topics: &[Rc<Topic>],
) -> Vec<u8> {
    let mut frames = Vec::new();
    for topic in topics {
        let have = inner.subscriptions.get_or_insert_default();
        if let Some(names) = have.names.get_mut(kind.index())
            && !names.contains_key(&topic.name)
        {
            names.insert(topic.name.clone(), topic.add(session));
            have.bytes += OVERHEAD + topic.name.len();
            session.worker().hub.hold(1);
            session.worker().counters.subscriptions(1);
            session.worker().process.pubsub.client(kind, &topic.name, true);
        }
        tell(&mut frames, inner.client.resp, kind.join_word(), Some(&topic.name), have.told(kind));
    }
    inner.settle_mode();
    inner.charge(&session.worker().budget);
    frames
}

/// Ends subscriptions: those named, else all of the kind; what the client is told. `ends` knows when nodes have
/// ended theirs.
pub(super) fn leave(
    session: &Session,
    inner: &mut SessionInner,
    kind: Kind,
    args: &Args<'_>,
    ends: &Rc<Ends>,
) -> Vec<u8> {
    let worker = session.worker();
    let all = || -> Vec<Name> {
        let names = inner.subscriptions.as_ref().and_then(|have| have.names.get(kind.index()));
        names.into_iter().flat_map(HashMap::keys).cloned().collect()
    };
    let names = match args.len() {
        1 => all(),
        _ => args.iter().skip(1).map(Name::copy_from_slice).collect(),
    };
    let (resp, word) = (inner.client.resp, kind.leave_word());
    let mut frames = Vec::new();
    for name in &names {
        end(worker, inner, (kind, name), ends);
        let told = inner.subscriptions.as_ref().map_or(0, |have| have.told(kind));
        tell(&mut frames, resp, word, Some(name), told);
    }
    if names.is_empty() {
        let told = inner.subscriptions.as_ref().map_or(0, |have| have.told(kind));
        tell(&mut frames, resp, word, None, told);
    }
    inner.subscriptions.take_if(|have| have.total() == 0);
    inner.settle_mode();
    inner.charge(&worker.budget);
    frames
}

/// Ends one subscription, if the client has it.
fn end(worker: &WorkerContext, inner: &mut SessionInner, (kind, name): (Kind, &[u8]), ends: &Rc<Ends>) {
    let Some(have) = &mut inner.subscriptions else { return };
    let Some((name, place)) = have.names.get_mut(kind.index()).and_then(|names| names.remove_entry(name))
    else {
        return;
    };
    have.bytes = have.bytes.saturating_sub(OVERHEAD + name.len());
    worker.hub.hold(-1);
    worker.counters.subscriptions(-1);
    worker.process.pubsub.client(kind, &name, false);
    if let Some(topic) = worker.hub.topic(kind, &name) {
        topic.remove(place);
        hub::release(worker, &topic, ends);
    }
}

/// A confirmation.
fn tell(out: &mut Vec<u8>, resp: Resp, word: &str, name: Option<&[u8]>, count: usize) {
    encode::header(out, if resp == Resp::V3 { b'>' } else { b'*' }, 3);
    encode::bulk(out, word);
    match name {
        Some(name) => encode::bulk(out, name),
        None => encode::null(out, resp),
    }
    encode::integer(out, count as i64);
}

impl SessionInner {
    /// The client wants no messages any more.
    pub fn unsubscribe_all(&mut self, worker: &WorkerContext) {
        for kind in Kind::ALL {
            let names = self.subscriptions.as_ref().and_then(|have| have.names.get(kind.index()));
            let names: Vec<Name> = names.into_iter().flat_map(HashMap::keys).cloned().collect();
            names.iter().for_each(|name| end(worker, self, (kind, name), &Rc::default()));
        }
        self.subscriptions = None;
        self.held_pushes = None;
    }

    /// How many subscriptions of a kind the client has.
    pub fn subscribed(&self, kind: Kind) -> usize {
        self.subscriptions.as_ref().map_or(0, |have| have.count(kind))
    }
}

/// What a RESP2 subscriber may say, it says as usual; PING is answered as a message, all else refused.
pub fn restrict(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    command: &'static Command,
    args: &Args<'_>,
) -> bool {
    use crate::command::LocalCommand::{Ping, Quit, Reset};
    debug_assert_eq!(inner.client.mode, SessionMode::Subscribed);
    match command.handling {
        Handling::Local(Ping) if args.len() <= 2 => {
            let mut frame = Vec::new();
            encode::array(&mut frame, 2);
            encode::bulk(&mut frame, "pong");
            encode::bulk(&mut frame, args.at(1));
            inner.reply(session, command.class, &frame);
            true
        }
        Handling::Local(Ping | Quit | Reset) => false,
        Handling::PubSub(what) if !matches!(what.act(), Act::Publish(_)) => false,
        _ => {
            inner.reply_text(
                session,
                format!(
                    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
                     allowed in this context",
                    command.name
                ),
            );
            true
        }
    }
}
