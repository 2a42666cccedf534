//! The configuration as the topology service and the lanes want it.

use crate::backend::handshake::Credentials;
use crate::config::Config;
use crate::topology::TopologyConfig;

/// User and password for the nodes.
pub fn credentials(config: &Config) -> Result<Credentials, String> {
    let password =
        config.upstream_password.as_ref().map(|secret| String::from_utf8(secret.expose().to_vec()));
    let password = password.transpose().map_err(|_| "upstream-password is not UTF-8".to_owned())?;
    Ok(Credentials { username: config.upstream_username.clone(), password })
}

/// What the topology service needs to know.
pub fn topology(config: &Config, credentials: Credentials) -> TopologyConfig {
    TopologyConfig {
        seeds: config.seeds.clone(),
        credentials,
        client_name: config.upstream_client_name.clone(),
        connect_timeout: config.connect_timeout,
        refresh_interval: config.refresh_interval,
        refresh_min_interval: config.refresh_min_interval,
        probe_interval: config.probe_interval,
        node_silence_timeout: config.node_silence_timeout,
        eject_after_failures: u32::try_from(config.eject_after_failures).unwrap_or(u32::MAX),
        probe_backoff_max: config.probe_backoff_max,
        learned_max: config.learned_commands_max,
        learned_bytes: config.learned_commands_bytes,
        watch_replicas: config.reads_replicas(),
        replica_max_lag: config.replica_max_lag,
        // A label that a pod does not have comes as an empty variable.
        zone: config.zone.clone().filter(|zone| !zone.is_empty()),
        node_zones: config.node_zones.clone(),
    }
}
