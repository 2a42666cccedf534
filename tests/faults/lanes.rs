//! The life of a connection to a node: what it may cost the requests behind it, and when it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::words;
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{check, eventually};

/// A fake cluster whose last node closes every connection as long as the flag is set.
fn breakable(nodes: usize) -> (FakeCluster, Arc<AtomicBool>) {
    let (fake, broken) = (FakeCluster::start(nodes), Arc::new(AtomicBool::new(false)));
    let flag = Arc::clone(&broken);
    fake.script(move |seen| match seen.node + 1 == nodes && flag.load(Ordering::Relaxed) {
        true => Answer::Close(Vec::new()),
        false => Answer::Standard,
    });
    (fake, broken)
}

#[test]
fn a_node_that_was_away_for_long_is_served_at_once_when_it_is_back() {
    let (fake, broken) = breakable(2);
    let proxy = Proxy::start(fake.addrs(), &[("owner-wait", "500ms"), ("workers", "1")]);
    let node = format!("node=\"{}\"", fake.addrs()[1]);
    let key = key_in(16000, "k");
    let mut client = proxy.client();
    client.ok(&cmd!["SET", key, "1"]);
    broken.store(true, Ordering::Relaxed);
    fake.disconnect(1);
    proxy.wait_metric("slotway_backend_up", &[&node], |up| up == 0.0);
    // Nobody asks for it while it is away, for longer than requests would wait; others are served.
    let (away, near) = (Instant::now(), key_in(5, "k"));
    while away.elapsed() < Duration::from_millis(700) {
        client.ok(&cmd!["SET", near, "1"]);
    }
    let start = Instant::now();
    assert!(client.call(&cmd!["SET", key, "2"]).error().starts_with("CLUSTERDOWN"));
    assert!(start.elapsed() < Duration::from_millis(400), "it is known to be away: {:?}", start.elapsed());
    broken.store(false, Ordering::Relaxed);
    proxy.wait_metric("slotway_backend_up", &[&node], |up| up == 1.0);
    assert_eq!(client.call(&cmd!["SET", key, "3"]), Value::Simple("OK".into()));
}

#[test]
fn a_read_that_makes_the_node_drop_the_connection_is_given_up() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("redirects-max", "3"), ("workers", "1")]);
    fake.script(|seen| if seen.name() == "GET" { Answer::Close(Vec::new()) } else { Answer::Standard });
    let mut client = proxy.client();
    let start = Instant::now();
    let reply = client.call(&words("GET k"));
    assert!(reply.error().contains("connection to the node was lost"), "{reply:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(fake.seen_named("GET").len(), 4);
}

#[test]
fn a_large_request_finds_room_on_a_busy_connection_and_shuts_nobody_out() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(
        fake.addrs(),
        &[("node-pending-bytes", "1MiB"), ("dedicated-request-bytes", "1GiB"), ("workers", "1")],
    );
    let gate = Gate::default();
    let hold = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "GETSET" => Answer::Hold(hold.clone(), b"+slow\r\n".to_vec()),
        _ => Answer::Standard,
    });
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    clients[0].send(&words("GETSET k v"));
    eventually("the slow one is at the node", || check(fake.seen_named("GETSET").len() == 1, ()));
    let large = "x".repeat(3 << 20);
    clients[1].send(&cmd!["SET", "large", large]);
    proxy.wait_metric("slotway_requests_in_flight", &[], |count| count == 2.0);
    // One beyond the bound is enough.
    let reply = clients[2].call(&cmd!["SET", "another", large]);
    assert!(reply.error().contains("too many requests are queued"), "{reply:?}");
    clients[3].send(&words("SET small v"));
    gate.open();
    assert_eq!(clients[0].value(), Value::Simple("slow".into()));
    assert_eq!(clients[1].value(), Value::Simple("OK".into()));
    assert_eq!(clients[3].value(), Value::Simple("OK".into()));
}

#[test]
fn a_request_sent_before_hello_is_answered_in_the_version_before_it() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    // No connection is there yet: the first request is still waiting when HELLO is read.
    let mut client = proxy.client();
    client.send(&[words("HGETALL before"), words("HELLO 3"), words("HGETALL after")].concat());
    client.values(3);
    let connection = |key: &str| {
        let seen = fake.seen_named("HGETALL");
        seen.iter().find(|s| s.arg(1) == key).map(|s| s.connection).expect("it arrived")
    };
    let in_resp3 = |connection: usize| {
        fake.seen_named("HELLO").iter().any(|s| s.connection == connection && s.arg(1) == "3")
    };
    assert!(!in_resp3(connection("before")), "{:?}", fake.seen_named("HGETALL"));
    assert!(in_resp3(connection("after")), "{:?}", fake.seen_named("HGETALL"));
}

/// Nothing breaks: the node's process is there and its kernel takes bytes, but nobody reads them.
#[test]
fn a_node_that_reads_and_answers_no_more_is_noticed_by_its_silence() {
    let fake = FakeCluster::start(2);
    let keys = [
        ("node-silence-timeout", "1s"),
        ("probe-interval", "200ms"),
        ("request-deadline", "20s"),
        ("owner-wait", "1s"),
        ("workers", "1"),
    ];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let (near, far) = (key_in(5, "k"), key_in(16000, "k"));
    let (mut client, mut reader) = (proxy.client(), proxy.client());
    client.ok(&cmd!["SET", far, "v"]);
    let gate = Gate::default();
    let hold = gate.clone();
    fake.script(move |seen| match seen.node {
        1 => Answer::Hold(hold.clone(), Vec::new()),
        _ => Answer::Standard,
    });
    let start = Instant::now();
    reader.send(&cmd!["GET", far]);
    let node = format!("node=\"{}\"", fake.addrs()[1]);
    let (mut served, mut texts) = (0, Vec::new());
    std::thread::scope(|scope| {
        let writers = (0..4).map(|_| {
            let (proxy, far) = (&proxy, &far);
            scope.spawn(move || {
                // More than the sockets take.
                let mut client = proxy.client();
                client.send(&cmd!["SET", far, "x".repeat(64 << 10)].repeat(100));
                client.values(100)
            })
        });
        let writers: Vec<_> = writers.collect();
        while proxy.metrics().sum("slotway_backend_up", &[&node]) > 0.0 {
            assert!(start.elapsed() < Duration::from_secs(6), "not noticed");
            assert_eq!(client.call(&cmd!["SET", near, "v"]), Value::Simple("OK".into()));
            served += 1;
        }
        texts.extend(writers.into_iter().flat_map(|writer| writer.join().expect("a writer")));
    });
    assert!(served > 5, "others were served {served} times");
    let count = |text: &str| texts.iter().filter(|reply| reply.error().contains(text)).count();
    let (maybe, not) = (count("may have been executed"), count("CLUSTERDOWN slotway"));
    assert!(maybe > 0 && not > 0 && maybe + not == 400, "{maybe} maybe, {not} not executed");
    assert!(reader.value().error().starts_with("CLUSTERDOWN slotway"), "a read is safe to repeat");
    assert!(start.elapsed() < Duration::from_secs(10), "the deadline had nothing to do with it");
    gate.open();
    fake.script(|_| Answer::Standard);
    eventually("it is back", || {
        let reply = client.call(&cmd!["SET", far, "v"]);
        check(!reply.is_error(), reply)
    });
}
