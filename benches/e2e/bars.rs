//! The bars on the data path, as data.
//!
//! CPU per request of slotway with one worker divided by that of a reference with one thread: the median over the
//! rounds of a run must not be above the bar. The reference `predixy` is whatever was named so on the command line.

/// Target whose ratios are held against the bars.
pub const SUBJECT: &str = "slotway-1";

/// The references that have bars.
pub const REFERENCES: [&str; 2] = ["predixy", "haproxy"];

/// Workload, bar against each of `REFERENCES`.
const BARS: &[(&str, [f64; 2])] = &[
    ("p1", [1.00, 0.78]),
    ("c1000", [1.00, 0.63]),
    ("p16", [0.75, 1.4]),
    ("p64", [0.60, 1.9]),
    ("mget10", [0.75, 1.3]),
    ("mset10", [0.75, 1.0]),
    ("get16k", [0.95, 1.0]),
    ("get1m", [0.90, 1.3]),
];

/// System calls per request at most, by workload.
pub const SYSCALLS: (&str, f64) = ("p1", 2.4);

/// Bytes per idle connection after one GET at most.
pub const IDLE_BYTES: f64 = 2_048.0;

/// p99 of connections that use only other nodes while one is frozen, divided by that before, at most.
pub const FROZEN_P99: f64 = 2.0;

/// p99 of others while many clients wait in BLPOP, divided by that before, at most.
pub const BLOCKED_P99: f64 = 2.0;

/// The bar for a workload against a reference.
pub fn bar(workload: &str, reference: &str) -> Option<f64> {
    let column = REFERENCES.iter().position(|name| *name == reference)?;
    let (_, bars) = BARS.iter().find(|(name, _)| *name == workload)?;
    bars.get(column).copied()
}

/// How a value stands against its bar.
pub fn verdict(value: f64, bar: f64) -> &'static str {
    if value <= bar { "met" } else { "missed" }
}
