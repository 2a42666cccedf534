//! The phases of one measurement, and what is counted in each.
//!
//! A request belongs to the phase in which it was due, whenever its reply came.

use std::time::Duration;

use super::schedule::Side;
use crate::histogram::Histogram;

/// How many phases there are.
pub const PHASES: usize = 4;
/// Their names: all nodes run; one is stopped; it has just been woken and works through what was sent to it; later.
pub const NAMES: [&str; PHASES] = ["before", "frozen", "woken", "after"];
/// Place of the phase in which the node is stopped.
pub const FROZEN: usize = 1;
/// Runs before the first phase and is not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// When each phase is.
pub struct Phases {
    /// Length of each.
    pub length: Duration,
}

impl Phases {
    /// All of it, the warm-up included.
    pub fn total(&self) -> Duration {
        self.begin(PHASES as u32)
    }

    /// When the node is stopped.
    pub fn freeze_at(&self) -> Duration {
        self.begin(FROZEN as u32)
    }

    /// When it continues.
    pub fn wake_at(&self) -> Duration {
        self.begin(FROZEN as u32 + 1)
    }

    fn begin(&self, phase: u32) -> Duration {
        WARM_UP + self.length * phase
    }

    /// The phase of a moment; None in the warm-up.
    pub fn of(&self, moment: Duration) -> Option<usize> {
        let since = moment.checked_sub(WARM_UP)?;
        Some((since.as_secs_f64() / self.length.as_secs_f64()) as usize)
    }
}

/// What one phase found.
#[derive(Default)]
pub struct Count {
    /// From the moment a request was due to its reply, connections that use only the other nodes.
    pub latency: Histogram,
    /// Requests of these connections; all got the node's own reply.
    pub others: u64,
    /// Requests of the connections that use only the node that freezes.
    pub frozen: u64,
    /// How many of those got the deadline's error.
    pub deadline: u64,
    /// How late the generator sent, all connections.
    pub late: Histogram,
}

impl Count {
    /// Adds one answered request.
    pub fn add(&mut self, side: Side, deadline: bool, latency: Duration) {
        match side {
            Side::Others => {
                self.others += 1;
                self.latency.record(latency);
            }
            Side::Frozen => {
                self.frozen += 1;
                self.deadline += u64::from(deadline);
            }
        }
    }
}
