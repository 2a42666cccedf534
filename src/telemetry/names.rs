//! Every metric: name, type, labels and help. The code that fills them and the README table use
//! these lines; a test scrapes a running process and compares.

/// What Prometheus calls the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

impl Kind {
    /// As in a `# TYPE` line.
    pub fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Full name, base unit included.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels; each has a bounded set of values.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($ident:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $ident: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// All of them, in the order of the README table.
        pub const METRICS: &[Metric] = &[$($ident,)*];
    };
}

metrics! {
    BUILD_INFO = Gauge "slotway_build_info" ["version"] "Always 1; the label says which version runs.";
    WORKERS = Gauge "slotway_workers" [] "Worker threads.";
    CLIENT_CONNECTIONS = Gauge "slotway_client_connections" [] "Open client connections.";
    CLIENT_OPENED = Counter "slotway_client_connections_total" [] "Client connections ever accepted.";
    CLIENT_CLOSED = Counter "slotway_client_closed_total" ["reason"] "Client connections closed, by reason.";
    CLIENT_BYTES = Counter "slotway_client_bytes_total" ["direction"] "Bytes read from clients (in) and written to them (out).";
    IN_FLIGHT = Gauge "slotway_requests_in_flight" [] "Requests received and not yet answered.";
    BLOCKED = Gauge "slotway_blocked_clients" [] "Clients that wait in a blocking command.";
    COMMANDS = Counter "slotway_commands_total" ["command"] "Commands received, by name; those learned from the cluster together as `(learned)`.";
    ERRORS = Counter "slotway_errors_total" ["kind"] "Errors the proxy itself answered with, by kind.";
    REQUEST_DURATION = Histogram "slotway_request_duration_seconds" ["class"] "From a request's last byte read to its reply ready to be sent.";
    REQUEST_BACKEND_DURATION = Histogram "slotway_request_backend_duration_seconds" ["class"] "The nodes' share of it: from queued for a node to its reply.";
    SUBSCRIPTIONS = Gauge "slotway_subscriptions" [] "Subscriptions of clients: channels, patterns and shard channels.";
    PUBSUB_RECEIVED = Counter "slotway_pubsub_received_total" [] "Messages that came from nodes on subscribing connections.";
    PUBSUB_DELIVERED = Counter "slotway_pubsub_delivered_total" [] "Messages given to clients; one for each client that gets it.";
    PUBSUB_DROPPED = Counter "slotway_pubsub_dropped_total" [] "Messages a subscribed client did not get, for it was being closed or a bound was reached.";
    REDIRECTS = Counter "slotway_redirects_total" ["kind"] "Redirects and refusals of a slot that nodes answered with.";
    READS = Counter "slotway_reads_total" ["to"] "Reads of connections that may read from replicas, by where they went; `again`: once more, after a replica sent one away or its connection broke.";
    REPLICA_FIT = Gauge "slotway_replica_fit" ["node"] "1 while the replica may be read from, else 0. Only where replicas are read.";
    REPLICA_LAG = Gauge "slotway_replica_lag_seconds" ["node"] "The replica's data are no older than this; missing while nothing is proven. Only where replicas are read.";
    BACKEND_UP = Gauge "slotway_backend_up" ["node"] "1 while the node is taken to be reachable, else 0.";
    BACKEND_CONNECTIONS = Gauge "slotway_backend_connections" ["node"] "Open connections of the workers to the node.";
    BACKEND_DEDICATED = Gauge "slotway_backend_dedicated_connections" ["node"] "Of these, and of those being opened: how many are for one request or client alone (at most dedicated-max-per-node).";
    BACKEND_EJECTIONS = Counter "slotway_backend_ejections_total" [] "How often a node was taken out after failures.";
    BACKEND_REQUESTS = Counter "slotway_backend_requests_total" ["node"] "Requests queued for the node.";
    BACKEND_DURATION = Histogram "slotway_backend_request_duration_seconds" ["node"] "From queued for the node to its reply.";
    TOPOLOGY_REFRESHES = Counter "slotway_topology_refreshes_total" ["trigger", "result"] "Refreshes of the slot table, by what asked for them and how they ended.";
    TOPOLOGY_AGE = Gauge "slotway_topology_age_seconds" [] "Since the slot table was last confirmed; before the first time, since the start.";
    TOPOLOGY_IGNORED = Gauge "slotway_topology_ignored_rows" ["reason"] "Rows of the last accepted view that get no traffic, by reason.";
    TOPOLOGY_DROPPED = Counter "slotway_topology_events_dropped_total" [] "Reports of workers dropped because the topology task's mailbox was full.";
    SLOTS_COVERED = Gauge "slotway_slots_covered" [] "How many of the 16384 slots have an owner.";
    LEARNED = Gauge "slotway_learned_commands" [] "Commands learned from the cluster beside those that are built in.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" [] "User and system CPU time.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" [] "Resident memory.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" [] "Virtual memory.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" [] "Open file descriptors.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" [] "Most file descriptors this process may open.";
    PROCESS_THREADS = Gauge "process_threads" [] "Threads of the process.";
    PROCESS_START = Gauge "process_start_time_seconds" [] "Start of the process, in seconds since 1970.";
}

/// Markdown table of the metrics.
pub fn readme_table() -> String {
    let mut text = String::from("| metric | type | labels | what |\n|---|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        text.push_str(&format!(
            "| `{}` | {} | {labels} | {} |\n",
            metric.name,
            metric.kind.text(),
            metric.help
        ));
    }
    text
}
