//! Two commands of one connection on the same key take effect in the order sent, or the earlier one
//! says that it was not executed; also while the slot moves under them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::words;
use crate::support::cluster::RedisCluster;
use crate::support::keys::{key_in, slot};
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{Stop, check, eventually, shared};

/// Moves `slot` round the primaries until `work` is done; says how often.
fn while_moving(cluster: &RedisCluster, slot: u16, work: impl FnOnce(&AtomicUsize) + Send) -> usize {
    let (stop, moves) = (Stop::default(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            work(&moves);
            stop.set();
        });
        let mut at = 0;
        while !stop.is_set() && !worker.is_finished() {
            let to = (at + 1) % cluster.primaries();
            cluster.move_slot(slot, at, to);
            at = to;
            moves.fetch_add(1, Ordering::Relaxed);
        }
        worker.join().expect("the work");
    });
    moves.into_inner()
}

/// True for the one error that may stand for a command of the pipeline.
fn not_executed(value: &Value) -> bool {
    matches!(value, Value::Error(text) if text.contains("not executed"))
}

#[test]
fn pipelined_appends_stay_in_order_while_the_slot_moves() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let slot = cluster.slot_of(0);
    let moved = while_moving(&cluster, slot, |moves| {
        let mut client = proxy.client();
        let mut round = 0;
        while moves.load(Ordering::Relaxed) < 12 && round < 2000 {
            round += 1;
            let key = key_in(slot, &format!("append{round}"));
            let pipeline: Vec<u8> = (0..1000).flat_map(|n| cmd!["APPEND", key, format!("{n},")]).collect();
            client.send(&pipeline);
            let replies = client.values(1000);
            let mut want = String::new();
            for (n, reply) in replies.iter().enumerate() {
                if !not_executed(reply) {
                    want += &format!("{n},");
                    assert_eq!(reply, &Value::Int(want.len() as i64), "round {round}, APPEND {n}");
                }
            }
            assert_eq!(client.call(&cmd!["GET", key]).text(), want, "round {round}");
            client.ok(&cmd!["DEL", key]);
        }
    });
    assert!(moved >= 12, "only {moved} moves");
    proxy.wait_metric("slotway_redirects_total", &[], |n| n >= 10.0);
}

#[test]
fn reads_see_the_writes_before_them_while_the_slot_moves() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let slot = cluster.slot_of(0);
    let (key, other) = (key_in(slot, "rw"), key_in(cluster.slot_of(2), "rw"));
    while_moving(&cluster, slot, |moves| {
        let mut client = proxy.client();
        let mut round = 0;
        while moves.load(Ordering::Relaxed) < 8 && round < 20_000 {
            round += 1;
            let mut pipeline = Vec::new();
            for n in 0..20 {
                pipeline.extend(cmd!["SET", key, format!("{round}.{n}")]);
                pipeline.extend(cmd!["MGET", other, key]);
                pipeline.extend(cmd!["GET", key]);
            }
            client.send(&pipeline);
            let mut now = String::new();
            for n in 0..20 {
                let (set, mget, get) = (client.value(), client.value(), client.value());
                if !not_executed(&set) {
                    assert_eq!(set, Value::Simple("OK".into()));
                    now = format!("{round}.{n}");
                }
                if !not_executed(&get) && !now.is_empty() {
                    assert_eq!(get.text(), now, "GET");
                }
                if !not_executed(&mget) && !now.is_empty() {
                    assert_eq!(mget.items()[1].text(), now, "MGET");
                }
            }
        }
    });
}

/// Both counters or none, in order, and no redirect, wherever in it the slot has moved; also not in EXEC's array.
#[test]
fn transactions_are_executed_as_a_whole_while_their_slot_moves() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let slot = cluster.slot_of(0);
    let (a, b, watched) = (key_in(slot, "a"), key_in(slot, "b"), key_in(slot, "watched"));
    let (count, nulls) = (AtomicUsize::new(0), AtomicUsize::new(0));
    while_moving(&cluster, slot, |moves| {
        let mut client = proxy.client();
        let transaction =
            [words("MULTI"), cmd!["INCR", a], words("PING"), cmd!["INCR", b], words("EXEC")].concat();
        let mut round = 0;
        while moves.load(Ordering::Relaxed) < 12 && round < 20_000 {
            round += 1;
            let watches = round % 3 == 0;
            if watches {
                // Sometimes there, sometimes to be made where the slot goes.
                client.ok(&cmd![if round % 2 == 0 { "DEL" } else { "INCR" }, watched]);
                assert_eq!(client.call(&cmd!["WATCH", watched]), Value::Simple("OK".into()));
            }
            client.send(&transaction);
            let replies = client.values(5);
            match &replies[4] {
                Value::NullArray if watches => drop(nulls.fetch_add(1, Ordering::Relaxed)),
                reply => {
                    let now = Value::Int(count.fetch_add(1, Ordering::Relaxed) as i64 + 1);
                    let all = [now.clone(), Value::Simple("PONG".into()), now];
                    assert_eq!(reply, &Value::Array(all.into()), "round {round}");
                }
            }
        }
    });
    let (done, nulls) = (count.into_inner(), nulls.into_inner());
    assert!(done > nulls, "{done} executed, {nulls} null");
    proxy.wait_metric("slotway_redirects_total", &[], |n| n >= 10.0);
}

#[test]
fn later_requests_for_a_redirected_slot_wait_for_the_earlier_one() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let (moved, target) = (50u16, fake.addrs()[1]);
    fake.script(move |seen| match (seen.node, seen.name().as_str()) {
        (0, "APPEND") => Answer::text(&format!("-MOVED {moved} {target}")),
        (1, "APPEND") => Answer::text(":9"),
        _ => Answer::Standard,
    });
    let key = key_in(moved, "k");
    let mut client = proxy.client();
    let pipeline: Vec<u8> = (0..50).flat_map(|n| cmd!["APPEND", key, n.to_string()]).collect();
    client.send(&pipeline);
    let replies = client.values(50);
    assert!(replies.iter().all(|r| matches!(r, Value::Int(_))), "{replies:?}");
    let executed: Vec<String> =
        fake.seen_named("APPEND").iter().filter(|s| s.node == 1).map(|s| s.arg(2)).collect();
    let want: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(executed, want, "in the order sent, each once");
}

#[test]
fn an_earlier_command_is_not_sent_after_a_later_one_was_executed() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let target = fake.addrs()[1];
    // The old owner redirects the first and executes the second: the slot came back in between.
    fake.script(move |seen| match (seen.node, seen.name().as_str()) {
        (0, "APPEND") if seen.arg(2) == "first" => {
            Answer::text(&format!("-MOVED {} {target}", slot(&seen.args[1])))
        }
        (_, "APPEND") => Answer::text(":6"),
        _ => Answer::Standard,
    });
    let key = key_in(60, "k");
    let mut client = proxy.client();
    client.send(&[cmd!["APPEND", key, "first"], cmd!["APPEND", key, "second"]].concat());
    let (first, second) = (client.value(), client.value());
    assert_eq!(second, Value::Int(6));
    assert!(not_executed(&first), "{first:?}");
    let sent: Vec<(usize, String)> = fake.seen_named("APPEND").iter().map(|s| (s.node, s.arg(2))).collect();
    assert_eq!(sent, [(0, "first".into()), (0, "second".into())]);
}

#[test]
fn replies_come_as_soon_as_they_are_due_not_when_the_pipeline_is_done() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let gate = Gate::default();
    let hold = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "EVAL" => Answer::Hold(hold.clone(), b"+slow\r\n".to_vec()),
        "GET" => Answer::Reply(b"$1\r\nv\r\n".to_vec()),
        _ => Answer::Standard,
    });
    let (near, far) = (key_in(1, "k"), key_in(16000, "k"));
    let mut client = proxy.client();
    client.send(
        &[cmd!["GET", near], cmd!["EVAL", "slow", "1", near], cmd!["GET", far], words("PING")].concat(),
    );
    assert_eq!(client.value().text(), "v", "before the slow script has ended");
    eventually("the other node was asked meanwhile", || {
        let seen = fake.seen_named("GET");
        check(seen.len() == 2, seen)
    });
    gate.open();
    assert_eq!(client.value(), Value::Simple("slow".into()));
    assert_eq!(client.value().text(), "v");
    assert_eq!(client.value(), Value::Simple("PONG".into()));
}

#[test]
fn a_deep_pipeline_that_is_redirected_holds_up_nobody_else() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let (moved, target) = (50u16, fake.addrs()[1]);
    fake.script(move |seen| match (seen.node, seen.name().as_str()) {
        (0, "APPEND") => Answer::text(&format!("-MOVED {moved} {target}")),
        (1, "APPEND") => Answer::text(":9"),
        _ => Answer::Standard,
    });
    let key = key_in(moved, "k");
    let mut client = proxy.client();
    // Replies open the client's window.
    client.send(&cmd!["GET", key].repeat(10_000));
    client.values(10_000);
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        let others = scope.spawn(|| {
            let (mut other, mut slowest) = (proxy.client(), Duration::ZERO);
            while !stop.is_set() {
                let start = Instant::now();
                other.ok(&words("PING"));
                slowest = slowest.max(start.elapsed());
            }
            slowest
        });
        let pipeline: Vec<u8> = (0..10_000).flat_map(|n| cmd!["APPEND", key, n.to_string()]).collect();
        client.send(&pipeline);
        let replies = client.values(10_000);
        assert!(replies.iter().all(|r| *r == Value::Int(9)));
        stop.set();
        let slowest = others.join().expect("the other client");
        assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    });
    let executed: Vec<String> =
        fake.seen_named("APPEND").iter().filter(|s| s.node == 1).map(|s| s.arg(2)).collect();
    assert!(executed.iter().map(String::as_str).eq((0..10_000).map(|n| n.to_string()).collect::<Vec<_>>()));
}
