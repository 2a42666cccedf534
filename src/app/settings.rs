//! The configuration as the topology service and the lanes want it.

use crate::backend::handshake::Credentials;
use crate::config::Config;
use crate::config::value::{Secret, Upstream};
use crate::topology::{self, SentinelSettings, TopologyConfig};

/// User and password for the nodes.
pub fn credentials(config: &Config) -> Result<Credentials, String> {
    let password = utf8("upstream-password", config.upstream_password.as_ref())?;
    Ok(Credentials { username: config.upstream_username.clone(), password })
}

fn utf8(name: &str, secret: Option<&Secret>) -> Result<Option<String>, String> {
    let text = secret.map(|secret| String::from_utf8(secret.expose().to_vec()));
    text.transpose().map_err(|_| format!("{name} is not UTF-8"))
}

fn upstream(config: &Config) -> Result<topology::Upstream, String> {
    Ok(match config.upstream {
        Upstream::Cluster => topology::Upstream::Cluster,
        Upstream::Standalone => topology::Upstream::Standalone,
        Upstream::Sentinel => {
            let password = utf8("sentinel-password", config.sentinel_password.as_ref())?;
            let credentials = Credentials { username: config.sentinel_username.clone(), password };
            topology::Upstream::Sentinel(SentinelSettings {
                master: config.sentinel_master.clone(),
                credentials,
            })
        }
    })
}

/// What the topology service needs to know.
pub fn topology(config: &Config, credentials: Credentials) -> Result<TopologyConfig, String> {
    Ok(TopologyConfig {
        seeds: config.seeds.clone(),
        upstream: upstream(config)?,
        credentials,
        client_name: config.upstream_client_name.clone(),
        connect_timeout: config.connect_timeout,
        refresh_interval: config.refresh_interval,
        refresh_min_interval: config.refresh_min_interval,
        probe_interval: config.probe_interval,
        node_silence_timeout: config.node_silence_timeout,
        request_deadline: config.request_deadline,
        eject_after_failures: u32::try_from(config.eject_after_failures).unwrap_or(u32::MAX),
        probe_backoff_max: config.probe_backoff_max,
        learned_max: config.learned_commands_max,
        learned_bytes: config.learned_commands_bytes,
        watch_replicas: config.reads_replicas(),
        replica_max_lag: config.replica_max_lag,
        // A label that a pod does not have comes as an empty variable.
        zone: config.zone.clone().filter(|zone| !zone.is_empty()),
        node_zones: config.node_zones.clone(),
    })
}
