//! Reads from the replicas of real clusters: where they arrive, and that nothing is lost or older than it may
//! be while replicas and primaries come and go.

use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::sentinel::Watched;
use crate::support::{Stop, check, eventually, heavy, shared};

use super::{proxy, wait_fit};

/// How often a node executed a command since its statistics were set back.
fn calls(cluster: &RedisCluster, node: usize, command: &str) -> u64 {
    calls_by(&mut cluster.client(node), command)
}

fn calls_by(node: &mut Client, command: &str) -> u64 {
    let stats = node.call(&cmd!["INFO", "commandstats"]).text();
    let prefix = format!("cmdstat_{command}:calls=");
    let count = stats.lines().find_map(|line| line.strip_prefix(&prefix)?.split(',').next()?.parse().ok());
    count.unwrap_or(0)
}

fn sum(cluster: &RedisCluster, nodes: std::ops::Range<usize>, command: &str) -> u64 {
    nodes.map(|node| calls(cluster, node, command)).sum()
}

/// Keys of every shard, on primaries and replicas.
fn fill(cluster: &RedisCluster) -> Vec<String> {
    let keys: Vec<String> = (0..cluster.primaries())
        .flat_map(|shard| (0..10).map(move |n| (shard, n)))
        .map(|(shard, n)| key_in(cluster.slot_of(shard) + n, &format!("read:{n}:")))
        .collect();
    for key in &keys {
        let owner = cluster.initial_owner(crate::support::keys::slot(key.as_bytes()));
        cluster.client(owner).ok(&cmd!["SET", key, key]);
        let mut replica = cluster.client(cluster.replica_of(owner));
        replica.ok(&cmd!["READONLY"]);
        eventually("the replica has it", || {
            let value = replica.call(&cmd!["GET", key]);
            check(value == Value::Bulk(key.clone().into_bytes()), value)
        });
    }
    keys
}

/// Reads every key until nothing goes to the primary for want of a connection.
#[track_caller]
fn warm(proxy: &Proxy, client: &mut Client, keys: &[String]) {
    wait_fit(proxy, 3);
    for key in keys {
        client.ok(&cmd!["GET", key]);
    }
    // A lane is made at the first read that wants it.
    let connecting = || proxy.metrics().sum("slotway_backend_connections", &[]);
    eventually("all lanes stand", || {
        keys.iter().for_each(|key| drop(client.ok(&cmd!["GET", key])));
        check(connecting() >= 3.0, ())
    });
}

#[test]
fn each_mode_reads_where_it_says() {
    need_redis!();
    let cluster = RedisCluster::start(3, 1);
    let keys = fill(&cluster);
    let addrs = shared::seeds(&cluster);
    let cases = [
        ("primary", true, false),
        ("prefer-primary", true, false),
        ("prefer-replica", false, true),
        ("replica-only", false, true),
        ("nearest", true, true),
    ];
    for (mode, primaries, replicas) in cases {
        let proxy = proxy(&addrs, &[("read-from", mode)]);
        let mut client = proxy.client();
        if mode == "primary" {
            client.ok(&cmd!["GET", keys[0]]);
        } else {
            warm(&proxy, &mut client, &keys);
        }
        // A read of each shard that went to the replica alone shows that its lane is there.
        if mode == "prefer-replica" {
            for shard in 0..3 {
                let key = &keys[shard * 10];
                eventually("the replica is read", || {
                    let before = calls(&cluster, 3 + shard, "get");
                    client.ok(&cmd!["GET", key]);
                    check(calls(&cluster, 3 + shard, "get") > before, ())
                });
            }
        }
        (0..6).for_each(|node| drop(cluster.client(node).ok(&cmd!["CONFIG", "RESETSTAT"])));
        for key in &keys {
            assert_eq!(client.call(&cmd!["GET", key]).text(), *key);
            assert_eq!(
                client.call(&cmd!["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", key]).text(),
                *key
            );
        }
        let mget: Vec<&[u8]> = [&b"MGET"[..]].into_iter().chain(keys.iter().map(String::as_bytes)).collect();
        let values = client.call(&crate::support::resp::frame(&mget));
        assert_eq!(values.items().iter().map(Value::text).collect::<Vec<_>>(), keys, "{mode}");
        let seen = ["get", "eval_ro", "mget"]
            .map(|command| (sum(&cluster, 0..3, command), sum(&cluster, 3..6, command)));
        for (at_primaries, at_replicas) in seen {
            assert!(at_primaries + at_replicas >= 30, "{mode}: {seen:?}");
            assert!(primaries || at_primaries == 0, "{mode}: {seen:?}");
            assert!(replicas || at_replicas == 0, "{mode}: {seen:?}");
        }
        // What is no read goes to the primary in every mode.
        client.ok(&cmd!["SET", keys[0], keys[0]]);
        assert_eq!((sum(&cluster, 0..3, "set"), cluster.errors_sent("MOVED")), (1, 0));
    }
}

/// Writes numbers that only grow, and a connection that reads what it wrote: never an error, never a number that
/// is older than what this connection was told. Other readers never see an error.
fn write_and_read(proxy: &Proxy, keys: &[String], stop: &Stop) -> u64 {
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = proxy.client();
                    let mut reads = 0;
                    while !stop.is_set() {
                        for key in keys {
                            let value = client.call(&cmd!["GET", key]);
                            assert!(!value.is_error(), "GET {key}: {value:?}");
                            reads += 1;
                        }
                    }
                    reads
                })
            })
            .collect();
        let mut client = proxy.client();
        let mut count = 0;
        while !stop.is_set() {
            count += 1;
            for key in keys {
                let replies = {
                    client.send(&[cmd!["SET", key, count.to_string()], cmd!["GET", key]].concat());
                    client.values(2)
                };
                assert_eq!(replies[0], Value::Simple("OK".to_owned()), "SET {key}");
                assert_eq!(replies[1].text(), count.to_string(), "GET {key} in one pipeline");
                assert_eq!(client.call(&cmd!["GET", key]).text(), count.to_string(), "GET {key}");
            }
        }
        readers.into_iter().map(|reader| reader.join().expect("a reader")).sum()
    })
}

/// Runs `faults` while clients write and read; how many reads there were.
fn under_load(proxy: &Proxy, keys: &[String], faults: impl FnOnce()) -> u64 {
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let _end = stop.at_end();
            write_and_read(proxy, keys, &stop)
        });
        {
            let _end = stop.at_end();
            faults();
        }
        load.join().expect("no client saw anything wrong")
    })
}

fn one_key_each(cluster: &RedisCluster) -> Vec<String> {
    (0..cluster.primaries()).map(|shard| key_in(cluster.slot_of(shard), "grows")).collect()
}

/// Waits until so many more reads were sent to replicas.
#[track_caller]
fn wait_reads(proxy: &Proxy, more: f64) {
    let before = proxy.metrics().sum("slotway_reads_total", &["replica"]);
    proxy.wait_metric("slotway_reads_total", &["replica"], |now| now >= before + more);
}

#[test]
fn replicas_that_die_freeze_and_come_back_cost_no_read() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    let keys = one_key_each(&cluster);
    let proxy = proxy(&shared::seeds(&cluster), &[("read-from", "prefer-replica")]);
    wait_fit(&proxy, 3);
    let reads = under_load(&proxy, &keys, || {
        wait_reads(&proxy, 100.0);
        cluster.nodes[3].kill();
        proxy.wait_metric("slotway_replica_fit", &[], |fit| fit <= 2.0);
        wait_reads(&proxy, 100.0);
        cluster.nodes[4].freeze();
        proxy.wait_metric("slotway_replica_fit", &[], |fit| fit <= 1.0);
        wait_reads(&proxy, 100.0);
        cluster.nodes[4].thaw();
        let addr = cluster.nodes[3].addr();
        cluster.nodes[3].restart_at(addr);
        wait_fit(&proxy, 3);
        wait_reads(&proxy, 100.0);
    });
    assert!(reads > 300, "{reads}");
}

#[test]
fn a_replica_is_promoted_while_it_is_read_from() {
    need_redis!();
    let cluster = RedisCluster::shaped(&Shape { replicas_per: 2, ..Shape::default() });
    let keys = one_key_each(&cluster);
    let proxy = proxy(&shared::seeds(&cluster), &[("read-from", "prefer-replica")]);
    wait_fit(&proxy, 6);
    under_load(&proxy, &keys, || {
        for _ in 0..2 {
            wait_reads(&proxy, 100.0);
            // Whoever is the replica now takes over, there and back.
            let replica = [0, 3]
                .into_iter()
                .find(|node| cluster.client(*node).call(&cmd!["ROLE"]).items()[0].text() == "slave");
            let replica = replica.expect("one of them is");
            cluster.client(replica).ok(&cmd!["CLUSTER", "FAILOVER"]);
            eventually("it has taken over", || {
                let role = cluster.client(replica).call(&cmd!["ROLE"]).items()[0].text();
                check(role == "master", role)
            });
            cluster.wait_healthy();
            wait_fit(&proxy, 6);
        }
        wait_reads(&proxy, 100.0);
    });
}

#[test]
fn keys_of_a_slot_that_moves_are_never_missing() {
    need_redis!();
    let cluster = RedisCluster::start(3, 1);
    let slot = cluster.slot_of(0);
    let keys: Vec<String> = (0..40).map(|n| key_in(slot, &format!("moves:{n}:"))).collect();
    let proxy = proxy(&shared::seeds(&cluster), &[("read-from", "prefer-replica")]);
    wait_fit(&proxy, 3);
    let mut client = proxy.client();
    for key in &keys {
        client.ok(&cmd!["SET", key, "v"]);
    }
    let mut reader = proxy.client();
    let mut read_all = |what: &str| {
        for key in &keys {
            assert_eq!(reader.call(&cmd!["GET", key]), Value::Bulk(b"v".to_vec()), "{what}: {key}");
        }
    };
    eventually("the replica has all", || {
        let count = cluster.client(3).call(&cmd!["DBSIZE"]).int();
        check(count == 40, count)
    });
    read_all("before");
    cluster.open_slot(slot, 0, 1);
    wait_fit(&proxy, 2);
    for half in keys.chunks(20) {
        let half: Vec<Vec<u8>> = half.iter().map(|key| key.clone().into_bytes()).collect();
        cluster.move_keys(0, 1, &half);
        read_all("on the way");
    }
    cluster.close_slot(slot, 0, 1);
    read_all("arrived");
    wait_fit(&proxy, 3);
    read_all("afterwards");
}

#[test]
fn a_lost_primary_does_not_end_reads_at_its_replica() {
    need_redis!();
    // Nobody is promoted within this test.
    let node_timeout = Duration::from_secs(60);
    let options = &["--cluster-require-full-coverage", "no"][..];
    let mut cluster = RedisCluster::shaped(&Shape { node_timeout, options, ..Shape::default() });
    let keys = fill(&cluster);
    let reads = [("read-from", "prefer-primary"), ("replica-max-lag", "60s")];
    let proxy = proxy(&shared::seeds(&cluster), &reads);
    wait_fit(&proxy, 3);
    let mut client = proxy.client();
    assert_eq!(client.call(&cmd!["GET", keys[0]]).text(), keys[0]);
    cluster.nodes[0].kill();
    let began = Instant::now();
    eventually("it is read at the replica", || {
        let mut client = proxy.client();
        client.patience(Duration::from_millis(500));
        let reply = client.try_raw(&cmd!["GET", keys[0]]).map_err(|error| error.to_string());
        check(reply.as_ref().is_ok_and(|reply| reply.starts_with(b"$")), (began.elapsed(), reply))
    });
    let mut client = proxy.client();
    for key in &keys {
        assert_eq!(client.call(&cmd!["GET", key]).text(), *key);
    }
}

#[test]
fn replicas_behind_sentinels_are_read_from_too() {
    need_redis!();
    let _one_at_a_time = heavy();
    let watched = Watched::start();
    let keys = [("upstream", "sentinel"), ("read-from", "prefer-replica")];
    let proxy = proxy(&watched.seeds(), &keys);
    let (mut writer, mut reader) = (proxy.client(), proxy.client());
    let at = |server: usize| calls_by(&mut watched.servers[server].client(), "get");
    for round in ["1", "2"] {
        wait_fit(&proxy, 2);
        let primary = watched.primary();
        writer.ok(&cmd!["SET", "k", round]);
        assert_eq!(writer.call(&cmd!["GET", "k"]).text(), round, "its own write");
        let replicas: Vec<usize> = (0..3).filter(|server| *server != primary).collect();
        let before: u64 = replicas.iter().map(|server| at(*server)).sum();
        eventually("a replica is read, and has it", || {
            let value = reader.call(&cmd!["GET", "k"]).text();
            let now: u64 = replicas.iter().map(|server| at(*server)).sum();
            check(value == round && now > before, (value, before, now))
        });
        let at_primary = at(primary);
        (0..20).for_each(|_| assert_eq!(reader.call(&cmd!["GET", "k"]).text(), round));
        assert_eq!(at(primary), at_primary);
        if round == "1" {
            watched.fail_over();
            watched.wait_promoted(primary);
            watched.wait_replica(primary);
        }
    }
}

#[test]
fn the_command_line_shows_replicas() {
    need_redis!();
    let cluster = shared::cluster();
    let seed = cluster.nodes[0].addr().to_string();
    let shown = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_slotway"));
        command.args(["topology", "--seed", &seed, "--set", "node-zones=127.0.0.0/8=here"]).args(more);
        let output = command.output().expect("slotway topology");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let json: serde_json::Value = serde_json::from_str(&shown(&["--json"])).expect("JSON");
    for shard in json["shards"].as_array().expect("shards") {
        assert_eq!((&shard["primary"]["zone"], &shard["primary"]["reads"]), (&"here".into(), &().into()));
        let replica = &shard["replicas"][0];
        assert_eq!((&replica["zone"], &replica["reads"]), (&"here".into(), &"yes".into()), "{replica}");
        assert!(replica["lag_bytes"].is_number(), "{replica}");
    }
    let text = shown(&[]);
    let head = text.lines().find(|line| line.contains("shard  slots")).expect("a head");
    assert!(head.contains("zone") && head.contains("reads") && head.contains("lag"), "{text}");
}
