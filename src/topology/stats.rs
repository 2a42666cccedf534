//! Counters and gauges of the topology service, as plain atomics that telemetry publishes. Written
//! by the topology task only, with relaxed order: nothing is decided by them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::agreed::Ignored;

/// Why a refresh was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The process started, or has never seen the cluster.
    Start,
    /// `refresh-interval` passed.
    Timer,
    /// A node redirected a request.
    Redirect,
    /// A connection to a node was lost, or a node fell silent.
    ConnectionLost,
    /// A connect failed.
    ConnectFailed,
    /// Slots have no owner.
    Uncovered,
    /// A primary does not own the slots it owned before.
    Moving,
    /// A sentinel announced something, or was connected.
    Sentinel,
    /// A server that is no cluster node is not the primary, or the replica, it was.
    Role,
}

impl Trigger {
    /// All of them, in the order of the metric.
    pub const ALL: [Trigger; 9] = [
        Trigger::Start,
        Trigger::Timer,
        Trigger::Redirect,
        Trigger::ConnectionLost,
        Trigger::ConnectFailed,
        Trigger::Uncovered,
        Trigger::Moving,
        Trigger::Sentinel,
        Trigger::Role,
    ];

    /// Label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Trigger::Start => "start",
            Trigger::Timer => "timer",
            Trigger::Redirect => "redirect",
            Trigger::ConnectionLost => "connection_lost",
            Trigger::ConnectFailed => "connect_failed",
            Trigger::Uncovered => "uncovered",
            Trigger::Moving => "moving",
            Trigger::Sentinel => "sentinel",
            Trigger::Role => "role",
        }
    }
}

/// What came of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefreshResult {
    /// A new table.
    Changed,
    /// The table stands.
    Same,
    /// Nodes answered, but no view could be taken.
    Rejected,
    /// No node answered.
    Failed,
}

impl RefreshResult {
    /// All of them, in the order of the metric.
    pub const ALL: [RefreshResult; 4] =
        [RefreshResult::Changed, RefreshResult::Same, RefreshResult::Rejected, RefreshResult::Failed];

    /// Label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            RefreshResult::Changed => "changed",
            RefreshResult::Same => "same",
            RefreshResult::Rejected => "rejected",
            RefreshResult::Failed => "failed",
        }
    }
}

/// Counters and gauges of the topology service.
#[derive(Debug)]
pub struct TopologyStats {
    born: Instant,
    refreshes: [[AtomicU64; 4]; 9],
    ignored: [AtomicU64; 6],
    /// Milliseconds from `born` to the last accepted round, plus one; 0 = never.
    accepted_ms: AtomicU64,
    events_dropped: AtomicU64,
    ejections: AtomicU64,
}

impl TopologyStats {
    pub(crate) fn new() -> Self {
        Self {
            born: Instant::now(),
            refreshes: Default::default(),
            ignored: Default::default(),
            accepted_ms: AtomicU64::new(0),
            events_dropped: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
        }
    }

    /// Refreshes so far (`slotway_topology_refreshes_total{trigger,result}`).
    pub fn refreshes(&self, trigger: Trigger, result: RefreshResult) -> u64 {
        self.refreshes[trigger as usize][result as usize].load(Ordering::Relaxed)
    }

    /// Rows of the last accepted view that get no traffic, by reason.
    pub fn ignored(&self, why: Ignored) -> u64 {
        self.ignored[why as usize].load(Ordering::Relaxed)
    }

    /// All refresh counts as (trigger, result, count).
    pub fn refresh_counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let each = Trigger::ALL.into_iter().flat_map(|t| RefreshResult::ALL.into_iter().map(move |r| (t, r)));
        each.map(|(t, r)| (t.label(), r.label(), self.refreshes(t, r))).collect()
    }

    /// All ignored rows as (reason, count).
    pub fn ignored_counts(&self) -> Vec<(&'static str, u64)> {
        Ignored::ALL.into_iter().map(|why| (why.label(), self.ignored(why))).collect()
    }

    /// Time since the table was last confirmed (`slotway_topology_age_seconds`); `None` before the
    /// first.
    pub fn age(&self) -> Option<Duration> {
        let at = self.accepted_ms.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.born.elapsed().saturating_sub(Duration::from_millis(at)))
    }

    /// Events of workers dropped because the mailbox was full; a refresh was pending then.
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped.load(Ordering::Relaxed)
    }

    /// How often a node was taken out.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    pub(crate) fn count_refresh(&self, trigger: Trigger, result: RefreshResult) {
        self.refreshes[trigger as usize][result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped_event(&self) {
        self.events_dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_accepted(&self, ignored: impl Iterator<Item = Ignored>) {
        let mut counts = [0; 6];
        ignored.for_each(|why| counts[why as usize] += 1);
        for (gauge, count) in self.ignored.iter().zip(counts) {
            gauge.store(count, Ordering::Relaxed);
        }
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.accepted_ms.store(now + 1, Ordering::Relaxed);
    }
}
