//! A shard gets another primary: asked for, or because the old one is gone.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Effect, Roles, Scene};
use crate::support::client::Client;
use crate::support::keys::key_in;
use crate::support::ports::free_node_port;
use crate::support::{check, within};
use crate::torture::bench::Bench;
use crate::torture::check::{Micros, Span};
use crate::torture::site::SETTLE;

/// How often a success is tried for.
const POLL: Duration = Duration::from_millis(10);
/// A try that takes longer is left, and the next begins on a connection of its own: one that waits for a reply of the
/// old primary says nothing about others.
const TRY: Duration = Duration::from_millis(250);
/// Longest wait for a success.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn planned(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let (old, new) = (shard.primary, shard.replicas[0]);
    promote(scene, new);
    let roles = Roles::Instead(old, new);
    Effect { detail: format!("node {new} for {old}"), slots: shard.slots, roles, ..Effect::default() }
}

/// A rolling restart, as operators do it in a pod's `preStop`.
pub fn roll(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let (old, new) = (shard.primary, shard.replicas[0]);
    promote(scene, new);
    scene.site.settle();
    let addr = SocketAddr::new(scene.site.nodes[old].addr().ip(), free_node_port());
    let _ = scene.site.nodes[old].client().try_raw(&cmd!["SHUTDOWN", "NOSAVE"]);
    scene.site.nodes[old].restart_at(addr);
    let roles = Roles::Instead(old, new);
    Effect { detail: format!("node {old}, {new} for it"), slots: shard.slots, roles, ..Effect::default() }
}

/// CLUSTER FAILOVER at a replica, until everyone knows of it.
fn promote(scene: &Scene, replica: usize) {
    // The node gives up after five seconds if the old primary was too busy; then it is asked again.
    let promoted = || scene.site.shards_seen_by(replica).iter().any(|s| s.primary == replica);
    while !promoted() {
        scene.site.nodes[replica].client().ok(&cmd!["CLUSTER", "FAILOVER"]);
        let asked = Instant::now();
        while !promoted() && asked.elapsed() < Duration::from_secs(6) {
            scene.wait(POLL);
        }
    }
    scene.site.wait_promoted(replica, &scene.site.others(&[]));
}

pub fn takeover(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let replica = shard.replicas[0];
    scene.site.nodes[replica].client().ok(&cmd!["CLUSTER", "FAILOVER", "TAKEOVER"]);
    // Both acknowledge writes until the old one has heard of it.
    let lost = demoted(scene, shard.primary);
    let all = scene.site.others(&[]);
    scene.site.wait_promoted(replica, &all);
    let detail = format!("node {replica} for {}", shard.primary);
    let roles = Roles::Instead(shard.primary, replica);
    Effect { detail, slots: shard.slots, lost: Some(lost), roles, ..Effect::default() }
}

/// Waits until a node knows that it is a replica; when that was.
fn demoted(scene: &Scene, node: usize) -> Micros {
    let mut client = scene.site.nodes[node].client();
    within(SETTLE, "the old primary is told", || {
        let role = client.call(&cmd!["ROLE"]);
        check(role.items().first().is_some_and(|word| word.text() == "slave"), role)
    });
    scene.bench.now()
}

pub fn kill(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let (primary, replica) = (shard.primary, shard.replicas[0]);
    let from = scene.bench.now();
    scene.site.nodes[primary].kill();
    let to = scene.bench.now();
    let late = lateness(scene, replica, &shard.slots);
    let others = scene.site.others(&[primary]);
    scene.site.wait_promoted(replica, &others);
    scene.wait(Duration::from_millis(300));
    let addr = scene.site.nodes[primary].addr();
    scene.site.nodes[primary].restart_at(addr);
    Effect {
        detail: format!("node {primary}"),
        slots: shard.slots,
        lost: Some(to),
        broken: Some(Span::new(from, to)),
        late,
        roles: Roles::Instead(primary, replica),
    }
}

pub fn freeze(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let (primary, replica) = (shard.primary, shard.replicas[0]);
    let from = scene.bench.now();
    scene.site.nodes[primary].freeze();
    let stopped = scene.bench.now();
    let late = lateness(scene, replica, &shard.slots);
    let others = scene.site.others(&[primary]);
    scene.site.wait_promoted(replica, &others);
    // Until here requests may have been sent to the frozen node.
    let to = scene.bench.now();
    scene.wait(Duration::from_millis(300));
    scene.site.nodes[primary].thaw();
    Effect {
        detail: format!("node {primary}"),
        slots: shard.slots,
        lost: Some(stopped),
        broken: Some(Span::new(from, to)),
        late,
        roles: Roles::Instead(primary, replica),
    }
}

/// First success of a write through slotway minus first success directly at the new primary, in microseconds; each
/// is tried every 10 ms. `None` when there was none.
fn lateness(scene: &Scene, replica: usize, slots: &[(u16, u16)]) -> Option<i64> {
    let key = key_in(slots.first()?.0, "probe");
    let (direct, through) = (scene.site.nodes[replica].addr(), scene.bench.addr(0));
    let given_up = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let poll = |addr| first_success(scene.bench, addr, &key, &given_up);
        let through = scope.spawn(move || poll(through));
        let direct = poll(direct);
        let through = through.join().ok().flatten();
        Some(through? as i64 - direct? as i64)
    })
}

fn first_success(bench: &Bench, addr: SocketAddr, key: &str, given_up: &AtomicBool) -> Option<Micros> {
    let start = Instant::now();
    let mut client: Option<Client> = None;
    while start.elapsed() < PATIENCE && !given_up.load(Ordering::Relaxed) {
        if client.is_none() {
            client = Client::try_connect(addr).ok();
            client.iter_mut().for_each(|c| c.patience(TRY));
        }
        let reply = client.as_mut().map(|c| c.try_raw(&cmd!["SET", key, "probe"]));
        match reply {
            Some(Ok(reply)) if reply == b"+OK\r\n" => return Some(bench.now()),
            Some(Ok(_)) => {}
            _ => client = None,
        }
        std::thread::sleep(POLL);
    }
    given_up.store(true, Ordering::Relaxed);
    None
}
