//! INFO: the proxy in the form of a standalone Redis server.
//!
//! Only what is known is told. What a proxy has no number for (hits, keys, replication offsets of nodes) is left
//! out or empty, never made up.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Facts, Gauges, LocalEnv};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::Resp;

/// Sections in the order they are shown.
const SECTIONS: &[(&str, Write)] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    ("Modules", |_| {}),
    ("Errorstats", |_| {}),
    ("Cluster", cluster),
    ("Keyspace", |_| {}),
];

/// Writes the fields of one section.
type Write = fn(&mut Section<'_>);

/// Where a section's fields go, and where their values come from.
struct Section<'a> {
    facts: &'a dyn Facts,
    gauges: &'a Gauges,
    text: &'a mut String,
}

/// Sections named in any letter case; `all`, `everything`, `default` or no name: every section.
pub(super) fn reply(env: &LocalEnv<'_>, resp: Resp, args: &Args, out: &mut Vec<u8>) {
    let named = |name: &str| args.iter().skip(1).any(|arg| arg.eq_ignore_ascii_case(name.as_bytes()));
    let every = args.len() == 1 || ["all", "everything", "default"].into_iter().any(named);
    let gauges = env.facts.gauges();
    let mut text = String::new();
    for (name, write) in SECTIONS.iter().filter(|(name, _)| every || named(name)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(&format!("# {name}\r\n"));
        write(&mut Section { facts: env.facts, gauges: &gauges, text: &mut text });
    }
    encode::verbatim(out, resp, &text);
}

impl Section<'_> {
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{name}:{value}\r\n");
    }

    /// A number of bytes, and the same for people.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.field(name, bytes);
        self.field(&format!("{name}_human"), human(bytes));
    }
}

fn server(section: &mut Section) {
    let uptime = section.facts.started().elapsed().as_secs();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    section.field("redis_version", section.facts.redis_version());
    section.field("redis_mode", "standalone");
    section.field("slotway_version", env!("CARGO_PKG_VERSION"));
    section.field("os", format_args!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    section.field("arch_bits", usize::BITS);
    section.field("process_id", std::process::id());
    section.field("run_id", section.facts.run_id());
    section.field("tcp_port", section.facts.tcp_port());
    section.field("server_time_usec", now.as_micros());
    section.field("uptime_in_seconds", uptime);
    section.field("uptime_in_days", uptime / 86_400);
}

fn clients(section: &mut Section) {
    section.field("connected_clients", section.gauges.connected_clients);
    section.field("maxclients", section.gauges.max_clients);
    section.field("blocked_clients", 0);
    section.field("tracking_clients", 0);
}

fn memory(section: &mut Section) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status_bytes(&status, "VmRSS:");
    section.bytes("used_memory", resident);
    section.bytes("used_memory_rss", resident);
    section.bytes("used_memory_peak", status_bytes(&status, "VmHWM:"));
    section.bytes("maxmemory", section.gauges.max_memory);
    section.field("maxmemory_policy", "noeviction");
}

/// A proxy has no data of its own: nothing loads, nothing is saved.
fn persistence(section: &mut Section) {
    section.field("loading", 0);
    section.field("async_loading", 0);
    section.field("rdb_bgsave_in_progress", 0);
    section.field("aof_enabled", 0);
    section.field("aof_rewrite_in_progress", 0);
}

fn stats(section: &mut Section) {
    section.field("total_connections_received", section.gauges.total_connections);
    section.field("total_commands_processed", section.gauges.total_commands);
    section.field("total_net_input_bytes", section.gauges.input_bytes);
    section.field("total_net_output_bytes", section.gauges.output_bytes);
    section.field("rejected_connections", section.gauges.rejected_connections);
}

fn replication(section: &mut Section) {
    section.field("role", "master");
    section.field("connected_slaves", 0);
    section.field("master_failover_state", "no-failover");
    section.field("master_replid", section.facts.run_id());
    section.field("master_repl_offset", 0);
}

fn cpu(section: &mut Section) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (user, system) = cpu_seconds(&stat);
    section.field("used_cpu_sys", format_args!("{system:.6}"));
    section.field("used_cpu_user", format_args!("{user:.6}"));
}

/// Clients that see 1 here would ask for slots; to them this is one server.
fn cluster(section: &mut Section) {
    section.field("cluster_enabled", 0);
}

// === numbers of the operating system ===

/// A field of /proc/self/status, which is in KiB; 0 where there is none.
fn status_bytes(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// User and system time of /proc/self/stat, which counts in hundredths of a second (USER_HZ).
fn cpu_seconds(stat: &str) -> (f64, f64) {
    // The name in brackets may contain blanks; utime and stime are the 12th and 13th field after it.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut times =
        fields.split_whitespace().skip(11).map(|field| field.parse::<f64>().unwrap_or(0.0) / 100.0);
    (times.next().unwrap_or(0.0), times.next().unwrap_or(0.0))
}

/// Bytes as Redis words them: two digits after the point, powers of 1024.
fn human(bytes: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_says() {
        assert_eq!(status_bytes("Name:\tx\nVmRSS:\t   12 kB\n", "VmRSS:"), 12 * 1024);
        assert_eq!(status_bytes("", "VmRSS:"), 0);
        let stat = "1 (a) b) S 1 1 1 0 -1 4 5 6 7 8 150 25 0 0";
        assert_eq!(cpu_seconds(stat), (1.5, 0.25));
        assert_eq!(cpu_seconds(""), (0.0, 0.0));
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
