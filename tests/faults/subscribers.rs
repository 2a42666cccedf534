//! Subscribers that are many, that do not read, that want too much, that vanish, or that have had enough: bounded,
//! and nobody else notices.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::pubsub::{confirmation, is_subscription};
use crate::path::pubsub::{nothing_more, subscribe};
use crate::support::client::{Client, words};
use crate::support::keys::slot;
use crate::support::node::{Answer, FakeCluster, Gate, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{PATIENCE, allow_files, check, eventually, heavy, leave_out, shared};

/// Clients of one process of two.
const HALF: usize = 5_000;

#[test]
fn subscriptions_of_a_client_and_of_a_worker_are_bounded() {
    need_redis!();
    let keys = [("client-subscriptions", "5"), ("worker-subscriptions", "8"), ("workers", "1")];
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &keys);
    let name = shared::unique("bound");
    let names = |client: &str, count: usize| -> Vec<String> {
        (0..count).map(|n| format!("{name}:{client}:{n}")).collect()
    };
    let full = |client: &mut Client, channel: &str| {
        let refused = client.call(&cmd!["SUBSCRIBE", channel]);
        assert!(refused.error().starts_with("ERR slotway: too many subscriptions"), "{refused:?}");
    };
    let mut first = proxy.client();
    subscribe(&mut first, "SUBSCRIBE", &names("a", 4));
    subscribe(&mut first, "PSUBSCRIBE", &names("a", 1));
    full(&mut first, "one more");
    subscribe(&mut first, "SUBSCRIBE", &names("a", 4));
    let mut second = proxy.client();
    subscribe(&mut second, "SSUBSCRIBE", &names("b", 3));
    full(&mut second, "one more");
    proxy.wait_metric("slotway_subscriptions", &[], |n| n == 8.0);
    drop(first);
    eventually("there is room again", || {
        let reply = second.call(&cmd!["SUBSCRIBE", "one more"]);
        check(!reply.is_error(), reply)
    });
    proxy.wait_metric("slotway_subscriptions", &[], |n| n == 4.0);
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_and_others_go_on() {
    need_redis!();
    let _one_at_a_time = heavy();
    let keys = [("subscriber-pending-bytes", "8MiB"), ("workers", "1")];
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &keys);
    let channel = shared::unique("slow");
    let mut publisher = proxy.client();
    for payload in [vec![b'x'; 300], vec![b'y'; 20_000], vec![b'z'; 1 << 20]] {
        let count = (40 << 20) / payload.len();
        let mut slow = proxy.client();
        let mut clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
        subscribe(&mut slow, "SUBSCRIBE", std::slice::from_ref(&channel));
        for client in &mut clients {
            subscribe(client, "SUBSCRIBE", std::slice::from_ref(&channel));
        }
        let before = proxy.resident_bytes();
        std::thread::scope(|scope| {
            for client in &mut clients {
                let payload = &payload;
                scope.spawn(move || {
                    for n in 0..count {
                        let value = client.value();
                        assert!(value.items()[2].bytes() == payload.as_slice(), "message {n}");
                    }
                });
            }
            let mut left = count;
            while left > 0 {
                // No more at once than the others can take.
                let some = left.min((1 << 20) / payload.len()).max(1);
                publisher.send(&cmd!["PUBLISH", channel, payload].repeat(some));
                publisher.values(some);
                left -= some;
            }
        });
        let grown = proxy.resident_bytes().saturating_sub(before) >> 20;
        assert!(grown < 120, "{grown} MiB for one subscriber that does not read");
        eventually("the slow one is gone", || {
            let count = publisher.call(&cmd!["PUBLISH", channel, payload]);
            check(count == Value::Int(6), count)
        });
        let rest = slow.rest();
        assert!(rest.len() < 40 << 20, "{} bytes", rest.len());
    }
    proxy.wait_metric("slotway_client_closed_total", &["reason=\"subscriber\""], |n| n == 3.0);
    assert!(proxy.log().contains("closing a subscriber that does not keep up"));
}

/// What is published to the crowd.
fn payloads() -> Vec<Vec<u8>> {
    (0..20u8).map(|n| vec![b'a' + n; 10 + usize::from(n) * 500]).collect()
}

/// Half of the crowd: subscribed.
fn half(addr: SocketAddr, channel: &str) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::with_capacity(HALF);
    for n in 0..HALF {
        let mut client = if n % 2 == 0 { Client::connect(addr) } else { Client::connect_resp3(addr) };
        client.send(&cmd!["SUBSCRIBE", channel]);
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.value().items()[2], Value::Int(1));
    }
    clients
}

/// Each hears all of it.
fn hear(clients: &mut [Client]) {
    for client in clients {
        for payload in payloads() {
            assert!(client.value().items()[2].bytes() == payload.as_slice());
        }
    }
}

/// A part of the test below, in a process of its own.
#[test]
#[ignore = "started by the test of 10,000 subscribers"]
fn the_other_half_of_the_crowd() {
    let Ok(addr) = std::env::var("CROWD_AT") else { return };
    let channel = std::env::var("CROWD_CHANNEL").expect("a channel");
    let mut clients = half(addr.parse().expect("an address"), &channel);
    println!("\ncrowd: all are subscribed");
    clients.iter_mut().for_each(|client| client.patience(PATIENCE));
    hear(&mut clients);
}

/// The other half's process; it does not outlive the test.
struct OtherHalf {
    process: Child,
    words: BufReader<ChildStdout>,
}

impl OtherHalf {
    fn start(addr: SocketAddr, channel: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([
            "--exact",
            "faults::subscribers::the_other_half_of_the_crowd",
            "--ignored",
            "--nocapture",
        ]);
        command.env("CROWD_AT", addr.to_string()).env("CROWD_CHANNEL", channel);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("a process");
        let words = BufReader::new(process.stdout.take().expect("its words"));
        Self { process, words }
    }

    #[track_caller]
    fn subscribed(&mut self) {
        let ready =
            self.words.by_ref().lines().map_while(Result::ok).any(|line| line.starts_with("crowd: all"));
        assert!(ready, "the other half did not subscribe");
    }

    #[track_caller]
    fn heard(&mut self) {
        let mut rest = String::new();
        let read = self.words.read_to_string(&mut rest);
        let status = self.process.wait().expect("its end");
        assert!(status.success(), "the other half: {read:?} {rest}");
    }
}

impl Drop for OtherHalf {
    fn drop(&mut self) {
        let _over = self.process.kill();
        let _over = self.process.wait();
    }
}

/// Ten thousand clients, half of them in this process, half in another; the proxy is a third.
#[test]
fn ten_thousand_subscribers_of_one_channel_cost_few_connections() {
    need_redis!();
    let _one_at_a_time = heavy();
    if allow_files(2 * HALF as u64 + 2_000) < 2 * HALF as u64 + 2_000 {
        leave_out("fewer than 12,000 open files allowed for 10,000 subscribers");
        return;
    }
    let cluster = shared::cluster();
    let proxy = Proxy::start(&shared::seeds(cluster), &[("workers", "2")]);
    let channel = shared::unique("crowd");
    let owner = cluster.initial_owner(slot(channel.as_bytes()));
    let mut others = OtherHalf::start(proxy.addr(), &channel);
    let mut clients = half(proxy.addr(), &channel);
    others.subscribed();
    let upstream = cluster.client(owner).call(&cmd!["PUBSUB", "NUMSUB", channel]).items()[1].int();
    assert_eq!(upstream, 2, "one of each worker");
    let mut publisher = proxy.client();
    let start = Instant::now();
    for payload in payloads() {
        assert_eq!(publisher.call(&cmd!["PUBLISH", channel, payload]), Value::Int(2 * HALF as i64));
    }
    hear(&mut clients);
    others.heard();
    eprintln!("200,000 messages took {:?}", start.elapsed());
    drop(clients);
    proxy.wait_metric("slotway_subscriptions", &[], |n| n == 0.0);
    eventually("nothing is left upstream", || {
        let left = cluster.client(owner).call(&cmd!["PUBSUB", "NUMSUB", channel]).items()[1].int();
        check(left == 0, left)
    });
}

#[test]
fn clients_that_vanish_in_the_middle_leave_nothing_behind() {
    need_redis!();
    let _one_at_a_time = heavy();
    let cluster = shared::cluster();
    let proxy = Proxy::start(&shared::seeds(cluster), &[("workers", "2")]);
    let name = shared::unique("vanish");
    for n in 0..300 {
        let mut client = proxy.client();
        let names: Vec<String> = (0..10).map(|m| format!("{name}:{}", (n * 7 + m) % 40)).collect();
        let all = names.iter().flat_map(|c| {
            [cmd!["SUBSCRIBE", c], cmd!["SSUBSCRIBE", c], cmd!["PSUBSCRIBE", format!("{c}*")]].concat()
        });
        let _ = client.stream().try_clone().expect("clone").write_all(&all.collect::<Vec<u8>>());
        match n % 3 {
            0 => client.reset(),
            1 => drop(client.try_reply()),
            _ => {}
        }
    }
    proxy.wait_metric("slotway_client_connections", &[], |n| n == 0.0);
    proxy.wait_metric("slotway_subscriptions", &[], |n| n == 0.0);
    proxy.wait_metric("slotway_requests_in_flight", &[], |n| n == 0.0);
    eventually("nothing is left upstream", || {
        let left: Vec<String> = (0..3)
            .flat_map(|node| {
                let mut node = cluster.client(node);
                let plain = node.call(&cmd!["PUBSUB", "CHANNELS", format!("{name}*")]);
                let sharded = node.call(&cmd!["PUBSUB", "SHARDCHANNELS", format!("{name}*")]);
                [plain, sharded].map(|names| format!("{names:?}"))
            })
            .filter(|names| names != "Array([])")
            .collect();
        check(left.is_empty(), left)
    });
}

/// What a RESP3 node sends when a subscription has ended.
fn ended(seen: &Seen) -> Vec<u8> {
    String::from_utf8(confirmation(seen)).expect("text").replace(":1\r\n", ":0\r\n").into_bytes()
}

#[test]
fn the_end_of_a_subscription_is_confirmed_when_the_node_has_confirmed_it() {
    let fake = FakeCluster::start(1);
    let gate = Gate::default();
    let hold = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "UNSUBSCRIBE" => Answer::Hold(hold.clone(), ended(seen)),
        _ if is_subscription(seen) => Answer::Reply(confirmation(seen)),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1"), ("connect-timeout", "20s")]);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    subscribe(&mut client, "SUBSCRIBE", &["a".to_owned(), "b".to_owned()]);
    subscribe(&mut other, "SUBSCRIBE", &["b".to_owned()]);
    subscribe(&mut client, "UNSUBSCRIBE", &["b".to_owned()]);
    assert_eq!(fake.seen_named("UNSUBSCRIBE").len(), 0, "another client has it");
    client.send(&[words("UNSUBSCRIBE a"), words("ECHO x")].concat());
    eventually("the node is told", || check(fake.seen_named("UNSUBSCRIBE").len() == 1, fake.seen()));
    client.patience(Duration::from_millis(300));
    assert!(client.try_reply().is_err(), "told too early");
    gate.open();
    client.patience(Duration::from_secs(20));
    let told = client.value();
    assert_eq!((told.items()[0].text(), told.items()[1].text()), ("unsubscribe".to_owned(), "a".to_owned()));
    assert_eq!(client.value(), Value::Bulk(b"x".to_vec()), "what came behind waited for its turn");
    nothing_more(&mut other);
}

#[test]
fn a_node_that_does_not_confirm_the_end_of_a_subscription_holds_its_client_up_for_connect_timeout_only() {
    let fake = FakeCluster::start(1);
    fake.script(|seen| match seen.name().as_str() {
        "UNSUBSCRIBE" if seen.arg(1) == "breaks" => Answer::Close(Vec::new()),
        "UNSUBSCRIBE" => Answer::Never,
        _ if is_subscription(seen) => Answer::Reply(confirmation(seen)),
        _ => Answer::Standard,
    });
    let keys = [("workers", "1"), ("connect-timeout", "100ms"), ("request-deadline", "50ms")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let mut client = proxy.client();
    subscribe(&mut client, "SUBSCRIBE", &["a".to_owned(), "b".to_owned()]);
    client.send(&[words("UNSUBSCRIBE"), words("ECHO x")].concat());
    assert!(client.values(2).iter().all(|frame| frame.items()[0].text() == "unsubscribe"));
    assert_eq!(client.value(), Value::Bulk(b"x".to_vec()));
    let keys = [("workers", "1"), ("connect-timeout", "20s")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let mut client = proxy.client();
    subscribe(&mut client, "SUBSCRIBE", &["breaks".to_owned()]);
    subscribe(&mut client, "UNSUBSCRIBE", &["breaks".to_owned()]);
}
