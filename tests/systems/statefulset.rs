//! A: a StatefulSet by hand, six nodes without a password behind one ClusterIP Service, whose name is all that is
//! known. Pods come back under new addresses, and the first pod as a replica.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use super::balancer::Balancer;
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::load::Load;
use crate::support::proxy::Proxy;
use crate::support::{check, heavy, within};

#[test]
fn system_a_statefulset_behind_one_service() {
    need_redis!();
    let _one_at_a_time = heavy();
    let node_timeout = Duration::from_secs(3);
    let mut cluster = RedisCluster::shaped(&Shape { node_timeout, ..Shape::default() });
    let service = Balancer::start(cluster.addrs());
    let proxy = Proxy::start(&[service.addr()], &[]);
    plain_redis_cli_needs_no_cluster_mode(&cluster, &proxy);
    let key = key_in(cluster.slot_of(2), "k");
    let old = cluster.nodes[2].addr();
    let new = SocketAddr::new(IpAddr::from([127, 0, 0, 13]), old.port());
    // Nobody writes while the pod is gone: what it had not replicated would be lost, with any client.
    let mut client = proxy.client();
    client.patience(Duration::from_secs(40));
    client.ok(&cmd!["SET", key, "before"]);
    cluster.client(2).call(&cmd!["WAIT", "1", "5000"]);
    cluster.nodes[2].kill();
    let promoted = cluster.nodes[cluster.replica_of(2)].addr();
    within(Duration::from_secs(40), "the replica is promoted", || {
        let owner = cluster.owner_seen_by(0, cluster.slot_of(2));
        check(owner == Some(promoted), owner)
    });
    assert_eq!(client.call(&cmd!["GET", key]).text(), "before", "no MOVED, no error");
    client.ok(&cmd!["SET", key, "after"]);
    cluster.nodes[2].restart_at(new);
    cluster.meet_all();
    cluster.wait_healthy();
    service.set(cluster.addrs());
    within(Duration::from_secs(25), "the pod is a replica at its new address", || {
        let topology = proxy.admin("/topology").1;
        check(is_replica(&topology, new) && !topology.contains(&old.to_string()), topology)
    });
    // Nobody but us knows the old address any more.
    let nobody = TcpListener::bind(old).expect("the pod's old address is free");
    nobody.set_nonblocking(true).expect("a listener");
    Load::default().during(proxy.addr(), |progress| {
        let seen = proxy.metrics().sum("slotway_topology_refreshes_total", &[]);
        progress.wait(200);
        proxy.wait_metric("slotway_topology_refreshes_total", &[], |now| now > seen);
    });
    assert!(nobody.accept().is_err(), "the old address was dialled");
}

/// True when `/topology` lists this address among the replicas.
fn is_replica(topology: &str, addr: SocketAddr) -> bool {
    let name = format!("\"addr\": \"{addr}\"");
    topology.split("\"replicas\":").skip(1).any(|part| part.split(']').next().unwrap_or("").contains(&name))
}

fn plain_redis_cli_needs_no_cluster_mode(cluster: &RedisCluster, proxy: &Proxy) {
    let (host, port) = (proxy.addr().ip().to_string(), proxy.addr().port().to_string());
    for index in 0..3 {
        let key = key_in(cluster.slot_of(index), "cli");
        for (args, wanted) in [(vec!["set", &key, "v"], "OK"), (vec!["get", &key], "v")] {
            let run = Command::new("redis-cli").args(["-h", &host, "-p", &port]).args(args).output();
            let run = run.expect("redis-cli");
            assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), wanted);
        }
    }
}
