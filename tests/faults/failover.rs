//! A primary dies, freezes or cannot be dialled: its requests wait for the replica or end by their
//! deadline, everyone else goes on, and no reply goes astray.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::node::FakeCluster;
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{Stop, check, eventually, heavy, shared, within};

/// Repeats `attempt` every few milliseconds; when it first succeeded.
fn first_success(mut attempt: impl FnMut() -> bool) -> Instant {
    within(Duration::from_secs(40), "a success", || check(attempt(), ()));
    Instant::now()
}

/// A SET on a connection that is opened again whenever it broke.
fn set_succeeds(client: &mut Option<Client>, addr: SocketAddr, key: &str, value: &str) -> bool {
    if client.is_none() {
        *client = Client::try_connect(addr).ok();
    }
    let reply = client.as_mut().map(|c| c.try_raw(&cmd!["SET", key, value]));
    match reply {
        Some(Ok(reply)) => reply == b"+OK\r\n",
        _ => {
            *client = None;
            false
        }
    }
}

#[test]
fn first_success_after_a_killed_primary_comes_within_a_second_of_the_cluster() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let key = key_in(cluster.slot_of(0), "k");
    let other = key_in(cluster.slot_of(1), "k");
    proxy.client().ok(&cmd!["SET", key, "before"]);
    let replica = cluster.nodes[cluster.replica_of(0)].addr();
    let (stop, progress) = (Stop::default(), AtomicU64::new(0));
    let through_addr = proxy.addr();
    let (direct, through, meanwhile) = std::thread::scope(|scope| {
        let _end = stop.at_end();
        scope.spawn(|| {
            let mut client = proxy.client();
            while !stop.is_set() {
                client.ok(&cmd!["SET", other, "goes on"]);
                progress.fetch_add(1, Ordering::Relaxed);
            }
        });
        eventually("load", || check(progress.load(Ordering::Relaxed) > 10, ()));
        cluster.nodes[0].kill();
        let at_kill = progress.load(Ordering::Relaxed);
        let through = scope.spawn(|| {
            let mut client = None;
            first_success(|| set_succeeds(&mut client, through_addr, &key, "through"))
        });
        let mut client = None;
        let direct = first_success(|| set_succeeds(&mut client, replica, &key, "direct"));
        let through = through.join().expect("through slotway");
        stop.set();
        (direct, through, progress.load(Ordering::Relaxed) - at_kill)
    });
    let late = through.saturating_duration_since(direct);
    assert!(late <= Duration::from_secs(1), "{late:?} after the first success at the new primary");
    assert!(meanwhile > 100, "other shards made only {meanwhile} requests meanwhile");
    assert!(!proxy.client_resp3().call(&cmd!["GET", key]).is_error());
}

#[test]
fn requests_wait_for_the_failover_and_then_succeed() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let keys: Vec<String> = (0..200).map(|n| key_in(cluster.slot_of(0), &format!("w{n}"))).collect();
    let mut warm = proxy.client();
    for key in &keys {
        warm.ok(&cmd!["SET", key, key]);
    }
    // What was not replicated yet may be lost with the primary: that is Redis, not the proxy.
    cluster.client(0).call(&words("WAIT 1 5000"));
    cluster.nodes[0].kill();
    let mut client = proxy.client();
    // Reads may be repeated, so none of them may end in an error, sent or not.
    client.patience(Duration::from_secs(40));
    client.send(&keys.iter().flat_map(|k| cmd!["GET", k]).collect::<Vec<u8>>());
    for key in &keys {
        assert_eq!(client.value().text(), *key);
    }
    client.send(&keys.iter().flat_map(|k| cmd!["SET", k, "new"]).collect::<Vec<u8>>());
    assert!(client.values(keys.len()).iter().all(|v| *v == Value::Simple("OK".into())));
}

#[test]
fn a_slot_without_an_owner_gives_clusterdown_after_the_wait_then_at_once_until_it_heals() {
    need_redis!();
    let options = &["--cluster-require-full-coverage", "no"][..];
    let mut cluster = RedisCluster::shaped(&Shape { replicas_per: 0, options, ..Shape::default() });
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("owner-wait", "1s")]);
    let key = key_in(cluster.slot_of(2), "k");
    let other = key_in(cluster.slot_of(1), "k");
    let mut client = proxy.client();
    client.ok(&cmd!["SET", key, "v"]);
    let addr = cluster.nodes[2].addr();
    cluster.nodes[2].kill();
    eventually("CLUSTERDOWN", || {
        let reply = client.call(&cmd!["GET", key]);
        check(reply.is_error() && reply.error().starts_with("CLUSTERDOWN"), reply)
    });
    let start = Instant::now();
    for _ in 0..50 {
        assert!(client.call(&cmd!["GET", key]).error().starts_with("CLUSTERDOWN"));
    }
    assert!(start.elapsed() < Duration::from_secs(2), "50 fast failures took {:?}", start.elapsed());
    client.ok(&cmd!["SET", other, "v"]);
    cluster.nodes[2].restart_at(addr);
    eventually("it heals by itself", || {
        let reply = client.call(&cmd!["SET", key, "v"]);
        check(!reply.is_error(), reply)
    });
}

/// A cluster that does not fail over while a node stands still.
fn patient_cluster() -> RedisCluster {
    let node_timeout = Duration::from_secs(60);
    RedisCluster::shaped(&Shape { replicas_per: 0, node_timeout, ..Shape::default() })
}

#[test]
fn frozen_node_costs_its_own_requests_a_deadline_error_and_nothing_crosses_when_it_wakes() {
    need_redis!();
    let mut cluster = patient_cluster();
    let keys = [("request-deadline", "1s"), ("node-silence-timeout", "60s"), ("workers", "1")];
    let proxy = Proxy::start(&shared::seeds(&cluster), &keys);
    let frozen: Vec<String> =
        (0..300).map(|n| key_in(cluster.slot_of(0) + n % 50, &format!("f{n}"))).collect();
    let others: Vec<String> =
        (0..300).map(|n| key_in(cluster.slot_of(1) + n % 50, &format!("o{n}"))).collect();
    let mut clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
    for key in frozen.iter().chain(&others) {
        clients[0].ok(&cmd!["SET", key, format!("value of {key}")]);
    }
    cluster.nodes[0].freeze();
    for (n, client) in clients.iter_mut().enumerate() {
        let mine = frozen.iter().skip(n * 50).take(50);
        client.send(&mine.flat_map(|k| cmd!["GET", k]).collect::<Vec<u8>>());
    }
    let mut progress = 0;
    let mut bystander = proxy.client();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        let key = &others[progress % others.len()];
        assert_eq!(bystander.call(&cmd!["GET", key]).text(), format!("value of {key}"));
        progress += 1;
    }
    assert!(progress > 500, "only {progress} requests of other shards while one node was frozen");
    for client in &mut clients {
        for reply in client.values(50) {
            assert!(reply.error().contains("deadline"), "{reply:?}");
        }
    }
    cluster.nodes[0].thaw();
    for round in 0..20 {
        for (n, client) in clients.iter_mut().enumerate() {
            let mix = frozen.iter().skip(n * 7 + round).take(40).chain(others.iter().skip(n).take(40));
            let mix: Vec<&String> = mix.collect();
            client.send(&mix.iter().flat_map(|k| cmd!["GET", k]).collect::<Vec<u8>>());
            for key in mix {
                let reply = client.value();
                let right = reply == Value::Bulk(format!("value of {key}").into_bytes());
                // While the backlog drains the deadline may still strike; a foreign value never.
                assert!(right || (round == 0 && reply.is_error()), "GET {key}: {reply:?}");
            }
        }
    }
}

#[test]
fn frozen_primary_is_noticed_by_its_silence_and_its_replica_serves() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("node-silence-timeout", "1s")]);
    let key = key_in(cluster.slot_of(0), "k");
    let mut client = proxy.client();
    client.patience(Duration::from_secs(40));
    client.ok(&cmd!["SET", key, "v"]);
    cluster.client(0).call(&words("WAIT 1 5000"));
    cluster.nodes[0].freeze();
    let start = Instant::now();
    assert_eq!(client.call(&cmd!["GET", key]).text(), "v", "asked again at the new primary");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    client.ok(&cmd!["SET", key, "w"]);
    cluster.nodes[0].thaw();
    for _ in 0..200 {
        assert_eq!(client.call(&cmd!["GET", key]).text(), "w", "the old primary came back");
    }
}

#[test]
fn what_a_frozen_primary_owes_is_settled_when_its_replica_has_taken_over() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    // Its silence alone would be noticed later than the deadline of the requests.
    let keys = [("node-silence-timeout", "60s"), ("refresh-interval", "1s")];
    let proxy = Proxy::start(&shared::seeds(&cluster), &keys);
    let key = key_in(cluster.slot_of(0), "k");
    let (mut reader, mut writer) = (proxy.client(), proxy.client());
    for client in [&mut reader, &mut writer] {
        client.patience(Duration::from_secs(40));
        client.ok(&cmd!["SET", key, "v"]);
    }
    cluster.client(0).call(&words("WAIT 1 5000"));
    cluster.nodes[0].freeze();
    reader.send(&cmd!["GET", key]);
    writer.send(&cmd!["SET", key, "w"]);
    assert_eq!(reader.value().text(), "v", "asked again at the new primary");
    let lost = writer.value();
    assert!(lost.error().contains("connection to the node was lost; the request may"), "{lost:?}");
    writer.ok(&cmd!["SET", key, "x"]);
    cluster.nodes[0].thaw();
    cluster.wait_healthy();
    for index in [0, 3] {
        // It is a node like any other again.
        proxy.wait_metric("slotway_backend_up", &[&cluster.nodes[index].addr().to_string()], |up| up == 1.0);
    }
    assert_eq!(reader.call(&cmd!["GET", key]).text(), "x");
}

#[test]
fn a_slow_script_is_not_a_frozen_node() {
    need_redis!();
    let cluster = RedisCluster::shaped(&Shape {
        replicas_per: 0,
        node_timeout: Duration::from_secs(60),
        options: &["--busy-reply-threshold", "200"],
        ..Shape::default()
    });
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("node-silence-timeout", "1s")]);
    let key = key_in(cluster.slot_of(0), "k");
    let mut client = proxy.client();
    let slow = "local t=redis.call('time') local e=t[1]*1000000+t[2]+3000000 repeat t=redis.call('time') \
                until t[1]*1000000+t[2]>e return 'done'";
    assert_eq!(client.call(&cmd!["EVAL", slow, "1", key]).text(), "done");
}

/// A listener whose queue is full: whoever dials it hangs, as behind a dropped packet.
fn black_hole() -> (socket2::Socket, Vec<socket2::Socket>, SocketAddr) {
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let listener = new();
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    listener.bind(&any.into()).expect("bind");
    listener.listen(0).expect("listen");
    let addr = listener.local_addr().ok().and_then(|a| a.as_socket()).expect("an address");
    let fillers = (0..4).map(|_| new()).collect::<Vec<_>>();
    for filler in &fillers {
        filler.set_nonblocking(true).expect("nonblocking");
        let _ = filler.connect(&addr.into());
    }
    (listener, fillers, addr)
}

#[test]
fn node_that_cannot_be_dialled_delays_nobody_else() {
    let (_listener, _fillers, hole) = black_hole();
    let fake = FakeCluster::start(2);
    fake.change_map(|map| map.announce(1, &hole.to_string()));
    let keys = [("connect-timeout", "300ms"), ("owner-wait", "1s"), ("workers", "1")];
    let proxy = Proxy::start(&fake.addrs()[..1], &keys);
    let (near, far) = (key_in(5, "k"), key_in(16000, "k"));
    let mut stuck = proxy.client();
    let start = Instant::now();
    stuck.send(&cmd!["SET", far, "v"]);
    let mut client = proxy.client();
    for _ in 0..500 {
        assert_eq!(client.call(&cmd!["SET", near, "v"]), Value::Simple("OK".into()));
    }
    let reply = stuck.value();
    assert!(reply.is_error(), "{reply:?}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert!(fake.seen_named("SET").iter().all(|s| s.arg(1) == near));
}

#[test]
fn load_through_repeated_failovers_never_shows_a_foreign_or_lost_value() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let stop = Stop::default();
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        for id in 0..3u16 {
            let (proxy, stop, rounds, cluster_slots) =
                (&proxy, &stop, &rounds, [100u16 + id, 5600 + id, 11000 + id]);
            scope.spawn(move || {
                let mut client = proxy.client();
                client.patience(Duration::from_secs(40));
                let keys: Vec<String> = cluster_slots.iter().map(|s| key_in(*s, &format!("c{id}"))).collect();
                let mut round = 0u64;
                while !stop.is_set() {
                    round += 1;
                    let value = format!("{id}:{round}");
                    let sets = keys.iter().flat_map(|k| cmd!["SET", k, value]);
                    client.send(&sets.chain(keys.iter().flat_map(|k| cmd!["GET", k])).collect::<Vec<u8>>());
                    let set: Vec<Value> = client.values(3);
                    for (set, got) in set.iter().zip(client.values(3)) {
                        if *set == Value::Simple("OK".into()) {
                            // An acknowledged write can be lost with its primary, never replaced by another's.
                            let own =
                                matches!(&got, Value::Bulk(v) if v.starts_with(format!("{id}:").as_bytes()));
                            assert!(own || got == Value::NullBulk || got.is_error(), "{got:?} after {value}");
                        } else {
                            assert!(set.error().contains("may have been executed"), "{set:?}");
                        }
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for index in [0, 1] {
            let before = rounds.load(Ordering::Relaxed);
            eventually("load", || check(rounds.load(Ordering::Relaxed) > before + 30, ()));
            cluster.nodes[index].kill();
            let replica = cluster.nodes[cluster.replica_of(index)].addr();
            let (first, key) = (cluster.slot_of(index), "probe");
            let mut client = None;
            first_success(|| set_succeeds(&mut client, replica, &key_in(first, key), "p"));
        }
        let before = rounds.load(Ordering::Relaxed);
        eventually("load goes on", || check(rounds.load(Ordering::Relaxed) > before + 30, ()));
        stop.set();
    });
}
