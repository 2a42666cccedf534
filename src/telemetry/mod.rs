//! Metrics and logs. Counting on the path of a request is a plain add in the worker's own memory;
//! everything else here runs about once a second or at a scrape.

pub mod counters;
pub mod histogram;
pub mod labels;
pub mod logging;
pub mod names;
mod process;
mod publish;
pub mod snapshot;
mod text;

pub use counters::Counters;
pub use labels::{CloseReason, CommandClass, ReadRole, RedirectKind};
pub use publish::{NodeGauge, ReplicaGauge, Telemetry, TopologyGauges};

/// Milliseconds since this process first asked: a clock for heartbeats that no one can set.
pub fn clock_ms() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_millis() as u64
}
