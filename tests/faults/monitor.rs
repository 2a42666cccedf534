//! MONITOR while shards come and go: the stream goes on with all of them, shows no command twice, and nothing of
//! what the proxy says to nodes for itself. Who does not read it is closed.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::{check, eventually, heavy, shared};

/// A client in MONITOR, and what it was shown.
struct Watcher {
    client: Client,
    /// How often each `SET` was shown, by its value.
    shown: HashMap<String, usize>,
    /// Whatever else was shown, but for what moving a slot takes.
    others: Vec<String>,
}

impl Watcher {
    #[track_caller]
    fn start(proxy: &Proxy) -> Self {
        let mut client = proxy.client();
        assert_eq!(client.raw(&words("MONITOR")), b"+OK\r\n");
        client.patience(Duration::from_millis(50));
        Self { client, shown: HashMap::new(), others: Vec::new() }
    }

    /// Takes in what comes, until nothing does for a moment.
    fn look(&mut self) {
        while let Ok(line) = self.client.try_reply() {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let (_, said) = line.split_once("] ").expect("a line of MONITOR");
            let said: Vec<&str> = said.trim_matches('"').split("\" \"").collect();
            match said[0] {
                "SET" => *self.shown.entry(said[2].to_owned()).or_default() += 1,
                "MIGRATE" | "RESTORE-ASKING" | "RESTORE" => {}
                "CLUSTER" if said[1] == "GETKEYSINSLOT" => {}
                _ => self.others.push(line),
            }
        }
    }

    /// Writes to `key` until it is shown: its shard is watched.
    #[track_caller]
    fn watches(&mut self, writer: &mut Client, key: &str, count: &mut u64) {
        eventually(&format!("the shard of {key} is watched"), || {
            let mark = set(writer, key, count);
            self.look();
            check(self.shown.contains_key(&mark), self.shown.len())
        });
    }

    /// Everything written now is shown once.
    #[track_caller]
    fn shows_all(&mut self, writer: &mut Client, keys: &[String], count: &mut u64) {
        let marks: Vec<String> = (0..200).map(|n| set(writer, &keys[n % keys.len()], count)).collect();
        eventually("everything is shown", || {
            self.look();
            check(marks.iter().all(|mark| self.shown.contains_key(mark)), ())
        });
        let twice: Vec<_> = self.shown.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        assert!(self.others.is_empty(), "{:?}", self.others);
    }
}

/// Writes a value nobody wrote before.
fn set(writer: &mut Client, key: &str, count: &mut u64) -> String {
    *count += 1;
    let mark = format!("mark-{count}");
    writer.ok(&cmd!["SET", key, mark]);
    mark
}

fn keys(cluster: &RedisCluster) -> Vec<String> {
    (0..3).map(|index| key_in(cluster.slot_of(index), "monitored")).collect()
}

#[test]
fn monitor_goes_on_after_lost_connections_a_failover_and_a_lost_primary() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2"), ("refresh-interval", "200ms")]);
    let keys = keys(&cluster);
    let mut writer = proxy.client();
    writer.patience(Duration::from_secs(40));
    let mut watchers = [Watcher::start(&proxy), Watcher::start(&proxy)];
    let mut count = 0;
    let mut goes_on = |writer: &mut Client| {
        for watcher in &mut watchers {
            keys.iter().for_each(|key| watcher.watches(writer, key, &mut count));
            watcher.shows_all(writer, &keys, &mut count);
        }
    };
    goes_on(&mut writer);
    for node in 0..3 {
        cluster.client(node).call(&words("CLIENT KILL TYPE normal SKIPME yes"));
    }
    goes_on(&mut writer);
    let (replica, mut handed) = (cluster.replica_of(1), 0);
    cluster.client(replica).ok(&words("CLUSTER FAILOVER"));
    eventually("the replica is promoted", || {
        // Without a pause: what both sides execute must not be shown twice.
        handed += 1;
        writer.ok(&cmd!["SET", keys[1], format!("handed-{handed}")]);
        let role = cluster.client(replica).call(&words("ROLE")).items()[0].text();
        check(role == "master", role)
    });
    goes_on(&mut writer);
    cluster.nodes[0].kill();
    goes_on(&mut writer);
}

#[test]
fn monitor_shows_a_new_shard() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "1")]);
    let keys = keys(&cluster);
    let (mut writer, mut watcher, mut count) = (proxy.client(), Watcher::start(&proxy), 0);
    watcher.shows_all(&mut writer, &keys, &mut count);
    let joined = cluster.join();
    cluster.move_slot_to(cluster.slot_of(0), 0, &joined);
    watcher.watches(&mut writer, &keys[0], &mut count);
    watcher.shows_all(&mut writer, &keys, &mut count);
}

/// What lanes, topology, tracking, scripts, subscriptions and waiting commands say beside the clients' commands.
#[test]
fn monitor_shows_what_clients_said_and_nothing_of_our_own() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2"), ("refresh-interval", "100ms")]);
    let keys = keys(&cluster);
    let mut watcher = Watcher::start(&proxy);
    let mut tracker = proxy.client_resp3();
    tracker.ok(&words("CLIENT TRACKING ON OPTIN"));
    let mut client = proxy.client();
    for key in &keys {
        tracker.ok(&words("CLIENT CACHING YES"));
        tracker.ok(&cmd!["GET", key]);
        client.ok(&cmd!["EVAL", "return redis.call('GET',KEYS[1])", "1", key]);
        let sha = client.ok(&cmd!["EVAL", "return redis.sha1hex(ARGV[1])", "0", "return KEYS[1]"]).text();
        client.ok(&cmd!["EVAL", "return KEYS[1]", "1", keys[0]]);
        client.ok(&cmd!["EVALSHA", sha, "1", key]);
        client.ok(&cmd!["BLPOP", format!("list{key}"), "0.01"]);
        client.ok(&cmd!["WATCH", key]);
        client.send(&[words("MULTI"), cmd!["GET", key], words("EXEC")].concat());
        client.values(3);
        client.ok(&words("PING"));
        client.ok(&words("CLUSTER SLOTS"));
        client.ok(&words("WAIT 0 10"));
    }
    proxy.wait_metric("slotway_topology_refreshes_total", &[], |rounds| rounds >= 5.0);
    watcher.look();
    let said =
        |line: &str| line.split_once("] \"").map(|(_, said)| said.split('"').next().unwrap_or("").to_owned());
    let mut names: Vec<String> = watcher.others.iter().filter_map(|line| said(line)).collect();
    names.sort();
    names.dedup();
    assert_eq!(
        names,
        ["BLPOP", "EVAL", "EVALSHA", "EXEC", "GET", "MULTI", "WAIT", "WATCH"],
        "{:?}",
        watcher.others
    );
    let evalshas = watcher.others.iter().filter(|line| line.contains("\"EVALSHA\"")).count();
    assert_eq!(evalshas, 3);
}

#[test]
fn who_does_not_read_what_monitor_shows_is_closed() {
    need_redis!();
    let _one_at_a_time = heavy();
    let keys = [("subscriber-pending-bytes", "4MiB"), ("workers", "1")];
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &keys);
    let (mut slow, mut writer) = (proxy.client(), proxy.client());
    assert_eq!(slow.raw(&words("MONITOR")), b"+OK\r\n");
    let before = proxy.resident_bytes();
    let value = vec![b'x'; 20_000];
    let name = shared::unique("unread");
    for from in 0..40 {
        let request = |n| cmd!["SET", format!("{name}:{}", from * 50 + n), value];
        writer.send(&(0..50).flat_map(request).collect::<Vec<u8>>());
        writer.values(50);
    }
    proxy.wait_metric("slotway_client_closed_total", &["reason=\"subscriber\""], |n| n == 1.0);
    let grown = proxy.resident_bytes().saturating_sub(before) >> 20;
    assert!(grown < 60, "{grown} MiB for one client that does not read");
    assert!(slow.rest().len() < 16 << 20);
    // And its connections to the nodes with it.
    eventually("no node is monitored", || {
        let all: String =
            (0..3).map(|n| shared::cluster().client(n).ok(&words("CLIENT LIST")).text()).collect();
        check(!all.contains(" cmd=monitor"), all)
    });
}
