//! Log lines: text or JSON on stderr, and a brake for warnings that repeat.
//!
//! No line may carry a key, a value or a password; nothing here can check that, every caller must.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::filter::LevelFilter;

use crate::config::{LogFormat, LogLevel};

/// Sets the process' logger. A second call changes nothing: in tests several proxies share a process.
pub fn init(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let _already_set = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
}

/// Lets one event pass per interval and counts the others. For a `static`; off the path only.
///
/// ```
/// use slotway::telemetry::logging::Brake;
/// static BRAKE: Brake = Brake::every_ms(1000);
/// if let Some(suppressed) = BRAKE.pass() {
///     tracing::warn!(suppressed, "node refused the connection");
/// }
/// ```
pub struct Brake {
    interval_ms: u64,
    /// `clock_ms` + 1 of the last event that passed; 0 before the first.
    last: AtomicU64,
    suppressed: AtomicU64,
}

impl Brake {
    /// One event per `interval_ms` passes.
    pub const fn every_ms(interval_ms: u64) -> Self {
        Self { interval_ms, last: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// `Some` when this event may be logged, with the number of those that were not since the last.
    pub fn pass(&self) -> Option<u64> {
        let now = super::clock_ms() + 1;
        let last = self.last.load(Ordering::Relaxed);
        let due = last == 0 || now >= last + self.interval_ms;
        if due && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn repeated_events_are_counted_not_logged() {
        let brake = Brake::every_ms(20);
        assert_eq!(brake.pass(), Some(0));
        assert_eq!((brake.pass(), brake.pass()), (None, None));
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_eq!(brake.pass(), Some(2));
    }
}
