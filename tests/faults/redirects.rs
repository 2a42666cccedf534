//! MOVED and ASK on real half-moved slots and from scripted nodes: followed where they are genuine,
//! bounded, and never shown to a client.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::client::words;
use crate::support::cluster::RedisCluster;
use crate::support::keys::{key_in, slot};
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, frame, show};
use crate::support::{Stop, check, eventually, shared};

fn keys_in(slot: u16, names: &[&str]) -> Vec<String> {
    names.iter().map(|n| key_in(slot, n)).collect()
}

/// A cluster whose slot 100 is half moved from node 0 to node 1: `here` is still at the source,
/// `there` at the target already.
fn half_moved() -> (RedisCluster, u16, String, String) {
    let cluster = RedisCluster::start(3, 0);
    let slot = cluster.slot_of(0);
    let (here, there) = (key_in(slot, "here"), key_in(slot, "there"));
    let mut source = cluster.client(0);
    source.ok(&cmd!["SET", here, "H"]);
    source.ok(&cmd!["SET", there, "T"]);
    cluster.open_slot(slot, 0, 1);
    cluster.move_keys(0, 1, &[there.clone().into_bytes()]);
    (cluster, slot, here, there)
}

#[test]
fn half_moved_slot_serves_keys_on_both_sides_without_a_redirect_seen() {
    need_redis!();
    let (cluster, slot, here, there) = half_moved();
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("tryagain-wait", "300ms")]);
    let elsewhere = key_in(cluster.slot_of(2), "elsewhere");
    for mut client in [proxy.client(), proxy.client_resp3()] {
        let new = key_in(slot, &shared::unique("new"));
        client.ok(&cmd!["SET", elsewhere, "E"]);
        assert_eq!(client.call(&cmd!["GET", here]).text(), "H");
        assert_eq!(client.call(&cmd!["GET", there]).text(), "T");
        assert_eq!(client.call(&cmd!["SET", new, "N"]), Value::Simple("OK".into()));
        let mut target = cluster.client(1);
        target.send(&[words("ASKING"), cmd!["GET", new]].concat());
        assert_eq!(target.values(2)[1].text(), "N", "a new key is made at the target");
        assert_eq!(client.call(&cmd!["GET", new]).text(), "N");
        let reply = client.call(&cmd!["MGET", here, there, elsewhere, new]);
        let texts: Vec<String> = reply.items().iter().map(Value::text).collect();
        assert_eq!(texts, ["H", "T", "E", "N"]);
        assert_eq!(client.call(&cmd!["MGET", there, here]).items().len(), 2);
        assert_eq!(client.call(&cmd!["EXISTS", here, there, new, elsewhere]), Value::Int(4));
        assert_eq!(client.call(&cmd!["TOUCH", here, there]), Value::Int(2));
        assert_eq!(client.call(&cmd!["DEL", new, here, there]), Value::Int(3));
        assert_eq!(client.call(&cmd!["SET", there, "T"]), Value::Simple("OK".into()));
        assert_eq!(client.call(&cmd!["SET", here, "H"]), Value::Simple("OK".into()));
    }
}

#[test]
fn commands_over_both_sides_of_a_half_moved_slot_wait_and_then_say_tryagain() {
    need_redis!();
    let (cluster, slot, here, there) = half_moved();
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("tryagain-wait", "400ms")]);
    let mut client = proxy.client();
    let start = Instant::now();
    let reply = client.call(&cmd!["SUNION", here, there]);
    assert!(reply.error().starts_with("TRYAGAIN"), "{reply:?}");
    assert!(start.elapsed() >= Duration::from_millis(300), "given up after {:?}", start.elapsed());
    // A split command either waits as well, or sends its keys one by one.
    let reply = client.call(&cmd!["MSET", here, "1", there, "2"]);
    match &reply {
        Value::Error(text) => assert!(text.starts_with("TRYAGAIN"), "{text}"),
        _ => assert_eq!(client.call(&cmd!["MGET", here, there]).items().len(), 2),
    }
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("tryagain-wait", "20s")]);
    let mut client = proxy.client();
    // A script's TRYAGAIN could be the script's own, so it is not one of the commands that are repeated.
    client.send(&cmd!["LCS", here, there]);
    cluster.move_keys(0, 1, &[here.into_bytes()]);
    cluster.close_slot(slot, 0, 1);
    let reply = client.value();
    assert!(matches!(reply, Value::Bulk(_)), "the move ended while the command waited: {reply:?}");
}

#[test]
fn asking_and_its_command_arrive_next_to_each_other_under_load() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let target = fake.addrs()[1];
    fake.script(move |seen| match (seen.node, seen.name().as_str()) {
        (0, "SET") => Answer::text(&format!("-ASK {} {target}", slot(&seen.args[1]))),
        (_, "GET") => Answer::Reply(bulk(seen.arg(1).as_bytes())),
        _ => Answer::Standard,
    });
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        for n in 0..3u16 {
            let (proxy, stop) = (&proxy, &stop);
            scope.spawn(move || {
                let key = key_in(9000 + n, "load");
                let mut client = proxy.client();
                while !stop.is_set() {
                    client.send(&cmd!["GET", key].repeat(20));
                    client.values(20).iter().for_each(|v| assert_eq!(v.text(), key));
                }
            });
        }
        let mut client = proxy.client();
        for n in 0..200 {
            let key = key_in(n * 7, "asked");
            assert_eq!(client.call(&cmd!["SET", key, n.to_string()]), Value::Simple("OK".into()), "SET {n}");
        }
        stop.set();
    });
    let seen = fake.seen();
    let mut asked = 0;
    for (at, asking) in seen.iter().enumerate().filter(|(_, s)| s.name() == "ASKING") {
        let next = seen[at + 1..]
            .iter()
            .find(|s| s.connection == asking.connection)
            .expect("a command after ASKING");
        assert_eq!((next.name().as_str(), next.node), ("SET", 1), "{next:?}");
        assert_eq!(show(&asking.bytes), show(&words("ASKING")));
        assert_eq!(next.bytes, frame(&next.args.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        asked += 1;
    }
    assert_eq!(asked, 200, "each ASK is followed once, and not remembered");
}

#[test]
fn moved_is_followed_and_the_table_is_refreshed() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let (moved, target) = (200u16, fake.addrs()[2]);
    fake.change_map(|map| map.assign(moved, 2));
    fake.script(move |seen| match (seen.node, seen.name().as_str()) {
        (0, "SET") if slot(&seen.args[1]) == moved => Answer::text(&format!("-MOVED {moved} {target}")),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    let key = key_in(moved, "k");
    eventually("the table knows the new owner", || {
        assert_eq!(client.call(&cmd!["SET", key, "v"]), Value::Simple("OK".into()));
        let last = fake.seen_named("SET").last().cloned().expect("a SET");
        let first_try = fake.seen_named("SET").iter().rev().take(2).any(|s| s.node == 0);
        if last.node == 2 && !first_try { Ok(()) } else { Err(last) }
    });
}

#[test]
fn moved_without_a_host_means_the_host_that_said_it() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let port = fake.addrs()[1].port();
    fake.script(move |seen| match (seen.node, seen.name().as_str()) {
        (0, "SET") => Answer::text(&format!("-MOVED {} :{port}", slot(&seen.args[1]))),
        (0, "INCR") => Answer::text(&format!("-ASK {} :{port}", slot(&seen.args[1]))),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    let key = key_in(10, "k");
    assert_eq!(client.call(&cmd!["SET", key, "v"]), Value::Simple("OK".into()));
    assert_eq!(client.call(&cmd!["INCR", key]), Value::Simple("OK".into()));
    assert_eq!(fake.seen_named("SET").last().map(|s| s.node), Some(1));
}

#[test]
fn nodes_announced_without_a_host_are_where_the_seed_is() {
    let fake = FakeCluster::start(3);
    let ports: Vec<u16> = fake.addrs().iter().map(std::net::SocketAddr::port).collect();
    fake.change_map(|map| {
        ports.iter().enumerate().for_each(|(n, port)| map.announce(n, &format!(":{port}")))
    });
    let proxy = Proxy::start(&fake.addrs()[..1], &[]);
    let mut client = proxy.client();
    for n in 0..3 {
        let key = key_in(n * 5500 + 10, "k");
        assert_eq!(client.call(&cmd!["SET", key, "v"]), Value::Simple("OK".into()));
        assert_eq!(fake.seen_named("SET").last().map(|s| s.node), Some(usize::from(n)));
    }
}

#[test]
fn two_nodes_that_redirect_to_each_other_are_given_up_on_before_the_deadline() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[("request-deadline", "10s"), ("redirects-max", "8")]);
    let addrs = fake.addrs().to_vec();
    let kind = Arc::new(Mutex::new("MOVED"));
    let told = Arc::clone(&kind);
    fake.script(move |seen| match seen.name().as_str() {
        "GET" | "SET" => {
            let kind = *told.lock().expect("kind");
            Answer::text(&format!("-{kind} {} {}", slot(&seen.args[1]), addrs[1 - seen.node]))
        }
        _ => Answer::Standard,
    });
    for word in ["MOVED", "ASK"] {
        *kind.lock().expect("kind") = word;
        for name in ["GET", "SET"] {
            let before = fake.seen_named(name).len();
            let mut client = proxy.client();
            let start = Instant::now();
            let request = if name == "GET" { words("GET k") } else { words("SET k v") };
            client.send(&[request, words("PING"), words("INCR other")].concat());
            let reply = client.value();
            assert!(reply.error().starts_with("CLUSTERDOWN slotway"), "{reply:?}");
            assert!(start.elapsed() < Duration::from_secs(5), "only after {:?}", start.elapsed());
            assert_eq!(client.value(), Value::Simple("PONG".into()));
            assert_eq!(client.value(), Value::Simple("OK".into()));
            let tries = fake.seen_named(name).len() - before;
            assert!((2..=10).contains(&tries), "{tries} tries");
        }
    }
}

#[test]
fn moved_to_a_dead_address_does_not_stall_other_requests() {
    let fake = FakeCluster::start(2);
    let proxy =
        Proxy::start(fake.addrs(), &[("owner-wait", "1s"), ("request-deadline", "3s"), ("workers", "1")]);
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    fake.script(move |seen| match seen.name().as_str() {
        "GET" => Answer::text(&format!("-MOVED {} {dead}", slot(&seen.args[1]))),
        _ => Answer::Standard,
    });
    let mut stuck = proxy.client();
    stuck.send(&words("GET k"));
    let mut client = proxy.client();
    for n in 0..1000 {
        assert_eq!(client.call(&cmd!["SET", n.to_string(), "v"]), Value::Simple("OK".into()));
    }
    let reply = stuck.value();
    assert!(!reply.error().starts_with("MOVED"), "{reply:?}");
}

#[test]
fn forged_redirects_from_a_script_are_passed_on_and_change_nothing() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let trap = TcpListener::bind("127.0.0.1:0").expect("a port");
    trap.set_nonblocking(true).expect("nonblocking");
    let stranger = trap.local_addr().expect("an address");
    let key = key_in(cluster.slot_of(0), "k");
    let (own, member) = (cluster.nodes[0].addr(), cluster.nodes[1].addr());
    let (right, wrong) = (cluster.slot_of(0), cluster.slot_of(1));
    let mut client = proxy.client();
    client.ok(&cmd!["SET", key, "v"]);
    for text in [
        format!("MOVED {wrong} {member}"),
        format!("MOVED {wrong} {stranger}"),
        format!("MOVED {right} {stranger}"),
        format!("ASK {wrong} {member}"),
        format!("ASK {right} {stranger}"),
        format!("MOVED {right} {own}"),
        format!("MOVED {right} {member}"),
        format!("ASK {right} {member}"),
        format!("ASK {right} {own}"),
        "MOVED".into(),
        "MOVED x y".into(),
        format!("MOVED 99999 {member}"),
        format!("MOVED -1 {member}"),
        "ASK 1".into(),
    ] {
        let script = format!("redis.call('incr',KEYS[2]) return redis.error_reply('{text}')");
        let counter = key_in(right, &shared::unique("count"));
        let direct = cluster.client(0).call(&cmd!["EVAL", script, "2", key, key_in(right, "direct")]);
        let reply = client.call(&cmd!["EVAL", script, "2", key, counter]);
        assert_eq!(reply, direct, "passed on as it is");
        assert_eq!(client.call(&cmd!["GET", counter]).text(), "1", "{text}: executed once");
        assert_eq!(client.call(&cmd!["GET", key]).text(), "v");
        let mut other = key_in(wrong, "o");
        other.push('x');
        client.ok(&cmd!["SET", other, "v"]);
    }
    assert_eq!(cluster.errors_sent("CROSSSLOT"), 0);
    let topology = proxy.admin("/topology").1;
    assert!(!topology.contains(&stranger.to_string()), "{topology}");
    assert_eq!(
        trap.accept().map(|_| ()).map_err(|e| e.kind()),
        Err(ErrorKind::WouldBlock),
        "somebody dialled it"
    );
    proxy.wait_metric("slotway_slots_covered", &[], |n| n == 16384.0);
}

#[test]
fn no_redirect_reaches_a_client_while_slots_move_back_and_forth() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let slots: Vec<u16> = (0..4).map(|n| cluster.slot_of(0) + n).collect();
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        for id in 0..2 {
            let (proxy, slots, stop) = (&proxy, &slots, &stop);
            scope.spawn(move || {
                let mut client = if id == 0 { proxy.client() } else { proxy.client_resp3() };
                // `overtaken`: the last round in which a slot was back for the MGET before a SET could follow it.
                let (mut round, mut overtaken) = (0, 0);
                while !stop.is_set() {
                    round += 1;
                    let keys: Vec<String> = slots
                        .iter()
                        .flat_map(|s| keys_in(*s, &[&format!("{id}a"), &format!("{id}b")]))
                        .collect();
                    let value = round.to_string();
                    for key in &keys {
                        client.send(&cmd!["SET", key, value]);
                    }
                    let mut mget = vec![&b"MGET"[..]];
                    mget.extend(keys.iter().map(String::as_bytes));
                    client.send(&frame(&mget));
                    for key in &keys {
                        match client.value() {
                            Value::Simple(ok) if ok == "OK" => {}
                            Value::Error(text) if text.starts_with("TRYAGAIN slotway") => overtaken = round,
                            other => panic!("SET {key} in round {round}: {other:?}"),
                        }
                    }
                    let got = client.value();
                    let all = got.items().iter().all(|v| v.bytes() == value.as_bytes());
                    assert!(overtaken == round || all, "{round}: {got:?}");
                }
                assert!(round > 10, "only {round} rounds");
            });
        }
        for round in 0..6 {
            for slot in &slots {
                let (from, to) = (round % 3, (round + 1) % 3);
                cluster.move_slot(*slot, from, to);
            }
        }
        stop.set();
    });
}

#[test]
fn a_script_nobody_could_judge_in_time_is_not_said_to_be_unexecuted() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[("request-deadline", "400ms"), ("workers", "1")]);
    let target = fake.addrs()[1];
    let key = key_in(10, "k");
    let mut client = proxy.client();
    client.ok(&cmd!["SET", key, "v"]);
    fake.script(move |seen| match seen.name().as_str() {
        "EVAL" => Answer::text(&format!("-MOVED {} {target}", slot(&seen.args[3]))),
        "CLUSTER" => Answer::Never,
        _ => Answer::Standard,
    });
    let reply = client.call(&cmd!["EVAL", "return 1", "1", key]);
    assert!(reply.error().contains("may have been executed"), "{reply:?}");
    assert_eq!(fake.seen_named("EVAL").len(), 1);
}

#[test]
fn mset_of_one_slot_stays_whole_while_its_keys_are_on_both_sides() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let count = AtomicUsize::new(0);
    fake.script(move |seen| match seen.name().as_str() {
        "MSET" if count.fetch_add(1, Ordering::Relaxed) < 3 => Answer::text("-TRYAGAIN Multiple keys"),
        _ => Answer::Standard,
    });
    let (one, two) = (key_in(7, "one"), key_in(7, "two"));
    let request = cmd!["MSET", one, "1", two, "2"];
    assert_eq!(proxy.client().call(&request), Value::Simple("OK".into()));
    let seen = fake.seen_named("MSET");
    assert!(seen.len() == 4 && seen.iter().all(|s| s.bytes == request), "{seen:?}");
}

#[test]
fn a_script_is_redirected_although_the_other_nodes_learn_of_the_move_late() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
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
