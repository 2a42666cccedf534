//! Every limit is reached: the request beyond it gets the error that names it, the others go on.

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, frame, show};
use crate::support::{check, eventually, shared};

fn pong(client: &mut Client) {
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
}

#[test]
fn requests_larger_than_the_configured_limits_are_protocol_errors() {
    let fake = FakeCluster::start(1);
    let keys = [
        ("array-elements-max", "100"),
        ("bulk-bytes-max", "1KiB"),
        ("inline-bytes-max", "200"),
        ("query-buffer-max", "4KiB"),
    ];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let many = vec!["k"; 100].join(" ");
    let long = "x".repeat(1000);
    let five = [&long[..]; 5].join(" ");
    for (bytes, text) in [
        (words(&format!("MGET {many}")), "invalid multibulk length"),
        (cmd!["SET", "k", "x".repeat(1025)], "invalid bulk length"),
        (format!("ECHO {}\r\n", "x".repeat(200)).into_bytes(), "too big inline request"),
        (words(&format!("MSET k {five}")), ""),
    ] {
        let mut client = proxy.client();
        pong(&mut client);
        client.send(&bytes);
        let got = client.rest();
        assert!(String::from_utf8_lossy(&got).contains(text), "{} instead of {text}", show(&got));
    }
    let mut client = proxy.client();
    client.ok(&words(&format!("MGET {}", vec!["{t}k"; 99].join(" "))));
    client.ok(&cmd!["SET", "k", "x".repeat(1024)]);
}

#[test]
fn merged_reply_beyond_its_limit_is_an_error() {
    need_redis!();
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &[("merge-reply-bytes", "1MiB")]);
    let name = shared::unique("merge");
    let keys: Vec<String> = (0..3).map(|n| key_in(n * 5500, &name)).collect();
    let mut client = proxy.client();
    for key in &keys {
        client.ok(&cmd!["SET", key, "x".repeat(600_000)]);
    }
    client.send(&[cmd!["MGET", keys[0], keys[1], keys[2]], words("PING")].concat());
    let reply = client.value();
    assert_eq!(reply.error(), "ERR slotway: the merged reply would exceed merge-reply-bytes");
    assert_eq!(client.value(), Value::Simple("PONG".into()));
    assert_eq!(client.call(&cmd!["GET", keys[0]]).bytes().len(), 600_000);
    assert_eq!(client.call(&cmd!["MGET", keys[0], "{none}1"]).items().len(), 2);
}

#[test]
fn requests_that_wait_for_an_owner_are_bounded_in_number_and_bytes() {
    need_redis!();
    for (limit, size) in [(("owner-wait-requests", "5"), 1), (("owner-wait-bytes", "1MiB"), 300_000)] {
        let options = &["--cluster-require-full-coverage", "no"][..];
        let mut cluster = RedisCluster::shaped(&Shape { replicas_per: 0, options, ..Shape::default() });
        let keys = [("owner-wait", "2s"), ("workers", "1"), limit];
        let proxy = Proxy::start(&shared::seeds(&cluster), &keys);
        cluster.nodes[2].kill();
        let label = format!("node=\"{}\"", cluster.nodes[2].addr());
        proxy.wait_metric("slotway_backend_up", &[&label], |n| n == 0.0);
        let key = key_in(cluster.slot_of(2), "k");
        let mut client = proxy.client();
        client.send(&cmd!["SET", key, "x".repeat(size)].repeat(12));
        let texts: Vec<String> = client.values(12).iter().map(|v| v.error().to_owned()).collect();
        let refused = texts.iter().filter(|t| t.contains("too many requests wait")).count();
        assert!((6..=9).contains(&refused), "{limit:?}: {texts:?}");
        assert!(texts.iter().all(|t| t.starts_with("CLUSTERDOWN")), "{texts:?}");
        client.ok(&cmd!["SET", key_in(cluster.slot_of(1), "k"), "v"]);
    }
}

#[test]
fn requests_queued_at_a_node_are_bounded_in_number_and_bytes() {
    for (limit, size) in [(("node-pending-requests", "10"), 1), (("node-pending-bytes", "1MiB"), 100_000)] {
        let fake = FakeCluster::start(1);
        let proxy = Proxy::start(fake.addrs(), &[("workers", "1"), limit]);
        let gate = Gate::default();
        let hold = gate.clone();
        fake.script(move |seen| match seen.name().as_str() {
            "SET" => Answer::Hold(hold.clone(), b"+OK\r\n".to_vec()),
            _ => Answer::Standard,
        });
        // Several clients, so that it is not the bound of one that is met.
        let mut clients: Vec<Client> = (0..30).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send(&cmd!["SET", "k", "x".repeat(size)]);
            pong(&mut proxy.client());
        }
        proxy.wait_metric("slotway_errors_total", &["kind=\"node_queue_full\""], |n| n >= 10.0);
        gate.open();
        let replies: Vec<Value> = clients.iter_mut().map(Client::value).collect();
        let full = replies.iter().filter(|r| r.is_error()).count();
        assert!((10..=25).contains(&full), "{limit:?}: {full} of 30");
        for reply in replies.iter().filter(|r| r.is_error()) {
            assert_eq!(reply.error(), "ERR slotway: too many requests are queued for the node");
        }
        assert_eq!(fake.seen_named("SET").len(), 30 - full, "refused requests were not sent");
    }
}

#[test]
fn max_memory_refuses_new_work_and_recovers() {
    let fake = FakeCluster::start(1);
    let keys = [("max-memory", "64MiB"), ("workers", "1"), ("client-pending-bytes", "1GiB")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    fake.script(|seen| match seen.name().as_str() {
        "GET" => Answer::Reply(bulk(&vec![b'x'; 4 << 20])),
        _ => Answer::Standard,
    });
    // Replies that nobody takes.
    let mut hoarders: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    for hoarder in &mut hoarders {
        hoarder.send(&words("GET k").repeat(8));
    }
    let mut client = proxy.client();
    eventually("the ceiling is reached", || {
        let reply = client.call(&words("SET k v"));
        let full = matches!(&reply, Value::Error(text) if text.starts_with("OOM slotway"));
        check(full, reply)
    });
    pong(&mut client);
    drop(hoarders);
    eventually("room again", || {
        let reply = client.call(&words("SET k v"));
        check(!reply.is_error(), reply)
    });
}

#[test]
fn max_memory_closes_the_client_that_holds_most_and_recovers_by_itself() {
    let fake = FakeCluster::start(1);
    let keys = [("max-memory", "64MiB"), ("workers", "1"), ("client-pending-bytes", "8MiB")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    fake.script(|seen| match (seen.name().as_str(), seen.arg(1).as_str()) {
        ("GET", "large") => Answer::Reply(bulk(&vec![b'x'; 4 << 20])),
        ("GET", _) => Answer::Reply(bulk(&vec![b'y'; 1 << 20])),
        _ => Answer::Standard,
    });
    // Within its bound, whatever others do.
    let (mut modest, mut client) = (proxy.client(), proxy.client());
    pong(&mut client);
    modest.send(&words("GET small").repeat(4));
    let mut hoarders: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for hoarder in &mut hoarders {
        // Before the first reply nobody knows how large they are. It may be closed meanwhile.
        let _ = hoarder.try_send(&words("GET large").repeat(30));
    }
    proxy.wait_metric("slotway_client_closed_total", &["reason=\"memory\""], |n| n >= 1.0);
    eventually("room again, although nobody took a byte", || {
        let reply = client.call(&words("SET k v"));
        check(!reply.is_error(), reply)
    });
    for _ in 0..4 {
        assert_eq!(modest.reply().len(), (1 << 20) + 12);
    }
    pong(&mut modest);
}

#[test]
fn max_memory_counts_what_waits_and_what_is_collected() {
    let fake = FakeCluster::start(2);
    let keys = [("max-memory", "64MiB"), ("workers", "1"), ("request-deadline", "5s")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let gate = Gate::default();
    let held = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "BLPOP" => Answer::Hold(held.clone(), b"*-1\r\n".to_vec()),
        "MEMORY" if seen.node == 1 => Answer::Hold(held.clone(), bulk(b"slow")),
        "MEMORY" => Answer::Reply(bulk(&vec![b'x'; 4 << 20])),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    let large = vec![b'k'; 1 << 20];
    for what in [frame(&[b"BLPOP", &large, b"0"]), words("MEMORY DOCTOR")] {
        let mut waiting: Vec<Client> = (0..34).map(|_| proxy.client()).collect();
        waiting.iter_mut().for_each(|one| one.send(&what));
        eventually("the ceiling is reached", || {
            let reply = client.call(&words("SET k v"));
            let full = matches!(&reply, Value::Error(text) if text.starts_with("OOM slotway"));
            check(full, reply)
        });
        drop(waiting);
        eventually("room again", || {
            let reply = client.call(&words("SET k v"));
            check(!reply.is_error(), reply)
        });
    }
    gate.open();
}
