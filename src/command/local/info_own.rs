//! What INFO tells of the proxy itself, and the numbers of the operating system it needs for that.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Gauges, LocalEnv};

/// Where the proxy's own values come from.
pub struct Own<'a> {
    /// The process.
    pub env: &'a LocalEnv<'a>,
    /// Its numbers, read once.
    pub gauges: Gauges,
}

impl Own<'_> {
    /// Seconds since the start.
    pub fn uptime(&self) -> u64 {
        self.env.facts.started().elapsed().as_secs()
    }
}

/// Microseconds since 1970.
pub fn now(_: &Own<'_>) -> String {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros().to_string()
}

/// Path of the program; empty where the system does not tell.
pub fn executable(_: &Own<'_>) -> String {
    std::env::current_exe().map_or_else(|_| String::new(), |path| path.display().to_string())
}

/// Bytes as KiB, two digits after the point.
pub fn kib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1024.0)
}

/// Bytes as Redis words them: two digits after the point, powers of 1024.
pub fn human(bytes: u64) -> String {
    let units = ["K", "M", "G", "T"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = "K";
    for next in units.into_iter().skip(1) {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.2}{unit}")
}

/// Bytes of memory the process holds; 0 where the system does not tell.
pub fn resident() -> u64 {
    status_bytes(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS:")
}

/// The most it ever held.
pub fn resident_peak() -> u64 {
    status_bytes(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmHWM:")
}

/// Seconds of CPU the process has used, for itself and in the system.
pub fn cpu_seconds() -> (f64, f64) {
    stat_seconds(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default())
}

/// A field of /proc/self/status, which is in KiB; 0 where there is none.
fn status_bytes(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// User and system time of /proc/self/stat, which counts in hundredths of a second (USER_HZ).
fn stat_seconds(stat: &str) -> (f64, f64) {
    // The name in brackets may contain blanks; utime and stime are the 12th and 13th field after it.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut times =
        fields.split_whitespace().skip(11).map(|field| field.parse::<f64>().unwrap_or(0.0) / 100.0);
    (times.next().unwrap_or(0.0), times.next().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_says() {
        assert_eq!(status_bytes("Name:\tx\nVmRSS:\t   12 kB\n", "VmRSS:"), 12 * 1024);
        assert_eq!(status_bytes("", "VmRSS:"), 0);
        let stat = "1 (a) b) S 1 1 1 0 -1 4 5 6 7 8 150 25 0 0";
        assert_eq!(stat_seconds(stat), (1.5, 0.25));
        assert_eq!(stat_seconds(""), (0.0, 0.0));
    }

    #[test]
    fn words_bytes() {
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1_572_864, "1.50M"), (3 << 40, "3.00T")]
        {
            assert_eq!(human(bytes), text);
        }
    }
}
