//! SCAN passes over a cluster that stays as it is: every key exactly once, whatever the options, through one
//! proxy or several; cursors any client can hold; errors as Redis gives them.

use std::collections::BTreeMap;

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys::{key_in, slot};
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::{bulk, show};
use crate::support::server::Server;
use crate::support::shared;

/// One call; the next cursor and the keys.
fn call(client: &mut Client, cursor: &str, options: &str) -> (String, Vec<String>) {
    let reply = client.ok(&words(&format!("SCAN {cursor} {options}")));
    let [next, keys] = reply.items() else { panic!("{reply:?}") };
    let next = next.text();
    let number: i64 = next.parse().unwrap_or_else(|_| panic!("a cursor no signed integer holds: {next}"));
    assert!(number >= 0 && number.to_string() == next, "{next}");
    (next, keys.items().iter().map(|key| key.text()).collect())
}

/// A whole pass, its calls dealt to `clients` in turn: how often each key came, and the number of calls.
fn pass(clients: &mut [Client], options: &str) -> (BTreeMap<String, usize>, usize) {
    let (mut seen, mut cursor, mut calls) = (BTreeMap::new(), "0".to_owned(), 0);
    loop {
        let turn = calls % clients.len();
        let (next, keys) = call(&mut clients[turn], &cursor, options);
        keys.into_iter().for_each(|key| *seen.entry(key).or_insert(0) += 1);
        calls += 1;
        assert!(calls < 100_000, "a pass without end");
        if next == "0" {
            return (seen, calls);
        }
        cursor = next;
    }
}

fn fill(client: &mut Client, keys: &[String]) {
    client.send(&keys.iter().flat_map(|key| cmd!["SET", key, "v"]).collect::<Vec<u8>>());
    keys.iter().for_each(|_| drop(client.reply()));
}

#[test]
fn a_pass_returns_what_a_single_redis_returns_whatever_the_options() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let (one, two) = (Proxy::start(&shared::seeds(&cluster), &[]), Proxy::start(&cluster.addrs()[2..], &[]));
    let single = Server::standalone(&[]);
    let keys: Vec<String> = (0..5000).map(|n| format!("key:{n}")).collect();
    for client in [&mut one.client(), &mut single.client()] {
        assert_eq!(call(client, "0", ""), ("0".to_owned(), vec![]), "of nothing");
        fill(client, &keys);
        (0..20).for_each(|n| drop(client.ok(&cmd!["LPUSH", format!("list:{n}"), "v"])));
    }
    for options in [
        "",
        "COUNT 1",
        "COUNT 1000",
        "COUNT 100000",
        "MATCH key:1*",
        "MATCH none*",
        "TYPE list",
        "type LIST match *1 count 50",
        "MATCH {x}*",
    ] {
        let (theirs, _) = pass(&mut [single.client()], options);
        let (ours, calls) = pass(&mut [one.client()], options);
        assert_eq!(ours, theirs, "{options}");
        let (both, _) = pass(&mut [one.client(), two.client(), one.client_resp3()], options);
        assert_eq!(both, theirs, "{options}, dealt to two proxies");
        if options == "COUNT 100000" {
            assert_eq!(calls, 1, "COUNT is large enough for all shards at once");
        }
    }
    let script = [
        "SCAN",
        "SCAN x",
        "SCAN 0 MATCH",
        "SCAN 0 COUNT 0",
        "SCAN 0 COUNT x",
        "SCAN 0 TYPE",
        "SCAN x COUNT 0",
        "SCAN 0 FOO BAR",
        "SCAN 0 MATCH none* TYPE nosuch COUNT 100000",
        "SCAN 18446744073709551616",
        "scan 0x1",
    ];
    for line in script {
        let [ours, theirs] = [&mut one.client(), &mut single.client()].map(|client| client.raw(&words(line)));
        assert_eq!(show(&ours), show(&theirs), "{line}");
    }
    for foreign in ["5", "-1", "9223372036854775808", "18446744073709551615"] {
        let refused = one.client().raw(&words(&format!("SCAN {foreign}")));
        assert_eq!(show(&refused), "\"-ERR invalid cursor\\r\\n\"", "{foreign} was never given");
    }
}

/// SCAN answers of scripted nodes: cursors of every size, keys that tell which node and cursor they came from.
fn large_cursors(fake: &FakeCluster, largest: u64) {
    fake.script(move |seen| {
        if seen.name() != "SCAN" {
            return Answer::Standard;
        }
        let cursor: u64 = seen.arg(1).parse().unwrap_or(u64::MAX);
        let next = match cursor {
            0 => 1,
            n if n >= largest => 0,
            n => (n * 8 + 7).min(largest),
        };
        let mut reply = b"*2\r\n".to_vec();
        reply.extend(bulk(next.to_string().as_bytes()));
        reply.extend(b"*1\r\n");
        reply.extend(bulk(format!("{}:{cursor}", seen.node).as_bytes()));
        Answer::Reply(reply)
    });
}

#[test]
fn large_node_cursors_pass_over_many_shards_and_two_proxies() {
    let fake = FakeCluster::start(64);
    let proxies = [Proxy::start(&fake.addrs()[..3], &[]), Proxy::start(&fake.addrs()[60..], &[])];
    let largest = (1 << 38) - 1;
    large_cursors(&fake, largest);
    let mut clients: Vec<Client> = proxies.iter().map(Proxy::client).collect();
    let (seen, _) = pass(&mut clients, "COUNT 2");
    assert_eq!(seen.len() % 64, 0);
    assert!(seen.len() > 64 * 10, "{} answers", seen.len());
    assert!((0..64).all(|node| seen.contains_key(&format!("{node}:{largest}"))));
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
}

#[test]
fn a_node_cursor_that_does_not_fit_is_a_clear_error() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    large_cursors(&fake, 1 << 40);
    let (mut client, mut cursor) = (proxy.client(), "0".to_owned());
    let refused = loop {
        let reply = client.call(&words(&format!("SCAN {cursor}")));
        if reply.is_error() {
            break reply.error().to_owned();
        }
        cursor = reply.items()[0].text();
        assert_ne!(cursor, "0");
    };
    assert_eq!(refused, "ERR slotway: the node's SCAN cursor is too large to be passed on");
}

/// From Redis 7.4 and Valkey 8 on a node's cursor has the slot in its lowest 14 bits.
#[test]
fn cursors_by_slot_pass() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[]);
    fake.script(|seen| {
        if seen.name() != "SCAN" {
            return Answer::Standard;
        }
        let cursor: u64 = seen.arg(1).parse().unwrap_or(0);
        let (slot_now, bucket) = (cursor & 0x3fff, cursor >> 14);
        let next = match (bucket, slot_now) {
            (0, _) => (1 << 37) | cursor,
            (_, 16_000..) => 0,
            (_, at) => at + 400,
        };
        let mut reply = b"*2\r\n".to_vec();
        reply.extend(bulk(next.to_string().as_bytes()));
        reply.extend(b"*1\r\n");
        reply.extend(bulk(format!("{}:{cursor}", seen.node).as_bytes()));
        Answer::Reply(reply)
    });
    let (seen, _) = pass(&mut [proxy.client()], "");
    assert_eq!(seen.len(), 3 * 2 * 41, "{seen:?}");
}

#[test]
fn a_pass_over_one_slot_that_holds_everything() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let keys: Vec<String> = (0..500).map(|n| key_in(cluster.slot_of(1), &format!("one:{n}"))).collect();
    assert!(keys.iter().all(|key| slot(key.as_bytes()) == cluster.slot_of(1)));
    fill(&mut proxy.client(), &keys);
    let (seen, _) = pass(&mut [proxy.client()], "COUNT 20");
    assert!(keys.iter().all(|key| seen.get(key) == Some(&1)) && seen.len() == keys.len());
}
