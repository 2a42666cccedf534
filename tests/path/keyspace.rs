//! Commands about all keys, beside a single Redis: DBSIZE, KEYS, RANDOMKEY, FLUSHALL, FLUSHDB. On a cluster of
//! their own, for they touch everybody's keys.

use std::collections::BTreeSet;

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, show};
use crate::support::server::Server;
use crate::support::shared;

struct Beside {
    cluster: RedisCluster,
    proxy: Proxy,
    single: Server,
}

impl Beside {
    fn start() -> Self {
        let cluster = RedisCluster::start(3, 0);
        let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
        Self { cluster, proxy, single: Server::standalone(&[]) }
    }

    fn clients(&self, resp3: bool) -> [Client; 2] {
        let connect = if resp3 { Client::connect_resp3 } else { Client::connect };
        [connect(self.proxy.addr()), connect(self.single.addr())]
    }
}

fn set(clients: &mut [Client; 2], keys: &[String]) {
    for client in clients {
        client.send(&keys.iter().flat_map(|key| cmd!["SET", key, "v"]).collect::<Vec<u8>>());
        keys.iter().for_each(|_| drop(client.reply()));
    }
}

fn listed(value: &Value) -> BTreeSet<String> {
    let names: BTreeSet<String> = value.items().iter().map(Value::text).collect();
    assert_eq!(names.len(), value.items().len(), "a key twice: {value:?}");
    names
}

#[test]
fn counts_lists_and_draws_give_what_a_single_redis_gives() {
    need_redis!();
    let beside = Beside::start();
    for resp3 in [false, true] {
        let mut clients = beside.clients(resp3);
        let same = |clients: &mut [Client; 2], line: &str| {
            let [ours, theirs] = clients.each_mut().map(|client| client.raw(&words(line)));
            assert_eq!(show(&ours), show(&theirs), "{line}");
        };
        for line in
            ["FLUSHALL", "DBSIZE", "KEYS *", "RANDOMKEY", "KEYS", "KEYS a b", "DBSIZE x", "RANDOMKEY x"]
        {
            same(&mut clients, line);
        }
        let keys: Vec<String> = (0..3000).map(|n| format!("key:{n}")).collect();
        set(&mut clients, &keys);
        same(&mut clients, "DBSIZE");
        for pattern in ["*", "key:1*", "key:[12]?", "none*", "key:77", "k?y:*9", "{a}*"] {
            let [ours, theirs] =
                clients.each_mut().map(|client| listed(&client.call(&cmd!["KEYS", pattern])));
            assert_eq!(ours, theirs, "{pattern}");
        }
        same(&mut clients, "KEYS key:77");
        let drawn: BTreeSet<String> = (0..300).map(|_| clients[0].call(b"RANDOMKEY\r\n").text()).collect();
        assert!(drawn.iter().all(|key| keys.contains(key)));
        assert!(drawn.len() > 200, "300 draws of 3000 keys gave only {}", drawn.len());
    }
}

#[test]
fn a_random_key_is_as_likely_as_any_other_however_the_shards_are_filled() {
    need_redis!();
    let beside = Beside::start();
    let mut client = beside.proxy.client();
    let rare = key_in(beside.cluster.slot_of(0), "rare");
    client.ok(&cmd!["SET", rare, "v"]);
    for _ in 0..20 {
        assert_eq!(client.call(b"RANDOMKEY\r\n").text(), rare, "the only key there is");
    }
    let keys: Vec<String> = (0..99).map(|n| key_in(beside.cluster.slot_of(1), &format!("k{n}"))).collect();
    keys.iter().for_each(|key| drop(client.ok(&cmd!["SET", key, "v"])));
    client.send(&b"RANDOMKEY\r\n".repeat(2000));
    let hits = (0..2000).filter(|_| client.value().text() == rare).count();
    assert!((2..60).contains(&hits), "1 of 100 keys was drawn {hits} times of 2000");
}

#[test]
fn flush_with_every_option_empties_every_shard_and_refuses_what_redis_refuses() {
    need_redis!();
    let beside = Beside::start();
    let mut clients = beside.clients(false);
    let keys: Vec<String> = (0..3).map(|n| key_in(beside.cluster.slot_of(n), "flush")).collect();
    for name in ["FLUSHALL", "flushdb"] {
        for (options, empties) in [
            ("", true),
            (" ASYNC", true),
            (" SYNC", true),
            (" async", true),
            (" LATER", false),
            (" ASYNC SYNC", false),
            (" SYNC SYNC", false),
        ] {
            set(&mut clients, &keys);
            let line = format!("{name}{options}");
            let [ours, theirs] = clients.each_mut().map(|client| client.raw(&words(&line)));
            assert_eq!(show(&ours), show(&theirs), "{line}");
            let left = if empties { 0 } else { 1 };
            for node in 0..3 {
                assert_eq!(
                    beside.cluster.client(node).call(b"DBSIZE\r\n").int(),
                    left,
                    "{line} at node {node}"
                );
            }
        }
    }
}

#[test]
fn a_merged_reply_has_its_bound() {
    need_redis!();
    let beside = Beside::start();
    let limited = Proxy::start(&shared::seeds(&beside.cluster), &[("merge-reply-bytes", "10KiB")]);
    let keys: Vec<String> = (0..900).map(|n| format!("a:rather:long:key:{n}")).collect();
    set(&mut beside.clients(false), &keys);
    let mut client = limited.client();
    client.send(&[words("KEYS *"), words("KEYS a:rather:long:key:7"), words("DBSIZE")].concat());
    assert!(client.value().error().contains("merge-reply-bytes"));
    assert_eq!(client.value().items().len(), 1);
    assert_eq!(client.value(), Value::Int(900));
}
