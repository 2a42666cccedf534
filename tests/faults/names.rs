//! A resolver that knows nothing any more while slotway runs, and later works again. Names are steered by a hosts file
//! of our own, mounted over the real one in a private mount namespace; without an entry there they lead nowhere.

use std::time::Duration;

use crate::support::cluster::RedisCluster;
use crate::support::hosts::Hosts;
use crate::support::keys::key_in;
use crate::support::load::Load;
use crate::support::proxy::{Proxy, Setup};
use crate::support::resp::Value;
use crate::support::{check, eventually, heavy, within};

const NAME: &str = "seeds.slotway.test";
/// Long enough for a resolver that has to give up first.
const PATIENT: [(&str, &str); 2] = [("owner-wait", "60s"), ("request-deadline", "90s")];

#[test]
fn without_a_resolver_the_known_addresses_are_used_and_with_it_new_ones_are_found() {
    need_redis!();
    let _one_at_a_time = heavy();
    let hosts = Hosts::new(&[("127.0.0.1", NAME)]);
    let Some(wrapper) = hosts.wrapper() else { return };
    let mut cluster = RedisCluster::start(3, 1);
    let seeds = vec![format!("{NAME}:{}", cluster.nodes[0].addr().port())];
    let keys = [&PATIENT[..], &[("refresh-interval", "1s")]].concat();
    let proxy = Proxy::launch(&Setup { seeds, keys, wrapper });
    proxy.wait_ready();
    Load::default().during(proxy.addr(), |progress| {
        hosts.set(&[]);
        progress.wait(100);
        // What is new in the cluster is learned from the nodes that are known.
        cluster.client(cluster.replica_of(0)).ok(&cmd!["CLUSTER", "FAILOVER"]);
        let promoted = cluster.nodes[cluster.replica_of(0)].addr().to_string();
        eventually("slotway knows the new primary", || {
            let slots = proxy.admin("/topology").1;
            let mut client = cluster.client(cluster.replica_of(0));
            let role = client.call(&cmd!["ROLE"]).items()[0].text();
            check(role == "master" && slots.contains(&promoted), slots)
        });
        progress.wait(100);
    });
    let count = key_in(cluster.slot_of(1), "count");
    let mut client = proxy.client();
    assert_eq!(client.call(&cmd!["INCR", count]), Value::Int(1));
    // Nobody is left where anybody was known, and the name leads nowhere.
    cluster.move_all_to(7);
    client.send(&cmd!["INCR", count]);
    within(Duration::from_secs(60), "slotway has looked for the cluster", || {
        let log = proxy.log();
        check(log.contains("no new picture of the cluster"), log)
    });
    hosts.set(&[("127.0.0.7", NAME)]);
    client.patience(Duration::from_secs(60));
    assert_eq!(client.value(), Value::Int(2), "it waited, and was executed once");
}

fn name(index: usize) -> String {
    format!("node-{index}.slotway.test")
}

#[test]
fn requests_wait_while_the_names_of_nodes_lead_nowhere() {
    need_redis!();
    let all: Vec<String> = (0..3).map(name).collect();
    let names: Vec<(&str, &str)> = all.iter().map(|name| ("127.0.0.1", name.as_str())).collect();
    let hosts = Hosts::new(&names);
    let Some(wrapper) = hosts.wrapper() else { return };
    let cluster = RedisCluster::start(3, 0);
    for index in 0..3 {
        let mut client = cluster.client(index);
        client.ok(&cmd!["CONFIG", "SET", "cluster-announce-hostname", name(index)]);
        client.ok(&cmd!["CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname"]);
    }
    for index in 0..3 {
        eventually("every node knows all names", || {
            let nodes = cluster.client(index).call(&cmd!["CLUSTER", "NODES"]).text();
            check(all.iter().all(|name| nodes.contains(name)), nodes)
        });
    }
    let seeds = vec![format!("{}:{}", name(0), cluster.nodes[0].addr().port())];
    let proxy = Proxy::launch(&Setup { seeds, keys: PATIENT.to_vec(), wrapper });
    proxy.wait_ready();
    let counts: Vec<String> = (0..3).map(|index| key_in(cluster.slot_of(index), "count")).collect();
    let mut client = proxy.client();
    for count in &counts {
        assert_eq!(client.call(&cmd!["INCR", count]), Value::Int(1));
    }
    hosts.set(&[]);
    for (count, due) in counts.iter().flat_map(|count| (2..=20).map(move |due| (count, due))) {
        assert_eq!(client.call(&cmd!["INCR", count]), Value::Int(due), "connections need no resolver");
    }
    cluster.client(0).ok(&cmd!["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    client.send(&cmd!["INCR", counts[0]]);
    eventually("slotway cannot connect", || {
        let log = proxy.log();
        check(log.contains("cannot connect to node"), log)
    });
    let mut other = proxy.client();
    for count in &counts[1..] {
        assert_eq!(other.call(&cmd!["INCR", count]), Value::Int(21), "the other shards are not concerned");
    }
    hosts.set(&names);
    client.patience(Duration::from_secs(60));
    assert_eq!(client.value(), Value::Int(21), "it waited, and was executed once");
}
