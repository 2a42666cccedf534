//! Large requests: on a connection of their own, so that they hold up nobody, in order with what comes
//! before and after them, and bounded in number.

use crate::support::client::words;
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::shared;
use crate::support::{check, eventually};

#[test]
fn a_large_request_goes_over_a_connection_of_its_own_and_in_order() {
    let fake = FakeCluster::start(1);
    let keys = [("workers", "1"), ("dedicated-request-bytes", "64KiB")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let gate = Gate::default();
    let held = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "SET" => Answer::Hold(held.clone(), b"+OK\r\n".to_vec()),
        _ => Answer::Standard,
    });
    let (mut large, mut small) = (proxy.client(), proxy.client());
    let value = "x".repeat(100_000);
    // The GET before it is answered before it is sent, the GET behind it is not sent before it is answered.
    large.send(&[cmd!["GET", "before"], cmd!["SET", "k", value], cmd!["GET", "behind"]].concat());
    assert!(!large.value().is_error());
    eventually("the SET arrives", || check(!fake.seen_named("SET").is_empty(), "not yet"));
    for _ in 0..20 {
        assert!(!small.call(&cmd!["GET", "other"]).is_error());
    }
    let seen = |key: &str| fake.seen_named("GET").iter().filter(|s| s.arg(1) == key).count();
    assert_eq!((seen("before"), seen("behind")), (1, 0));
    let connection = |name: &str, key: &str| {
        fake.seen_named(name).iter().find(|s| s.arg(1) == key).map(|s| s.connection).expect("seen")
    };
    assert_ne!(connection("SET", "k"), connection("GET", "other"), "the shared lane");
    gate.open();
    assert_eq!(large.value(), Value::Simple("OK".into()));
    assert!(!large.value().is_error());
    assert_eq!(seen("behind"), 1);
}

#[test]
fn dedicated_connections_are_used_again_and_bounded() {
    let fake = FakeCluster::start(1);
    let keys = [("workers", "1"), ("dedicated-request-bytes", "64KiB"), ("dedicated-max-per-node", "2")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let value = "x".repeat(100_000);
    let mut client = proxy.client();
    for _ in 0..5 {
        assert!(!client.call(&cmd!["SET", "k", value]).is_error());
    }
    let mut used: Vec<_> = fake.seen_named("SET").iter().map(|s| s.connection).collect();
    used.dedup();
    assert_eq!(used.len(), 1, "one after the other on the same connection");
    let gate = Gate::default();
    let held = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "SET" => Answer::Hold(held.clone(), b"+OK\r\n".to_vec()),
        _ => Answer::Standard,
    });
    let mut two = [proxy.client(), proxy.client()];
    two.iter_mut().for_each(|one| one.send(&cmd!["SET", "k", value]));
    eventually("both arrive", || check(fake.seen_named("SET").len() == 7, "not yet"));
    let refused = client.call(&cmd!["SET", "k", value]);
    assert!(refused.error().contains("dedicated-max-per-node"), "{refused:?}");
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
    gate.open();
    two.iter_mut().for_each(|one| assert_eq!(one.value(), Value::Simple("OK".into())));
}

#[test]
fn large_and_small_requests_of_a_pipeline_keep_their_order_on_every_shard() {
    need_redis!();
    let cluster = shared::cluster();
    let proxy = Proxy::start(&shared::seeds(cluster), &[("dedicated-request-bytes", "64KiB")]);
    let mut client = proxy.client();
    for slot in [cluster.slot_of(0), cluster.slot_of(1), cluster.slot_of(2)] {
        let key = key_in(slot, &shared::unique("large"));
        let mut pipeline = Vec::new();
        for round in 0..20 {
            pipeline.extend(cmd!["SET", key, format!("{round}:{}", "v".repeat(100_000 + round))]);
            pipeline.extend(cmd!["STRLEN", key]);
        }
        client.send(&pipeline);
        for round in 0..20i64 {
            assert_eq!(client.value(), Value::Simple("OK".into()));
            let prefix = round.to_string().len() as i64 + 1;
            assert_eq!(client.value(), Value::Int(100_000 + round + prefix));
        }
        // Parts of several shards, and a transaction.
        let other = key_in(cluster.slot_of(0) + 1, &shared::unique("other"));
        let mut pipeline = Vec::new();
        for round in 0..20 {
            let value = format!("{round:2}{}", "v".repeat(40_000));
            pipeline.extend(cmd!["MSET", key, value, other, value]);
            pipeline.extend(cmd!["GETRANGE", key, "0", "1"]);
            pipeline.extend(words("MULTI"));
            pipeline.extend(cmd!["APPEND", key, value]);
            pipeline.extend(cmd!["APPEND", key, value]);
            pipeline.extend(words("EXEC"));
            pipeline.extend(cmd!["STRLEN", key]);
        }
        client.send(&pipeline);
        for round in 0..20 {
            assert_eq!(client.value(), Value::Simple("OK".into()));
            assert_eq!(client.value().text(), format!("{round:2}"));
            (0..3).for_each(|_| assert!(!client.value().is_error()));
            assert_eq!(client.value(), Value::Array(vec![Value::Int(80_004), Value::Int(120_006)]));
            assert_eq!(client.value(), Value::Int(120_006));
        }
    }
}

/// Answers what `name` says when the gate opens, and the rest at once; the proxy sends what has 64 KiB alone.
fn held(name: &'static str, reply: &[u8]) -> (FakeCluster, Proxy, Gate) {
    let fake = FakeCluster::start(2);
    let keys = [("workers", "1"), ("dedicated-request-bytes", "64KiB"), ("dedicated-max-per-node", "4")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let (gate, reply) = (Gate::default(), reply.to_vec());
    let inside = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "MULTI" => Answer::text("+OK"),
        "SET" if seen.arg(1).starts_with("tx") => Answer::text("+QUEUED"),
        at if at == name => Answer::Hold(inside.clone(), reply.clone()),
        _ => Answer::Standard,
    });
    (fake, proxy, gate)
}

fn connections(fake: &FakeCluster, name: &str) -> Vec<(usize, usize)> {
    let mut all: Vec<_> = fake.seen_named(name).iter().map(|seen| (seen.node, seen.connection)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn the_parts_of_a_large_request_go_over_connections_of_their_own() {
    let (fake, proxy, gate) = held("MSET", b"+OK\r\n");
    let (mut large, mut small) = (proxy.client(), proxy.client());
    let (here, there) = (key_in(1, "a"), key_in(16_000, "b"));
    let value = "x".repeat(40_000);
    large.send(&[cmd!["MSET", here, value, there, value], cmd!["GET", here]].concat());
    eventually("both parts arrive", || check(fake.seen_named("MSET").len() == 2, "not yet"));
    for _ in 0..20 {
        assert!(!small.call(&cmd!["GET", here]).is_error() && !small.call(&cmd!["GET", there]).is_error());
    }
    let (parts, others) = (connections(&fake, "MSET"), connections(&fake, "GET"));
    assert_eq!((parts.len(), fake.seen_named("GET").len()), (2, 40), "{parts:?}");
    assert!(parts.iter().all(|part| !others.contains(part)), "{parts:?} {others:?}");
    gate.open();
    assert_eq!(large.value(), Value::Simple("OK".into()));
    assert!(!large.value().is_error());
}

#[test]
fn parts_without_a_free_connection_to_every_node_are_not_sent_at_all() {
    let (fake, proxy, gate) = held("SET", b"+OK\r\n");
    let mut large = proxy.client();
    let (here, there) = (key_in(1, "a"), key_in(16_000, "b"));
    let value = "x".repeat(70_000);
    let most = 4;
    let mut waiting: Vec<_> = (0..most).map(|_| proxy.client()).collect();
    waiting.iter_mut().for_each(|one| one.send(&cmd!["SET", there, value]));
    eventually("all arrive", || check(fake.seen_named("SET").len() == most, "not yet"));
    let refused = large.call(&cmd!["MSET", here, value, there, value]);
    assert!(refused.error().contains("dedicated-max-per-node"), "{refused:?}");
    assert!(fake.seen_named("MSET").is_empty());
    gate.open();
    waiting.iter_mut().for_each(|one| assert_eq!(one.value(), Value::Simple("OK".into())));
}

#[test]
fn a_large_transaction_goes_over_a_connection_of_its_own() {
    let (fake, proxy, gate) = held("EXEC", b"*2\r\n+OK\r\n+OK\r\n");
    let (mut large, mut small) = (proxy.client(), proxy.client());
    let key = key_in(1, "tx");
    let value = "x".repeat(40_000);
    let request = [
        cmd!["GET", key],
        words("MULTI"),
        cmd!["SET", format!("tx{{{key}}}"), value],
        cmd!["SET", format!("tx{{{key}}}"), value],
        words("EXEC"),
        cmd!["GET", key],
    ];
    large.send(&request.concat());
    eventually("EXEC arrives", || check(!fake.seen_named("EXEC").is_empty(), "not yet"));
    for _ in 0..20 {
        assert!(!small.call(&cmd!["GET", key]).is_error());
    }
    assert_eq!(connections(&fake, "EXEC"), connections(&fake, "MULTI"));
    assert!(!connections(&fake, "GET").contains(&connections(&fake, "EXEC")[0]), "the shared lane");
    assert_eq!(fake.seen_named("GET").len(), 21, "the one behind is not sent before");
    gate.open();
    assert!(!large.value().is_error());
    for expected in ["OK", "QUEUED", "QUEUED"] {
        assert_eq!(large.value(), Value::Simple(expected.into()));
    }
    assert_eq!(large.reply(), b"*2\r\n+OK\r\n+OK\r\n");
    assert!(!large.value().is_error());
}
