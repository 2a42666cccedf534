//! Every config key: one line of data each. The struct, its defaults, the TOML file, the environment
//! variables, `--set`, `slotway check` and the README table come from these lines.
//!
//! Must never hold logic about a single key: checks between keys stand in `validate`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::value::{LogFormat, LogLevel, ReadFrom, Secret, TomlKind, Upstream, Value};
use crate::topology::ZoneRule;
use crate::topology::node::NodeAddr;

/// What is special about a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Every value of the type is fine.
    Any,
    /// Zero and empty are refused.
    Positive,
    /// Never printed.
    Secret,
}

/// One key: all that is known of it beside its value.
pub struct Key {
    /// Name in the file, in `--set` and in messages.
    pub name: &'static str,
    /// Heading it stands under.
    pub group: &'static str,
    /// What a value looks like.
    pub expected: &'static str,
    /// TOML types it accepts.
    pub toml: &'static [TomlKind],
    /// What is special about it.
    pub rule: Rule,
    /// What it does and why the default is what it is.
    pub why: &'static str,
    /// Reads a value into the config; `false` when the text is not what is expected.
    pub set: fn(&mut Config, &str) -> bool,
    /// The value as `set` reads it; `***` for a secret, empty when unset.
    pub show: fn(&Config) -> String,
    /// True when an optional key has no value.
    pub is_unset: fn(&Config) -> bool,
    /// True when a positive key is zero or empty.
    pub is_refused_zero: fn(&Config) -> bool,
}

impl Key {
    /// The environment variable: `SLOTWAY_` and the name in upper snake case.
    pub fn env_name(&self) -> String {
        format!("SLOTWAY_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// The key of that name.
    pub fn by_name(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Place of the key in `KEYS`.
    pub fn index(&self) -> usize {
        KEYS.iter().position(|key| key.name == self.name).unwrap_or(0)
    }
}

macro_rules! config_keys {
    ($($group:literal { $($field:ident: $type:ty = $default:expr, $rule:ident, $name:literal, $why:literal;)* })*) => {
        /// The effective configuration. Durations, sizes in bytes (`u64`) and counts (`usize`).
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config { $($(#[doc = $why] pub $field: $type,)*)* }

        impl Default for Config {
            fn default() -> Self {
                Self { $($($field: $default,)*)* }
            }
        }

        /// Every key, in the order of the file and of the README table.
        pub const KEYS: &[Key] = &[$($(Key {
            name: $name,
            group: $group,
            expected: <$type as Value>::EXPECTED,
            toml: <$type as Value>::TOML,
            rule: Rule::$rule,
            why: $why,
            set: |config, text| <$type as Value>::parse(text).map(|value| config.$field = value).is_some(),
            show: |config| config.$field.show(),
            is_unset: |config| config.$field.is_unset(),
            is_refused_zero: |config| matches!(Rule::$rule, Rule::Positive) && Value::is_zero(&config.$field),
        },)*)*];
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn any_ip(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

config_keys! {
    "Process" {
        seeds: Vec<NodeAddr> = Vec::new(), Any, "seeds",
            "Nodes to learn the cluster from; any one that answers is enough. Names are resolved again each time, so a headless Service name does. With `upstream` = sentinel: the sentinels, with their port (usually 26379).";
        upstream: Upstream = Upstream::Cluster, Any, "upstream",
            "What the seeds are: `cluster`: nodes of a Redis Cluster; `sentinel`: sentinels, which tell the primary of `sentinel-master`; `standalone`: one server, by all its names.";
        listen: SocketAddr = any_ip(6379), Any, "listen", "Where clients connect.";
        listen_unix: Option<PathBuf> = None, Any, "listen-unix",
            "Unix socket for clients of the same machine or pod, beside `listen`; whoever may write to the file may connect. Removed at the end.";
        admin_listen: SocketAddr = any_ip(9145), Any, "admin-listen",
            "Where `/metrics`, `/livez`, `/readyz`, `/topology` and `/config` are served over HTTP. Keep it away from clients.";
        workers: usize = 0, Any, "workers",
            "Worker threads; 0 means one per CPU this process may use (affinity and cgroup quota counted).";
        log_format: LogFormat = LogFormat::Text, Any, "log-format", "Form of the log lines on stderr.";
        log_level: LogLevel = LogLevel::Info, Any, "log-level", "Least severe line that is logged.";
        announce_address: Option<NodeAddr> = None, Any, "announce-address",
            "Host and port under which clients reach this process and its like, such as the Service's name: what CLUSTER SLOTS and its like tell. Unset: the address the client dialled.";
        max_memory: u64 = 0, Any, "max-memory",
            "Ceiling of all buffers together; at it new work is refused. 0 means 75 % of the cgroup limit, or of the machine's memory without one.";
    }
    "Clients" {
        max_clients: usize = 50_000, Positive, "max-clients", "Open client connections; one more gets an error and is closed.";
        client_password: Option<Secret> = None, Secret, "client-password",
            "What clients must AUTH with, as user `default`. Unset means open. Prefer `client-password-file`.";
        client_password_file: Option<PathBuf> = None, Any, "client-password-file",
            "File that holds `client-password`; one line end at its end is ignored.";
        client_pending_requests: usize = 16_384, Positive, "client-pending-requests",
            "Requests in flight of one client; at the bound its socket is not read until replies have left.";
        client_pending_bytes: u64 = 32 * MIB, Positive, "client-pending-bytes",
            "Bytes of requests in flight and replies not yet taken of one client; at the bound its socket is not read.";
        subscriber_pending_bytes: u64 = 32 * MIB, Positive, "subscriber-pending-bytes",
            "Bytes of messages a subscriber has not taken yet; one that would exceed it is closed. Redis' own default is the same.";
        client_subscriptions: usize = 100_000, Positive, "client-subscriptions", "Channels, patterns and shard channels of one client.";
        worker_subscriptions: usize = 1_000_000, Positive, "worker-subscriptions",
            "The same of all clients of one worker, each client's counted.";
        tracking_clients_max: usize = 1_000, Any, "tracking-clients-max",
            "Clients that may have CLIENT TRACKING on; each has connections of its own to the nodes.";
        client_stall_timeout: Duration = secs(60), Positive, "client-stall-timeout",
            "A client that is owed bytes and takes none for this long is closed.";
    }
    "Requests" {
        request_deadline: Duration = secs(30), Positive, "request-deadline",
            "Longest time from a request's arrival to its reply; then the client gets an error and the connections stay.";
        owner_wait: Duration = secs(20), Any, "owner-wait",
            "How long a request waits for its slot to get a reachable owner, as during a failover. 0 fails at once.";
        owner_wait_requests: usize = 10_000, Any, "owner-wait-requests", "Requests of one worker that may wait for an owner; those of a split one count with its first part.";
        owner_wait_bytes: u64 = 64 * MIB, Any, "owner-wait-bytes", "Bytes of the requests of one worker that wait for an owner.";
        tryagain_wait: Duration = secs(5), Any, "tryagain-wait",
            "How long a command over several keys of a migrating slot is repeated before the client gets TRYAGAIN.";
        redirects_max: usize = 16, Positive, "redirects-max", "Redirects one request follows before it fails.";
        multi_key_split: bool = true, Any, "multi-key-split",
            "Split MGET, MSET, DEL, UNLINK, EXISTS and TOUCH over slots. A split write is not atomic; off answers CROSSSLOT instead.";
        merge_reply_bytes: u64 = 512 * MIB, Positive, "merge-reply-bytes", "Largest reply merged from parts.";
        script_cache_bytes: u64 = 16 * MIB, Any, "script-cache-bytes",
            "Bodies of scripts seen in EVAL and SCRIPT LOAD, kept so that EVALSHA works on a node that does not have them. 0 keeps none.";
        transaction_bytes: u64 = 64 * MIB, Positive, "transaction-bytes", "Most bytes queued between MULTI and EXEC, and of the replies slotway gives to such commands itself; more and EXEC is refused.";
        transaction_commands: usize = 100_000, Positive, "transaction-commands", "Most commands queued between MULTI and EXEC.";
        bulk_bytes_max: u64 = 512 * MIB, Positive, "bulk-bytes-max",
            "Largest single argument or value; Redis' own default is the same.";
        array_elements_max: usize = 1_048_576, Positive, "array-elements-max", "Most arguments of one request; Redis' own limit is the same.";
        inline_bytes_max: u64 = 64 * KIB, Positive, "inline-bytes-max", "Longest inline command or header line; Redis' own limit is the same.";
        query_buffer_max: u64 = GIB, Positive, "query-buffer-max", "Most bytes of one request; Redis' own default is the same. Below 4GiB.";
    }
    "Nodes" {
        upstream_username: Option<String> = None, Any, "upstream-username", "User for AUTH at the nodes; unset means `default`.";
        upstream_password: Option<Secret> = None, Secret, "upstream-password",
            "Password for AUTH at the nodes; unset means no AUTH, or with `upstream-username` a user without password. Prefer `upstream-password-file`.";
        upstream_password_file: Option<PathBuf> = None, Any, "upstream-password-file",
            "File that holds `upstream-password`; one line end at its end is ignored.";
        sentinel_master: String = "mymaster".to_owned(), Positive, "sentinel-master",
            "Name under which the sentinels monitor the primary (`upstream` = sentinel).";
        sentinel_username: Option<String> = None, Any, "sentinel-username", "User for AUTH at the sentinels; unset means `default`.";
        sentinel_password: Option<Secret> = None, Secret, "sentinel-password",
            "Password for AUTH at the sentinels, which is not that of the nodes; unset means no AUTH, or with `sentinel-username` a user without password. Prefer `sentinel-password-file`.";
        sentinel_password_file: Option<PathBuf> = None, Any, "sentinel-password-file",
            "File that holds `sentinel-password`; one line end at its end is ignored.";
        upstream_client_name: String = "slotway".to_owned(), Positive, "upstream-client-name", "Name our connections show in CLIENT LIST of a node.";
        connect_timeout: Duration = secs(1), Positive, "connect-timeout", "Longest time for a connection to a node and its handshake.";
        node_pending_requests: usize = 200_000, Positive, "node-pending-requests", "Requests one worker has queued at one node, sent or not.";
        node_pending_bytes: u64 = 256 * MIB, Positive, "node-pending-bytes", "Bytes of the requests one worker has queued at one node.";
        dedicated_request_bytes: u64 = MIB, Positive, "dedicated-request-bytes",
            "A request of at least this size goes over a connection of its own, so that it holds up no other on its way.";
        dedicated_max_per_node: usize = 1_000, Positive, "dedicated-max-per-node",
            "Connections of one request or client to one node: for large requests, WATCH, commands that wait. At the bound a request that needs one is refused.";
        node_connects_max: usize = 16, Positive, "node-connects-max",
            "Of these, how many the process makes to one node at a time; the others wait for their turn. So a node that comes back, or takes over, is not stormed by all clients that wait.";
        node_silence_timeout: Duration = secs(7), Positive, "node-silence-timeout",
            "A node that owes replies and sends nothing for this long is taken as unreachable, although no connection broke.";
        eject_after_failures: usize = 3, Positive, "eject-after-failures", "Failures in a row after which a node gets no traffic until a probe succeeds.";
        probe_interval: Duration = secs(1), Positive, "probe-interval", "Time between health PINGs to each node.";
        probe_backoff_max: Duration = secs(5), Positive, "probe-backoff-max", "Longest time between two probes of an ejected node.";
    }
    "Replicas" {
        read_from: ReadFrom = ReadFrom::Primary, Any, "read-from",
            "Where reads go: `primary`, `prefer-primary`, `prefer-replica`, `replica-only` or `nearest`. What a replica answers may be older than what the primary has, at most by `replica-max-lag`.";
        read_from_readonly: Option<ReadFrom> = None, Any, "read-from-readonly",
            "The same for connections that said READONLY; unset: as `read-from`. READWRITE means `primary` for its connection, whatever stands here.";
        replica_max_lag: Duration = secs(10), Positive, "replica-max-lag",
            "A replica whose data may be older than this is not read from. At least three times `probe-interval`, for that is how often it is looked at.";
        zone: Option<String> = None, Any, "zone",
            "The availability zone this process runs in: nodes of the same zone are read from first. Unset: all zones are alike.";
        node_zones: Vec<ZoneRule> = Vec::new(), Any, "node-zones",
            "Zones of nodes, each as `CIDR=zone` or `host=zone`; `*` in a host stands for anything, the first that fits counts. A node that none fits is where it says itself (Valkey's `availability-zone`).";
    }
    "Topology" {
        refresh_interval: Duration = secs(15), Positive, "refresh-interval", "Time between refreshes of the slot table, ± 20 % at random. Shorter for a while after each change, and at most `probe-backoff-max` while a node is down.";
        refresh_min_interval: Duration = Duration::from_millis(100), Any, "refresh-min-interval",
            "Least time between two refreshes, whatever asks for them.";
        learned_commands_max: usize = 2_000, Any, "learned-commands-max",
            "Commands that are not built in and are learned from the cluster's COMMAND, each definition counted once in the life of the process; what is beyond stays unknown. 0 learns none.";
        learned_commands_bytes: u64 = 4 * MIB, Positive, "learned-commands-bytes",
            "Memory of these definitions, and the largest COMMAND reply of a node that is looked at.";
    }
    "Stop" {
        drain_accept_grace: Duration = secs(2), Any, "drain-accept-grace",
            "After SIGTERM new connections are still accepted for this long, until load balancers have noticed that we are not ready.";
        drain_timeout: Duration = secs(25), Positive, "drain-timeout",
            "Longest time from SIGTERM to the end of the process. Must be longer than `drain-accept-grace`, shorter than the pod's grace period.";
    }
}
