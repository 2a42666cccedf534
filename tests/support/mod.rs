//! What the tests stand on: processes that cannot outlive the test run, real clusters, fake nodes,
//! the proxy binary, a byte-level client. Nothing here knows what a test wants to prove.

#[macro_use]
pub mod client;
pub mod cluster;
pub mod fake_sentinel;
pub mod hole;
pub mod hosts;
pub mod http;
pub mod keys;
pub mod load;
pub mod node;
pub mod node_topology;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod resp;
pub mod sentinel;
pub mod server;
pub mod shared;

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for anything that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `probe` until it answers `Ok`; panics with its last `Err` when `PATIENCE` has passed.
#[track_caller]
pub fn eventually<T, E: Debug>(what: &str, probe: impl FnMut() -> Result<T, E>) -> T {
    within(PATIENCE, what, probe)
}

/// `eventually` with a deadline of its own.
#[track_caller]
pub fn within<T, E: Debug>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) if start.elapsed() > limit => {
                panic!("{what}: not within {limit:?}; last seen: {last:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// `Ok` when `holds`; for probes that have only a condition and something to show.
pub fn check<E>(holds: bool, otherwise: E) -> Result<(), E> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// Taken by tests that use much memory or both cores, so that only one of them runs at a time.
pub fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Raises this process's soft limit of open files to `wanted`, as far as the hard one allows; how many
/// are allowed now. Children inherit it.
pub fn allow_files(wanted: u64) -> u64 {
    let limit = |column: usize| {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap_or_default();
        line.split_whitespace().nth(column).and_then(|n| n.parse::<u64>().ok()).unwrap_or(u64::MAX)
    };
    let (soft, hard) = (limit(3), limit(4));
    if soft < wanted {
        let pid = std::process::id().to_string();
        let nofile = format!("--nofile={}:", wanted.min(hard));
        let _ = std::process::Command::new("prlimit").args(["--pid", &pid, &nofile]).status();
    }
    limit(3)
}

/// Tells the helper threads of a scope to end.
#[derive(Default)]
pub struct Stop(AtomicBool);

impl Stop {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Sets it when the guard goes, so that a failing test does not wait for its helpers for ever.
    pub fn at_end(&self) -> AtEnd<'_> {
        AtEnd(self)
    }
}

/// Guard of `Stop::at_end`.
pub struct AtEnd<'a>(&'a Stop);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn set(names: &[&str]) -> bool {
    names.iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0"))
}

/// Says loudly that a test did not run; fails where `CI` or `REQUIRE_REDIS` forbids that.
pub fn skip(why: &str) {
    assert!(!set(&["CI", "REQUIRE_REDIS"]), "a test cannot run and CI or REQUIRE_REDIS is set: {why}");
    eprintln!("\n*** SKIPPED, NOT PROVEN: {why} ***\n");
}

/// As `skip`, for what many machines lack (privileges, memory, limits): only `REQUIRE_ALL` forbids it.
pub fn leave_out(why: &str) {
    assert!(!set(&["REQUIRE_ALL"]), "a test cannot run and REQUIRE_ALL is set: {why}");
    eprintln!("\n*** SKIPPED, NOT PROVEN: {why} ***\n");
}

/// Ends the test early, loudly, where there is no redis-server on PATH.
#[macro_export]
macro_rules! need_redis {
    () => {
        if !$crate::support::server::redis_present() {
            $crate::support::skip("redis-server is not on PATH");
            return;
        }
    };
}
