//! `slotway demo`: a throw-away Redis Cluster of 3 primaries and 3 replicas with slotway in front.
//!
//! Leaves nothing behind: the servers and their folder belong to a supervisor process that cleans up
//! as soon as this process is gone, however it went. Must never touch a server it did not start.

mod cluster;
mod guide;
mod ports;
mod supervisor;

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Config, LogLevel};
use crate::telemetry::logging;
use crate::topology::node::NodeAddr;

/// Why the demo ended.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Nothing to start.
    #[error(
        "no redis-server on PATH; install it (Debian, Ubuntu: apt-get install redis-server) or run `make demo`"
    )]
    NoServer,
    /// No port left, or the supervisor could not be started.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] std::io::Error),
    /// The servers did not become a cluster.
    #[error("the demo's cluster did not come up: {0}")]
    Cluster(String),
    /// The proxy failed.
    #[error("{0}")]
    App(#[from] crate::app::AppError),
}

/// Runs the demo until SIGINT or SIGTERM. A port in use is replaced by the next free one.
pub fn run(listen: SocketAddr, admin_listen: SocketAddr) -> Result<(), DemoError> {
    let server = supervisor::find_server().ok_or(DemoError::NoServer)?;
    guide::say("starting 3 primaries and 3 replicas …");
    let ports = ports::for_nodes(cluster::NODES).map_err(|error| DemoError::Io("free ports", error))?;
    let mut servers = supervisor::Supervisor::start(&server, &ports)
        .map_err(|error| DemoError::Io("start of the Redis servers", error))?;
    cluster::create(&ports)
        .map_err(|text| DemoError::Cluster(format!("{text}\n{}", servers.last_log_lines())))?;

    let client = ports::free_from(listen).map_err(|error| DemoError::Io("--listen", error))?;
    let admin =
        ports::next_free(admin_listen, client).map_err(|error| DemoError::Io("--admin-listen", error))?;
    for (asked, got) in [(listen, client), (admin_listen, admin)] {
        if asked != got && asked.port() != 0 {
            guide::say(&format!("{asked} is in use, taking {got} instead"));
        }
    }
    let config = Config {
        seeds: ports.iter().map(|&port| NodeAddr { host: "127.0.0.1".to_owned(), port }).collect(),
        listen: client,
        admin_listen: admin,
        log_level: LogLevel::Warn,
        // Nothing stands in front that would have to notice.
        drain_accept_grace: Duration::ZERO,
        drain_timeout: Duration::from_secs(3),
        ..Config::default()
    };
    logging::init(config.log_format, config.log_level);
    guide::when_ready(guide::Guide { client, admin, primaries: servers.primaries(cluster::PRIMARIES) });
    crate::app::run(config)?;
    servers.stop();
    guide::say("stopped, nothing is left behind");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_cluster_comes_up_and_leaves_nothing_behind() {
        let Some(server) = supervisor::find_server() else {
            assert!(std::env::var_os("REQUIRE_REDIS").is_none(), "redis-server is missing");
            eprintln!("SKIPPED: no redis-server on PATH");
            return;
        };
        let ports = ports::for_nodes(cluster::NODES).unwrap();
        let mut servers = supervisor::Supervisor::start(&server, &ports).unwrap();
        cluster::create(&ports).unwrap_or_else(|text| panic!("{text}\n{}", servers.last_log_lines()));
        let pids: Vec<u32> = servers.primaries(cluster::NODES).iter().map(|&(_, pid)| pid).collect();
        let running = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
        assert!(pids.iter().all(running));
        servers.stop();
        assert!(!pids.iter().any(running));
        assert!(!servers.folder().exists());
    }
}
