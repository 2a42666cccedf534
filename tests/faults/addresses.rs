//! Every node gets a new address at once: only the seeds' names lead back. The name is steered by a
//! hosts file of our own, mounted over the real one in a private mount namespace.

use std::time::Duration;

use crate::support::client::words;
use crate::support::cluster::RedisCluster;
use crate::support::hosts::Hosts;
use crate::support::keys::key_in;
use crate::support::proxy::{Proxy, Setup};
use crate::support::resp::Value;
use crate::support::{check, shared, within};

const NAME: &str = "redis.slotway.test";

#[test]
fn all_nodes_move_to_new_addresses_at_once_behind_one_name() {
    need_redis!();
    let hosts = Hosts::new(&[("127.0.0.1", NAME)]);
    let Some(wrapper) = hosts.wrapper() else { return };
    let mut cluster = RedisCluster::start(3, 1);
    let seeds = vec![format!("{NAME}:{}", cluster.nodes[0].addr().port())];
    let proxy = Proxy::launch(&Setup { seeds, keys: Vec::new(), wrapper });
    proxy.wait_ready();
    let keys: Vec<String> = (0..3).map(|n| key_in(cluster.slot_of(n), "k")).collect();
    let mut client = proxy.client();
    for (round, last) in [5, 6].into_iter().enumerate() {
        for key in &keys {
            client.ok(&cmd!["SET", key, round.to_string()]);
        }
        cluster.move_all_to(last);
        hosts.set(&[(&format!("127.0.0.{last}"), NAME)]);
        within(Duration::from_secs(25), "slotway finds the cluster again", || {
            let replies: Vec<Value> = keys.iter().map(|k| client.call(&cmd!["SET", k, "after"])).collect();
            check(replies.iter().all(|r| !r.is_error()), replies)
        });
        let topology = proxy.admin("/topology").1;
        for node in &cluster.nodes[..3] {
            assert!(topology.contains(&node.addr().to_string()), "{topology}");
        }
    }
}

#[test]
fn nodes_that_move_one_by_one_are_followed_without_the_seed() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&cluster.addrs()[..1], &[]);
    let keys: Vec<String> = (0..3).map(|n| key_in(cluster.slot_of(n), "k")).collect();
    let mut client = proxy.client();
    for index in 0..3 {
        let port = cluster.nodes[index].addr().port();
        cluster.nodes[index].restart_at(std::net::SocketAddr::from(([127, 0, 0, 9], port)));
        cluster.meet_all();
        cluster.wait_healthy();
        within(Duration::from_secs(25), "slotway follows", || {
            let replies: Vec<Value> = keys.iter().map(|k| client.call(&cmd!["SET", k, "v"])).collect();
            check(replies.iter().all(|r| !r.is_error()), replies)
        });
    }
}

#[test]
fn a_seed_by_name_that_is_another_address_of_the_same_host_is_no_other_node() {
    need_redis!();
    // `localhost` may resolve to ::1 first, where nobody listens; no privilege is needed for this one.
    let cluster = RedisCluster::start(3, 0);
    let seeds = vec![format!("localhost:{}", cluster.nodes[0].addr().port())];
    let proxy = Proxy::launch(&Setup { seeds, ..Setup::default() });
    proxy.wait_ready();
    let mut client = proxy.client();
    for index in 0..3 {
        client.ok(&cmd!["SET", key_in(cluster.slot_of(index), "k"), "v"]);
    }
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
    assert_eq!(shared::seeds(&cluster).len(), 2);
}

#[test]
fn any_one_reachable_seed_is_enough() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let live = cluster.nodes[1].addr().to_string();
    let dead = "127.0.0.1:1".to_owned();
    let seeds = vec![dead.clone(), "nosuch.invalid:6379".into(), live, dead];
    let proxy = Proxy::launch(&Setup { seeds, ..Setup::default() });
    proxy.wait_ready();
    for index in 0..3 {
        proxy.client().ok(&cmd!["SET", key_in(cluster.slot_of(index), "k"), "v"]);
    }
}
