//! "Not now": TRYAGAIN, CLUSTERDOWN and their like are waited out, each within its own bound, a script is
//! believed only what the cluster bears out, and a request whose deadline passes meanwhile is answered with
//! what is true of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::client::words;
use crate::support::cluster::RedisCluster;
use crate::support::keys::{key_in, slot};
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{Stop, check, eventually, shared};

#[test]
fn waiting_for_a_migration_does_not_use_up_the_wait_for_an_owner() {
    let fake = FakeCluster::start(1);
    let keys = [("owner-wait", "500ms"), ("tryagain-wait", "20s"), ("workers", "1")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let first: Mutex<Option<Instant>> = Mutex::default();
    let answers = Mutex::new(vec!["+OK", "-CLUSTERDOWN The cluster is down"]);
    fake.script(move |seen| {
        if seen.name() != "LCS" {
            return Answer::Standard;
        }
        let begun = *first.lock().expect("time").get_or_insert_with(Instant::now);
        if begun.elapsed() < Duration::from_millis(700) {
            return Answer::text("-TRYAGAIN Multiple keys request during rehashing of slot");
        }
        Answer::text(answers.lock().expect("answers").pop().unwrap_or("-ERR asked too often"))
    });
    let (one, two) = (key_in(7, "one"), key_in(7, "two"));
    assert_eq!(proxy.client().call(&cmd!["LCS", one, two]), Value::Simple("OK".into()));
}

/// A fake cluster whose first node answers EVAL and FCALL with this error as long as the flag is set.
fn refuses_scripts(error: &'static str) -> (FakeCluster, Arc<AtomicBool>) {
    let (fake, refuses) = (FakeCluster::start(2), Arc::new(AtomicBool::new(true)));
    let flag = Arc::clone(&refuses);
    fake.script(move |seen| match (seen.node, seen.name().as_str()) {
        (0, "EVAL" | "FCALL") if flag.load(Ordering::Relaxed) => Answer::text(error),
        _ => Answer::Standard,
    });
    (fake, refuses)
}

#[test]
fn a_script_waits_while_the_cluster_is_down_and_is_then_executed() {
    let (fake, refuses) = refuses_scripts("-CLUSTERDOWN The cluster is down");
    fake.change_map(|map| map.fails(0, true));
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let key = key_in(10, "k");
    for request in [cmd!["EVAL", "return 1", "1", key], cmd!["FCALL", "f", "1", key]] {
        let before = fake.seen().iter().filter(|s| s.bytes == request).count();
        let mut client = proxy.client();
        client.send(&request);
        let times = || fake.seen().iter().filter(|s| s.bytes == request).count() - before;
        eventually("it is tried again", || check(times() > 5, times()));
        // The node recovers before any view can tell: what it said is still not the script's own words.
        refuses.store(false, Ordering::Relaxed);
        fake.change_map(|map| map.fails(0, false));
        assert_eq!(client.value(), Value::Simple("OK".into()));
        refuses.store(true, Ordering::Relaxed);
        fake.change_map(|map| map.fails(0, true));
    }
}

#[test]
fn what_a_script_says_itself_of_the_cluster_is_its_reply_and_it_is_executed_once() {
    for error in [
        "-CLUSTERDOWN says the script",
        "-READONLY says the script",
        "-MASTERDOWN says the script",
        "-LOADING says the script",
    ] {
        let (fake, _) = refuses_scripts(error);
        let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
        let mut client = proxy.client();
        client.send(&[cmd!["EVAL", "return 1", "1", key_in(10, "k")], words("PING")].concat());
        assert_eq!(client.value(), Value::Error(error[1..].into()));
        assert_eq!(client.value(), Value::Simple("PONG".into()));
        assert_eq!(fake.seen_named("EVAL").len(), 1, "{error}");
    }
}

#[test]
fn a_script_is_answered_with_what_the_node_says_when_it_has_waited_long_enough() {
    let (fake, _) = refuses_scripts("-CLUSTERDOWN The cluster is down");
    fake.change_map(|map| map.fails(0, true));
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1"), ("owner-wait", "500ms")]);
    let start = Instant::now();
    let reply = proxy.client().call(&cmd!["EVAL", "return 1", "1", key_in(10, "k")]);
    assert_eq!(reply, Value::Error("CLUSTERDOWN The cluster is down".into()));
    assert!(start.elapsed() >= Duration::from_millis(450), "after {:?}", start.elapsed());
    assert!(fake.seen_named("EVAL").len() > 1);
}

#[test]
fn scripts_wait_for_a_failover_and_are_executed_once() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let script = "return redis.call('incr',KEYS[1])";
    let (dead, other) = (key_in(cluster.slot_of(0), "k"), key_in(cluster.slot_of(1), "k"));
    let (stop, count) = (Stop::default(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        scope.spawn(|| {
            let mut client = proxy.client();
            while !stop.is_set() {
                let next = count.fetch_add(1, Ordering::Relaxed) + 1;
                assert_eq!(client.call(&cmd!["EVAL", script, "1", other]), Value::Int(next as i64));
            }
        });
        eventually("load", || check(count.load(Ordering::Relaxed) > 10, ()));
        let addr = cluster.nodes[0].addr();
        cluster.nodes[0].kill();
        proxy.wait_metric("slotway_backend_up", &[&format!("node=\"{addr}\"")], |up| up == 0.0);
        // Until then the cluster is down for all its nodes.
        assert_eq!(proxy.client().call(&cmd!["EVAL", script, "1", dead]), Value::Int(1));
        let then = count.load(Ordering::Relaxed);
        eventually("it goes on", || check(count.load(Ordering::Relaxed) > then + 10, ()));
        stop.set();
    });
    // Otherwise no script had to wait.
    proxy.wait_metric("slotway_redirects_total", &["kind=\"clusterdown\""], |n| n > 0.0);
}

const UNSENT: &str = "ERR slotway: request deadline passed before the request was sent; it was not executed";
const SENT: &str = "ERR slotway: request deadline passed without a reply; the request may have been executed";
const PARTLY: &str = "ERR slotway: a part of the command failed; it may have been executed partly";

/// Two nodes that never answer GET and say to every SET and MSET that its slot is at the other node.
/// `settled` is the slot of which they do not.
fn sends_away(settled: u16) -> FakeCluster {
    let fake = FakeCluster::start(2);
    let addrs = fake.addrs().to_vec();
    fake.script(move |seen| match seen.name().as_str() {
        "GET" => Answer::Never,
        "SET" | "MSET" if slot(&seen.args[1]) != settled => {
            Answer::text(&format!("-MOVED {} {}", slot(&seen.args[1]), addrs[1 - seen.node]))
        }
        _ => Answer::Standard,
    });
    fake
}

#[test]
fn the_deadline_of_a_held_request_says_that_it_was_not_executed() {
    // Of the second cluster one part of the MSET is executed.
    for (settled, mset) in [(0, UNSENT), (16000, PARTLY)] {
        let fake = sends_away(settled);
        let proxy = Proxy::start(fake.addrs(), &[("request-deadline", "700ms"), ("workers", "1")]);
        let (one, two) = (key_in(10, "one"), key_in(16000, "two"));
        let mut client = proxy.client();
        client.ok(&words("PING"));
        // What is sent away stays with us while a later request of its slot is at the node.
        let set = cmd!["SET", one, "v"];
        let pipeline = [set, cmd!["MSET", one, "v", two, "v"], cmd!["GET", one], cmd!["GET", two]];
        client.send(&pipeline.concat());
        let got: Vec<String> = client.values(4).iter().map(|value| value.error().to_owned()).collect();
        assert_eq!(got, [UNSENT, mset, SENT, SENT]);
        assert_eq!(fake.seen_named("SET").len(), 1);
        assert_eq!(fake.seen_named("MSET").len(), 2);
        assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
    }
}

#[test]
fn the_deadline_of_a_request_that_waits_says_that_it_was_not_executed() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[("request-deadline", "700ms"), ("workers", "1")]);
    let (one, two) = (key_in(10, "one"), key_in(16000, "two"));
    // Both point to a node that nobody knows; what it is about no view tells.
    fake.script(|seen| match seen.name().as_str() {
        "SET" | "MSET" => Answer::text(&format!("-MOVED {} 127.0.0.1:1", slot(&seen.args[1]))),
        "CLUSTER" => Answer::Never,
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    for request in [cmd!["SET", one, "v"], cmd!["MSET", one, "v", two, "v"]] {
        let start = Instant::now();
        assert_eq!(client.call(&request), Value::Error(UNSENT.into()));
        assert!(start.elapsed() >= Duration::from_millis(650), "after {:?}", start.elapsed());
    }
    assert_eq!(fake.seen_named("SET").len(), 1);
    assert_eq!(fake.seen_named("MSET").len(), 2);
}

#[test]
fn the_deadline_of_a_split_write_says_that_it_may_be_done_partly() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[("request-deadline", "700ms"), ("workers", "1")]);
    fake.script(|seen| match (seen.node, seen.name().as_str()) {
        (1, "MSET" | "DEL" | "MGET") => Answer::Never,
        (0, "DEL") => Answer::text(":1"),
        (0, "MGET") => Answer::Reply(b"*1\r\n$1\r\nv\r\n".to_vec()),
        _ => Answer::Standard,
    });
    let (one, two) = (key_in(10, "one"), key_in(16000, "two"));
    let mut client = proxy.client();
    assert_eq!(client.call(&cmd!["MSET", one, "v", two, "v"]), Value::Error(PARTLY.into()));
    assert_eq!(client.call(&cmd!["DEL", one, two]), Value::Error(PARTLY.into()));
    assert_eq!(client.call(&cmd!["MGET", one, two]), Value::Error(SENT.into()), "a read has no effect");
}

#[test]
fn a_script_is_redirected_although_the_other_nodes_learn_of_the_move_late() {
    let fake = FakeCluster::start(2);
    // Slow rounds, so that their number does not run out before the map changes.
    let keys = [("workers", "1"), ("refresh-min-interval", "500ms")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let (moved, target) = (10u16, fake.addrs()[1]);
    fake.script(move |seen| match (seen.node, seen.name().as_str()) {
        (0, "EVAL") => Answer::text(&format!("-MOVED {moved} {target}")),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    client.send(&cmd!["EVAL", "return 1", "1", key_in(moved, "k")]);
    eventually("the first node was asked", || check(!fake.seen_named("EVAL").is_empty(), ()));
    let slots = fake.seen_named("CLUSTER").len();
    eventually("a view was taken that does not know", || {
        check(fake.seen_named("CLUSTER").len() > slots + 5, ())
    });
    fake.change_map(|map| map.assign(moved, 1));
    assert_eq!(client.value(), Value::Simple("OK".into()));
    let asked: Vec<usize> = fake.seen_named("EVAL").iter().map(|s| s.node).collect();
    assert_eq!(asked, [0, 1], "no node twice");
}
