//! Asking all nodes of a kind at once, and what is said when some of them did not do it: the first error, and
//! the nodes by name. Operations of this kind see to `request-deadline` themselves, for the session's own
//! deadline could not say which nodes were reached.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{Operation, administration, broadcast, flush, keyspace, latency, scan, scripts, slot_keys};
use crate::backend::call::{CallError, Room};
use crate::backend::lane::Lane;
use crate::backend::ticket::NO_SLOT;
use crate::error::{Executed, ProxyError};
use crate::protocol::encode;
use crate::topology::node::NodeId;
use crate::topology::{Event, Trigger};

/// How often a wait looks again, should no event tell.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The frames one node answered, or why it did not.
pub(super) type Answer = (NodeId, Result<Vec<Bytes>, CallError>);

/// Why an operation has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// An error of ours.
    Error(ProxyError),
    /// A whole error reply: a node's, or one that names nodes.
    Frame(Vec<u8>),
}

/// Which nodes did what was asked.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// They did.
    pub done: Vec<NodeId>,
    /// They did not.
    pub not_done: Vec<NodeId>,
    /// Nobody knows.
    pub unknown: Vec<NodeId>,
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        Self::Error(error)
    }
}

impl Failure {
    /// As the end of an operation.
    pub(super) fn reply(self) -> Result<Vec<u8>, ProxyError> {
        match self {
            Self::Error(error) => Err(error),
            Self::Frame(frame) => Ok(frame),
        }
    }
}

impl Tally {
    /// A node did it, or refused to.
    pub(super) fn answered(&mut self, node: NodeId, frame: &[u8]) {
        if error_text(frame).is_some() { &mut self.not_done } else { &mut self.done }.push(node);
    }

    /// A node did not say that it did it.
    pub(super) fn failed(&mut self, node: NodeId, error: CallError) {
        match ProxyError::from(error).executed() {
            Executed::No => self.not_done.push(node),
            Executed::Maybe | Executed::Partly => self.unknown.push(node),
        }
    }
}

/// The text of an error reply, without its mark and line end.
pub(super) fn error_text(frame: &[u8]) -> Option<String> {
    let text = match frame.first()? {
        b'-' => frame.get(1..)?,
        b'!' => frame.get(memchr::memchr(b'\n', frame)? + 1..)?,
        _ => return None,
    };
    Some(String::from_utf8_lossy(text).trim_end_matches("\r\n").to_owned())
}

/// True for an error that says "not now": not executed, and another try may do better.
pub(super) fn is_passing(error: &str) -> bool {
    let code = error.split(' ').next().unwrap_or("");
    ["LOADING", "MASTERDOWN", "CLUSTERDOWN", "READONLY"].contains(&code)
}

/// Which of them a command is; `operation = "…"` in `overrides.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EveryoneKind {
    /// DBSIZE.
    Dbsize,
    /// KEYS.
    Keys,
    /// RANDOMKEY.
    Randomkey,
    /// SCAN.
    Scan,
    /// FLUSHALL, FLUSHDB.
    Flush,
    /// All primaries do it; the first reply, if none refuses.
    AllPrimaries,
    /// The same with the replicas.
    AllNodes,
    /// All do it; their integers added.
    Sum,
    /// All do it; the lowest integer.
    Lowest,
    /// All are asked; their texts one after the other.
    Texts,
    /// SLOWLOG GET.
    SlowlogGet,
    /// LATENCY LATEST.
    LatencyLatest,
    /// LATENCY HISTORY.
    LatencyHistory,
    /// LATENCY HISTOGRAM.
    LatencyHistogram,
    /// MEMORY STATS.
    MemoryStats,
    /// CONFIG SET.
    ConfigSet,
    /// CONFIG RESETSTAT.
    ResetStats,
    /// DEBUG.
    Debug,
    /// SCRIPT LOAD.
    ScriptLoad,
    /// SCRIPT EXISTS.
    ScriptExists,
    /// SCRIPT FLUSH.
    ScriptFlush,
    /// SCRIPT SHOW.
    ScriptShow,
    /// SCRIPT KILL, FUNCTION KILL.
    Kill,
    /// FUNCTION STATS.
    FunctionStats,
    /// CLUSTER COUNTKEYSINSLOT, CLUSTER GETKEYSINSLOT.
    SlotKeys,
}

/// Runs an operation that asks several nodes.
pub(super) async fn run(operation: &Operation, kind: EveryoneKind) -> Result<Vec<u8>, ProxyError> {
    use EveryoneKind as Kind;
    let result = match kind {
        Kind::Dbsize => keyspace::dbsize(operation).await,
        Kind::Keys => keyspace::keys(operation).await,
        Kind::Randomkey => keyspace::randomkey(operation).await,
        Kind::Scan => scan::scan(operation).await,
        Kind::Flush => flush::flush(operation).await,
        Kind::AllPrimaries => broadcast::all_succeeded(operation, false).await,
        Kind::AllNodes => broadcast::all_succeeded(operation, true).await,
        Kind::Sum => broadcast::joined(operation, i64::saturating_add).await,
        Kind::Lowest => broadcast::joined(operation, i64::min).await,
        Kind::Texts => broadcast::texts(operation).await,
        Kind::SlowlogGet => broadcast::slowlog(operation).await,
        Kind::LatencyLatest => broadcast::latency(operation, latency::latest).await,
        Kind::LatencyHistory => broadcast::latency(operation, latency::history).await,
        Kind::LatencyHistogram => broadcast::latency(operation, latency::histogram).await,
        Kind::MemoryStats => broadcast::memory_stats(operation).await,
        Kind::ConfigSet => administration::config_set(operation).await,
        Kind::ResetStats => administration::reset_stats(operation).await,
        Kind::Debug => administration::debug(operation).await,
        Kind::ScriptLoad => scripts::load(operation).await,
        Kind::ScriptExists => scripts::exists(operation).await,
        Kind::ScriptFlush => scripts::flush(operation).await,
        Kind::ScriptShow => scripts::show(operation).await,
        Kind::Kill => scripts::kill(operation).await,
        Kind::FunctionStats => scripts::stats(operation).await,
        Kind::SlotKeys => slot_keys::slot_keys(operation).await,
    };
    result.or_else(Failure::reply)
}

impl Operation {
    /// When `request-deadline` is over. Who asks answers for it: the session no longer does.
    pub(super) fn deadline(&self) -> Instant {
        self.wait_for_ever();
        let ends = self.arrived.saturating_add(self.worker.limits.deadline);
        Instant::now() + Duration::from_micros(ends.saturating_sub(self.worker.clock.tick()))
    }

    /// The primaries of all shards, once every slot has one; `owner-wait` or the deadline at most.
    pub(super) async fn all_primaries(&self) -> Result<Vec<NodeId>, ProxyError> {
        timeout_at(self.deadline(), self.primaries()).await.unwrap_or(Err(ProxyError::ClusterDown))
    }

    /// Waits until a whole refresh that began after now is over, `owner-wait` or the deadline at most.
    pub(super) async fn look_afresh(&self) {
        let deadline = self.deadline();
        let round = self.worker.topology.next_round();
        self.worker.topology.report(Event::Refresh(Trigger::Redirect));
        let until = self.worker.clock.tick().saturating_add(self.worker.limits.owner_wait);
        while self.worker.topology.round() < round && self.worker.clock.tick() < until {
            let changed = self.worker.changed.notified();
            let _looked = timeout_at(deadline.min(Instant::now() + LOOK_AGAIN), changed).await;
            if Instant::now() >= deadline {
                return;
            }
        }
    }

    /// The shared lanes to `nodes`, once all are connected; those that are not within `owner-wait` are errors.
    async fn lanes(&self, nodes: &[NodeId], deadline: Instant) -> Vec<Result<Rc<Lane>, CallError>> {
        let until = self.worker.clock.tick().saturating_add(self.worker.limits.owner_wait);
        loop {
            let changed = self.worker.changed.notified();
            let lanes: Vec<Option<Rc<Lane>>> =
                nodes.iter().map(|&node| self.worker.usable_lane(node, self.resp)).collect();
            let comes = |node: &NodeId| {
                let table = self.worker.table.borrow();
                table.is_member(*node) && table.node(*node).is_some_and(|node| node.is_up())
            };
            let waits = nodes.iter().zip(&lanes).any(|(node, lane)| lane.is_none() && comes(node));
            if !waits || self.worker.clock.tick() >= until || Instant::now() >= deadline {
                return lanes.into_iter().map(|lane| lane.ok_or(CallError::NoNode)).collect();
            }
            let _looked = timeout_at(deadline.min(Instant::now() + LOOK_AGAIN), changed).await;
        }
    }

    /// Sends `push`, which owes `frames` frames, to each of `nodes` at once, when all can be reached. Answers in
    /// the order of `nodes`.
    pub(super) async fn push_each(&self, nodes: &[NodeId], push: &[u8], frames: u16) -> Vec<Answer> {
        let deadline = self.deadline();
        let lanes = self.lanes(nodes, deadline).await;
        self.mark_sent();
        if self.command.may_replicate() {
            let mut inner = self.session.inner();
            nodes.iter().for_each(|&node| inner.written.add(NO_SLOT, node, &self.worker.losses));
        }
        let room = Room::new(self.worker.limits.merge_reply_bytes, &self.worker.budget);
        let send = |lane: Result<Rc<Lane>, CallError>| {
            lane?.call_sharing(&self.worker, push, frames, &room).ok_or(CallError::QueueFull)
        };
        let calls: Vec<_> = nodes.iter().copied().zip(lanes.into_iter().map(send)).collect();
        let mut answers = Vec::with_capacity(calls.len());
        // A call is kept to the end: what it holds is charged as long.
        for (node, call) in &calls {
            let answer = match call {
                Ok(call) => timeout_at(deadline, call.frames()).await.unwrap_or(Err(CallError::Late)),
                Err(error) => Err(*error),
            };
            answers.push((*node, answer));
        }
        answers
    }

    /// The error of an operation that some nodes did not do: `first`, and the nodes by name.
    pub(super) fn partial(&self, first: &str, tally: &Tally) -> Failure {
        let names = |nodes: &[NodeId]| {
            let name = |node: &NodeId| match self.worker.topology.node(*node) {
                Some(node) => node.addr.to_string(),
                None => "a node that is gone".to_owned(),
            };
            nodes.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        let parts = [("done", &tally.done), ("not done", &tally.not_done), ("unknown", &tally.unknown)];
        let parts = parts.iter().filter(|(_, nodes)| !nodes.is_empty());
        let parts: Vec<String> = parts.map(|(word, nodes)| format!("{word} at {}", names(nodes))).collect();
        let mut frame = Vec::new();
        encode::error(&mut frame, format!("{first} ({})", parts.join("; ")));
        self.worker.counters.error(ProxyError::PartlyFailed);
        Failure::Frame(frame)
    }

    /// The same for an error of ours. Where nothing was done anywhere it needs no names.
    pub(super) fn partial_error(&self, first: ProxyError, tally: &Tally) -> Failure {
        if tally.done.is_empty() && tally.unknown.is_empty() {
            return Failure::Error(first);
        }
        self.partial(first.text(), tally)
    }
}
