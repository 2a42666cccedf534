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
    }
}
