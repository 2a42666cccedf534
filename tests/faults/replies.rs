//! Replies that are slow, deep, out of turn or no replies at all: each client gets its own or an
//! error, and the proxy goes on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::words;
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, show};

#[test]
fn a_reply_that_keeps_moving_outlives_the_deadline() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("request-deadline", "500ms")]);
    let value = bulk(&vec![b'x'; 2 << 20]);
    let reply = value.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "GET" => Answer::Trickle(reply.clone(), 128 << 10, Duration::from_millis(100)),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    let start = Instant::now();
    assert!(client.raw(&words("GET k")) == value, "another value");
    assert!(start.elapsed() > Duration::from_secs(1), "too fast to prove anything");
}

#[test]
fn a_client_that_reads_slowly_gets_its_whole_value() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("request-deadline", "500ms"), ("client-stall-timeout", "2s")]);
    let value = bulk(&vec![b'x'; 24 << 20]);
    let reply = value.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "GET" => Answer::Reply(reply.clone()),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    client.send(&words("GET k"));
    let mut got = vec![0; value.len()];
    for piece in got.chunks_mut(1 << 20) {
        std::io::Read::read_exact(&mut client.stream(), piece).expect("the value");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(got == value);
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
}

#[test]
fn deep_and_wide_replies_pass_byte_for_byte() {
    let mut deep = b"*1\r\n".repeat(100_000);
    deep.extend_from_slice(b":7\r\n");
    let mut wide = b"*1000000\r\n".to_vec();
    wide.extend(b"$1\r\nx\r\n".repeat(1_000_000));
    let odd = b"*5\r\n*-1\r\n$-1\r\n*0\r\n$0\r\n\r\n-ERR inside\r\n".to_vec();
    for reply in [deep, wide, odd] {
        let fake = FakeCluster::start(1);
        let proxy = Proxy::start(fake.addrs(), &[]);
        let answer = reply.clone();
        fake.script(move |seen| match seen.name().as_str() {
            "LRANGE" => Answer::Trickle(answer.clone(), 64 << 10, Duration::ZERO),
            _ => Answer::Standard,
        });
        let mut client = proxy.client();
        client.send(&[words("LRANGE k 0 -1"), words("PING")].concat());
        let got = client.reply();
        assert!(got == reply, "{} instead of {}", show(&got), show(&reply));
        assert_eq!(client.value(), Value::Simple("PONG".into()));
    }
}

#[test]
fn pushes_and_attributes_of_a_node_do_not_shift_replies() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let push = b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n".to_vec();
    let attribute = b"|1\r\n+ttl\r\n:3600\r\n".to_vec();
    let (before, ahead) = (push.clone(), attribute.clone());
    fake.script(move |seen| match seen.name().as_str() {
        "GET" => Answer::Reply([before.clone(), bulk(seen.arg(1).as_bytes()), before.clone()].concat()),
        "HGET" => Answer::Reply([ahead.clone(), bulk(seen.arg(1).as_bytes())].concat()),
        _ => Answer::Standard,
    });
    let mut client = proxy.client_resp3();
    for n in 0..50 {
        let key = n.to_string();
        client.send(&[cmd!["GET", key], cmd!["HGET", key, "f"], cmd!["GET", key]].concat());
        assert_eq!(show(&client.reply()), show(&bulk(key.as_bytes())));
        assert_eq!(show(&client.reply()), show(&[attribute.clone(), bulk(key.as_bytes())].concat()));
        assert_eq!(show(&client.reply()), show(&bulk(key.as_bytes())));
    }
}

#[test]
fn what_is_no_reply_ends_the_connection_and_never_reaches_a_client() {
    for garbage in [
        &b"GARBAGE\r\n"[..],
        b"\r\n",
        b"$x\r\n",
        b"*99999999999999999999\r\n",
        b"$-7\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        let fake = FakeCluster::start(2);
        let proxy = Proxy::start(fake.addrs(), &[("request-deadline", "3s"), ("workers", "1")]);
        let count = AtomicUsize::new(0);
        fake.script(move |seen| match seen.name().as_str() {
            "SET" if count.fetch_add(1, Ordering::Relaxed) == 0 => Answer::Reply(garbage.to_vec()),
            "GET" => Answer::Reply(bulk(seen.arg(1).as_bytes())),
            _ => Answer::Standard,
        });
        let (near, far) = (key_in(5, "k"), key_in(16000, "k"));
        let mut client = proxy.client();
        client.send(&[cmd!["SET", near, "v"], cmd!["GET", far], cmd!["GET", near]].concat());
        let reply = client.value();
        let text = reply.error();
        assert!(text.starts_with("ERR slotway"), "{}: {text}", show(garbage));
        assert_eq!(client.value().text(), far);
        assert_eq!(client.value().text(), near, "{}", show(garbage));
        assert_eq!(fake.seen_named("SET").len(), 1);
    }
}

#[test]
fn a_reply_nobody_asked_for_is_given_to_nobody() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    fake.script(|seen| match seen.name().as_str() {
        "SET" => Answer::Reply(b"+OK\r\n+STRAY\r\n".to_vec()),
        "GET" => Answer::Reply(bulk(seen.arg(1).as_bytes())),
        _ => Answer::Standard,
    });
    let (mut one, mut two) = (proxy.client(), proxy.client());
    // Each time the connection is given up; they come back less and less soon.
    for n in 0..12 {
        let set = one.call(&cmd!["SET", "k", n.to_string()]);
        assert!(set == Value::Simple("OK".into()) || set.is_error(), "{set:?}");
        for (client, name) in [(&mut one, "one"), (&mut two, "two")] {
            let key = format!("{name}:{n}");
            let reply = client.call(&cmd!["GET", key]);
            assert!(reply == Value::Bulk(key.into_bytes()) || reply.is_error(), "{reply:?}");
        }
    }
}

#[test]
fn a_redirect_that_does_not_fit_its_request_reaches_no_client() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let target = fake.addrs()[1];
    fake.script(move |seen| match seen.name().as_str() {
        "GET" | "MGET" | "LOLWUT" | "EVAL" => Answer::text(&format!("-MOVED 77 {target}")),
        "HGET" => Answer::text(&format!("-ASK 77 {target}")),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    let (near, far) = (key_in(5, "k"), key_in(16000, "k"));
    for request in [cmd!["GET", near], cmd!["MGET", near, far], words("LOLWUT"), cmd!["HGET", far, "f"]] {
        let reply = client.call(&request);
        assert_eq!(reply.error(), "ERR slotway: the node sent a reply that does not fit the request");
    }
    // A script may say what it likes.
    let own = format!("MOVED 77 {target}");
    for request in [cmd!["EVAL", "return 1", "1", near], cmd!["EVAL", "return 1", "0"]] {
        assert_eq!(client.call(&request), Value::Error(own.clone()));
    }
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
}
