//! Which node owns which slot, and how we know. A refresh never blocks a request; a table is never
//! edited, only replaced.
//!
//! `service` is one task on the main thread: `schedule` says when to refresh, `round` asks (over the
//! `control` connections and, failing those, the seeds), `parse` makes a view of each answer, `judge`
//! and `merge` compare the views, `publish` makes the table. Everybody else holds the [`Topology`]
//! handle: reads the table, reports events, watches the generation.
//!
//! `learn` reads the commands of nodes whose version or modules are new to us.
//!
//! Where the seeds lead to sentinels (`sentinel`) or to one server (`standalone`) a round asks otherwise, and one
//! primary owns all slots (`server`); all the rest is the same.
//!
//! # Which views count, and what they come to
//!
//! A single node's word can be wrong: it may be partitioned away, new, forgotten by the others,
//! behind, or (addresses are reused) of another cluster. So several nodes are asked at once, and:
//!
//! 1. **Joining**: a view without slots, or whose own line is flagged `handshake`, says nothing.
//! 2. **Cut off**: a node that does not see a majority of the slot-owning primaries healthy (not
//!    `fail`, not `fail?`, link connected) is on the wrong side of a partition. The bound is Redis'
//!    own for taking writes.
//! 3. **Forgotten**: most of the asked nodes that it lists do not list it; or it lists nobody while
//!    others list it (it was reset). A single view of a node the current picture does not know is
//!    treated alike.
//! 4. **Foreign**: views are grouped by who lists whom; of groups that share a node id with the
//!    current picture the one with most fit views is taken, all others are foreign. When no group
//!    shares an id **and** every reachable known node and every seed has been asked, the cluster was
//!    rebuilt: then the largest group starts afresh.
//! 5. **Failing**: `cluster_state:fail` disqualifies as long as another view says `ok`.
//!
//! The views left are merged per slot as Redis nodes settle it between themselves: the claim with
//! the highest config epoch wins (each view's claim with the epoch *that view* knows, so that a view
//! that lags cannot borrow authority); a claim for a node that is itself among the views and does
//! not claim the slot is void. Against the current picture a claim with a **lower** epoch is held
//! back, unless the present owner's own view gives the slot up, or all views have the owner as
//! `fail` or do not know it, or all views said the same in three rounds before. A refused or held
//! round is repeated soon; nothing is final.
//!
//! With no fit view, and no current picture or no node of it connected, the largest group is taken
//! for the time being (`tentative`): it protects nothing and does not make the proxy ready.
//!
//! From the merged picture no traffic goes to, and no connection is made to: nodes that most others
//! flag `fail`, lines flagged `handshake`, nodes without an address, nodes without slots (but a
//! redirect to one is followed), replicas that most others flag `fail?` or have no link to, and
//! nodes known to less than half of the views. A primary flagged `fail?` only is one node's
//! suspicion: it stays. A node's address is what most *other* nodes say, for a pod that was moved
//! may not know its new address.

pub mod claims;
pub mod node;
pub mod own;
pub mod table;

mod agreed;
mod control;
mod fetch;
mod gather;
mod handle;
mod health;
mod heard;
mod judge;
mod learn;
mod link;
mod merge;
mod parse;
mod publish;
mod registry;
mod render;
mod round;
mod schedule;
mod sentinel;
mod server;
mod service;
mod settings;
mod snapshot;
mod standalone;
mod stats;
mod view;
mod watch;
mod wire;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod judge_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod parse_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod show_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod testkit;

pub use agreed::Ignored;
pub use fetch::{TopologyError, fetch_once};
pub use handle::{Event, NodeState, Topology};
pub use health::Down;
pub use heard::Unable;
pub use judge::Verdict;
pub use registry::{HARD_NODES, NodeRegistry, QUARANTINE, SOFT_NODES};
pub use render::{render_json, render_text};
pub use service::TopologyTask;
pub use settings::{SentinelSettings, TopologyConfig, Upstream};
pub use snapshot::{
    FailureSnapshot, IgnoredSnapshot, MigrationSnapshot, NodeSnapshot, ShardSnapshot, Snapshot,
    UncoveredSnapshot, ViewSnapshot,
};
pub use stats::{RefreshResult, TopologyStats, Trigger};
