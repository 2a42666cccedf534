//! What the kernel says of this process, from `/proc`. A file that is missing or odd reads as 0.

use std::fs;

/// Ticks per second of the times in `/proc`: part of Linux' interface to user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident_bytes: f64,
    /// Virtual memory in bytes.
    pub virtual_bytes: f64,
    /// Open file descriptors.
    pub open_fds: f64,
    /// Soft limit of them.
    pub max_fds: f64,
    /// Threads.
    pub threads: f64,
    /// Start, in seconds since 1970.
    pub start_seconds: f64,
}

impl Process {
    /// Reads `/proc/self`.
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field is the program's name and may hold anything; the rest is numbers.
        let numbers: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks =
            |index: usize| numbers.get(index).and_then(|n| n.parse().ok()).unwrap_or(0.0) / TICKS_PER_SECOND;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self {
            cpu_seconds: ticks(11) + ticks(12),
            start_seconds: number_after(&boot, "btime") + ticks(19),
            resident_bytes: number_after(&status, "VmRSS:") * 1024.0,
            virtual_bytes: number_after(&status, "VmSize:") * 1024.0,
            threads: number_after(&status, "Threads:"),
            max_fds: number_after(&limits, "Max open files"),
            open_fds: fs::read_dir("/proc/self/fd").map_or(0.0, |fds| fds.count() as f64),
        }
    }
}

/// The first number after `name`, which begins a line.
fn number_after(text: &str, name: &str) -> f64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let me = Process::read();
        assert!(me.resident_bytes > 1e5 && me.virtual_bytes >= me.resident_bytes, "{me:?}");
        assert!(me.open_fds >= 3.0 && me.max_fds >= me.open_fds && me.threads >= 1.0, "{me:?}");
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(me.start_seconds > now - 86_400.0 && me.start_seconds < now + 2.0, "{me:?} {now}");
    }
}
