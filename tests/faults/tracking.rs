//! Client-side caching while nodes are lost, slots move and connections break: in every mode nothing a client was
//! not told to forget stays wrong. The topology is refreshed only when something tells the proxy to.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cacher::{Cacher, MODES, PREFIX};
use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{Stop, check, eventually, heavy, shared};

const QUIET: &[(&str, &str)] = &[("workers", "2"), ("refresh-interval", "1h")];

/// Everything forgotten.
pub const FLUSH: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

pub fn invalidation(key: &str) -> String {
    format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n${}\r\n{key}\r\n", key.len())
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Keys of all shards, some of them in the first slot of each.
fn keys(cluster: &RedisCluster) -> Vec<String> {
    let slot = |n: usize| cluster.slot_of(n % 3) + (n / 12) as u16;
    (0..36).map(|n| key_in(slot(n), &format!("{PREFIX}{n}:"))).collect()
}

/// Clients of every mode read and cache while another writes and `fault` does what it does; afterwards nothing
/// cached is wrong, and tracking goes on.
fn stays_true(cluster: &mut RedisCluster, proxy: &Proxy, fault: (&str, impl FnOnce(&mut RedisCluster))) {
    let keys = keys(cluster);
    let mut cachers: Vec<Cacher> = MODES.iter().map(|&mode| Cacher::connect(proxy, mode)).collect();
    let mut truth = proxy.client();
    let (stop, writes) = (Stop::default(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        for cacher in &mut cachers {
            let (stop, keys) = (&stop, &keys);
            scope.spawn(move || {
                while !stop.is_set() {
                    cacher.read_some(keys);
                    std::thread::yield_now();
                }
            });
        }
        let (stop, keys, writes) = (&stop, &keys, &writes);
        scope.spawn(move || {
            let mut writer = proxy.client();
            writer.patience(std::time::Duration::from_secs(40));
            let mut random = fastrand::Rng::with_seed(7);
            while !stop.is_set() {
                let n = writes.load(Ordering::Relaxed);
                let key = random.choice(keys).expect("keys");
                // Some keys are gone for a while: that a key is not there is cached, too.
                let request =
                    if n.is_multiple_of(3) { cmd!["DEL", key] } else { cmd!["SET", key, n.to_string()] };
                writer.call(&request);
                writes.store(n + 1, Ordering::Relaxed);
            }
        });
        let more = |count: u64| {
            let goal = writes.load(Ordering::Relaxed) + count;
            eventually("it writes", || {
                let now = writes.load(Ordering::Relaxed);
                check(now >= goal, now)
            });
        };
        more(200);
        fault.1(cluster);
        more(200);
    });
    for cacher in &mut cachers {
        cacher.is_right(&mut truth, fault.0);
    }
    // And it goes on: what is read now is told when it changes.
    for cacher in &mut cachers {
        keys.iter().for_each(|key| drop(cacher.read(key)));
        cacher.is_right(&mut truth, fault.0);
        assert!(cacher.believes() > 0, "{:?} after {}", cacher.mode, fault.0);
    }
    keys.iter().for_each(|key| drop(truth.ok(&cmd!["SET", key, "last"])));
    for cacher in &mut cachers {
        eventually(&format!("{:?} was told of all after {}", cacher.mode, fault.0), || {
            cacher.listen();
            check(cacher.believes() == 0, cacher.believes())
        });
    }
}

#[test]
fn nothing_cached_stays_wrong_when_nodes_close_connections() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), QUIET);
    let kill = |cluster: &mut RedisCluster| {
        for round in 0..12 {
            cluster.client(round % 3).call(&words("CLIENT KILL TYPE normal SKIPME yes"));
            std::thread::sleep(std::time::Duration::from_millis(60));
        }
    };
    stays_true(&mut cluster, &proxy, ("closed connections", kill));
}

#[test]
fn nothing_cached_stays_wrong_when_slots_move() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), QUIET);
    let moves = |cluster: &mut RedisCluster| {
        let slot = cluster.slot_of(0);
        for (slot, from, to) in [(slot, 0, 1), (slot + 1, 0, 2), (slot, 1, 2), (slot, 2, 0)] {
            cluster.move_slot(slot, from, to);
        }
    };
    stays_true(&mut cluster, &proxy, ("moved slots", moves));
}

#[test]
fn nothing_cached_stays_wrong_when_a_primary_hands_over() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), QUIET);
    let fail_over = |cluster: &mut RedisCluster| {
        let replica = cluster.replica_of(1);
        cluster.client(replica).ok(&words("CLUSTER FAILOVER"));
        eventually("the replica is promoted", || {
            let role = cluster.client(replica).call(&words("ROLE")).items()[0].text();
            check(role == "master", role)
        });
    };
    stays_true(&mut cluster, &proxy, ("a planned failover", fail_over));
}

#[test]
fn nothing_cached_stays_wrong_when_a_primary_is_lost() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), QUIET);
    let kill = |cluster: &mut RedisCluster| cluster.nodes[0].kill();
    stays_true(&mut cluster, &proxy, ("a lost primary", kill));
}

/// Whoever keeps silent is told: nothing makes such a client ask.
#[test]
fn a_client_that_only_listens_is_told_when_its_node_is_lost() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), QUIET);
    let key = key_in(cluster.slot_of(0), PREFIX);
    proxy.client().ok(&cmd!["SET", key, "v"]);
    let mut cachers: Vec<Cacher> = MODES.iter().map(|&mode| Cacher::connect(&proxy, mode)).collect();
    cachers.iter_mut().for_each(|cacher| drop(cacher.read(&key)));
    cluster.nodes[0].kill();
    for cacher in &mut cachers {
        eventually(&format!("{:?} forgets", cacher.mode), || {
            cacher.listen();
            check(!cacher.knows(&key), ())
        });
    }
    let mut writer = proxy.client();
    writer.patience(std::time::Duration::from_secs(40));
    writer.ok(&cmd!["SET", key, "w"]);
    for cacher in &mut cachers {
        assert_eq!(cacher.read(&key), Value::Bulk(b"w".to_vec()), "{:?}", cacher.mode);
    }
    writer.ok(&cmd!["SET", key, "x"]);
    for cacher in &mut cachers {
        eventually(&format!("{:?} is told by the new primary", cacher.mode), || {
            cacher.listen();
            check(!cacher.knows(&key), ())
        });
    }
}

/// That a key is not there was read at the node its slot leaves; it comes to life at the other, and the first
/// knows nothing of it.
#[test]
fn a_key_that_comes_to_life_on_the_other_side_of_a_move_is_told() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), QUIET);
    let slot = cluster.slot_of(0);
    let key = key_in(slot, PREFIX);
    let mut writer = proxy.client();
    let mut cachers: Vec<Cacher> = MODES.iter().map(|&mode| Cacher::connect(&proxy, mode)).collect();
    let told = |cachers: &mut [Cacher], what: &str| {
        for cacher in cachers {
            eventually(&format!("{:?} is told {what}", cacher.mode), || {
                cacher.listen();
                check(!cacher.knows(&key), ())
            });
        }
    };
    cachers.iter_mut().for_each(|cacher| drop(cacher.read(&key)));
    cluster.open_slot(slot, 0, 1);
    writer.ok(&cmd!["SET", key, "born"]);
    told(&mut cachers, "while it is open");
    for cacher in &mut cachers {
        assert_eq!(cacher.read(&key), Value::Bulk(b"born".to_vec()), "{:?}", cacher.mode);
    }
    // What is read by ASK is kept track of, too, or forgotten at once.
    writer.ok(&cmd!["SET", key, "grown"]);
    told(&mut cachers, "by the other side");
    writer.ok(&cmd!["DEL", key]);
    cachers.iter_mut().for_each(|cacher| drop(cacher.read(&key)));
    cluster.close_slot(slot, 0, 1);
    writer.ok(&cmd!["SET", key, "again"]);
    told(&mut cachers, "when it is done");
}

/// What was pushed by now.
#[track_caller]
fn pushed(client: &mut Client) -> Vec<String> {
    client.send(&words("PING still"));
    let mut all = Vec::new();
    loop {
        match text(&client.reply()) {
            pong if pong == "$5\r\nstill\r\n" => return all,
            push => all.push(push),
        }
    }
}

/// Changes `key` until `client` hears of it.
#[track_caller]
fn is_heard(key: &str, writer: &mut Client, client: &mut Client) {
    eventually(&format!("changes of {key} are heard"), || {
        let reply = writer.call(&cmd!["SET", key, "v"]);
        let heard = pushed(client);
        check(heard.contains(&invalidation(key)), (reply, heard))
    });
}

/// A client that hears of all keys needs a connection to nodes it never asks anything.
#[test]
fn who_hears_of_all_keys_hears_of_those_of_a_new_shard_and_of_one_that_was_away() {
    need_redis!();
    let options = &["--cluster-require-full-coverage", "no"][..];
    let mut cluster = RedisCluster::shaped(&Shape { replicas_per: 0, options, ..Shape::default() });
    let proxy = Proxy::start(&shared::seeds(&cluster), QUIET);
    let (moved, away) = (key_in(cluster.slot_of(0), PREFIX), key_in(cluster.slot_of(1), PREFIX));
    let mut listener = proxy.client_resp3();
    listener.ok(&words(&format!("CLIENT TRACKING ON BCAST PREFIX {PREFIX}")));
    let joined = cluster.join();
    cluster.move_slot_to(cluster.slot_of(0), 0, &joined);
    is_heard(&moved, &mut proxy.client(), &mut listener);
    let addr = cluster.nodes[1].addr();
    cluster.nodes[1].kill();
    eventually("its connection is lost", || check(pushed(&mut listener).contains(&FLUSH.to_owned()), ()));
    proxy.wait_metric("slotway_backend_up", &[&format!("node=\"{addr}\"")], |up| up == 0.0);
    pushed(&mut listener);
    cluster.nodes[1].restart_at(addr);
    assert_eq!(text(&listener.reply()), FLUSH, "what was between nobody knows");
    // Written at the node: the proxy is asked nothing.
    is_heard(&away, &mut cluster.client(1), &mut listener);
}
