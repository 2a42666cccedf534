//! Many clients, idle clients, clients that never read, that go half way or all at once: bounded
//! memory, nobody else notices, nothing is left behind.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::client::{Client, words};
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk};
use crate::support::{Stop, allow_files, check, eventually, heavy, leave_out, shared};

#[test]
fn five_thousand_idle_connections_cost_little_and_still_answer() {
    need_redis!();
    let _one_at_a_time = heavy();
    if allow_files(12_000) < 12_000 {
        leave_out("fewer than 12,000 open files allowed for 5,000 connections");
        return;
    }
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &[("workers", "2")]);
    let name = shared::unique("idle");
    let ask = |client: &mut Client, n: usize| {
        let key = key_in((n * 3 % 16384) as u16, &name);
        assert_eq!(client.call(&cmd!["GET", key]), Value::NullBulk);
    };
    let mut first: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
    first.iter_mut().enumerate().for_each(|(n, c)| ask(c, n));
    let before = proxy.resident_bytes();
    let mut clients: Vec<Client> = Vec::new();
    for n in 0..4950 {
        let mut client = proxy.client();
        ask(&mut client, n);
        clients.push(client);
    }
    let each = proxy.resident_bytes().saturating_sub(before) / 4950;
    assert!(each < 4096, "{each} bytes resident per idle connection");
    proxy.wait_metric("slotway_client_connections", &[], |n| n == 5000.0);
    for (n, client) in clients.iter_mut().enumerate().step_by(7) {
        ask(client, n);
    }
    drop(clients);
    drop(first);
    proxy.wait_metric("slotway_client_connections", &[], |n| n == 0.0);
}

#[test]
fn a_client_that_never_reads_is_bounded_and_others_go_on() {
    need_redis!();
    let _one_at_a_time = heavy();
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &[("workers", "1")]);
    let key = shared::unique("big");
    let mut client = proxy.client();
    client.ok(&cmd!["SET", key, "x".repeat(1 << 20)]);
    client.ok(&cmd!["GET", key]);
    let before = proxy.resident_bytes();
    let stop = Stop::default();
    let (progress, peak) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        scope.spawn(|| {
            let mut greedy: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
            for one in &mut greedy {
                one.stream().set_nonblocking(true).expect("nonblocking");
                let pipeline = cmd!["GET", key].repeat(10_000);
                let mut sent = 0;
                while sent < pipeline.len() && !stop.is_set() {
                    match one.stream().write(&pipeline[sent..]) {
                        Ok(length) => sent += length,
                        Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                        Err(e) => panic!("write: {e}"),
                    }
                }
            }
            while !stop.is_set() {
                peak.fetch_max(proxy.resident_bytes(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let start = Instant::now();
        // Ends early when the bound is broken: not at the cost of the machine.
        while start.elapsed() < Duration::from_secs(4) && peak.load(Ordering::Relaxed) < before + (1 << 30) {
            let value = client.call(&cmd!["STRLEN", key]);
            assert_eq!(value, Value::Int(1 << 20));
            progress.fetch_add(1, Ordering::Relaxed);
        }
        stop.set();
    });
    let grown = peak.into_inner().saturating_sub(before) >> 20;
    // client-pending-bytes is 32 MiB for each of the three; before the first replies nobody knows that
    // they are large, so what was sent until then comes on top.
    assert!(grown < 512, "{grown} MiB for three clients that never read");
    assert!(progress.into_inner() > 500, "others were stalled");
    proxy.wait_metric("slotway_client_connections", &[], |n| n == 1.0);
    proxy.wait_metric("slotway_requests_in_flight", &[], |n| n == 0.0);
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
}

#[test]
fn a_client_without_progress_is_closed_after_the_stall_timeout() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("client-stall-timeout", "1s")]);
    fake.script(
        |seen| if seen.name() == "GET" { Answer::Reply(bulk(&[b'x'; 1 << 20])) } else { Answer::Standard },
    );
    let stuck = proxy.client();
    let mut sender = stuck.stream().try_clone().expect("clone");
    sender.write_all(&words("GET k").repeat(200)).expect("write");
    let mut idle = proxy.client();
    idle.ok(&words("PING"));
    proxy.wait_metric("slotway_client_connections", &[], |n| n == 1.0);
    assert_eq!(idle.call(&words("PING")), Value::Simple("PONG".into()), "idle is not stalled");
    eventually("the log gives the reason", || {
        let log = proxy.log();
        check(log.contains("stall") || log.contains("progress"), log)
    });
}

#[test]
fn half_closed_clients_get_all_their_replies() {
    need_redis!();
    let name = shared::unique("half");
    for count in [1, 10, 5000] {
        let mut client = shared::client();
        let mut pipeline = Vec::new();
        for n in 0..count {
            pipeline.extend(cmd!["SET", format!("{name}:{n}"), n.to_string()]);
            pipeline.extend(cmd!["GET", format!("{name}:{n}")]);
        }
        client.send(&pipeline);
        client.half_close();
        let all = client.rest();
        let want: Vec<u8> =
            (0..count).flat_map(|n| [b"+OK\r\n".to_vec(), bulk(n.to_string().as_bytes())].concat()).collect();
        assert!(all == want, "{} of {} bytes", all.len(), want.len());
    }
}

#[test]
fn half_close_in_the_middle_of_a_request_still_answers_what_was_whole() {
    need_redis!();
    let mut client = shared::client();
    client.send(&[&words("PING")[..], b"*2\r\n$3\r\nGET\r\n$5\r\nab"].concat());
    client.half_close();
    assert_eq!(client.rest(), b"+PONG\r\n");
}

/// One client that misbehaves in one of several ways.
fn storm_client(proxy: &Proxy, name: &str, random: &mut Rng) {
    let Ok(mut client) = Client::try_connect(proxy.addr()) else { return };
    let key = format!("{name}:{}", random.u16(..));
    let pipeline = [cmd!["SET", key, "x".repeat(random.usize(..5000))], cmd!["GET", key]].concat().repeat(20);
    match random.u8(0..7) {
        0 => {}
        1 => drop(client.try_send(&pipeline[..random.usize(..pipeline.len())])),
        2 => {
            let _ = client.try_send(&pipeline);
            let _ = client.try_reply();
        }
        3 => {
            let _ = client.try_send(&pipeline);
            client.reset();
        }
        4 => {
            let _ = client.try_send(b"*1\r\n$-7\r\n");
            client.reset();
        }
        5 => {
            let _ = client.try_send(&cmd!["MGET", key, "a", "b", "c"].repeat(50));
            client.reset();
        }
        _ => {
            let _ = client.try_send(&words("QUIT"));
            let _ = client.try_reply();
        }
    }
}

#[test]
fn disconnect_storms_leave_nothing_behind() {
    need_redis!();
    let _one_at_a_time = heavy();
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &[("workers", "2")]);
    let name = shared::unique("storm");
    let storm = |clients: usize| {
        std::thread::scope(|scope| {
            for id in 0..4 {
                let (proxy, name) = (&proxy, &name);
                scope.spawn(move || {
                    let mut random = Rng::with_seed(id);
                    (0..clients).for_each(|_| storm_client(proxy, name, &mut random));
                });
            }
        });
        proxy.wait_metric("slotway_client_connections", &[], |n| n == 0.0);
        proxy.wait_metric("slotway_requests_in_flight", &[], |n| n == 0.0);
    };
    storm(200);
    let (files, memory) = (proxy.descriptors(), proxy.resident_bytes());
    for _ in 0..3 {
        storm(400);
    }
    // The reading itself may hold an admin connection or two.
    eventually("descriptors are given back", || {
        let now = proxy.descriptors();
        check(now <= files + 4, (files, now))
    });
    let grown = proxy.resident_bytes().saturating_sub(memory) >> 20;
    assert!(grown < 24, "{grown} MiB more after 4,800 connections");
    assert_eq!(proxy.client().call(&words("PING")), Value::Simple("PONG".into()));
}

#[test]
fn requests_beyond_the_in_flight_bound_wait_in_the_clients_socket() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("client-pending-requests", "100"), ("workers", "1")]);
    let gate = crate::support::node::Gate::default();
    let hold = gate.clone();
    fake.script(move |seen| match (seen.name().as_str(), seen.arg(1).as_str()) {
        ("GET", "0") => Answer::Hold(hold.clone(), bulk(b"0")),
        ("GET", key) => Answer::Reply(bulk(key.as_bytes())),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    let pipeline: Vec<u8> = (0..3000).flat_map(|n| cmd!["GET", n.to_string()]).collect();
    client.send(&pipeline);
    proxy.wait_metric("slotway_requests_in_flight", &[], |n| n > 0.0 && n <= 110.0);
    gate.open();
    for n in 0..3000 {
        assert_eq!(client.value().text(), n.to_string());
    }
}
