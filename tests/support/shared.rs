//! One cluster of three primaries and three replicas, one standalone server and one proxy with two
//! workers for all tests that neither break nor slow them. Users keep to keys of their own.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::client::Client;
use super::cluster::{RedisCluster, Shape};
use super::proxy::Proxy;
use super::server::Server;

/// The shared cluster. Its processes end with the test process, by the watchdog.
pub fn cluster() -> &'static RedisCluster {
    static CLUSTER: OnceLock<RedisCluster> = OnceLock::new();
    // No test of this cluster wants a failover: a machine busy with other tests must not cause one.
    CLUSTER.get_or_init(|| {
        RedisCluster::shaped(&Shape { node_timeout: Duration::from_secs(20), ..Shape::default() })
    })
}

/// A standalone server: what a single Redis would answer.
pub fn standalone() -> &'static Server {
    static STANDALONE: OnceLock<Server> = OnceLock::new();
    STANDALONE.get_or_init(|| Server::standalone(&[]))
}

/// The proxy in front of `cluster()`, two workers.
pub fn proxy() -> &'static Proxy {
    static PROXY: OnceLock<Proxy> = OnceLock::new();
    PROXY.get_or_init(|| Proxy::start(&seeds(cluster()), &[("workers", "2")]))
}

/// A connection through the shared proxy.
#[track_caller]
pub fn client() -> Client {
    proxy().client()
}

/// Two of the cluster's nodes, as a user would give them.
pub fn seeds(cluster: &RedisCluster) -> Vec<SocketAddr> {
    cluster.addrs().into_iter().take(2).collect()
}

/// A prefix for keys nobody else uses.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}:{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
