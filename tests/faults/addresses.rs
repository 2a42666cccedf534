//! Every node gets a new address at once: only the seeds' names lead back. The name is steered by a
//! hosts file of our own, mounted over the real one in a private mount namespace.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::client::words;
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::process::scratch_dir;
use crate::support::proxy::{Proxy, Setup};
use crate::support::resp::Value;
use crate::support::{check, leave_out, shared, within};

const NAME: &str = "redis.slotway.test";

/// Its content may change at any time; every look-up reads it anew.
struct Hosts(PathBuf);

impl Hosts {
    fn new() -> Self {
        let hosts = Self(scratch_dir("hosts").join("hosts"));
        hosts.point_to("127.0.0.1");
        hosts
    }

    /// Written in place: a mount holds the file, not its name.
    fn point_to(&self, addr: &str) {
        std::fs::write(&self.0, format!("127.0.0.1 localhost\n{addr} {NAME}\n")).expect("hosts file");
    }

    /// A command line that runs what follows with this hosts file: as root, or as root of a user
    /// namespace where the kernel lets anyone make one.
    fn wrapper(&self) -> Option<Vec<String>> {
        let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", quoted(&self.0));
        for flags in [&["-m"][..], &["-r", "-m"]] {
            let mut line = vec!["unshare".to_owned()];
            line.extend(flags.iter().map(ToString::to_string));
            line.extend(["sh", "-c", &script, "sh"].map(str::to_owned));
            let mut probe = Command::new(&line[0]);
            probe.args(&line[1..]).args(["getent", "hosts", NAME]);
            if probe_works(&mut probe) {
                return Some(line);
            }
        }
        None
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

fn probe_works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

#[test]
fn all_nodes_move_to_new_addresses_at_once_behind_one_name() {
    need_redis!();
    let hosts = Hosts::new();
    let Some(wrapper) = hosts.wrapper() else {
        leave_out("no private mount namespace to steer a DNS name in (needs root or user namespaces)");
        return;
    };
    let mut cluster = RedisCluster::start(3, 1);
    let seeds = vec![format!("{NAME}:{}", cluster.nodes[0].addr().port())];
    let proxy = Proxy::launch(&Setup { seeds, keys: Vec::new(), wrapper });
    proxy.wait_ready();
    let keys: Vec<String> = (0..3).map(|n| key_in(cluster.slot_of(n), "k")).collect();
    let mut client = proxy.client();
    for (round, last) in [5, 6].into_iter().enumerate() {
        for key in &keys {
            client.ok(&cmd!["SET", key, round.to_string()]);
        }
        cluster.move_all_to(last);
        hosts.point_to(&format!("127.0.0.{last}"));
        within(Duration::from_secs(25), "slotway finds the cluster again", || {
            let replies: Vec<Value> = keys.iter().map(|k| client.call(&cmd!["SET", k, "after"])).collect();
            check(replies.iter().all(|r| !r.is_error()), replies)
        });
        let topology = proxy.admin("/topology").1;
        for node in &cluster.nodes[..3] {
            assert!(topology.contains(&node.addr().to_string()), "{topology}");
        }
    }
}

#[test]
fn nodes_that_move_one_by_one_are_followed_without_the_seed() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&cluster.addrs()[..1], &[]);
    let keys: Vec<String> = (0..3).map(|n| key_in(cluster.slot_of(n), "k")).collect();
    let mut client = proxy.client();
    for index in 0..3 {
        let port = cluster.nodes[index].addr().port();
        cluster.nodes[index].restart_at(std::net::SocketAddr::from(([127, 0, 0, 9], port)));
        cluster.meet_all();
        cluster.wait_healthy();
        within(Duration::from_secs(25), "slotway follows", || {
            let replies: Vec<Value> = keys.iter().map(|k| client.call(&cmd!["SET", k, "v"])).collect();
            check(replies.iter().all(|r| !r.is_error()), replies)
        });
    }
}

#[test]
fn a_seed_by_name_that_is_another_address_of_the_same_host_is_no_other_node() {
    need_redis!();
    // `localhost` may resolve to ::1 first, where nobody listens; no privilege is needed for this one.
    let cluster = RedisCluster::start(3, 0);
    let seeds = vec![format!("localhost:{}", cluster.nodes[0].addr().port())];
    let proxy = Proxy::launch(&Setup { seeds, ..Setup::default() });
    proxy.wait_ready();
    let mut client = proxy.client();
    for index in 0..3 {
        client.ok(&cmd!["SET", key_in(cluster.slot_of(index), "k"), "v"]);
    }
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
    assert_eq!(shared::seeds(&cluster).len(), 2);
}

#[test]
fn any_one_reachable_seed_is_enough() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let live = cluster.nodes[1].addr().to_string();
    let dead = "127.0.0.1:1".to_owned();
    let seeds = vec![dead.clone(), "nosuch.invalid:6379".into(), live, dead];
    let proxy = Proxy::launch(&Setup { seeds, ..Setup::default() });
    proxy.wait_ready();
    for index in 0..3 {
        proxy.client().ok(&cmd!["SET", key_in(cluster.slot_of(index), "k"), "v"]);
    }
}
