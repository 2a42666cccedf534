//! The harness itself, tried without the proxy: a harness that lies proves nothing.

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys;
use crate::support::node::FakeCluster;
use crate::support::resp::{Value, parse_all, reply_len};

#[test]
fn real_cluster_moves_a_slot_and_all_its_nodes() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    let (slot, owner) = (cluster.slot_of(0), 0);
    let key = keys::key_in(slot, "k");
    cluster.client(owner).ok(&cmd!["SET", key, "v"]);
    cluster.move_slot(slot, 0, 1);
    assert_eq!(cluster.client(1).call(&cmd!["GET", key]), Value::Bulk(b"v".to_vec()));
    assert!(cluster.client(0).call(&cmd!["GET", key]).error().starts_with("MOVED"));
    assert_eq!(cluster.errors_sent("MOVED"), 1);
    cluster.move_all_to(7);
    let owner = cluster.owner_seen_by(2, cluster.slot_of(2)).expect("an owner");
    assert_eq!(owner, cluster.nodes[2].addr());
    assert_eq!(owner.ip().to_string(), "127.0.0.7");
}

#[test]
fn fake_cluster_tells_one_story() {
    let fake = FakeCluster::start(3);
    let mut client = Client::connect(fake.addrs()[1]);
    let before = client.call(&words("CLUSTER SLOTS"));
    assert_eq!(before.items().len(), 3);
    fake.change_map(|map| map.assign(5, 2));
    let after = client.call(&words("CLUSTER SLOTS"));
    assert_eq!(after.items().len(), 5);
    let nodes = client.call(&words("CLUSTER NODES")).text();
    assert!(nodes.lines().any(|l| l.contains("myself,master - 0 0 2 connected 5461-10921")), "{nodes}");
    assert!(nodes.lines().any(|l| l.contains(" 4 connected 5 10922-16383")), "{nodes}");
    assert!(matches!(client.call(&words("HELLO 3")), Value::Map(_)));
    assert_eq!(client.call(&words("SET a b")), Value::Simple("OK".into()));
    assert_eq!(fake.seen_named("SET")[0].bytes, words("SET a b"));
}

#[test]
fn reader_finds_the_end_of_every_kind_of_reply() {
    let all = b"+OK\r\n:1\r\n$3\r\n\r\n\0\r\n*2\r\n$-1\r\n*-1\r\n%1\r\n+a\r\n~1\r\n#t\r\n|1\r\n+k\r\n_\r\n,1.5\r\n=5\r\ntxt:x\r\n";
    let mut at = 0;
    let mut count = 0;
    while at < all.len() {
        let length = (at..=all.len()).find_map(|end| reply_len(&all[at..end])).expect("an end");
        at += length;
        count += 1;
    }
    assert_eq!(count, parse_all(all).len());
}
