//! B: an operator's cluster, whose nodes announce host names and ask for a password, as the operator writes it
//! into their configuration. Its "leader-0" is deleted, comes back under another address and is a replica.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::support::cluster::{RedisCluster, Shape};
use crate::support::hosts::Hosts;
use crate::support::keys::key_in;
use crate::support::load::Load;
use crate::support::proxy::{Proxy, Setup};
use crate::support::{check, heavy, within};

/// Names of the pods: leaders first, then their followers.
fn name(index: usize) -> String {
    let (kind, number) = if index < 3 { ("leader", index) } else { ("follower", index - 3) };
    format!("rc-{kind}-{number}.rc-{kind}-headless.slotway.test")
}

fn announce(cluster: &RedisCluster, index: usize) {
    let mut client = cluster.client(index);
    client.ok(&cmd!["CONFIG", "SET", "cluster-announce-hostname", name(index)]);
    client.ok(&cmd!["CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname"]);
}

fn publish(hosts: &Hosts, cluster: &RedisCluster) {
    let names: Vec<(String, String)> =
        cluster.nodes.iter().enumerate().map(|(i, node)| (node.addr().ip().to_string(), name(i))).collect();
    let names: Vec<(&str, &str)> = names.iter().map(|(ip, name)| (ip.as_str(), name.as_str())).collect();
    hosts.set(&names);
}

fn names_are_known(cluster: &RedisCluster) {
    for index in 0..6 {
        within(Duration::from_secs(30), "every node knows all names", || {
            let nodes = cluster.client(index).call(&cmd!["CLUSTER", "NODES"]).text();
            check((0..6).all(|index| nodes.contains(&name(index))), nodes)
        });
    }
}

#[test]
fn system_b_operator_with_host_names_and_a_password() {
    need_redis!();
    let _one_at_a_time = heavy();
    let hosts = Hosts::new(&[]);
    let Some(wrapper) = hosts.wrapper() else { return };
    let options =
        &["--requirepass", "secret", "--masterauth", "secret", "--cluster-require-full-coverage", "no"];
    let node_timeout = Duration::from_secs(3);
    let mut cluster = RedisCluster::shaped(&Shape { node_timeout, options, ..Shape::default() });
    (0..6).for_each(|index| announce(&cluster, index));
    publish(&hosts, &cluster);
    names_are_known(&cluster);
    let seeds = [0, 3].map(|index| format!("{}:{}", name(index), cluster.nodes[index].addr().port()));
    let keys = vec![("upstream-password", "secret")];
    let proxy = Proxy::launch(&Setup { seeds: seeds.to_vec(), keys, wrapper });
    proxy.wait_ready();
    let topology = proxy.admin("/topology").1;
    for index in 0..6 {
        let shown = format!("{}:{}", name(index), cluster.nodes[index].addr().port());
        assert!(topology.contains(&shown), "no {shown} in {topology}");
    }
    redirects_by_name_are_followed(&cluster, &proxy);
    leader_0_is_deleted(&mut cluster, &hosts, &proxy);
}

/// MOVED and ASK name hosts, too.
fn redirects_by_name_are_followed(cluster: &RedisCluster, proxy: &Proxy) {
    let slot = cluster.slot_of(0);
    let mut client = proxy.client();
    for n in 0..20 {
        client.ok(&cmd!["SET", key_in(slot, &n.to_string()), "v"]);
    }
    let target = cluster.nodes[1].addr();
    cluster.open_slot(slot, 0, 1);
    let mut source = cluster.client(0);
    let (ip, port) = (target.ip().to_string(), target.port().to_string());
    for n in 0..10 {
        source.ok(&cmd!["MIGRATE", ip, port, key_in(slot, &n.to_string()), "0", "5000", "AUTH", "secret"]);
    }
    let all = |client: &mut crate::support::client::Client| {
        for n in 0..20 {
            assert_eq!(client.call(&cmd!["GET", key_in(slot, &n.to_string())]).text(), "v");
        }
    };
    all(&mut client);
    for n in 10..20 {
        source.ok(&cmd!["MIGRATE", ip, port, key_in(slot, &n.to_string()), "0", "5000", "AUTH", "secret"]);
    }
    cluster.close_slot(slot, 0, 1);
    all(&mut client);
}

fn leader_0_is_deleted(cluster: &mut RedisCluster, hosts: &Hosts, proxy: &Proxy) {
    let key = key_in(cluster.slot_of(0) + 1, "k");
    let mut client = proxy.client();
    client.patience(Duration::from_secs(40));
    client.ok(&cmd!["SET", key, "before"]);
    cluster.client(0).call(&cmd!["WAIT", "1", "5000"]);
    let old = cluster.nodes[0].addr();
    cluster.nodes[0].kill();
    assert_eq!(client.call(&cmd!["GET", key]).text(), "before", "waited for the follower");
    client.ok(&cmd!["SET", key, "after"]);
    let new = SocketAddr::new(IpAddr::from([127, 0, 0, 26]), old.port());
    cluster.nodes[0].restart_at(new);
    announce(cluster, 0);
    publish(hosts, cluster);
    cluster.meet_all();
    cluster.wait_healthy();
    names_are_known(cluster);
    let shown = format!("\"addr\": \"{}:{}\"", name(0), new.port());
    within(Duration::from_secs(25), "leader-0 is a replica that can be reached", || {
        let topology = proxy.admin("/topology").1;
        let replicas =
            topology.split("\"replicas\":").skip(1).map(|part| part.split(']').next().unwrap_or(""));
        let is_up = |part: &str| {
            part.split('}').any(|node| node.contains(&shown) && node.contains("\"health\": \"up\""))
        };
        let found = replicas.clone().any(is_up);
        check(found, topology)
    });
    Load::default().during(proxy.addr(), |progress| progress.wait(100));
}
