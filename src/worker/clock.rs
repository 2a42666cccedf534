//! The worker's clock: read once per socket event, not once per request.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::telemetry::clock_ms;

/// Microseconds since the worker started, as of the last `tick`.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    now: Cell<u64>,
    /// The process' clock when the worker started.
    process_ms: u64,
}

impl Clock {
    /// Starts at zero.
    pub fn new() -> Self {
        Self { start: Instant::now(), now: Cell::new(0), process_ms: clock_ms() }
    }

    /// The time of the last `tick` on the process' clock, in milliseconds.
    pub fn process_ms(&self) -> u64 {
        self.process_ms + self.now.get() / 1_000
    }

    /// Reads the operating system's clock.
    #[inline]
    pub fn tick(&self) -> u64 {
        let now = self.start.elapsed().as_micros() as u64;
        self.now.set(now);
        now
    }

    /// The time of the last `tick`.
    #[inline]
    pub fn now(&self) -> u64 {
        self.now.get()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// A duration in the clock's unit.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
