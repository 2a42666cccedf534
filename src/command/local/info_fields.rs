//! The fields of INFO, one line each: the proxy's own, or what becomes of the values the primaries tell. The
//! README's table is made from this list. Pure data: values of the proxy are made in `info_own`, values of nodes
//! joined in `info_nodes`, lines that are named by data (commands, errors, databases) in `info_stats`.

use super::info_nodes::NodesInfo;
use super::info_own::{self as own, Own};
use super::info_stats as stats;

/// Where the value of a field comes from. But for `Own` it is shown only when every primary has told it: a sum
/// that lacks a shard for a while would read as a counter that fell.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The proxy.
    Own(fn(&Own<'_>) -> String),
    /// Added.
    Sum,
    /// The highest.
    Max,
    /// The lowest.
    Min,
    /// What all say; left out where they differ.
    Same,
    /// `ok` where all say so, else the first that does not.
    Worst,
    /// Added; 0, which is no limit, where one says 0.
    Limit,
    /// Another field's bytes for people.
    Human(&'static str),
    /// One field's sum divided by another's.
    Ratio(&'static str, &'static str),
    /// The same in per cent.
    Percent(&'static str, &'static str),
    /// The share of the data in what was not used at the start, in per cent.
    Dataset,
}

/// Writes lines that are named by data.
pub type Lines = fn(&Own<'_>, Option<&NodesInfo<'_>>, &mut String);

/// One section.
pub struct Section {
    /// Its name as shown.
    pub name: &'static str,
    /// Shown unasked, and by `default`.
    pub shown: bool,
    /// What it tells.
    pub fields: &'static [(&'static str, Source)],
    /// What else it tells, and in words where that comes from.
    pub lines: Option<(Lines, &'static str)>,
}

use Source::{Dataset, Human, Limit, Max, Min, Percent, Ratio, Same, Sum, Worst};

/// A value that never changes.
macro_rules! fixed {
    ($text:expr) => {
        Source::Own(|_| $text.to_owned())
    };
}

const fn section(name: &'static str, fields: &'static [(&'static str, Source)]) -> Section {
    Section { name, shown: true, fields, lines: None }
}

const fn lines(name: &'static str, shown: bool, lines: Lines, from: &'static str) -> Section {
    Section { name, shown, fields: &[], lines: Some((lines, from)) }
}

/// All sections in the order they are shown.
pub const SECTIONS: &[Section] = &[
    section("Server", SERVER),
    section("Clients", CLIENTS),
    section("Memory", MEMORY),
    section("Persistence", PERSISTENCE),
    section("Stats", STATS),
    section("Replication", REPLICATION),
    section("CPU", CPU),
    lines("Modules", true, stats::modules, "those that every primary has"),
    lines(
        "Commandstats",
        false,
        stats::commands,
        "primaries, added; of a command split over slots each part counts; what never goes to a node (PING, HELLO, \
         SUBSCRIBE …) as received by this instance, without times; `rejected_calls` counts what slotway refuses, too",
    ),
    lines(
        "Errorstats",
        true,
        stats::errors,
        "primaries, added; errors that slotway made are `errorstat_SLOTWAY_` and their kind, of this instance",
    ),
    lines("Latencystats", false, stats::latencies, "of each percentile the highest of all primaries"),
    section("Cluster", &[("cluster_enabled", fixed!("0"))]),
    lines("Keyspace", true, stats::keyspace, "primaries, added; `avg_ttl` is the mean over all their keys"),
];

const SERVER: &[(&str, Source)] = &[
    ("redis_version", Source::Own(|own| own.env.facts.redis_version())),
    ("redis_git_sha1", fixed!("00000000")),
    ("redis_git_dirty", fixed!("0")),
    ("redis_mode", fixed!("standalone")),
    ("slotway_version", fixed!(env!("CARGO_PKG_VERSION"))),
    ("os", Source::Own(|_| format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))),
    ("arch_bits", Source::Own(|_| usize::BITS.to_string())),
    ("monotonic_clock", fixed!("POSIX clock_gettime")),
    ("multiplexing_api", fixed!("epoll")),
    ("process_id", Source::Own(|_| std::process::id().to_string())),
    ("process_supervised", fixed!("no")),
    ("run_id", Source::Own(|own| own.env.facts.run_id())),
    ("tcp_port", Source::Own(|own| own.env.facts.tcp_port().to_string())),
    ("server_time_usec", Source::Own(own::now)),
    ("uptime_in_seconds", Source::Own(|own| own.uptime().to_string())),
    ("uptime_in_days", Source::Own(|own| (own.uptime() / 86_400).to_string())),
    ("executable", Source::Own(own::executable)),
    ("io_threads_active", Source::Own(|own| u8::from(own.gauges.workers > 1).to_string())),
];

const CLIENTS: &[(&str, Source)] = &[
    ("connected_clients", Source::Own(|own| own.gauges.connected_clients.to_string())),
    ("cluster_connections", fixed!("0")),
    ("maxclients", Source::Own(|own| own.gauges.max_clients.to_string())),
    ("blocked_clients", Source::Own(|own| own.gauges.blocked_clients.to_string())),
    ("tracking_clients", Source::Own(|own| own.gauges.tracking_clients.to_string())),
    ("clients_in_timeout_table", fixed!("0")),
];

const MEMORY: &[(&str, Source)] = &[
    ("used_memory", Sum),
    ("used_memory_human", Human("used_memory")),
    ("used_memory_rss", Sum),
    ("used_memory_rss_human", Human("used_memory_rss")),
    ("used_memory_peak", Sum),
    ("used_memory_peak_human", Human("used_memory_peak")),
    ("used_memory_peak_perc", Percent("used_memory", "used_memory_peak")),
    ("used_memory_overhead", Sum),
    ("used_memory_startup", Sum),
    ("used_memory_dataset", Sum),
    ("used_memory_dataset_perc", Dataset),
    ("allocator_allocated", Sum),
    ("allocator_active", Sum),
    ("allocator_resident", Sum),
    ("total_system_memory", Sum),
    ("total_system_memory_human", Human("total_system_memory")),
    ("used_memory_lua", Sum),
    ("used_memory_vm_eval", Sum),
    ("used_memory_lua_human", Human("used_memory_lua")),
    ("used_memory_scripts_eval", Sum),
    // Scripts and libraries are loaded at every primary: the fullest has them all.
    ("number_of_cached_scripts", Max),
    ("number_of_functions", Max),
    ("number_of_libraries", Max),
    ("used_memory_vm_functions", Sum),
    ("used_memory_vm_total", Sum),
    ("used_memory_vm_total_human", Human("used_memory_vm_total")),
    ("used_memory_functions", Sum),
    ("used_memory_scripts", Sum),
    ("used_memory_scripts_human", Human("used_memory_scripts")),
    ("maxmemory", Limit),
    ("maxmemory_human", Human("maxmemory")),
    ("maxmemory_policy", Same),
    ("allocator_frag_ratio", Ratio("allocator_active", "allocator_allocated")),
    ("allocator_frag_bytes", Sum),
    ("allocator_rss_ratio", Ratio("allocator_resident", "allocator_active")),
    ("allocator_rss_bytes", Sum),
    ("rss_overhead_ratio", Ratio("used_memory_rss", "allocator_resident")),
    ("rss_overhead_bytes", Sum),
    ("mem_fragmentation_ratio", Ratio("used_memory_rss", "used_memory")),
    ("mem_fragmentation_bytes", Sum),
    ("mem_not_counted_for_evict", Sum),
    ("mem_replication_backlog", Sum),
    ("mem_total_replication_buffers", Sum),
    ("mem_clients_slaves", Sum),
    ("mem_clients_normal", Sum),
    ("mem_cluster_links", Sum),
    ("mem_aof_buffer", Sum),
    ("mem_overhead_db_hashtable_rehashing", Sum),
    ("mem_allocator", Same),
    ("active_defrag_running", Max),
    ("lazyfree_pending_objects", Sum),
    ("lazyfreed_objects", Sum),
    ("slotway_used_memory_rss", Source::Own(|_| own::resident().to_string())),
    ("slotway_used_memory_peak", Source::Own(|_| own::resident_peak().to_string())),
    ("slotway_maxmemory", Source::Own(|own| own.gauges.max_memory.to_string())),
];

const PERSISTENCE: &[(&str, Source)] = &[
    // To a client the proxy is there; what is for a shard that loads waits.
    ("loading", fixed!("0")),
    ("async_loading", fixed!("0")),
    ("current_cow_peak", Sum),
    ("current_cow_size", Sum),
    ("current_cow_size_age", Max),
    ("current_fork_perc", Max),
    ("current_save_keys_processed", Sum),
    ("current_save_keys_total", Sum),
    ("rdb_changes_since_last_save", Sum),
    ("rdb_bgsave_in_progress", Max),
    ("rdb_last_save_time", Min),
    ("rdb_last_bgsave_status", Worst),
    ("rdb_last_bgsave_time_sec", Max),
    ("rdb_current_bgsave_time_sec", Max),
    ("rdb_saves", Sum),
    ("rdb_last_cow_size", Sum),
    ("rdb_last_load_keys_expired", Sum),
    ("rdb_last_load_keys_loaded", Sum),
    ("aof_enabled", Min),
    ("aof_rewrite_in_progress", Max),
    ("aof_rewrite_scheduled", Max),
    ("aof_last_rewrite_time_sec", Max),
    ("aof_current_rewrite_time_sec", Max),
    ("aof_last_bgrewrite_status", Worst),
    ("aof_rewrites", Sum),
    ("aof_rewrites_consecutive_failures", Max),
    ("aof_last_write_status", Worst),
    ("aof_last_cow_size", Sum),
    ("module_fork_in_progress", Max),
    ("module_fork_last_cow_size", Sum),
    // Only where all have it on.
    ("aof_current_size", Sum),
    ("aof_base_size", Sum),
    ("aof_pending_rewrite", Max),
    ("aof_buffer_length", Sum),
    ("aof_pending_bio_fsync", Sum),
    ("aof_delayed_fsync", Sum),
];

const STATS: &[(&str, Source)] = &[
    ("total_connections_received", Source::Own(|own| own.gauges.total_connections.to_string())),
    ("total_commands_processed", Source::Own(|own| own.gauges.total_commands.to_string())),
    ("instantaneous_ops_per_sec", Source::Own(|own| own.gauges.rates.commands.to_string())),
    ("total_net_input_bytes", Source::Own(|own| own.gauges.input_bytes.to_string())),
    ("total_net_output_bytes", Source::Own(|own| own.gauges.output_bytes.to_string())),
    ("total_net_repl_input_bytes", Sum),
    ("total_net_repl_output_bytes", Sum),
    ("instantaneous_input_kbps", Source::Own(|own| own::kib(own.gauges.rates.bytes_in))),
    ("instantaneous_output_kbps", Source::Own(|own| own::kib(own.gauges.rates.bytes_out))),
    ("instantaneous_input_repl_kbps", Sum),
    ("instantaneous_output_repl_kbps", Sum),
    ("rejected_connections", Source::Own(|own| own.gauges.rejected_connections.to_string())),
    ("sync_full", Sum),
    ("sync_partial_ok", Sum),
    ("sync_partial_err", Sum),
    ("expired_subkeys", Sum),
    ("expired_keys", Sum),
    ("expired_stale_perc", Max),
    ("expired_time_cap_reached_count", Sum),
    ("expire_cycle_cpu_milliseconds", Sum),
    ("evicted_keys", Sum),
    ("evicted_clients", Sum),
    ("evicted_scripts", Sum),
    ("total_eviction_exceeded_time", Sum),
    ("current_eviction_exceeded_time", Max),
    ("keyspace_hits", Sum),
    ("keyspace_misses", Sum),
    ("pubsub_channels", Source::Own(|own| own.gauges.channels.to_string())),
    ("pubsub_patterns", Source::Own(|own| own.gauges.patterns.to_string())),
    ("pubsubshard_channels", Source::Own(|own| own.gauges.shard_channels.to_string())),
    ("latest_fork_usec", Max),
    ("total_forks", Sum),
    ("migrate_cached_sockets", Sum),
    ("slave_expires_tracked_keys", Sum),
    ("active_defrag_hits", Sum),
    ("active_defrag_misses", Sum),
    ("active_defrag_key_hits", Sum),
    ("active_defrag_key_misses", Sum),
    ("total_active_defrag_time", Sum),
    ("current_active_defrag_time", Max),
    ("tracking_total_keys", Sum),
    ("tracking_total_items", Sum),
    ("tracking_total_prefixes", Sum),
    ("unexpected_error_replies", Sum),
    ("total_error_replies", Sum),
    ("dump_payload_sanitizations", Sum),
    ("total_reads_processed", Sum),
    ("total_writes_processed", Sum),
    ("io_threaded_reads_processed", Sum),
    ("io_threaded_writes_processed", Sum),
    ("client_query_buffer_limit_disconnections", Sum),
    ("client_output_buffer_limit_disconnections", Sum),
    ("reply_buffer_shrinks", Sum),
    ("reply_buffer_expands", Sum),
    ("acl_access_denied_auth", Sum),
    ("acl_access_denied_cmd", Sum),
    ("acl_access_denied_key", Sum),
    ("acl_access_denied_channel", Sum),
];

/// As ROLE: a primary without replicas. Clients that look for replicas must find none, and those that ask at every
/// connect must not wait for nodes.
const REPLICATION: &[(&str, Source)] = &[
    ("role", fixed!("master")),
    ("connected_slaves", fixed!("0")),
    ("master_failover_state", fixed!("no-failover")),
    ("master_replid", Source::Own(|own| own.env.facts.run_id())),
    ("master_replid2", Source::Own(|_| "0".repeat(40))),
    ("master_repl_offset", fixed!("0")),
    ("second_repl_offset", fixed!("-1")),
    ("repl_backlog_active", fixed!("0")),
    ("repl_backlog_size", fixed!("0")),
    ("repl_backlog_first_byte_offset", fixed!("0")),
    ("repl_backlog_histlen", fixed!("0")),
];

const CPU: &[(&str, Source)] = &[
    ("used_cpu_sys", Sum),
    ("used_cpu_user", Sum),
    ("used_cpu_sys_children", Sum),
    ("used_cpu_user_children", Sum),
    ("used_cpu_sys_main_thread", Sum),
    ("used_cpu_user_main_thread", Sum),
    ("slotway_used_cpu_sys", Source::Own(|_| format!("{:.6}", own::cpu_seconds().1))),
    ("slotway_used_cpu_user", Source::Own(|_| format!("{:.6}", own::cpu_seconds().0))),
];

/// Fields of a single redis-server 7.0 that INFO does not have, and why.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("redis_build_id", "slotway is no build of redis-server"),
    ("atomicvar_api", "slotway is no build of redis-server"),
    ("gcc_version", "slotway is no build of redis-server"),
    ("hz", "each node has its own clock; CONFIG GET hz tells what is set"),
    ("configured_hz", "each node has its own clock; CONFIG GET hz tells what is set"),
    ("lru_clock", "each node has its own clock"),
    ("config_file", "`slotway check` tells every setting and where it comes from"),
    ("client_recent_max_input_buffer", "slotway keeps no record of it"),
    ("client_recent_max_output_buffer", "slotway keeps no record of it"),
];
