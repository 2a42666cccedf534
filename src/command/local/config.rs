//! CONFIG GET: the parameters tools ask a server for. Those that say something of the process are the proxy's
//! own; the others are what a server without data on disk and with one database says.

use super::{LocalEnv, glob};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::Resp;

/// Name and value of a parameter.
type Parameter = (&'static str, fn(&LocalEnv<'_>) -> String);

/// Every parameter, by name.
const PARAMETERS: &[Parameter] = &[
    ("appendonly", |_| "no".into()),
    ("bind", |env| env.config.listen.ip().to_string()),
    ("client-query-buffer-limit", |env| env.config.query_buffer_max.to_string()),
    ("cluster-enabled", |_| "no".into()),
    ("daemonize", |_| "no".into()),
    ("databases", |_| "1".into()),
    ("io-threads", |env| env.facts.gauges().workers.to_string()),
    ("maxclients", |env| env.config.max_clients.to_string()),
    ("maxmemory", |env| env.facts.gauges().max_memory.to_string()),
    ("maxmemory-policy", |_| "noeviction".into()),
    ("port", |env| env.facts.tcp_port().to_string()),
    ("protected-mode", |_| "no".into()),
    ("proto-max-bulk-len", |env| env.config.bulk_bytes_max.to_string()),
    ("save", |_| String::new()),
    ("tcp-keepalive", |_| crate::listener::socket::KEEPALIVE_AFTER.as_secs().to_string()),
    ("timeout", |_| "0".into()),
    ("unixsocket", |env| {
        env.config.listen_unix.as_ref().map_or_else(String::new, |path| path.display().to_string())
    }),
];

/// Each parameter that a name or pattern fits, once. As Redis, one asked for by name keeps the letter case
/// of the question.
pub(super) fn get(env: &LocalEnv<'_>, resp: Resp, args: &Args, out: &mut Vec<u8>) {
    let mut found: Vec<(&str, Vec<u8>)> = Vec::new();
    for pattern in args.iter().skip(2) {
        for (name, _) in PARAMETERS.iter().filter(|(name, _)| glob::matches(pattern, name.as_bytes())) {
            if !found.iter().any(|(known, _)| known == name) {
                let by_name = name.as_bytes().eq_ignore_ascii_case(pattern);
                found.push((name, if by_name { pattern.to_owned() } else { name.as_bytes().to_owned() }));
            }
        }
    }
    encode::map(out, resp, found.len());
    for (name, shown) in found {
        encode::bulk(out, shown);
        let value = PARAMETERS.iter().find(|(known, _)| *known == name).map(|(_, value)| value(env));
        encode::bulk(out, value.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_no_secret_is_among_them() {
        assert!(PARAMETERS.is_sorted_by_key(|(name, _)| *name));
        let secret = |name: &str| name.contains("pass") || name.contains("auth");
        assert!(!PARAMETERS.iter().any(|(name, _)| secret(name)));
    }
}
