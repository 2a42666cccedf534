//! Commands about all keys when a shard is dead, frozen, fails over, or when the proxy's table is behind: never a
//! count too small, never a shard left out, and an error that names the nodes.

use std::time::Duration;

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, frame};
use crate::support::{check, eventually, shared};

/// No failover while a node stands still.
fn patient(replicas_per: usize) -> RedisCluster {
    let node_timeout = Duration::from_secs(60);
    let options = &["--cluster-require-full-coverage", "no"][..];
    RedisCluster::shaped(&Shape { replicas_per, node_timeout, options, ..Shape::default() })
}

fn fill(client: &mut Client, cluster: &RedisCluster, each: usize) -> Vec<String> {
    let keys: Vec<String> = (0..3)
        .flat_map(|node| (0..each).map(move |n| (node, n)))
        .map(|(node, n)| key_in(cluster.slot_of(node), &format!("k{n}:")))
        .collect();
    keys.iter().for_each(|key| drop(client.ok(&cmd!["SET", key, "v"])));
    keys
}

fn sizes(cluster: &RedisCluster) -> Vec<i64> {
    (0..3).map(|node| cluster.client(node).call(&words("DBSIZE")).int()).collect()
}

#[test]
fn a_dead_shard_makes_counts_lists_and_draws_an_error() {
    need_redis!();
    let mut cluster = patient(0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("owner-wait", "300ms")]);
    let mut client = proxy.client();
    fill(&mut client, &cluster, 5);
    let dead = cluster.nodes[2].addr();
    cluster.nodes[2].kill();
    for line in
        ["DBSIZE", "KEYS *", "KEYS k1*", "RANDOMKEY", "SCRIPT LOAD return", "SCRIPT EXISTS x", "SLOWLOG LEN"]
    {
        client.send(&[words(line), words("PING")].concat());
        let refused = client.value();
        assert!(refused.error().contains("slotway"), "{line}: {refused:?}");
        assert_eq!(client.value(), Value::Simple("PONG".into()));
    }
    cluster.nodes[2].restart_at(dead);
    cluster.wait_healthy();
    eventually("whole again", || {
        let size = client.call(&words("DBSIZE"));
        check(size == Value::Int(10), size)
    });
}

#[test]
fn flush_with_a_dead_shard_flushes_none() {
    need_redis!();
    let mut cluster = patient(0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("owner-wait", "300ms")]);
    let mut client = proxy.client();
    fill(&mut client, &cluster, 5);
    cluster.nodes[1].kill();
    eventually("the proxy knows", || {
        let reply = client.call(&words("DBSIZE"));
        check(reply.is_error(), reply)
    });
    for line in ["FLUSHALL", "FLUSHDB ASYNC", "FLUSHALL SYNC"] {
        let refused = client.call(&words(line));
        let text = refused.error();
        let named = text.contains(&format!("not done at {}", cluster.nodes[1].addr()));
        assert!(text.starts_with("CLUSTERDOWN") || named, "{line}: {text}");
    }
}

#[test]
fn flush_with_a_frozen_shard_names_the_nodes() {
    need_redis!();
    let mut cluster = patient(0);
    let keys = [("request-deadline", "1s"), ("node-silence-timeout", "60s")];
    let proxy = Proxy::start(&shared::seeds(&cluster), &keys);
    let mut client = proxy.client();
    let at = |node: usize| cluster.nodes[node].addr().to_string();
    let [zero, one, two] = [at(0), at(1), at(2)];
    fill(&mut client, &cluster, 5);
    cluster.nodes[1].freeze();
    let refused = client.call(&words("FLUSHALL"));
    let expected = format!(
        "ERR slotway: request deadline passed without a reply; the request may have been executed \
         (done at {zero}, {two}; unknown at {one})"
    );
    assert_eq!(refused.error(), expected);
    for line in ["DBSIZE", "KEYS *", "CONFIG SET hz 20"] {
        let refused = client.call(&words(line));
        assert!(
            refused.error().ends_with(&format!("(done at {zero}, {two}; unknown at {one})")),
            "{refused:?}"
        );
    }
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
    cluster.nodes[1].thaw();
    eventually("the backlog is gone", || check(sizes(&cluster) == [0, 0, 0], ()));
    eventually("all is well again", || {
        let reply = client.call(&words("DBSIZE"));
        check(reply == Value::Int(0), reply)
    });
}

#[test]
fn flush_waits_for_a_shard_that_fails_over() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let mut client = proxy.client();
    client.patience(Duration::from_secs(40));
    fill(&mut client, &cluster, 20);
    assert_eq!(cluster.client(0).call(&words("WAIT 1 10000")).int(), 1);
    cluster.nodes[0].kill();
    assert_eq!(client.call(&words("FLUSHALL")), Value::Simple("OK".into()));
    assert_eq!(cluster.client(3).call(&words("DBSIZE")), Value::Int(0), "the promoted replica was flushed");
    assert_eq!(client.call(&words("DBSIZE")), Value::Int(0));
}

#[test]
fn counts_and_lists_wait_for_a_shard_that_fails_over() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let mut client = proxy.client();
    client.patience(Duration::from_secs(40));
    let keys = fill(&mut client, &cluster, 20);
    for node in 0..3 {
        assert_eq!(cluster.client(node).call(&words("WAIT 1 10000")).int(), 1);
    }
    cluster.nodes[2].kill();
    client.send(&[words("DBSIZE"), words("KEYS *"), words("RANDOMKEY")].concat());
    assert_eq!(client.value(), Value::Int(60));
    assert_eq!(client.value().items().len(), keys.len());
    assert!(keys.contains(&client.value().text()));
}

/// A node got a slot, and the proxy, which asks the cluster every ten minutes only, has not heard of it.
#[test]
fn a_primary_that_the_proxy_does_not_know_is_counted_listed_and_flushed() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("refresh-interval", "10m")]);
    let mut client = proxy.client();
    let slot = cluster.slot_of(1);
    let keys = fill(&mut client, &cluster, 20);
    let newcomer = cluster.join();
    cluster.move_slot_to(slot, 1, &newcomer);
    assert_eq!(newcomer.client().call(&words("DBSIZE")), Value::Int(20));
    assert_eq!(client.call(&words("DBSIZE")), Value::Int(60));
    assert_eq!(client.call(&words("KEYS *")).items().len(), keys.len());
    let behind = Proxy::start(&shared::seeds(&cluster), &[("refresh-interval", "10m")]);
    let mut client = behind.client();
    let another = cluster.join();
    cluster.move_slot_to(cluster.slot_of(0), 0, &another);
    assert_eq!(client.call(&words("FLUSHALL")), Value::Simple("OK".into()));
    assert_eq!(another.client().call(&words("DBSIZE")), Value::Int(0));
    assert_eq!(newcomer.client().call(&words("DBSIZE")), Value::Int(0));
    assert_eq!(sizes(&cluster), [0, 0, 0]);
}

#[test]
fn keys_on_their_way_to_a_node_without_slots_are_counted_listed_and_flushed() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("refresh-interval", "10m")]);
    let mut client = proxy.client();
    let keys = fill(&mut client, &cluster, 20);
    let newcomer = cluster.join();
    cluster.open_slot_to(cluster.slot_of(2), 2, &newcomer, 8);
    assert_eq!(newcomer.client().call(&words("DBSIZE")), Value::Int(8));
    assert_eq!(client.call(&words("DBSIZE")), Value::Int(60));
    assert_eq!(client.call(&words("KEYS *")).items().len(), keys.len());
    assert_eq!(client.call(&words("FLUSHDB")), Value::Simple("OK".into()));
    assert_eq!(newcomer.client().call(&words("DBSIZE")), Value::Int(0));
    assert_eq!(sizes(&cluster), [0, 0, 0]);
}

#[test]
fn a_flush_whose_connection_is_lost_is_not_sent_again() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[]);
    fake.script(|seen| match (seen.name().as_str(), seen.node) {
        ("FLUSHALL", 1) => Answer::Close(Vec::new()),
        _ => Answer::Standard,
    });
    let refused = proxy.client().call(&words("FLUSHALL"));
    let addrs = fake.addrs();
    let expected = format!(
        "ERR slotway: connection to the node was lost; the request may have been executed (done at {}, {}; unknown at {})",
        addrs[0], addrs[2], addrs[1]
    );
    assert_eq!(refused.error(), expected);
    assert_eq!(fake.seen_named("FLUSHALL").len(), 3, "each node got it once");
}

#[test]
fn a_flush_that_a_node_cannot_do_yet_is_sent_again_to_that_node_alone() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[]);
    for refusal in [
        "-LOADING Redis is loading the dataset in memory",
        "-READONLY You can't write against a read only replica.",
    ] {
        let before = fake.seen_named("FLUSHALL").len();
        let first = std::sync::atomic::AtomicBool::new(true);
        fake.script(move |seen| match (seen.name().as_str(), seen.node) {
            ("FLUSHALL", 2) if first.swap(false, std::sync::atomic::Ordering::Relaxed) => {
                Answer::text(refusal)
            }
            _ => Answer::Standard,
        });
        assert_eq!(proxy.client().call(&words("FLUSHALL ASYNC")), Value::Simple("OK".into()), "{refusal}");
        assert_eq!(fake.seen_named("FLUSHALL").len() - before, 4, "{refusal}");
    }
}

#[test]
fn an_unknown_option_reaches_no_node() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    for line in ["FLUSHALL NOW", "FLUSHDB ASYNC ASYNC"] {
        assert_eq!(proxy.client().call(&words(line)).error(), "ERR syntax error");
    }
    assert!(fake.seen_named("FLUSHALL").is_empty() && fake.seen_named("FLUSHDB").is_empty());
}

/// What comes behind waits, and what came before is answered: order over all shards.
#[test]
fn commands_around_a_flush_keep_their_order() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let gate = Gate::default();
    let held = gate.clone();
    fake.script(move |seen| match (seen.name().as_str(), seen.node) {
        ("SET", 1) => Answer::Hold(held.clone(), b"+OK\r\n".to_vec()),
        _ => Answer::Standard,
    });
    let (near, far) = (key_in(5, "k"), key_in(16000, "k"));
    let mut client = proxy.client();
    client.send(&[cmd!["SET", far, "1"], words("FLUSHALL"), cmd!["SET", near, "2"]].concat());
    eventually("the first is there", || check(fake.seen_named("SET").len() == 1, ()));
    assert_eq!(proxy.client().call(&words("PING")), Value::Simple("PONG".into()));
    assert!(fake.seen_named("FLUSHALL").is_empty(), "before the SET is answered nothing is flushed");
    gate.open();
    assert_eq!(client.values(3), vec![Value::Simple("OK".into()); 3]);
    let order: Vec<String> =
        fake.seen().iter().map(|seen| seen.name()).filter(|n| n == "SET" || n == "FLUSHALL").collect();
    assert_eq!(order, ["SET", "FLUSHALL", "FLUSHALL", "SET"]);
}

/// Nodes know no redirect for these two, and answer 0 and nothing for slots of others.
#[test]
fn the_keys_of_a_slot_are_counted_and_listed_where_they_are() {
    need_redis!();
    let cluster = patient(0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let mut client = proxy.client();
    let slot = cluster.slot_of(0) + 7;
    let keys: Vec<Vec<u8>> = (0..10).map(|n| key_in(slot, &format!("k{n}")).into_bytes()).collect();
    keys.iter().for_each(|key| assert!(!client.call(&frame(&[b"SET", key.as_slice(), b"v"])).is_error()));
    let number = slot.to_string();
    let mut all = |most: &str| {
        let count = client.call(&cmd!["CLUSTER", "COUNTKEYSINSLOT", number]);
        let mut listed: Vec<Vec<u8>> = client
            .call(&cmd!["CLUSTER", "GETKEYSINSLOT", number, most])
            .items()
            .iter()
            .map(|key| key.bytes().to_vec())
            .collect();
        listed.sort();
        (count, listed)
    };
    let mut sorted = keys.clone();
    sorted.sort();
    for (from, to) in [(0, 1), (1, 2)] {
        assert_eq!(all("100"), (Value::Int(10), sorted.clone()));
        cluster.open_slot(slot, from, to);
        cluster.move_keys(from, to, &keys[..4]);
        assert_eq!(all("100"), (Value::Int(10), sorted.clone()), "four of ten have moved");
        assert_eq!(all("7").1.len(), 7);
        cluster.move_keys(from, to, &keys[4..]);
        cluster.close_slot(slot, from, to);
        assert_eq!(all("100"), (Value::Int(10), sorted.clone()), "nobody has told the proxy of the move");
    }
    for words in ["CLUSTER COUNTKEYSINSLOT 16384", "CLUSTER GETKEYSINSLOT x 1", "CLUSTER GETKEYSINSLOT 1 -1"]
    {
        let line: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let expected = cluster.client(0).call(&frame(&line));
        assert_eq!(proxy.client().call(&frame(&line)), expected, "{words}");
    }
}
