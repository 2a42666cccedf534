//! INFO: the proxy in the form of a standalone Redis server.
//!
//! Only what is known is told. What a proxy has no number for (replication offsets, memory of nodes) is left out
//! or empty, never made up; keys, hits, evictions and their policy are the nodes', added up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Facts, Gauges, LocalEnv, NodesInfo};
use crate::command::CommandTable;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::Resp;

/// Sections in the order they are shown; `false`: only if asked for, by name or as part of `all`.
const SECTIONS: &[(&str, bool, Write)] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Modules", true, |_| {}),
    ("Commandstats", false, commandstats),
    ("Errorstats", true, errorstats),
    ("Latencystats", false, |_| {}),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
];

/// Sections that show something of the nodes' data.
const OF_NODES: &[&str] = &["Memory", "Stats", "Keyspace"];

/// Writes the fields of one section.
type Write = fn(&mut Section<'_>);

/// Where a section's fields go, and where their values come from.
struct Section<'a> {
    table: &'a CommandTable,
    facts: &'a dyn Facts,
    gauges: &'a Gauges,
    nodes: Option<&'a NodesInfo>,
    text: &'a mut String,
}

/// Whether the nodes have something to say in this INFO.
pub(super) fn wants_nodes(args: &Args) -> bool {
    sections(args).any(|(name, ..)| OF_NODES.contains(name))
}

/// Sections named in any letter case; `default` or no name: those a server shows unasked; `all`, `everything`:
/// every section.
fn sections<'a>(args: &'a Args) -> impl Iterator<Item = &'static (&'static str, bool, Write)> + 'a {
    let named = |name: &str| args.iter().skip(1).any(|arg| arg.eq_ignore_ascii_case(name.as_bytes()));
    let default = args.len() == 1 || named("default");
    let every = ["all", "everything"].into_iter().any(named);
    SECTIONS.iter().filter(move |(name, shown, _)| every || (default && *shown) || named(name))
}

/// Answers INFO. `nodes`: what all primaries said; without it their part is left out.
pub fn reply(env: &LocalEnv<'_>, resp: Resp, args: &Args, nodes: Option<&NodesInfo>, out: &mut Vec<u8>) {
    let gauges = env.facts.gauges();
    let mut text = String::new();
    for (name, _, write) in sections(args) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(&format!("# {name}\r\n"));
        write(&mut Section { table: env.table, facts: env.facts, gauges: &gauges, nodes, text: &mut text });
    }
    encode::verbatim(out, resp, &text);
}

impl Section<'_> {
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{name}:{value}\r\n");
    }

    fn fields(&mut self, fields: &[(&str, &str)]) {
        fields.iter().for_each(|(name, value)| self.field(name, value));
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
    section.field("multiplexing_api", "epoll");
    section.field("process_id", std::process::id());
    section.field("process_supervised", "no");
    section.field("run_id", section.facts.run_id());
    section.field("tcp_port", section.facts.tcp_port());
    section.field("server_time_usec", now.as_micros());
    section.field("uptime_in_seconds", uptime);
    section.field("uptime_in_days", uptime / 86_400);
    if let Ok(path) = std::env::current_exe() {
        section.field("executable", path.display());
    }
    section.field("io_threads_active", u8::from(section.gauges.workers > 1));
}

fn clients(section: &mut Section) {
    section.field("connected_clients", section.gauges.connected_clients);
    section.field("cluster_connections", 0);
    section.field("maxclients", section.gauges.max_clients);
    section.field("blocked_clients", section.gauges.blocked_clients);
    section.field("tracking_clients", section.gauges.tracking_clients);
    section.field("clients_in_timeout_table", 0);
}

fn memory(section: &mut Section) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let resident = status_bytes(&status, "VmRSS:");
    let peak = status_bytes(&status, "VmHWM:");
    section.bytes("used_memory", resident);
    section.bytes("used_memory_rss", resident);
    section.bytes("used_memory_peak", peak);
    let percent = resident as f64 * 100.0 / peak.max(1) as f64;
    section.field("used_memory_peak_perc", format_args!("{percent:.2}%"));
    section.bytes("total_system_memory", status_bytes(&machine, "MemTotal:"));
    section.bytes("used_memory_lua", 0);
    section.bytes("maxmemory", section.gauges.max_memory);
    if let Some(nodes) = section.nodes {
        section.field("maxmemory_policy", &nodes.policy);
    }
    section.field("active_defrag_running", 0);
}

/// A proxy has no data of its own: nothing loads, nothing is saved, nothing of it failed.
fn persistence(section: &mut Section) {
    section.fields(&[
        ("loading", "0"),
        ("async_loading", "0"),
        ("current_fork_perc", "0.00"),
        ("rdb_changes_since_last_save", "0"),
        ("rdb_bgsave_in_progress", "0"),
        ("rdb_last_bgsave_status", "ok"),
        ("rdb_last_bgsave_time_sec", "-1"),
        ("rdb_current_bgsave_time_sec", "-1"),
        ("aof_enabled", "0"),
        ("aof_rewrite_in_progress", "0"),
        ("aof_rewrite_scheduled", "0"),
        ("aof_last_rewrite_time_sec", "-1"),
        ("aof_current_rewrite_time_sec", "-1"),
        ("aof_last_bgrewrite_status", "ok"),
        ("aof_last_write_status", "ok"),
    ]);
}

fn stats(section: &mut Section) {
    let Gauges { rates, .. } = *section.gauges;
    let kib = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    section.field("total_connections_received", section.gauges.total_connections);
    section.field("total_commands_processed", section.gauges.total_commands);
    section.field("instantaneous_ops_per_sec", rates.commands);
    section.field("total_net_input_bytes", section.gauges.input_bytes);
    section.field("total_net_output_bytes", section.gauges.output_bytes);
    section.field("instantaneous_input_kbps", kib(rates.bytes_in));
    section.field("instantaneous_output_kbps", kib(rates.bytes_out));
    section.field("rejected_connections", section.gauges.rejected_connections);
    section.fields(&[("sync_full", "0"), ("sync_partial_ok", "0"), ("sync_partial_err", "0")]);
    if let Some(nodes) = section.nodes {
        section.field("expired_keys", nodes.expired);
        section.field("evicted_keys", nodes.evicted);
        section.field("keyspace_hits", nodes.hits);
        section.field("keyspace_misses", nodes.misses);
    }
    section.field("pubsub_channels", section.gauges.channels);
    section.field("pubsub_patterns", section.gauges.patterns);
    section.field("pubsubshard_channels", section.gauges.shard_channels);
    section.fields(&[("latest_fork_usec", "0"), ("total_forks", "0")]);
}

fn replication(section: &mut Section) {
    section.field("role", "master");
    section.field("connected_slaves", 0);
    section.field("master_failover_state", "no-failover");
    section.field("master_replid", section.facts.run_id());
    section.field("master_replid2", "0".repeat(40));
    section.fields(&[
        ("master_repl_offset", "0"),
        ("second_repl_offset", "-1"),
        ("repl_backlog_active", "0"),
        ("repl_backlog_size", "0"),
        ("repl_backlog_first_byte_offset", "0"),
        ("repl_backlog_histlen", "0"),
    ]);
}

fn cpu(section: &mut Section) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (user, system) = cpu_seconds(&stat);
    section.field("used_cpu_sys", format_args!("{system:.6}"));
    section.field("used_cpu_user", format_args!("{user:.6}"));
    section.fields(&[("used_cpu_sys_children", "0.000000"), ("used_cpu_user_children", "0.000000")]);
}

/// How often each command was received. How long each took the proxy does not measure by command.
fn commandstats(section: &mut Section) {
    for (command, calls) in section.table.iter().zip(section.facts.command_calls()) {
        if calls > 0 {
            section.field(&format!("cmdstat_{}", command.name), format_args!("calls={calls}"));
        }
    }
}

/// The errors the proxy itself answered with, by their first word.
fn errorstats(section: &mut Section) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (error, count) in ProxyError::ALL.iter().zip(section.facts.error_counts()) {
        *counts.entry(error.text().split(' ').next().unwrap_or_default()).or_default() += count;
    }
    for (code, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        section.field(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

/// Clients that see 1 here would ask for slots; to them this is one server.
fn cluster(section: &mut Section) {
    section.field("cluster_enabled", 0);
}

/// The keys of all shards, as the one database there is.
fn keyspace(section: &mut Section) {
    if let Some(nodes) = section.nodes.filter(|nodes| nodes.keys > 0) {
        let (keys, expires, ttl) = (nodes.keys, nodes.expires, nodes.avg_ttl());
        section.field("db0", format_args!("keys={keys},expires={expires},avg_ttl={ttl}"));
    }
}

// === numbers of the operating system ===

/// A field of /proc/self/status or /proc/meminfo, which is in KiB; 0 where there is none.
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
