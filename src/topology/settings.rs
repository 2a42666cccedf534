//! What the topology service needs to be told. Kept apart from `config::Config` so that neither
//! depends on the other.

use std::time::Duration;

use redis_protocol::resp2::types::OwnedFrame;

use super::node::NodeAddr;
use super::parse::{self, ParseError, parse_view};
use super::server::{self, parse_server};
use super::view::View;
use super::zone::ZoneRule;
use crate::backend::handshake::Credentials;

/// What the seeds lead to (`upstream`).
#[derive(Clone, Debug, Default)]
pub enum Upstream {
    /// Nodes of a Redis Cluster.
    #[default]
    Cluster,
    /// Sentinels, which know the one primary.
    Sentinel(SentinelSettings),
    /// The one server.
    Standalone,
}

impl Upstream {
    /// False when one primary owns all slots.
    pub fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster)
    }

    /// What a node is asked in a refresh, and how many replies it owes for that.
    pub(crate) fn questions(&self) -> (&'static [u8], usize) {
        if self.is_cluster() {
            (parse::QUESTIONS, parse::ANSWERS)
        } else {
            (server::QUESTIONS, server::ANSWERS)
        }
    }

    /// The answers as a view.
    pub(crate) fn view(&self, dialled: &NodeAddr, answers: &[OwnedFrame]) -> Result<View, ParseError> {
        if self.is_cluster() { parse_view(dialled, answers) } else { parse_server(dialled, answers) }
    }
}

/// How the sentinels are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelSettings {
    /// The name they know the primary by (`sentinel-master`).
    pub master: String,
    /// User and password for them (`sentinel-username`, `sentinel-password`).
    pub credentials: Credentials,
}

/// Settings of the topology service; the keys of the configuration in parentheses.
#[derive(Clone, Debug)]
pub struct TopologyConfig {
    /// Where to start, and where to go when nothing known answers (`seeds`). Names are resolved
    /// anew each time, and all their addresses are tried.
    pub seeds: Vec<NodeAddr>,
    /// What they lead to (`upstream`).
    pub upstream: Upstream,
    /// User and password for the nodes (`upstream-username`, `upstream-password`).
    pub credentials: Credentials,
    /// Name of the control connections in CLIENT LIST, empty for none (`upstream-client-name`).
    pub client_name: String,
    /// Deadline of a TCP connect, and again of the handshake and of each answer
    /// (`connect-timeout`).
    pub connect_timeout: Duration,
    /// Time between two refreshes without a reason, ± 20 % (`refresh-interval`).
    pub refresh_interval: Duration,
    /// Least time between the starts of two refreshes (`refresh-min-interval`).
    pub refresh_min_interval: Duration,
    /// Time between two PINGs of a node (`probe-interval`).
    pub probe_interval: Duration,
    /// A node that owes an answer and sent no byte for so long is down (`node-silence-timeout`).
    pub node_silence_timeout: Duration,
    /// A request waits no longer than this for its reply: so long a node that left the table is still watched
    /// (`request-deadline`).
    pub request_deadline: Duration,
    /// Failed connects in a row that take a node out (`eject-after-failures`).
    pub eject_after_failures: u32,
    /// Longest wait between two attempts at a node, or at the seeds, that fail
    /// (`probe-backoff-max`).
    pub probe_backoff_max: Duration,
    /// Most definitions of commands learned over the life of the process; 0: none are
    /// (`learned-commands-max`).
    pub learned_max: usize,
    /// Most bytes of these definitions, and of an answer they are taken from
    /// (`learned-commands-bytes`).
    pub learned_bytes: u64,
    /// Somebody may read from replicas: they are asked how far they are behind (`read-from`,
    /// `read-from-readonly`).
    pub watch_replicas: bool,
    /// How old the data of a replica may be that is read from (`replica-max-lag`).
    pub replica_max_lag: Duration,
    /// Where we are (`zone`).
    pub zone: Option<String>,
    /// Where nodes are (`node-zones`).
    pub node_zones: Vec<ZoneRule>,
}

impl Default for TopologyConfig {
    fn default() -> Self {
        Self {
            seeds: Vec::new(),
            upstream: Upstream::Cluster,
            credentials: Credentials::default(),
            client_name: "slotway".to_owned(),
            connect_timeout: Duration::from_secs(1),
            refresh_interval: Duration::from_secs(15),
            refresh_min_interval: Duration::from_millis(100),
            probe_interval: Duration::from_secs(1),
            node_silence_timeout: Duration::from_secs(7),
            request_deadline: Duration::from_secs(30),
            eject_after_failures: 3,
            probe_backoff_max: Duration::from_secs(5),
            learned_max: 2_000,
            learned_bytes: 4 << 20,
            watch_replicas: false,
            replica_max_lag: Duration::from_secs(10),
            zone: None,
            node_zones: Vec::new(),
        }
    }
}

/// `base · 2^attempt`, at most `cap`, and then a random half of it off: many proxies that lost the
/// same node must not come back in step.
pub(crate) fn backoff(base: Duration, attempt: u32, cap: Duration) -> Duration {
    let full = base.saturating_mul(1 << attempt.min(16)).min(cap);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// `mean` ± 20 %.
pub(crate) fn jitter(mean: Duration) -> Duration {
    mean.mul_f64(0.8 + fastrand::f64() * 0.4)
}
