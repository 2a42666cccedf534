//! SIGTERM: no owed reply is lost, the exit code is 0; a second signal ends it at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::words;
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, show};
use crate::support::{allow_files, check, eventually, heavy, leave_out, shared};

/// Counts up a key of its own in pipelines until the proxy closes the connection; how many replies
/// came. Every reply must be the next number.
fn count_until_closed(proxy_addr: std::net::SocketAddr, key: &str, batch: usize, sent: &AtomicU64) -> i64 {
    let mut client = crate::support::client::Client::connect(proxy_addr);
    let pipeline = cmd!["INCR", key].repeat(batch);
    let mut count = 0;
    loop {
        if client.try_send(&pipeline).is_err() {
            // Closed; what it owed is still to be read.
            let rest = client.rest();
            return count + numbers(&rest, count);
        }
        for _ in 0..batch {
            match client.try_reply() {
                Ok(reply) => {
                    count += 1;
                    assert_eq!(show(&reply), show(format!(":{count}\r\n").as_bytes()));
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    let rest = client.rest();
                    assert!(rest.is_empty(), "closed in the middle of a reply: {}", show(&rest));
                    return count;
                }
            }
        }
    }
}

fn numbers(bytes: &[u8], before: i64) -> i64 {
    let values = crate::support::resp::parse_all(bytes);
    for (n, value) in values.iter().enumerate() {
        assert_eq!(*value, Value::Int(before + n as i64 + 1));
    }
    values.len() as i64
}

#[test]
fn sigterm_under_load_loses_no_owed_reply_and_exits_with_0() {
    need_redis!();
    let cluster = shared::cluster();
    let mut proxy =
        Proxy::start(&shared::seeds(cluster), &[("workers", "2"), ("drain-accept-grace", "300ms")]);
    let addr = proxy.addr();
    let name = shared::unique("drain");
    let answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let counters: Vec<_> = (0..12usize)
            .map(|n| {
                let (slot, answered) = (n as u16 * 1300, &answered);
                let key = key_in(slot, &format!("{name}:{n}"));
                let batch = [1, 16, 200][n % 3];
                scope.spawn(move || (key.clone(), count_until_closed(addr, &key, batch, answered)))
            })
            .collect();
        eventually("load", || check(answered.load(Ordering::Relaxed) > 5000, ()));
        proxy.signal("TERM");
        let status = proxy.wait(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "{}", proxy.log());
        let mut direct = shared::proxy().client();
        for counter in counters {
            let (key, replies) = counter.join().expect("a client");
            let executed = direct.call(&cmd!["GET", key]).text().parse::<i64>().expect("a number");
            assert_eq!(executed, replies, "{key}: executed and answered");
        }
    });
    assert!(TcpStream::connect(addr).is_err(), "still listening");
}

#[test]
fn draining_is_told_at_readyz_and_what_is_in_flight_is_finished() {
    let fake = FakeCluster::start(1);
    let mut proxy = Proxy::start(fake.addrs(), &[("drain-accept-grace", "500ms")]);
    let gate = Gate::default();
    let hold = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "GET" => Answer::Hold(hold.clone(), b"$4\r\nlate\r\n".to_vec()),
        _ => Answer::Standard,
    });
    let mut busy = proxy.client();
    let mut idle = proxy.client();
    idle.ok(&words("PING"));
    busy.send(&words("GET k"));
    eventually("the request is at the node", || check(!fake.seen_named("GET").is_empty(), ()));
    proxy.signal("TERM");
    eventually("/readyz says 503", || check(proxy.admin("/readyz").0 == 503, ()));
    assert_eq!(show(&idle.rest()), "\"\"", "an idle connection is closed without a word");
    assert!(proxy.exited().is_none(), "ended with a request in flight");
    gate.open();
    assert_eq!(show(&busy.rest()), show(b"$4\r\nlate\r\n"));
    assert_eq!(proxy.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn sigterm_with_thousands_of_clients_loses_no_owed_reply() {
    let _one_at_a_time = heavy();
    // Others run in this process, too.
    let count = allow_files(12_000).saturating_sub(2_000).min(4_000) as usize;
    if count < 500 {
        leave_out("too few open files allowed for a drain with many clients");
        return;
    }
    let fake = FakeCluster::start(2);
    let mut proxy = Proxy::start(fake.addrs(), &[("workers", "2"), ("drain-timeout", "20s")]);
    let gate = Gate::default();
    let hold = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "GET" => Answer::Hold(hold.clone(), bulk(seen.arg(1).as_bytes())),
        _ => Answer::Standard,
    });
    // Every fourth is owed nothing; the others are owed replies by both nodes.
    let keys = |n: usize| [5, 16000, 6].map(|slot| key_in(slot, &n.to_string()));
    let owed: usize = (0..count).filter(|n| n % 4 > 0).count() * 3;
    let mut clients: Vec<TcpStream> = Vec::new();
    for n in 0..count {
        let mut client = TcpStream::connect(proxy.addr()).expect("connect");
        client.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
        if n % 4 > 0 {
            let pipeline: Vec<u8> = keys(n).iter().flat_map(|key| cmd!["GET", key]).collect();
            client.write_all(&pipeline).expect("send");
        }
        clients.push(client);
    }
    proxy.wait_metric("slotway_client_connections", &[], |n| n == count as f64);
    proxy.wait_metric("slotway_requests_in_flight", &[], |n| n == owed as f64);
    let start = Instant::now();
    proxy.signal("TERM");
    eventually("/readyz says 503", || check(proxy.admin("/readyz").0 == 503, ()));
    gate.open();
    for (n, client) in clients.iter_mut().enumerate() {
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect("closed in order");
        let all: Vec<u8> = keys(n).iter().flat_map(|key| bulk(key.as_bytes())).collect();
        let want = if n % 4 > 0 { all } else { Vec::new() };
        assert_eq!(show(&got), show(&want), "client {n}");
    }
    assert_eq!(proxy.wait(Duration::from_secs(20)).code(), Some(0), "{}", proxy.log());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let fake = FakeCluster::start(1);
        let mut proxy = Proxy::start(fake.addrs(), &[]);
        fake.script(|seen| if seen.name() == "GET" { Answer::Never } else { Answer::Standard });
        let mut client = proxy.client();
        client.send(&words("GET k"));
        eventually("the request is at the node", || check(!fake.seen_named("GET").is_empty(), ()));
        proxy.signal(first);
        eventually("it drains", || check(proxy.admin("/readyz").0 == 503, ()));
        let start = Instant::now();
        proxy.signal(second);
        proxy.wait(Duration::from_secs(2));
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn sigint_without_clients_exits_with_0() {
    let fake = FakeCluster::start(1);
    let mut proxy = Proxy::start(fake.addrs(), &[]);
    proxy.signal("INT");
    assert_eq!(proxy.wait(Duration::from_secs(10)).code(), Some(0));
    let mut proxy = Proxy::start(fake.addrs(), &[]);
    assert_eq!(proxy.terminate(), Some(0));
}

#[test]
fn drain_ends_at_its_deadline_although_a_node_never_answers() {
    let fake = FakeCluster::start(1);
    let mut proxy = Proxy::start(fake.addrs(), &[("drain-timeout", "1s")]);
    fake.script(|seen| if seen.name() == "GET" { Answer::Never } else { Answer::Standard });
    let mut client = proxy.client();
    client.send(&words("GET k"));
    eventually("the request is at the node", || check(!fake.seen_named("GET").is_empty(), ()));
    let start = Instant::now();
    proxy.signal("TERM");
    proxy.wait(Duration::from_secs(10));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
