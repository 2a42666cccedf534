//! NOSCRIPT of nodes that forget while they are busy: for a script the proxy knows no client hears it, unless a
//! later command on its keys was executed; and a transaction asks for its scripts before it begins.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::words;
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk};
use crate::support::{Stop, check, eventually, heavy, shared};

const BODY: &str = "return redis.call('INCRBY',KEYS[1],ARGV[1])";
/// Pipelined by each client.
const DEPTH: usize = 40;
const CLIENTS: usize = 4;
/// Clients that miss a script at once.
const CROWD: usize = 20;

fn sha_of(body: &str) -> String {
    shared::standalone().client().ok(&cmd!["SCRIPT", "LOAD", body]).text()
}

/// `CLIENTS` clients send EVALSHAs in packets of `DEPTH`, each on keys of its own, several of them in one slot,
/// while `disturb` does what it does; it hears how many were answered. `judge` looks at each reply, which is the
/// number of the round if all of them were executed once.
fn under_load(proxy: &Proxy, judge: impl Fn(usize, &Value) + Sync, disturb: impl FnOnce(&AtomicUsize)) {
    let sha = sha_of(BODY);
    proxy.client().ok(&cmd!["SCRIPT", "LOAD", BODY]);
    let (stop, answered) = (Stop::default(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        for client in 0..CLIENTS {
            let (sha, stop, answered, judge) = (&sha, &stop, &answered, &judge);
            scope.spawn(move || {
                let key = |n: usize| key_in((n / 4 * 1600) as u16, &format!("load:{client}:{n}:"));
                let packet: Vec<u8> =
                    (0..DEPTH).flat_map(|n| cmd!["EVALSHA", sha, "1", key(n), "1"]).collect();
                let mut connection = proxy.client();
                connection.patience(std::time::Duration::from_secs(40));
                let mut round = 0;
                while !stop.is_set() {
                    round += 1;
                    connection.send(&packet);
                    for _ in 0..DEPTH {
                        judge(round, &connection.value());
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        disturb(&answered);
    });
}

#[track_caller]
fn more(answered: &AtomicUsize, count: usize) {
    let goal = answered.load(Ordering::Relaxed) + count;
    eventually("replies come in", || {
        let now = answered.load(Ordering::Relaxed);
        check(now >= goal, now)
    });
}

#[test]
fn nodes_that_forget_under_load_are_told_again_and_nothing_runs_twice() {
    need_redis!();
    let _one_at_a_time = heavy();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let judge = |round: usize, reply: &Value| assert_eq!(reply, &Value::Int(round as i64));
    under_load(&proxy, judge, |answered| {
        for round in 0..30 {
            more(answered, CLIENTS * DEPTH);
            cluster.client(round % 3).ok(&words("SCRIPT FLUSH"));
        }
        more(answered, 2 * CLIENTS * DEPTH);
    });
    assert!(cluster.errors_sent("NOSCRIPT") >= 10, "nodes did forget");
}

#[test]
fn a_replica_that_takes_over_under_load_is_told() {
    need_redis!();
    let _one_at_a_time = heavy();
    let cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let judge = |_: usize, reply: &Value| {
        assert!(!matches!(reply, Value::Error(text) if text.contains("NOSCRIPT")), "{reply:?}");
    };
    under_load(&proxy, judge, |answered| {
        for index in 0..3 {
            let replica = cluster.replica_of(index);
            more(answered, CLIENTS * DEPTH);
            cluster.client(replica).ok(&words("CLUSTER FAILOVER"));
            eventually("the replica is promoted", || {
                let role = cluster.client(replica).call(&words("ROLE")).items()[0].text();
                check(role == "master", role)
            });
            more(answered, 2 * CLIENTS * DEPTH);
        }
    });
}

/// Three nodes of which only the last knows the script, and tells it; the others run it once it was loaded.
fn one_that_knows(sha: &str) -> FakeCluster {
    let fake = FakeCluster::start(3);
    let (name, loaded) = (sha.to_owned(), Mutex::new([false, false, true]));
    fake.script(move |seen| {
        let mut loaded = loaded.lock().expect("a lock");
        let known = &mut loaded[seen.node];
        match (seen.name().as_str(), seen.arg(1).to_uppercase().as_str()) {
            ("SCRIPT", "SHOW") if *known && seen.arg(2) == name => Answer::Reply(bulk(BODY.as_bytes())),
            ("SCRIPT", "SHOW") => Answer::text("-NOSCRIPT No matching script."),
            ("SCRIPT", "LOAD") => {
                *known |= seen.arg(2) == BODY;
                Answer::Reply(bulk(name.as_bytes()))
            }
            ("EXEC", _) if *known => Answer::text("*1\r\n:1"),
            ("EXEC", _) => Answer::text("*1\r\n-NOSCRIPT No matching script. Please use EVAL."),
            ("EVALSHA" | "GET", _) => Answer::text("+QUEUED"),
            _ => Answer::Standard,
        }
    });
    fake
}

/// How often the node that was asked most heard SCRIPT SHOW.
fn most_asked(fake: &FakeCluster) -> usize {
    let shows: Vec<usize> = fake
        .seen_named("SCRIPT")
        .iter()
        .filter(|seen| seen.arg(1).eq_ignore_ascii_case("show"))
        .map(|seen| seen.node)
        .collect();
    (0..3).map(|node| shows.iter().filter(|asked| **asked == node).count()).max().unwrap_or(0)
}

#[test]
fn a_transaction_asks_for_scripts_that_nobody_here_has_seen_before_it_begins() {
    need_redis!();
    let sha = sha_of(BODY);
    for watches in [false, true] {
        let fake = one_that_knows(&sha);
        let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
        let mut client = proxy.client();
        for key in [key_in(100, "k"), key_in(6_000, "k")] {
            if watches {
                client.ok(&cmd!["WATCH", key]);
            }
            let evalsha = cmd!["EVALSHA", sha, "1", key, "1"];
            client.send(&[words("MULTI"), evalsha, words("EXEC"), words("PING")].concat());
            let replies = client.values(4);
            assert_eq!(replies[2], Value::Array(vec![Value::Int(1)]), "{replies:?}");
            assert_eq!(replies[3], Value::Simple("PONG".into()));
        }
        assert_eq!(fake.seen_named("EXEC").len(), 2, "sent once each");
        assert!(most_asked(&fake) == 1, "asked for once");
        // What no node knows is a matter of the transaction.
        let unknown = cmd!["EVALSHA", "0".repeat(40), "1", key_in(200, "k"), "1"];
        client.send(&[words("MULTI"), unknown, words("EXEC")].concat());
        assert_eq!(client.values(3)[2], Value::Array(vec![Value::Int(1)]));
    }
}

/// Many clients miss the same script at once: nodes are asked for it once.
#[test]
fn clients_that_miss_the_same_script_ask_for_it_together() {
    need_redis!();
    let sha = sha_of(BODY);
    let fake = FakeCluster::start(2);
    let (name, gate, missed) = (sha.clone(), Gate::default(), Mutex::new((0, false)));
    fake.script(move |seen| {
        let (count, known) = &mut *missed.lock().expect("a lock");
        match (seen.name().as_str(), seen.arg(1).to_uppercase().as_str(), seen.node) {
            // Not before all have missed it.
            ("SCRIPT", "SHOW", 1) => Answer::Hold(gate.clone(), bulk(BODY.as_bytes())),
            ("SCRIPT", "SHOW", _) => Answer::text("-NOSCRIPT No matching script."),
            ("SCRIPT", "LOAD", _) => {
                *known = true;
                Answer::Reply(bulk(name.as_bytes()))
            }
            ("EVALSHA", ..) if *known => Answer::text(":7"),
            ("EVALSHA", ..) => {
                *count += 1;
                if *count == CROWD {
                    gate.open();
                }
                Answer::text("-NOSCRIPT No matching script. Please use EVAL.")
            }
            _ => Answer::Standard,
        }
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let mut clients: Vec<_> = (0..CROWD).map(|_| proxy.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&cmd!["EVALSHA", sha, "1", key_in(100, &n.to_string()), "1"]);
    }
    for client in &mut clients {
        assert_eq!(client.value(), Value::Int(7));
    }
    assert_eq!(most_asked(&fake), 1, "one question to each node");
}
