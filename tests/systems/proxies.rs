//! C: an operator's cluster with several proxies in front, behind one Service: rows of nodes that are none,
//! every pod under a new address at once, and proxies that come and go under load.

use std::net::SocketAddr;
use std::time::Duration;

use super::balancer::Balancer;
use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::hosts::Hosts;
use crate::support::keys::key_in;
use crate::support::load::Load;
use crate::support::proxy::{Proxy, Setup};
use crate::support::{check, eventually, heavy, within};

const NAME: &str = "redis-cluster.slotway.test";

#[test]
fn system_c_operator_with_proxies() {
    need_redis!();
    let _one_at_a_time = heavy();
    let hosts = Hosts::new(&[("127.0.0.1", NAME)]);
    let Some(wrapper) = hosts.wrapper() else { return };
    let mut cluster = RedisCluster::start(3, 1);
    let seeds: Vec<String> = cluster.addrs()[..3].iter().map(|at| format!("{NAME}:{}", at.port())).collect();
    let launch = || {
        let keys = vec![("refresh-interval", "2s"), ("drain-accept-grace", "200ms")];
        let proxy = Proxy::launch(&Setup { seeds: seeds.clone(), keys, wrapper: wrapper.clone() });
        proxy.wait_ready();
        proxy
    };
    let mut proxies = vec![launch(), launch()];
    let service = Balancer::start(proxies.iter().map(Proxy::addr).collect());
    Load::default().during(service.addr(), |progress| {
        zombies(&mut cluster, &proxies);
        progress.wait(50);
    });
    all_addresses_change(&mut cluster, &hosts, &proxies);
    let load = Load { reconnects: true, clients: 6, ..Load::default() };
    load.during(service.addr(), |progress| {
        proxies.push(launch());
        service.set(proxies.iter().map(Proxy::addr).collect());
        progress.wait(100);
        // As Kubernetes ends a pod: first it is no endpoint any more, then it is told.
        let mut gone = proxies.remove(0);
        service.set(proxies.iter().map(Proxy::addr).collect());
        assert_eq!(gone.terminate(), Some(0));
        progress.wait(100);
    });
}

/// Rows that the operator forgets sooner or later, and that must not matter till then.
fn zombies(cluster: &mut RedisCluster, proxies: &[Proxy]) {
    // A pod that never was: it stays in handshake until the cluster gives it up.
    cluster.client(0).ok(&words("CLUSTER MEET 127.0.0.99 6379 16379"));
    // A pod whose volume was lost comes back as somebody else, and the old row stays.
    let index = cluster.replica_of(1);
    let old = cluster.client(index).call(&words("CLUSTER MYID")).text();
    cluster.nodes[index].restart_empty();
    let (mut node, primary) = (cluster.client(index), cluster.client(1).call(&words("CLUSTER MYID")).text());
    let new = node.call(&words("CLUSTER MYID")).text();
    assert_ne!(old, new);
    let at = cluster.nodes[0].addr();
    node.ok(&cmd!["CLUSTER", "MEET", at.ip().to_string(), at.port().to_string()]);
    eventually("the new node replicates", || {
        let said = node.call(&cmd!["CLUSTER", "REPLICATE", primary]);
        check(!said.is_error(), said)
    });
    let listed = |proxy: &Proxy, id: &str| proxy.admin("/topology").1.contains(id);
    for proxy in proxies {
        within(Duration::from_secs(25), "the new node is a replica", || {
            check(listed(proxy, &new), proxy.log())
        });
    }
    for survivor in 0..6 {
        let said = cluster.client(survivor).call(&cmd!["CLUSTER", "FORGET", old]);
        assert!(!said.is_error() || said.error().contains("Unknown node"), "{said:?}");
    }
    for proxy in proxies {
        within(Duration::from_secs(25), "the old one is forgotten", || {
            check(!listed(proxy, &old), proxy.log())
        });
    }
}

fn all_addresses_change(cluster: &mut RedisCluster, hosts: &Hosts, proxies: &[Proxy]) {
    let keys: Vec<String> = (0..3).map(|n| key_in(cluster.slot_of(n), "k")).collect();
    let addrs: Vec<SocketAddr> = cluster.addrs();
    cluster.relearn_ids();
    cluster.move_all_to(21);
    hosts.set(&[("127.0.0.21", NAME)]);
    for proxy in proxies {
        let mut client: Client = proxy.client();
        client.patience(Duration::from_secs(40));
        within(Duration::from_secs(25), "every proxy finds the cluster again", || {
            let replies: Vec<_> = keys.iter().map(|key| client.call(&cmd!["SET", key, "v"])).collect();
            check(replies.iter().all(|reply| !reply.is_error()), replies)
        });
        within(Duration::from_secs(25), "no old address is left", || {
            let topology = proxy.admin("/topology").1;
            let shards = topology.split("\"uncovered\"").next().unwrap_or_default().to_owned();
            let shards = shards.split("\"shards\"").nth(1).unwrap_or_default().to_owned();
            check(!addrs.iter().any(|addr| shards.contains(&addr.to_string())), topology)
        });
    }
}
