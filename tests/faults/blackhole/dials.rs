//! A node that takes no new connection: what opens one vanishes, what stands goes on.

use std::time::{Duration, Instant};

use super::{await_up, cluster, others_go_on, proxy};
use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::hole::Hole;
use crate::support::keys::key_in;
use crate::support::{allow_files, check, eventually, heavy};

/// Connections that wait at node 0, by its own word over `direct`.
#[track_caller]
fn await_blocked(direct: &mut Client, count: usize) {
    eventually("so many wait at the node", || {
        let info = direct.call(&words("INFO clients")).text();
        check(info.contains(&format!("blocked_clients:{count}\r")), info)
    });
}

fn fast(cluster: &RedisCluster, owner_wait: &str) -> crate::support::proxy::Proxy {
    proxy(cluster, &[("connect-timeout", "300ms"), ("owner-wait", owner_wait), ("node-connects-max", "4")])
}

#[test]
#[ignore = "make test-net"]
fn a_node_that_takes_no_new_connection_serves_on_those_it_has() {
    need_redis!();
    let cluster = cluster(0);
    let proxy = fast(&cluster, "1s");
    let mut client = proxy.client();
    let (key, queue) = (key_in(cluster.slot_of(0), "k"), key_in(cluster.slot_of(0), "queue"));
    let elsewhere = key_in(cluster.slot_of(1), "queue");
    // Enough clients that each worker has its connection.
    for mut client in [proxy.client(), proxy.client()] {
        client.ok(&cmd!["SET", key, "v"]);
    }
    let hole = Hole::for_new_connections(cluster.nodes[0].addr());
    // More than may be dialled at a time: who waits for a turn does not wait for ever.
    let mut waits: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    for wait in &mut waits {
        wait.send(&cmd!["BLPOP", queue, "0"]);
    }
    eventually("they dial", || check(hole.swallowed() > 0, ()));
    client.ok(&cmd!["RPUSH", elsewhere, "e"]);
    assert_eq!(client.call(&cmd!["BLPOP", elsewhere, "0"]).items().len(), 2);
    for _ in 0..300 {
        client.ok(&cmd!["SET", key, "v"]);
    }
    others_go_on(&proxy, &cluster);
    for wait in &mut waits {
        let reply = wait.value();
        assert!(reply.error().starts_with("CLUSTERDOWN"), "not executed: {reply:?}");
    }
    await_up(&proxy, &cluster, 0, true);
    client.ok(&cmd!["SET", key, "v"]);
    drop(hole);
    client.ok(&cmd!["RPUSH", queue, "e"]);
    assert_eq!(client.call(&cmd!["BLPOP", queue, "0"]).items().len(), 2);
}

#[test]
#[ignore = "make test-net"]
fn a_node_that_cannot_be_dialled_is_probed_by_one_and_not_stormed_when_it_is_back() {
    const CLIENTS: usize = 200;
    need_redis!();
    let _one_at_a_time = heavy();
    allow_files(4096);
    let cluster = cluster(0);
    let proxy = fast(&cluster, "60s");
    let (key, wait) = (key_in(cluster.slot_of(0), "k"), cmd!["BLPOP", key_in(cluster.slot_of(0), "q"), "0"]);
    let mut direct = cluster.client(0);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.patience(Duration::from_secs(60));
        client.send(&wait);
    }
    await_blocked(&mut direct, CLIENTS);
    let hole = Hole::for_new_connections(cluster.nodes[0].addr());
    direct.ok(&words("CLIENT KILL TYPE normal SKIPME yes"));
    for client in &mut clients {
        assert!(client.value().error().contains("may have been executed"));
        client.send(&wait);
    }
    let mut waiting: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut waiting {
        client.patience(Duration::from_secs(60));
        client.send(&cmd!["SET", key, "v"]);
    }
    await_up(&proxy, &cluster, 0, false);
    // One after the other, each given up after `connect-timeout`, however many want to go there.
    let (before, start) = (hole.swallowed(), Instant::now());
    others_go_on(&proxy, &cluster);
    eventually("it is probed", || check(hole.swallowed() >= before + 5, hole.swallowed()));
    assert!(start.elapsed() > Duration::from_secs(1), "5 probes in {:?}", start.elapsed());
    let received = |client: &mut Client| {
        let stats = client.call(&words("INFO stats")).text();
        let line = stats.lines().find_map(|l| l.strip_prefix("total_connections_received:"));
        line.and_then(|count| count.parse::<usize>().ok()).expect("a count")
    };
    let before = received(&mut direct);
    drop(hole);
    for client in &mut waiting {
        assert!(!client.value().is_error(), "it waited for the node");
    }
    await_blocked(&mut direct, CLIENTS);
    let dialled = received(&mut direct) - before;
    assert!(
        dialled <= CLIENTS + 10,
        "{dialled} connections for {CLIENTS} clients, two workers and the probe"
    );
    await_up(&proxy, &cluster, 0, true);
}
