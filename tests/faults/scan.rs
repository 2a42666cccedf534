//! SCAN passes while the cluster changes under them: every key that was there from the first call to the last is
//! returned, through two proxies that take the calls in turn and know nothing of each other.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::{Stop, check, eventually, heavy, shared};

/// Two proxies; one of them asks the cluster only when it must, so that its table is behind.
fn proxies(cluster: &RedisCluster) -> [Proxy; 2] {
    let seeds = shared::seeds(cluster);
    [Proxy::start(&seeds, &[]), Proxy::start(&seeds, &[("refresh-interval", "10m"), ("workers", "1")])]
}

/// A pass, call by call.
struct Pass {
    clients: Vec<Client>,
    options: &'static str,
    cursor: String,
    calls: usize,
    seen: BTreeSet<String>,
}

impl Pass {
    fn begin(proxies: &[Proxy], options: &'static str) -> Self {
        let mut clients: Vec<Client> = proxies.iter().map(Proxy::client).collect();
        clients.iter_mut().for_each(|client| client.patience(Duration::from_secs(40)));
        let mut pass = Self { clients, options, cursor: "0".into(), calls: 0, seen: BTreeSet::new() };
        pass.step();
        pass
    }

    fn is_over(&self) -> bool {
        self.cursor == "0"
    }

    fn step(&mut self) {
        let turn = self.calls % self.clients.len();
        let reply = self.clients[turn].ok(&words(&format!("SCAN {} {}", self.cursor, self.options)));
        self.cursor = reply.items()[0].text();
        self.seen.extend(reply.items()[1].items().iter().map(|key| key.text()));
        self.calls += 1;
        assert!(self.calls < 20_000, "a pass without end");
    }

    /// So many calls, or to the end.
    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            if self.is_over() {
                return;
            }
            self.step();
        }
    }

    fn finish(mut self, expected: &[String]) {
        self.steps(usize::MAX);
        let missed: Vec<&String> = expected.iter().filter(|key| !self.seen.contains(*key)).collect();
        assert!(missed.is_empty(), "{} of {} keys missed: {missed:?}", missed.len(), expected.len());
    }
}

/// Keys of `slots`, `each` of them in every one.
fn fill(client: &mut Client, slots: impl Iterator<Item = u16>, each: usize) -> Vec<String> {
    let keys: Vec<String> =
        slots.flat_map(|slot| (0..each).map(move |n| key_in(slot, &format!("k{n}:")))).collect();
    client.send(&keys.iter().flat_map(|key| cmd!["SET", key, "v"]).collect::<Vec<u8>>());
    assert!(client.values(keys.len()).iter().all(|reply| !reply.is_error()));
    keys
}

fn all_over() -> impl Iterator<Item = u16> {
    (0..300).map(|n| n * 54 + 7)
}

#[test]
fn a_slot_that_moves_in_either_direction_during_a_pass() {
    need_redis!();
    let _one_at_a_time = heavy();
    let cluster = RedisCluster::start(3, 0);
    let proxies = proxies(&cluster);
    let slot = cluster.slot_of(0);
    let mut keys = fill(&mut proxies[0].client(), all_over(), 3);
    let moving = fill(&mut proxies[0].client(), std::iter::once(slot), 60);
    keys.extend_from_slice(&moving);
    let (half, rest) = moving.split_at(30);
    let bytes = |keys: &[String]| keys.iter().map(|key| key.clone().into_bytes()).collect::<Vec<_>>();
    let mut owner = 0;
    // A pass takes some 60 calls: every shard is caught before, in and after its turn.
    for (round, begin) in [0, 5, 9, 14, 18, 23, 27, 32, 36, 41, 45, 50].into_iter().enumerate() {
        let to = (owner + 1 + round % 2) % 3;
        let mut pass = Pass::begin(&proxies, "COUNT 20");
        pass.steps(begin);
        cluster.open_slot(slot, owner, to);
        cluster.move_keys(owner, to, &bytes(half));
        pass.steps(round * 3);
        cluster.move_keys(owner, to, &bytes(rest));
        pass.steps(2);
        cluster.close_slot(slot, owner, to);
        owner = to;
        pass.finish(&keys);
    }
}

#[test]
fn a_slot_that_stays_open_during_the_whole_pass() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxies = proxies(&cluster);
    let all = fill(&mut proxies[0].client(), all_over(), 2);
    for (from, to) in [(0, 1), (1, 0), (2, 0)] {
        let slot = cluster.slot_of(from) + to as u16;
        let moving = fill(&mut proxies[0].client(), std::iter::once(slot), 40);
        let mut client = proxies[0].client();
        let list = key_in(slot, "list");
        client.ok(&cmd!["LPUSH", list, "v"]);
        let expired = key_in(slot, "expired");
        client.ok(&cmd!["SET", expired, "v", "PX", "1"]);
        cluster.open_slot(slot, from, to);
        let half: Vec<Vec<u8>> = moving.iter().take(20).map(|key| key.clone().into_bytes()).collect();
        cluster.move_keys(from, to, &half);
        cluster.move_keys(from, to, &[list.clone().into_bytes()]);
        let everything: Vec<String> = [&all[..], &moving, std::slice::from_ref(&list)].concat();
        Pass::begin(&proxies, "COUNT 50").finish(&everything);
        Pass::begin(&proxies, "COUNT 1000000").finish(&everything);
        Pass::begin(&proxies, "COUNT 50 TYPE list").finish(std::slice::from_ref(&list));
        let mut pass = Pass::begin(&proxies, "COUNT 50 MATCH li* TYPE list");
        pass.steps(usize::MAX);
        assert_eq!(pass.seen.iter().filter(|key| **key == list).count(), 1);
        assert!(pass.seen.iter().all(|key| key.starts_with("list")), "{:?}", pass.seen);
        // The slot is left open: the pass must not wait for it.
    }
}

#[test]
fn a_key_that_moves_while_its_slot_is_open_to_a_shard_already_done() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxies = proxies(&cluster);
    let slot = cluster.slot_of(2);
    let keys = fill(&mut proxies[0].client(), all_over(), 3);
    let moving = fill(&mut proxies[0].client(), std::iter::once(slot), 50);
    let mut pass = Pass::begin(&proxies, "COUNT 20");
    // Node 0 has the lowest config epoch: it is done when the first key of node 1 comes.
    let of_one = |pass: &Pass| pass.seen.iter().any(|key| keys[300..600].contains(key));
    while !of_one(&pass) {
        pass.step();
    }
    cluster.open_slot(slot, 2, 0);
    let all: Vec<Vec<u8>> = moving.iter().map(|key| key.clone().into_bytes()).collect();
    cluster.move_keys(2, 0, &all);
    pass.finish(&[keys, moving].concat());
}

#[test]
fn keys_that_are_added_and_deleted_during_a_pass_hide_no_other() {
    need_redis!();
    let _one_at_a_time = heavy();
    let cluster = RedisCluster::start(3, 0);
    let proxies = proxies(&cluster);
    let keys = fill(&mut proxies[0].client(), all_over(), 5);
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        for (writer, proxy) in proxies.iter().enumerate() {
            let stop = &stop;
            scope.spawn(move || {
                let (mut client, mut round) = (proxy.client(), 0u64);
                while !stop.is_set() {
                    // The same names again and again: the keyspace must not grow faster than a pass goes.
                    let name = |n: u64| format!("new:{writer}:{}:{n}", round % 10);
                    let names: Vec<String> = (0..200).map(name).collect();
                    let sets = names.iter().flat_map(|key| cmd!["SET", key, "v"]);
                    let gone = names.iter().skip(50).flat_map(|key| cmd!["DEL", key]);
                    client.send(&sets.chain(gone).collect::<Vec<u8>>());
                    drop(client.values(350));
                    round += 1;
                }
            });
        }
        for _ in 0..5 {
            Pass::begin(&proxies, "COUNT 30").finish(&keys);
        }
    });
}

/// Kills the primary that has `slot`; what it had is at its replica.
fn fail_over(cluster: &mut RedisCluster, index: usize) {
    let mut client = cluster.client(index);
    assert_eq!(client.call(&words("WAIT 1 10000")).int(), 1);
    cluster.nodes[index].kill();
}

#[test]
fn a_failover_during_a_pass_in_every_place_of_it() {
    need_redis!();
    let _one_at_a_time = heavy();
    for victim in 0..3 {
        let mut cluster = RedisCluster::start(3, 1);
        let proxies = proxies(&cluster);
        let keys = fill(&mut proxies[0].client(), all_over(), 3);
        for index in 0..3 {
            assert_eq!(cluster.client(index).call(&words("WAIT 1 10000")).int(), 1);
        }
        let mut pass = Pass::begin(&proxies, "COUNT 20");
        // In the middle of the second shard: the first is done, the third has not begun.
        let second = |pass: &Pass| pass.seen.iter().filter(|key| keys[300..600].contains(key)).count();
        while second(&pass) < 100 {
            pass.step();
        }
        fail_over(&mut cluster, victim);
        pass.finish(&keys);
    }
}

#[test]
fn a_planned_failover_during_a_pass_shows_no_error_and_misses_nothing() {
    need_redis!();
    let cluster = RedisCluster::start(3, 1);
    let proxies = proxies(&cluster);
    let keys = fill(&mut proxies[0].client(), all_over(), 3);
    let mut pass = Pass::begin(&proxies, "COUNT 20");
    pass.steps(20);
    for index in 0..3 {
        let replica = cluster.replica_of(index);
        cluster.client(replica).ok(&words("CLUSTER FAILOVER"));
        let promoted = cluster.nodes[replica].addr();
        eventually("promoted", || {
            let owner = cluster.owner_seen_by(replica, cluster.slot_of(index));
            check(owner == Some(promoted), owner)
        });
        pass.steps(4);
    }
    pass.finish(&keys);
}

/// The same node, id and epoch, but another process: its old cursor means nothing to it.
#[test]
fn a_node_that_restarts_with_its_data_is_scanned_again() {
    need_redis!();
    let options = &["--appendonly", "yes", "--appendfsync", "always"][..];
    let node_timeout = Duration::from_secs(30);
    let mut cluster =
        RedisCluster::shaped(&Shape { replicas_per: 0, options, node_timeout, ..Shape::default() });
    let proxies = proxies(&cluster);
    let keys = fill(&mut proxies[0].client(), all_over(), 4);
    for index in 0..3 {
        let mut pass = Pass::begin(&proxies, "COUNT 20");
        pass.steps(12 + 15 * index);
        let addr = cluster.nodes[index].addr();
        cluster.nodes[index].restart_at(addr);
        cluster.wait_healthy();
        pass.finish(&keys);
    }
}

#[test]
fn a_new_primary_that_a_proxy_does_not_know_is_scanned_too() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxies = proxies(&cluster);
    let keys = fill(&mut proxies[0].client(), all_over(), 3);
    let slots = [cluster.slot_of(2), cluster.slot_of(2) + 1];
    let moving = fill(&mut proxies[0].client(), slots.into_iter(), 40);
    let mut late = Pass::begin(&proxies[1..], "COUNT 20");
    late.steps(3);
    let newcomer = cluster.join();
    cluster.move_slot_to(slots[0], 2, &newcomer);
    late.steps(3);
    cluster.move_slot_to(slots[1], 2, &newcomer);
    late.finish(&[&keys[..], &moving].concat());
    Pass::begin(&proxies, "COUNT 100").finish(&[keys, moving].concat());
}

#[test]
fn a_dead_shard_makes_a_pass_an_error_never_an_end() {
    need_redis!();
    let options = &["--cluster-require-full-coverage", "no"][..];
    let mut cluster = RedisCluster::shaped(&Shape { replicas_per: 0, options, ..Shape::default() });
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("owner-wait", "1s"), ("request-deadline", "5s")]);
    let keys = fill(&mut proxy.client(), all_over(), 2);
    for dead in [1, 2] {
        let addr = cluster.nodes[dead].addr();
        let mut client = proxy.client();
        let mut cursor = "0".to_owned();
        cluster.nodes[dead].kill();
        let refused = loop {
            let reply = client.call(&words(&format!("SCAN {cursor} COUNT 10")));
            if reply.is_error() {
                break reply.error().to_owned();
            }
            cursor = reply.items()[0].text();
            assert_ne!(cursor, "0", "node {dead} was left out");
        };
        assert!(refused.contains("slotway"), "{refused}");
        cluster.nodes[dead].restart_at(addr);
        cluster.wait_healthy();
        eventually("the pass can be finished", || {
            let reply = client.call(&words(&format!("SCAN {cursor} COUNT 10")));
            check(!reply.is_error(), reply)
        });
    }
    assert!(!keys.is_empty());
}
