//! Settings in CONFIG that are not simply the nodes': whose value CONFIG GET tells and what CONFIG SET says to a
//! change, one line each. Every setting that is not here is the primaries': CONFIG SET reaches every node, and
//! CONFIG GET tells what they say.

use super::LocalEnv;
use crate::listener::socket::KEEPALIVE_AFTER;

/// Whose value CONFIG GET tells.
#[derive(Clone, Copy)]
pub enum Whose {
    /// The proxy's.
    Ours(fn(&LocalEnv<'_>) -> String),
    /// Nobody's: it is a secret.
    Hidden,
    /// The primaries'.
    Nodes,
}

/// Name, value, and why CONFIG SET does not pass it on; `None`: the nodes say so themselves.
pub type Setting = (&'static str, Whose, Option<&'static str>);

use Whose::{Hidden, Nodes, Ours};

const ONE_NODE: Option<&str> = Some("it belongs to one node");
const ACCESS: Option<&str> = Some("slotway would lose its access to the nodes");
const REPLICATION: Option<&str> = Some("replication would lose its access to the nodes");
const WOULD_CLOSE: Option<&str> = Some("clients are slotway's, the nodes would close its connections");
const ACCEPTS: Option<&str> = Some("clients are slotway's: it does as if it were off");

/// All of them, by name.
pub const SETTINGS: &[Setting] = &[
    ("aclfile", Nodes, ONE_NODE),
    ("bind", Ours(|env| env.config.listen.ip().to_string()), ONE_NODE),
    ("bind-source-addr", Nodes, ONE_NODE),
    ("client-output-buffer-limit", Nodes, WOULD_CLOSE),
    (
        "client-query-buffer-limit",
        Ours(|env| env.config.query_buffer_max.to_string()),
        Some("clients are slotway's: its key is query-buffer-max"),
    ),
    ("cluster-announce-bus-port", Nodes, ONE_NODE),
    ("cluster-announce-hostname", Nodes, ONE_NODE),
    ("cluster-announce-human-nodename", Nodes, ONE_NODE),
    ("cluster-announce-ip", Nodes, ONE_NODE),
    ("cluster-announce-port", Nodes, ONE_NODE),
    ("cluster-announce-tls-port", Nodes, ONE_NODE),
    // A client that sees "yes" would look for a cluster.
    ("cluster-enabled", Ours(|_| "no".to_owned()), None),
    ("cluster-port", Nodes, ONE_NODE),
    ("daemonize", Ours(|_| "no".to_owned()), None),
    ("databases", Ours(|_| "1".to_owned()), None),
    ("dbfilename", Nodes, ONE_NODE),
    ("dir", Nodes, ONE_NODE),
    ("io-threads", Ours(|env| env.facts.gauges().workers.to_string()), None),
    ("masterauth", Hidden, REPLICATION),
    ("masteruser", Nodes, REPLICATION),
    (
        "maxclients",
        Ours(|env| env.config.max_clients.to_string()),
        Some("clients are slotway's: its key is max-clients"),
    ),
    ("maxmemory-clients", Nodes, WOULD_CLOSE),
    ("port", Ours(|env| env.facts.tcp_port().to_string()), ONE_NODE),
    ("primaryauth", Hidden, REPLICATION),
    ("primaryuser", Nodes, REPLICATION),
    ("protected-mode", Ours(|_| "no".to_owned()), ACCEPTS),
    (
        "proto-max-bulk-len",
        Ours(|env| env.config.bulk_bytes_max.to_string()),
        Some("clients are slotway's: its key is bulk-bytes-max"),
    ),
    ("replica-announce-ip", Nodes, ONE_NODE),
    ("replica-announce-port", Nodes, ONE_NODE),
    ("requirepass", Hidden, ACCESS),
    ("slave-announce-ip", Nodes, ONE_NODE),
    ("slave-announce-port", Nodes, ONE_NODE),
    ("tcp-keepalive", Ours(|_| KEEPALIVE_AFTER.as_secs().to_string()), Some("clients are slotway's")),
    ("timeout", Ours(|_| "0".to_owned()), WOULD_CLOSE),
    ("tls-client-key-file-pass", Hidden, ONE_NODE),
    ("tls-key-file-pass", Hidden, ONE_NODE),
    ("tls-port", Nodes, ONE_NODE),
    (
        "unixsocket",
        Ours(|env| {
            env.config.listen_unix.as_ref().map_or_else(String::new, |path| path.display().to_string())
        }),
        None,
    ),
];

/// Where the nodes let nobody ask for settings (managed services do not): what tools look for at their start, by
/// the nodes' INFO, or as a server without data on disk would say.
pub const WITHOUT_NODES: &[(&str, FromInfo)] = &[
    ("appendonly", |info| if info("aof_enabled").as_deref() == Some("1") { "yes" } else { "no" }.to_owned()),
    ("maxmemory", |info| info("maxmemory").unwrap_or_else(|| "0".to_owned())),
    ("maxmemory-policy", |info| info("maxmemory_policy").unwrap_or_else(|| "noeviction".to_owned())),
    ("save", |_| String::new()),
];

/// A value made of fields of INFO that are the same at all primaries.
pub type FromInfo = fn(&dyn Fn(&str) -> Option<String>) -> String;

/// The line of a setting, in any letter case.
pub fn find(name: &[u8]) -> Option<&'static Setting> {
    SETTINGS.iter().find(|(known, ..)| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// A Markdown table: every line of the list.
pub fn readme_table() -> String {
    let mut text = String::from("| setting | CONFIG GET | CONFIG SET |\n|---|---|---|\n");
    let get = |whose: &Whose| match whose {
        Ours(_) => "slotway's",
        Hidden => "never told",
        Nodes => "the primaries', as any other",
    };
    let mut rows: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for (name, whose, set) in SETTINGS {
        let (get, set) = (get(whose), set.unwrap_or("the nodes refuse it"));
        match rows.iter_mut().find(|(g, s, _)| (*g, *s) == (get, set)) {
            Some((.., names)) => names.push(name),
            None => rows.push((get, set, vec![name])),
        }
    }
    for (get, set, names) in rows {
        let set = if set.starts_with("the nodes") { set.to_owned() } else { format!("refused: {set}") };
        text.push_str(&format!("| {} | {get} | {set} |\n", names.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_each_once_and_no_secret_is_told() {
        assert!(SETTINGS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, whose, set) in SETTINGS {
            let secret = name.contains("pass") || name.contains("auth");
            assert_eq!(secret, matches!(whose, Hidden), "{name}");
            assert!(
                !secret || set.is_some(),
                "{name}: a secret that can be set through the proxy is one in a log"
            );
        }
    }
}
