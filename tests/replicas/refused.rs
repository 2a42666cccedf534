//! Reads that a replica does not answer: refused, cut off, late. Another node answers them, each in its place.

use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::keys::slot;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{check, eventually};

use super::{number, numbered, proxy, reader, wait_fit, wait_reader};

fn started(cluster: &FakeCluster, mode: &str, fit: usize) -> (Proxy, Client) {
    let proxy = proxy(&cluster.addrs()[..1], &[("read-from", mode), ("node-silence-timeout", "60s")]);
    wait_fit(&proxy, fit);
    let mut client = proxy.client();
    wait_reader(&mut client, "k", 1);
    (proxy, client)
}

/// Whatever a replica can say instead of a reply.
fn refusals(cluster: &FakeCluster) -> Vec<String> {
    let (slot, primary) = (slot(b"bad"), cluster.addrs()[0]);
    let mut all = vec![format!("-MOVED {slot} {primary}"), format!("-ASK {slot} {primary}")];
    let texts = [
        "-LOADING Redis is loading the dataset in memory",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "-READONLY You can't write against a read only replica.",
        "-CLUSTERDOWN The cluster is down",
        "-TRYAGAIN Multiple keys request during rehashing of slot",
        "-BUSY Redis is busy running a script.",
    ];
    all.extend(texts.map(str::to_owned));
    all
}

/// What is done to the nodes, or undone.
type Change = fn(&FakeCluster, bool);

#[test]
fn what_a_replica_refuses_the_primary_answers_in_its_place() {
    let cluster = numbered(1, 1);
    let (proxy, mut client) = started(&cluster, "prefer-replica", 1);
    for refusal in refusals(&cluster) {
        let text = refusal.clone();
        cluster.script(move |seen| match (seen.name().as_str(), seen.node) {
            ("GET", 1) if seen.arg(1) == "bad" => Answer::text(&text),
            _ => number(seen),
        });
        wait_fit(&proxy, 1);
        wait_reader(&mut client, "k", 1);
        let pipeline: Vec<u8> =
            ["k", "bad", "k", "bad", "k"].iter().flat_map(|key| cmd!["GET", key]).collect();
        client.send(&pipeline);
        let nodes: Vec<String> = client.values(5).iter().map(Value::text).collect();
        assert_eq!((nodes[1].as_str(), nodes[3].as_str()), ("0", "0"), "{refusal}: {nodes:?}");
    }
    proxy.wait_metric("slotway_reads_total", &["again"], |count| count >= 8.0);
}

#[test]
fn errors_of_the_command_itself_are_the_reply() {
    let cluster = numbered(1, 1);
    let (_proxy, mut client) = started(&cluster, "prefer-replica", 1);
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    cluster.script(move |seen| match (seen.name().as_str(), seen.node) {
        ("GET", 1) if seen.arg(1) == "wrong" => Answer::text(wrong),
        _ => number(seen),
    });
    assert_eq!(client.call(&cmd!["GET", "wrong"]).error(), &wrong[1..]);
}

#[test]
fn a_replica_that_hangs_up_costs_no_read() {
    let cluster = numbered(1, 1);
    let (_proxy, mut client) = started(&cluster, "prefer-replica", 1);
    cluster.script(|seen| match (seen.name().as_str(), seen.node) {
        ("GET", 1) if seen.arg(1) == "bad" => Answer::Close(b"$3\r\nha".to_vec()),
        _ => number(seen),
    });
    let pipeline: Vec<u8> = ["k", "bad", "k"].iter().flat_map(|key| cmd!["GET", key]).collect();
    client.send(&pipeline);
    let nodes: Vec<String> = client.values(3).iter().map(Value::text).collect();
    assert_eq!(nodes[1..], ["0", "0"], "{nodes:?}");
    wait_reader(&mut client, "k", 1);
}

#[test]
fn what_waits_behind_a_slow_read_goes_elsewhere_and_the_slow_one_is_not_done_twice() {
    let cluster = numbered(1, 1);
    let (proxy, mut client) = started(&cluster, "prefer-replica", 1);
    let gate = Gate::default();
    let held = gate.clone();
    // Its one thread is busy: no PING is answered either.
    cluster.script(move |seen| match (seen.name().as_str(), seen.node, seen.arg(1).as_str()) {
        ("GET", 1, "slow") => Answer::Hold(held.clone(), b"$4\r\nslow\r\n".to_vec()),
        (_, 1, _) => Answer::Never,
        _ => number(seen),
    });
    let mut slow = proxy.client();
    slow.send(&cmd!["GET", "slow"]);
    wait_seen(&cluster, "slow");
    // What came together with it may be what is slow.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(20) {}
    assert_eq!(reader(&mut client, "k"), 0, "read elsewhere");
    wait_fit(&proxy, 0);
    assert_eq!(reader(&mut client, "k"), 0);
    cluster.script(number);
    gate.open();
    assert_eq!(slow.value().text(), "slow");
    let slow = cluster.seen_named("GET").iter().filter(|seen| seen.arg(1) == "slow").count();
    assert_eq!(slow, 1);
}

#[test]
fn a_frozen_replica_is_given_up_with_its_silence() {
    let cluster = numbered(1, 1);
    let keys = [("read-from", "prefer-replica"), ("node-silence-timeout", "1s")];
    let proxy = proxy(&cluster.addrs()[..1], &keys);
    wait_fit(&proxy, 1);
    let mut client = proxy.client();
    wait_reader(&mut client, "k", 1);
    // It takes everything, new connections too, and answers nothing.
    cluster.script(|seen| if seen.node == 1 { Answer::Never } else { number(seen) });
    client.send(&[cmd!["GET", "k"], cmd!["GET", "k"]].concat());
    let nodes: Vec<String> = client.values(2).iter().map(Value::text).collect();
    assert_eq!(nodes, ["0", "0"]);
    wait_fit(&proxy, 0);
    assert_eq!(reader(&mut client, "k"), 0);
}

#[test]
fn a_slow_reply_of_a_replica_that_is_well_is_waited_for() {
    let cluster = numbered(1, 1);
    let (proxy, mut client) = started(&cluster, "prefer-replica", 1);
    let (gate, began) = (Gate::default(), Instant::now());
    let held = gate.clone();
    cluster.script(move |seen| match (seen.name().as_str(), seen.node, seen.arg(1).as_str()) {
        ("GET", 1, "slow") => Answer::Hold(held.clone(), b"$4\r\nslow\r\n".to_vec()),
        _ => number(seen),
    });
    client.send(&cmd!["GET", "slow"]);
    wait_seen(&cluster, "slow");
    client.send(&cmd!["GET", "behind"]);
    // Its primary gives slots away: it is read from no more, and answers PING all the same.
    cluster.change_map(|map| map.data(0).leaving = " [5->-x]");
    wait_fit(&proxy, 0);
    let mut other = proxy.client();
    while began.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(reader(&mut other, "k"), 0);
    }
    gate.open();
    let replies: Vec<String> = client.values(2).iter().map(Value::text).collect();
    assert_eq!(replies, ["slow", "1"], "both by the replica");
}

#[test]
fn replica_only_waits_for_a_replica() {
    let cluster = numbered(1, 1);
    let (proxy, mut client) = started(&cluster, "replica-only", 1);
    // It hangs up once: the read waits for the next connection.
    let hung_up = std::sync::atomic::AtomicBool::new(false);
    cluster.script(move |seen| match (seen.name().as_str(), seen.node) {
        ("GET", 1) if !hung_up.swap(true, std::sync::atomic::Ordering::Relaxed) => Answer::Close(Vec::new()),
        _ => number(seen),
    });
    assert_eq!(reader(&mut client, "k"), 1);
    // It is not fit for a while, or refuses.
    let unfit: [(&str, Change); 2] = [
        ("loads", |cluster, on| cluster.change_map(|map| map.data(1).loading = on)),
        ("refuses", |cluster, on| match on {
            true => cluster.script(|seen| match (seen.name().as_str(), seen.node) {
                ("GET", 1) => Answer::text("-LOADING Redis is loading the dataset in memory"),
                _ => number(seen),
            }),
            false => cluster.script(number),
        }),
    ];
    for (why, set) in unfit {
        wait_fit(&proxy, 1);
        set(&cluster, true);
        if why == "loads" {
            wait_fit(&proxy, 0);
        }
        client.send(&[cmd!["GET", "k"], cmd!["SET", "k", "v"], cmd!["GET", "k"]].concat());
        // Others are not held up, long after it could have been refused.
        let mut other = proxy.client();
        (0..50).for_each(|_| drop(other.ok(&cmd!["INCR", "n"])));
        set(&cluster, false);
        let replies: Vec<String> = client.values(3).iter().map(Value::text).collect();
        assert_eq!(replies, ["1", "OK", "1"], "{why}");
    }
}

/// Waits until a read of `key` has come to a node.
fn wait_seen(cluster: &FakeCluster, key: &str) {
    eventually("the read arrives", || {
        let gets = cluster.seen_named("GET");
        check(gets.iter().any(|seen| seen.arg(1) == key), gets)
    });
}

#[test]
fn replica_only_never_asks_the_primary() {
    let cluster = numbered(1, 2);
    let (proxy, _) = started_any(&cluster);
    let reads_at_primary =
        |cluster: &FakeCluster| cluster.seen_named("GET").iter().any(|seen| seen.node == 0);
    cluster.script(|seen| match (seen.name().as_str(), seen.node) {
        ("GET", 1) => Answer::text("-LOADING Redis is loading the dataset in memory"),
        _ => number(seen),
    });
    for _ in 0..8 {
        assert_eq!(reader(&mut proxy.client(), "k"), 2, "the other one");
    }
    cluster.script(|seen| match (seen.name().as_str(), seen.node) {
        ("GET", 1 | 2) => Answer::text("-MASTERDOWN Link with MASTER is down"),
        _ => number(seen),
    });
    let error = proxy.client().call(&cmd!["GET", "k"]);
    assert!(error.error().starts_with("NOREPLICAS slotway: "), "{error:?}");
    // Both point at the primary, for ever.
    let primary = cluster.addrs()[0];
    cluster.script(move |seen| match (seen.name().as_str(), seen.node) {
        ("GET", 1 | 2) => Answer::text(&format!("-MOVED {} {primary}", slot(b"k"))),
        _ => number(seen),
    });
    wait_fit(&proxy, 2);
    let error = proxy.client().call(&cmd!["GET", "k"]);
    assert!(error.error().contains("keep redirecting"), "{error:?}");
    assert!(!reads_at_primary(&cluster));
}

fn started_any(cluster: &FakeCluster) -> (Proxy, Client) {
    let keys = [("read-from", "replica-only"), ("owner-wait", "500ms")];
    let proxy = proxy(&cluster.addrs()[..1], &keys);
    wait_fit(&proxy, 2);
    let client = proxy.client();
    (proxy, client)
}

#[test]
fn a_script_that_a_replica_has_lost_is_sent_to_it_again() {
    let cluster = numbered(1, 1);
    for (mode, node) in [("replica-only", "1"), ("prefer-replica", "0")] {
        let (proxy, mut client) = started(&cluster, mode, 1);
        let body = "return redis.call('get', KEYS[1])";
        client.ok(&cmd!["EVAL_RO", body, "1", "k"]);
        let refused = std::sync::atomic::AtomicBool::new(false);
        cluster.script(move |seen| match (seen.name().as_str(), seen.node) {
            ("EVALSHA_RO", 1) if !refused.swap(true, std::sync::atomic::Ordering::Relaxed) => {
                Answer::text("-NOSCRIPT No matching script. Please use EVAL.")
            }
            _ => number(seen),
        });
        let sha = "4e6d8fc8bb01276962cce5371fa795a7763657ae";
        assert_eq!(proxy.client().call(&cmd!["EVALSHA_RO", sha, "1", "k"]).text(), node, "{mode}");
    }
}

#[test]
fn scripts_that_only_read_take_their_bodies_along() {
    let cluster = numbered(1, 1);
    let (proxy, mut client) = started(&cluster, "prefer-replica", 1);
    let body = "return redis.call('get', KEYS[1])";
    assert_eq!(client.call(&cmd!["EVAL_RO", body, "1", "k"]).text(), "1");
    let sha = "4e6d8fc8bb01276962cce5371fa795a7763657ae";
    let mut other = proxy.client();
    assert_eq!(other.call(&cmd!["EVALSHA_RO", sha, "1", "k"]).text(), "1");
    let at_replica: Vec<_> = cluster.seen().into_iter().filter(|seen| seen.node == 1).collect();
    let place = at_replica.iter().position(|seen| seen.name() == "EVALSHA_RO").expect("arrived");
    let before = &at_replica[..place];
    let load = before.iter().rfind(|seen| seen.name() == "SCRIPT").expect("its script before it");
    assert_eq!((load.arg(2).as_str(), load.connection), (body, at_replica[place].connection));
}
