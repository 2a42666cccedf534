//! What happens to a request whose connection breaks: a write is never sent twice, a read may be.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::client::words;
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk};
use crate::support::{check, eventually};

const LOST: &str = "ERR slotway: connection to the node was lost; the request may have been executed";

/// Breaks the connection at the first request of that name, with these bytes of a reply.
fn break_first(fake: &FakeCluster, name: &'static str, bytes: &'static [u8], then: &'static [u8]) {
    let count = AtomicUsize::new(0);
    fake.script(move |seen: &Seen| {
        if seen.name() != name {
            return Answer::Standard;
        }
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Close(bytes.to_vec()),
            _ => Answer::Reply(then.to_vec()),
        }
    });
}

#[test]
fn write_is_not_sent_again_after_the_connection_broke() {
    for (line, name) in [
        ("SET k v", "SET"),
        ("INCR k", "INCR"),
        ("EVAL return(1) 1 k", "EVAL"),
        ("GETDEL k", "GETDEL"),
        ("DEL k", "DEL"),
        ("SORT k STORE {k}d", "SORT"),
    ] {
        let fake = FakeCluster::start(1);
        let proxy = Proxy::start(fake.addrs(), &[]);
        let count = AtomicUsize::new(0);
        fake.script(move |seen| {
            match (seen.name() == name, count.fetch_add(usize::from(seen.name() == name), Ordering::Relaxed))
            {
                (true, 0) => Answer::Close(Vec::new()),
                _ => Answer::Standard,
            }
        });
        let mut client = proxy.client();
        assert_eq!(client.call(&words(line)), Value::Error(LOST.into()), "{line}");
        assert_eq!(
            client.call(&words("GET after")),
            Value::Simple("OK".into()),
            "the next request finds a way"
        );
        assert_eq!(fake.seen_named(name).len(), 1, "{line}");
    }
}

#[test]
fn write_whose_reply_was_cut_short_is_answered_with_an_error() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[]);
    break_first(&fake, "GETSET", b"$10\r\nabc", b"$1\r\nx\r\n");
    let mut client = proxy.client();
    client.send(&[words("GETSET k v"), words("PING")].concat());
    assert_eq!(client.value(), Value::Error(LOST.into()));
    assert_eq!(client.value(), Value::Simple("PONG".into()));
    assert_eq!(fake.seen_named("GETSET").len(), 1);
}

#[test]
fn readonly_command_is_sent_again_after_the_connection_broke() {
    for torn in [&b""[..], b"$10\r\nabc", b"$"] {
        let fake = FakeCluster::start(1);
        let proxy = Proxy::start(fake.addrs(), &[]);
        break_first(&fake, "GET", torn, b"$5\r\nvalue\r\n");
        let mut client = proxy.client();
        assert_eq!(client.call(&words("GET k")).text(), "value");
        assert_eq!(fake.seen_named("GET").len(), 2);
    }
}

#[test]
fn a_pipeline_over_a_broken_connection_gets_one_reply_each_in_order() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let gets = AtomicUsize::new(0);
    fake.script(move |seen| match seen.name().as_str() {
        "SET" if seen.arg(2) == "5" => Answer::Close(Vec::new()),
        "GET" => {
            gets.fetch_add(1, Ordering::Relaxed);
            Answer::Reply(bulk(seen.arg(1).as_bytes()))
        }
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    let pipeline: Vec<u8> = (0..10)
        .flat_map(|n| [cmd!["SET", "k", n.to_string()], cmd!["GET", format!("g{n}")]].concat())
        .collect();
    client.send(&pipeline);
    for n in 0..10 {
        let (set, get) = (client.value(), client.value());
        match n {
            0..5 => assert_eq!(set, Value::Simple("OK".into())),
            5 => assert_eq!(set, Value::Error(LOST.into())),
            _ => assert!(set == Value::Simple("OK".into()) || set == Value::Error(LOST.into()), "{set:?}"),
        }
        assert_eq!(get.text(), format!("g{n}"), "reads are repeated");
    }
    for n in 0..10 {
        let times = fake.seen_named("SET").iter().filter(|s| s.arg(2) == n.to_string()).count();
        assert!(times <= 1, "SET {n} arrived {times} times");
    }
}

#[test]
fn a_split_write_that_lost_a_part_says_it_may_be_done_partly() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    fake.script(|seen| match (seen.node, seen.name().as_str()) {
        (1, "MSET" | "DEL") => Answer::Close(Vec::new()),
        (0, "DEL") => Answer::text(":1"),
        _ => Answer::Standard,
    });
    let (near, far) = (key_in(5, "k"), key_in(16000, "k"));
    let mut client = proxy.client();
    for request in [cmd!["MSET", near, "1", far, "2"], cmd!["DEL", near, far]] {
        client.send(&[request, words("PING")].concat());
        let text = client.value();
        assert!(text.error().contains("may have been executed partly"), "{text:?}");
        assert_eq!(client.value(), Value::Simple("PONG".into()));
    }
    for name in ["MSET", "DEL"] {
        assert_eq!(fake.seen_named(name).iter().filter(|s| s.node == 1).count(), 1, "{name}");
    }
}

#[test]
fn a_request_without_a_reply_ends_at_its_deadline_and_its_late_reply_is_swallowed() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("request-deadline", "500ms"), ("workers", "1")]);
    let gate = crate::support::node::Gate::default();
    let hold = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "SET" => Answer::Hold(hold.clone(), b"+LATE\r\n".to_vec()),
        "GET" => Answer::Reply(bulk(seen.arg(1).as_bytes())),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    let mut other = proxy.client();
    client.send(&words("SET k v"));
    let reply = client.value();
    assert!(
        reply.error().contains("deadline") && reply.error().contains("may have been executed"),
        "{reply:?}"
    );
    // Both wait behind the held reply on the shared connection.
    client.send(&words("GET mine"));
    other.send(&words("GET other"));
    gate.open();
    for (client, key) in [(&mut client, "mine"), (&mut other, "other")] {
        let reply = client.value();
        // The node woke too late for one of them, perhaps; a foreign reply it must never be.
        assert!(reply == Value::Bulk(key.into()) || reply.is_error(), "{reply:?}");
    }
    client.patience(Duration::from_secs(5));
    for n in 0..100 {
        assert_eq!(client.call(&cmd!["GET", format!("n{n}")]).text(), format!("n{n}"));
        assert_eq!(other.call(&cmd!["GET", format!("o{n}")]).text(), format!("o{n}"));
    }
    assert_eq!(fake.seen_named("SET").len(), 1);
}

#[test]
fn a_connection_the_node_closed_while_idle_is_replaced_and_nothing_is_sent_twice() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let mut client = proxy.client();
    for n in 0..10 {
        fake.disconnect(0);
        // Until the proxy has seen the end, a write may go into the closed connection: then it says so.
        let reply = client.call(&cmd!["SET", "k", n.to_string()]);
        assert!(reply == Value::Simple("OK".into()) || reply == Value::Error(LOST.into()), "{reply:?}");
        assert_eq!(client.call(&cmd!["GET", "k"]), Value::Simple("OK".into()), "a read is repeated");
        let times = fake.seen_named("SET").iter().filter(|s| s.arg(2) == n.to_string()).count();
        assert!(times <= 1, "SET {n} arrived {times} times");
    }
}

/// A primary that stood still is replaced. When it goes on it says OK before it hears of that, to writes that nobody
/// will see.
#[test]
fn a_node_the_cluster_has_replaced_acknowledges_nothing() {
    let (fake, gate) = (FakeCluster::start(3), Gate::default());
    let hold = gate.clone();
    fake.script(move |seen| match (seen.name().as_str(), seen.node) {
        ("SET", 0) => Answer::Hold(hold.clone(), b"+OK\r\n".to_vec()),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[]);
    let (mut client, key) = (proxy.client(), key_in(5, "k"));
    client.send(&cmd!["SET", key, "v"]);
    eventually("it is at the node", || check(fake.seen_named("SET").len() == 1, fake.seen()));
    fake.change_map(|map| {
        map.data(0).failed = true;
        map.assign(5, 1);
    });
    fake.disconnect(2);
    let told = client.value();
    assert!(told.is_error() && told.error().contains("may have been executed"), "{told:?}");
    gate.open();
    client.ok(&cmd!["SET", key, "v"]);
    assert_eq!(fake.seen_named("SET").iter().map(|seen| seen.node).collect::<Vec<_>>(), [0, 1]);
}
