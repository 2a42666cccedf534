//! Keyspace events. Each primary tells of its own keys only, so they are taken from the owner of the key; one
//! that another node brings may come from a slot that has just moved, or be a message somebody published to such
//! a channel, which all nodes bring: it waits for a fresh view of the cluster, and is dropped if it turns out to be
//! a copy. And every primary has to be told by `notify-keyspace-events` which events it is to send: one that joined
//! with none gets what the others have.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::frames;
use super::topic::Topic;
use crate::protocol::encode;
use crate::protocol::reply::array_elements;
use crate::router::slot::slot_of;
use crate::session::state::Resp;
use crate::topology::node::NodeId;
use crate::topology::{Event, Trigger};
use crate::worker::WorkerContext;

/// Most events that wait for a view, in count and bytes.
const DOUBTFUL_EVENTS: usize = 4096;
const DOUBTFUL_BYTES: usize = 4 << 20;
/// Least time a doubtful event waits for the message it may be a copy of, in microseconds.
const DOUBT: u64 = 50_000;
/// How long, and how many, events are remembered that others may be copies of; in microseconds.
const REMEMBERED: u64 = 5_000_000;
const REMEMBERED_EVENTS: usize = 4096;
/// How long a node may take to be reachable for a look at its settings.
const LOOK_WAIT: Duration = Duration::from_secs(5);
/// How often the look tries again meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The setting.
const SETTING: &str = "notify-keyspace-events";

/// Events that seem to come from the wrong node, in the order they came.
#[derive(Debug, Default)]
pub struct Doubtful {
    events: VecDeque<Doubt>,
    bytes: usize,
    /// Time and hash of events that clients got.
    recent: VecDeque<(u64, u64)>,
}

#[derive(Debug)]
struct Doubt {
    topic: Rc<Topic>,
    node: NodeId,
    slot: u16,
    frame: Bytes,
    /// The first refresh that began after it came.
    round: u64,
    /// When it came.
    came: u64,
}

impl Doubtful {
    /// Memory held.
    pub fn bytes(&self) -> usize {
        self.bytes + self.recent.capacity() * size_of::<(u64, u64)>()
    }

    /// True when the same was given to clients not long ago, by whichever node.
    fn is_copy(&self, frame: &[u8]) -> bool {
        let hash = hash(frame);
        self.recent.iter().any(|(_, other)| *other == hash)
    }

    fn remember(&mut self, frame: &[u8], now: u64) {
        let old = |(at, _): &(u64, u64)| now.saturating_sub(*at) > REMEMBERED;
        while self.recent.len() >= REMEMBERED_EVENTS || self.recent.front().is_some_and(old) {
            self.recent.pop_front();
        }
        self.recent.push_back((now, hash(frame)));
    }
}

/// Two frames that differ in their first byte at most are the same.
fn hash(frame: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(frame.get(1..).unwrap_or(&[]));
    hasher.finish()
}

/// Gives clients an event.
fn deliver(worker: &WorkerContext, topic: &Topic, frame: &[u8]) {
    worker.hub.doubtful.borrow_mut().remember(frame, worker.clock.now());
    frames::deliver(worker, topic, frame);
}

/// An event about `key` from `node`.
pub(super) fn take(worker: &Rc<WorkerContext>, node: NodeId, topic: &Rc<Topic>, key: &[u8], frame: &[u8]) {
    let slot = slot_of(key);
    judge(worker);
    // Behind one that waits, so that the events of a key keep their order.
    let waits = worker.hub.doubtful.borrow().events.iter().any(|doubt| doubt.slot == slot);
    if !waits && is_at(worker, slot, node) {
        return deliver(worker, topic, frame);
    }
    let mut doubtful = worker.hub.doubtful.borrow_mut();
    if doubtful.events.len() >= DOUBTFUL_EVENTS || doubtful.bytes + frame.len() > DOUBTFUL_BYTES {
        worker.counters.pubsub_delivered(0, topic.clients() as u64);
        return;
    }
    let round = worker.topology.next_round();
    worker.topology.report(Event::Refresh(Trigger::Redirect));
    doubtful.bytes += frame.len();
    let (topic, frame) = (Rc::clone(topic), Bytes::copy_from_slice(frame));
    doubtful.events.push_back(Doubt { topic, node, slot, frame, round, came: worker.clock.now() });
}

/// Lets out the events that are no copies, once that can be told.
pub(super) fn judge(worker: &Rc<WorkerContext>) {
    if worker.hub.doubtful.borrow().events.is_empty() {
        return;
    }
    let mut all = std::mem::take(&mut worker.hub.doubtful.borrow_mut().events);
    let seen = worker.topology.round();
    let mut kept = VecDeque::new();
    while let Some(doubt) = all.pop_front() {
        let same = |other: &Doubt| other.node != doubt.node && hash(&other.frame) == hash(&doubt.frame);
        if kept.iter().any(|before: &Doubt| before.slot == doubt.slot) {
            kept.push_back(doubt);
        } else if is_at(worker, doubt.slot, doubt.node) {
            deliver(worker, &doubt.topic, &doubt.frame);
        } else if seen < doubt.round || worker.clock.now() < doubt.came + DOUBT {
            kept.push_back(doubt);
        } else if !worker.hub.doubtful.borrow().is_copy(&doubt.frame) && !all.iter().any(same) {
            // The slot was there and has moved on.
            deliver(worker, &doubt.topic, &doubt.frame);
        }
    }
    let mut doubtful = worker.hub.doubtful.borrow_mut();
    doubtful.bytes = kept.iter().map(|doubt| doubt.frame.len()).sum();
    doubtful.events = kept;
}

/// True when `node` has keys of `slot`: it owns it, or takes part in moving it.
fn is_at(worker: &WorkerContext, slot: u16, node: NodeId) -> bool {
    let table = worker.table.borrow();
    if table.primary(slot) == Some(node) {
        return true;
    }
    let Some(known) = table.node(node) else { return false };
    let name = known.addr.to_string();
    let snapshot = worker.topology.snapshot();
    snapshot.migrations.iter().any(|m| m.slot == slot && (m.from == name || m.to == name))
}

/// Has the primaries' settings looked at.
pub(super) fn look(worker: &Rc<WorkerContext>) {
    worker.hub.look_again.set(true);
    if worker.hub.looking.replace(true) {
        return;
    }
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        while worker.hub.look_again.replace(false) {
            if equalise(&worker).await.is_err() && !worker.hub.complained.replace(true) {
                tracing::warn!(
                    "nodes refuse CONFIG to us: notify-keyspace-events is not set on nodes that join the cluster"
                );
            }
        }
        worker.hub.looking.set(false);
    });
}

/// A node refused CONFIG.
struct Refused;

/// Gives primaries that send no events the setting most others have.
async fn equalise(worker: &Rc<WorkerContext>) -> Result<(), Refused> {
    let mut get = Vec::new();
    encode::array(&mut get, 3);
    ["CONFIG", "GET", SETTING].iter().for_each(|word| encode::bulk(&mut get, word));
    let primaries: Vec<NodeId> = worker.table.borrow().shards().iter().map(|shard| shard.primary).collect();
    let mut settings = Vec::new();
    for node in primaries {
        if let Some(reply) = ask(worker, node, &get).await {
            settings.push((node, setting(&reply).ok_or(Refused)?));
        }
    }
    let given = |value: &Bytes| settings.iter().filter(|(_, other)| other == value).count();
    let usual = settings.iter().map(|(_, value)| value).filter(|value| !value.is_empty());
    let Some(usual) = usual.max_by_key(|value| given(value)).cloned() else { return Ok(()) };
    let mut set = Vec::new();
    encode::array(&mut set, 4);
    ["CONFIG", "SET", SETTING].iter().for_each(|word| encode::bulk(&mut set, word));
    encode::bulk(&mut set, &usual);
    for (node, _) in settings.iter().filter(|(_, value)| value.is_empty()) {
        if let Some(reply) = ask(worker, *node, &set).await {
            if !reply.starts_with(b"+") {
                return Err(Refused);
            }
            let node = worker.topology.node(*node).map(|node| node.addr.to_string()).unwrap_or_default();
            tracing::info!(node, "set notify-keyspace-events to what the other primaries have");
        }
    }
    Ok(())
}

/// The value in a reply to CONFIG GET; `None` for an error.
fn setting(reply: &Bytes) -> Option<Bytes> {
    let mut value = None;
    let whole = array_elements(reply, 2, |index, start, len| {
        if index == 1 {
            value = reply.get(start..start + len);
        }
    });
    let text = value.filter(|_| whole)?;
    let start = memchr::memchr(b'\n', text)? + 1;
    text.get(start..text.len().checked_sub(2)?).map(Bytes::copy_from_slice)
}

/// A request on the shared connection; `None` when the node does not answer.
async fn ask(worker: &Rc<WorkerContext>, node: NodeId, request: &[u8]) -> Option<Bytes> {
    let lane = async {
        loop {
            let changed = worker.changed.notified();
            if let Some(lane) = worker.usable_lane(node, Resp::V2) {
                return lane;
            }
            let _looked = tokio::time::timeout(LOOK_AGAIN, changed).await;
        }
    };
    let lane = tokio::time::timeout(LOOK_WAIT, lane).await.ok()?;
    lane.call(worker, request, 1)?.frame().await.ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn reads_the_setting() {
        let reply = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let found = setting(&reply("*2\r\n$22\r\nnotify-keyspace-events\r\n$3\r\nAKE\r\n"));
        assert_eq!(found.as_deref(), Some(&b"AKE"[..]));
        let empty = setting(&reply("*2\r\n$22\r\nnotify-keyspace-events\r\n$0\r\n\r\n"));
        assert_eq!(empty.as_deref(), Some(&b""[..]));
        assert_eq!(setting(&reply("-NOPERM no\r\n")), None);
        assert_eq!(setting(&reply("*0\r\n")), None);
    }
}
