//! What must hold between keys, and of single keys beyond their type.

use super::keys::{Config, KEYS};
use super::load::Origin;
use super::value::{Upstream, Value};

/// Frames are addressed with 32 bits.
const QUERY_BUFFER_LIMIT: u64 = 1 << 32;
/// A typing error, not a machine.
const WORKERS_LIMIT: usize = 1024;

/// Everything that makes this configuration unusable, one line each.
pub(super) fn problems(config: &Config, origins: &[Origin]) -> Vec<String> {
    let mut found = Vec::new();
    for (key, origin) in KEYS.iter().zip(origins) {
        if (key.is_refused_zero)(config) {
            let value = (key.show)(config);
            found.push(format!("{origin}: key `{}`: expected more than nothing; found {value:?}", key.name));
        }
    }
    if config.seeds.is_empty() {
        found.push("key `seeds`: expected at least one node (--seed HOST:PORT, SLOTWAY_SEEDS or the file); found none".to_owned());
    }
    if config.listen == config.admin_listen && config.listen.port() != 0 {
        found.push(format!(
            "keys `listen` and `admin-listen`: expected two addresses; found {} twice",
            config.listen
        ));
    }
    if config.workers > WORKERS_LIMIT {
        found.push(format!("key `workers`: expected at most {WORKERS_LIMIT}; found {}", config.workers));
    }
    if config.query_buffer_max >= QUERY_BUFFER_LIMIT {
        found.push(format!(
            "key `query-buffer-max`: expected less than 4GiB; found {}",
            config.query_buffer_max.show()
        ));
    }
    if !config.upstream_client_name.bytes().all(|b| b.is_ascii_graphic()) {
        found.push(
            "key `upstream-client-name`: expected printable ASCII without spaces, as CLIENT SETNAME wants it"
                .to_owned(),
        );
    }
    found.extend(order(config));
    found
}

/// Pairs of which the first must not exceed the second.
fn order(config: &Config) -> Vec<String> {
    let c = config;
    let mut found = Vec::new();
    let mut at_most = |small: (&str, String), large: (&str, String), holds: bool| {
        if !holds {
            let (small, value) = small;
            let (large, bound) = large;
            found.push(format!("key `{small}`: expected at most `{large}` = {bound}; found {value}"));
        }
    };
    let (grace, drain) = (c.drain_accept_grace, c.drain_timeout);
    at_most(("drain-accept-grace", grace.show()), ("drain-timeout", drain.show()), grace <= drain);
    let (least, usual) = (c.refresh_min_interval, c.refresh_interval);
    at_most(("refresh-min-interval", least.show()), ("refresh-interval", usual.show()), least <= usual);
    let (probe, longest) = (c.probe_interval, c.probe_backoff_max);
    at_most(("probe-interval", probe.show()), ("probe-backoff-max", longest.show()), probe <= longest);
    let query = ("query-buffer-max", c.query_buffer_max.show());
    let (bulk, inline) = (c.bulk_bytes_max, c.inline_bytes_max);
    at_most(("bulk-bytes-max", bulk.show()), query.clone(), bulk <= c.query_buffer_max);
    at_most(("inline-bytes-max", inline.show()), query, inline <= c.query_buffer_max);
    found
}

/// What is allowed and probably not meant.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let for_sentinels = [
        ("sentinel-username", config.sentinel_username.is_some()),
        ("sentinel-password", config.sentinel_password.is_some()),
        ("sentinel-master", config.sentinel_master != Config::default().sentinel_master),
    ];
    for (name, _) in for_sentinels.iter().filter(|(_, set)| *set && config.upstream != Upstream::Sentinel) {
        let upstream = config.upstream.show();
        found.push(format!("key `{name}` has no effect, for `upstream` = {upstream}, not sentinel"));
    }
    for (name, wait) in [("owner-wait", config.owner_wait), ("tryagain-wait", config.tryagain_wait)] {
        if wait > config.request_deadline {
            let (wait, deadline) = (wait.show(), config.request_deadline.show());
            found.push(format!(
                "key `{name}` = {wait} never ends, for `request-deadline` = {deadline} comes first"
            ));
        }
    }
    found
}
