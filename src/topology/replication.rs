//! How far replicas are behind their primaries, as a time that does not flatter. Pure but for what it writes
//! into the [`Node`]s, which the workers read.
//!
//! A primary that is asked at some moment tells an offset that no earlier answer to a client lies beyond. A
//! replica of the same history (`master_replid`) that has got to this offset therefore has everything the
//! primary had answered up to that moment. That is all that counts as proof, wherever the two clocks stand: a
//! replica is *as of* the latest moment its offset proves, and may be read from while that is not longer ago
//! than `replica-max-lag`. A primary that cannot be reached proves nothing; then a replica whose link to it
//! stands, and that has all the primary ever told us of, is as of the last byte that came over it: its own word.
//!
//! What a replica cannot know counts against it: while slots of its primary are on their way elsewhere, keys are
//! missing here that exist there (a replica does not say ASK before Valkey 8), so nothing is proven until
//! [`SETTLED_AFTER`] after the last sign of it. Nor does a replica know at once that slots have gone: until the
//! new owner's word has come to it over the cluster bus it answers reads of them from what it has left, and no
//! redirect tells anybody. So what a primary says it owns is held against the table at every probe. And whatever
//! ends the connection to a replica, makes it late, or gives it another primary takes its proof away at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::node::{Node, NodeId};
use super::own::OwnWord;

/// How long after the last sign of slots on their way a primary's replicas are not read from: longer than a
/// resharding pauses between two slots, and than nodes take to tell each other.
pub(crate) const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// `master_last_io_seconds_ago` leaves out what is less than this.
const HEARD_UNIT: Duration = Duration::from_secs(1);

/// Offsets remembered of one primary; older ones are thinned out, which only makes a replica look older.
const OFFSETS_MAX: usize = 64;

/// What is used of INFO replication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replication {
    pub(crate) is_primary: bool,
    /// History the offset belongs to.
    pub(crate) replid: String,
    /// `master_repl_offset` of a primary, `slave_repl_offset` of a replica.
    pub(crate) offset: u64,
    /// The link to the primary stands and no whole copy is under way.
    pub(crate) linked: bool,
    /// Since the last byte from the primary.
    pub(crate) heard: Option<Duration>,
}

/// What a node said of itself.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// When it was asked.
    pub(crate) asked: Instant,
    /// `None` where it would not say.
    pub(crate) replication: Option<Replication>,
    /// Its own line of CLUSTER NODES, if it was asked for it.
    pub(crate) own: Option<OwnWord>,
    /// Its `availability_zone`, if it was asked; empty for none.
    pub(crate) zone: Option<String>,
}

impl Replication {
    /// From the text of INFO replication; `None` when it does not tell the role.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let lines = text.lines().filter_map(|line| line.trim_end().split_once(':'));
            lines.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
        };
        let is_primary = field("role")? == "master";
        let offset = field(if is_primary { "master_repl_offset" } else { "slave_repl_offset" });
        let link = field("master_link_status") == Some("up") && field("master_sync_in_progress") != Some("1");
        // -1 while nothing came yet.
        let heard = field("master_last_io_seconds_ago").and_then(|text| text.parse().ok());
        Some(Self {
            is_primary,
            replid: field("master_replid").unwrap_or_default().to_owned(),
            offset: offset?.parse().ok()?,
            linked: link,
            heard: heard.map(Duration::from_secs),
        })
    }
}

/// Slots as inclusive ranges, in order, none beside another.
pub(crate) type Ranges = Vec<(u16, u16)>;

/// A node of a table.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: Arc<Node>,
    /// Its primary; `None` for a primary.
    pub(crate) primary: Option<NodeId>,
    /// What it or its primary owns.
    pub(crate) slots: Ranges,
}

/// What is known of one node.
#[derive(Debug, Default)]
struct Known {
    node: Option<Arc<Node>>,
    /// Its primary by the table; `None` for a primary.
    primary: Option<NodeId>,
    last: Option<Sample>,
    /// What it says of its zone; empty for none, `None` while it was not asked.
    zone: Option<String>,
    /// Of a primary: (when it was asked, offset), of one history, oldest first.
    offsets: VecDeque<(Instant, u64)>,
    /// What it or its primary owns by the table.
    slots: Ranges,
    /// Of a primary: what it last said it owns instead, and how often in a row it said so.
    instead: Option<(Ranges, u32)>,
    /// Of a primary: not before this time do its offsets prove anything.
    settled: Option<Instant>,
    /// Of a replica: what its proof says.
    as_of: Option<Instant>,
}

/// What people see of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    /// It may be read from as far as its data are concerned.
    pub(crate) proven: bool,
    /// How old its data may be.
    pub(crate) age: Option<Duration>,
    /// Bytes its primary had when last asked and it had not.
    pub(crate) behind: Option<u64>,
    /// Why it is not read from.
    pub(crate) why_not: &'static str,
}

impl Standing {
    /// Of a replica and its primary that were asked once, both at the same time.
    pub(crate) fn at_once(said: Option<&Replication>, theirs: Option<&Replication>) -> Self {
        let behind = behind(said, theirs);
        let why_not = match said {
            None => "does not tell",
            Some(said) if said.is_primary => "is a primary",
            Some(said) if !said.linked => "not linked to its primary",
            Some(_) if theirs.is_some() && behind.is_none() => "has data of another history",
            Some(_) => "",
        };
        Self { proven: why_not.is_empty(), age: None, behind, why_not }
    }
}

/// Bytes a replica lacks, where both are of one history.
fn behind(said: Option<&Replication>, theirs: Option<&Replication>) -> Option<u64> {
    let (said, theirs) = (said?, theirs?);
    (said.replid == theirs.replid).then(|| theirs.offset.saturating_sub(said.offset))
}

/// All nodes of the table.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    max_lag: Duration,
    known: HashMap<NodeId, Known>,
}

impl Replicas {
    /// Knows nobody. `max_lag`: how old data may be.
    pub(crate) fn new(max_lag: Duration) -> Self {
        Self { max_lag, known: HashMap::new() }
    }

    /// The nodes of a table. A primary with other slots than before is not settled: what a replica had proven
    /// tells nothing of keys that have come, and more may go.
    pub(crate) fn fit(&mut self, members: impl Iterator<Item = Member>) {
        let mut known = std::mem::take(&mut self.known);
        let mut changed = Vec::new();
        for Member { node, primary, slots } in members {
            let id = node.id;
            let mut entry = known.remove(&id).unwrap_or_default();
            let same = entry.node.as_ref().is_some_and(|old| Arc::ptr_eq(old, &node));
            if !same || entry.primary != primary {
                node.set_as_of(None);
                entry = Known { node: Some(node), primary, slots, ..Known::default() };
            } else if entry.slots != slots {
                (entry.slots, entry.instead) = (slots, None);
                entry.forget();
                changed.push(id);
            }
            self.known.insert(id, entry);
        }
        known.values().for_each(Known::disprove);
        changed.into_iter().for_each(|id| self.unsettle(id));
    }

    /// A node answered. `is_up` tells of its primary, where it is a replica. True when the table should be looked
    /// at: it owns other slots than the table says.
    pub(crate) fn see(&mut self, id: NodeId, mut sample: Sample, is_up: impl Fn(NodeId) -> bool) -> bool {
        let Some(known) = self.known.get_mut(&id) else { return false };
        known.zone = sample.zone.take().or(known.zone.take());
        let said = sample.replication.clone();
        let before = known.last.replace(sample).and_then(|sample| sample.replication);
        match (known.primary, said) {
            (Some(primary), Some(said)) if !said.is_primary => {
                let up = is_up(primary);
                self.prove(id, primary, up);
                false
            }
            (None, Some(said)) if said.is_primary => {
                if before.is_none_or(|before| before.replid != said.replid || before.offset > said.offset) {
                    known.offsets.clear();
                }
                let (moving, often) = known.look_at_slots();
                known.note_offset(said.offset);
                if moving || often > 0 {
                    self.unsettle(id);
                }
                let of: Vec<NodeId> = self.replicas_of(id).collect();
                of.into_iter().for_each(|replica| self.prove(replica, id, true));
                // Nodes asked in a refresh may not have heard yet; should they never hear, it must not become a
                // refresh per probe.
                often.is_power_of_two()
            }
            // A role that is not what the table says: another table is on its way.
            _ => {
                known.forget();
                false
            }
        }
    }

    /// Slots of a primary are on their way: its replicas lack keys that exist.
    pub(crate) fn unsettle(&mut self, primary: NodeId) {
        let Some(known) = self.known.get_mut(&primary).filter(|known| known.primary.is_none()) else {
            return;
        };
        known.settled = Some(Instant::now() + SETTLED_AFTER);
        known.offsets.clear();
        let of: Vec<NodeId> = self.replicas_of(primary).collect();
        of.into_iter().for_each(|id| self.doubt(id));
    }

    /// What a node has proven counts no more: it does not answer, or answered a read with a refusal.
    pub(crate) fn doubt(&mut self, id: NodeId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.forget();
        }
    }

    /// What people see of a node at `now`.
    pub(crate) fn standing(&self, id: NodeId, now: Instant) -> Standing {
        let Some(known) = self.known.get(&id) else { return Standing::default() };
        let said = known.last.as_ref().and_then(|sample| sample.replication.as_ref());
        let Some(primary) = known.primary.and_then(|id| self.known.get(&id)) else {
            return Standing { proven: true, ..Standing::default() };
        };
        let theirs = primary.last.as_ref().and_then(|sample| sample.replication.as_ref());
        let behind = behind(said, theirs);
        let age = known.as_of.map(|at| now.saturating_duration_since(at));
        let proven = age.is_some_and(|age| age <= self.max_lag);
        let moving = primary.settled.is_some_and(|settled| now < settled);
        let why_not = match said {
            _ if proven => "",
            _ if moving => "slots are on their way",
            None => "not known yet",
            Some(said) if !said.linked => "not linked to its primary",
            Some(_) if age.is_some() => "lags",
            Some(_) => "not proven yet",
        };
        Standing { proven, age, behind, why_not }
    }

    /// What a node says of its zone.
    pub(crate) fn zone(&self, id: NodeId) -> Option<&str> {
        self.known.get(&id)?.zone.as_deref().filter(|zone| !zone.is_empty())
    }

    fn replicas_of(&self, primary: NodeId) -> impl Iterator<Item = NodeId> {
        self.known.iter().filter(move |(_, known)| known.primary == Some(primary)).map(|(id, _)| *id)
    }

    /// The latest moment the last answer of `replica` proves.
    fn prove(&mut self, replica: NodeId, primary: NodeId, is_up: bool) {
        let (Some(known), Some(of)) = (self.known.get(&replica), self.known.get(&primary)) else { return };
        let Some((sample, said)) = known.last.as_ref().and_then(|s| Some((s, s.replication.as_ref()?)))
        else {
            return;
        };
        let theirs = of.last.as_ref().and_then(|sample| sample.replication.as_ref());
        let one_history = theirs.is_some_and(|theirs| theirs.replid == said.replid);
        let settled = of.settled.is_none_or(|settled| settled <= Instant::now());
        if said.is_primary || !said.linked || !one_history || !settled {
            return;
        }
        let reached =
            of.offsets.iter().rev().find(|(_, offset)| *offset <= said.offset).map(|(asked, _)| *asked);
        // Offsets of one history only grow: the last one told is the highest.
        let has_all = theirs.is_some_and(|theirs| theirs.offset <= said.offset);
        let heard = said.heard.filter(|_| !is_up && has_all);
        let heard = heard.and_then(|heard| sample.asked.checked_sub(heard + HEARD_UNIT));
        let latest = reached.max(heard);
        if let Some(known) = self.known.get_mut(&replica)
            && latest > known.as_of
        {
            known.as_of = latest;
            if let (Some(node), Some(at)) = (&known.node, latest) {
                let ago = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
                // Rounded to the side of "older".
                node.set_as_of(Some(crate::telemetry::clock_ms().saturating_sub(ago + 1)));
            }
        }
    }
}

/// In order, and what lies side by side as one.
fn joined(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut out = Ranges::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => out.push((first, last)),
        }
    }
    out
}

impl Known {
    fn disprove(&self) {
        if let Some(node) = &self.node {
            node.set_as_of(None);
        }
    }

    /// The next answer begins anew. What a primary was is kept: its replicas may be of the same history.
    fn forget(&mut self) {
        self.disprove();
        self.as_of = None;
        self.offsets.clear();
        if self.primary.is_some() {
            self.last = None;
        }
    }

    /// Whether slots of a primary are on their way elsewhere; and how often in a row it has now said that it owns
    /// just these slots, which the table says otherwise. 0 where they agree, or it was not asked.
    fn look_at_slots(&mut self) -> (bool, u32) {
        let own = self.last.as_mut().and_then(|sample| sample.own.take());
        let Some(own) = own else { return (false, 0) };
        let slots = joined(own.slots);
        self.instead = match self.instead.take() {
            _ if slots == self.slots => None,
            Some((before, often)) if before == slots => Some((slots, often.saturating_add(1))),
            _ => Some((slots, 1)),
        };
        (!own.leaving.is_empty(), self.instead.as_ref().map_or(0, |(_, often)| *often))
    }

    fn note_offset(&mut self, offset: u64) {
        let Some(asked) = self.last.as_ref().map(|sample| sample.asked) else { return };
        if self.settled.is_some_and(|settled| asked < settled) {
            return;
        }
        self.settled = None;
        if self.offsets.len() >= OFFSETS_MAX {
            let mut nth = 0;
            self.offsets.retain(|_| {
                nth += 1;
                nth % 2 == 0
            });
        }
        self.offsets.push_back((asked, offset));
    }
}

#[cfg(test)]
#[path = "replication_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
