//! Nodes that die and come back, stand still, are busy, or drop their connections.

use std::net::SocketAddr;
use std::time::Duration;

use super::slots::forget;
use super::{Effect, Roles, Scene};
use crate::support::ports::free_node_port;
use crate::support::{check, within};
use crate::torture::check::Span;
use crate::torture::site::SETTLE;

/// How long a replica stays away.
const AWAY: Duration = Duration::from_secs(3);
const ALL: (u16, u16) = (0, 16383);

pub fn kill_replica(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let replica = shard.replicas[0];
    scene.site.nodes[replica].kill();
    scene.wait(AWAY);
    let addr = scene.site.nodes[replica].addr();
    scene.site.nodes[replica].restart_at(addr);
    Effect { detail: format!("node {replica}"), slots: shard.slots, ..Effect::default() }
}

pub fn pause(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    scene.site.nodes[shard.primary].freeze();
    scene.wait(scene.site.timeout() / 2);
    scene.site.nodes[shard.primary].thaw();
    Effect { detail: format!("node {}", shard.primary), slots: shard.slots, ..Effect::default() }
}

pub fn script(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let micros = (scene.site.timeout() / 2).as_micros();
    let body = format!(
        "local t=redis.call('time') local e=t[1]*1000000+t[2]+{micros} \
         repeat t=redis.call('time') until t[1]*1000000+t[2]>e return 'done'"
    );
    scene.site.nodes[shard.primary].client().ok(&cmd!["EVAL", body, "0"]);
    Effect { detail: format!("node {}", shard.primary), slots: shard.slots, ..Effect::default() }
}

pub fn cut(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let mut client = scene.site.nodes[shard.primary].client();
    let from = scene.bench.now();
    for _ in 0..3 {
        for kind in ["pubsub", "normal"] {
            client.ok(&cmd!["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
        }
        scene.wait(Duration::from_millis(150));
    }
    let to = scene.bench.now();
    let detail = format!("node {}, three times", shard.primary);
    Effect { detail, slots: shard.slots, broken: Some(Span::new(from, to)), ..Effect::default() }
}

/// The append-only file brings everything back; if that takes longer than the node timeout the replica takes over.
pub fn restart(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let from = scene.bench.now();
    let addr = scene.site.nodes[shard.primary].addr();
    scene.site.nodes[shard.primary].kill();
    let killed = scene.bench.now();
    scene.site.nodes[shard.primary].restart_at(addr);
    let broken = Some(Span::new(from, scene.bench.now()));
    let lost = Some(scene.overruled(shard.primary).unwrap_or(killed));
    let roles = Roles::Either(shard.primary, shard.replicas[0]);
    let detail = format!("node {}", shard.primary);
    Effect { detail, slots: shard.slots, lost, broken, late: None, roles }
}

pub fn new_address(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let node = if scene.random.bool() { shard.primary } else { shard.replicas[0] };
    let from = scene.bench.now();
    let addr = SocketAddr::new(scene.site.nodes[node].addr().ip(), free_node_port());
    scene.site.nodes[node].kill();
    let killed = scene.bench.now();
    scene.site.nodes[node].restart_at(addr);
    let primary = node == shard.primary;
    let broken = primary.then(|| Span::new(from, scene.bench.now()));
    let lost = primary.then(|| scene.overruled(node).unwrap_or(killed));
    let detail = format!("node {node}, a {}", if primary { "primary" } else { "replica" });
    let roles = Roles::Either(shard.primary, shard.replicas[0]);
    Effect { detail, slots: shard.slots, lost, broken, late: None, roles }
}

/// As a pod whose volume is gone.
pub fn new_id(scene: &mut Scene) -> Effect {
    let shard = scene.pick();
    let replica = shard.replicas[0];
    let (old, primary) = (scene.site.id(replica), scene.site.id(shard.primary));
    scene.site.nodes[replica].kill();
    scene.site.nodes[replica].restart_empty();
    forget(scene, &old);
    let node = &scene.site.nodes[replica];
    scene.keep.add(node.folder());
    scene.site.meet(node);
    within(SETTLE, "the node copies its primary", || {
        let reply = node.client().call(&cmd!["CLUSTER", "REPLICATE", primary]);
        check(!reply.is_error(), reply)
    });
    Effect { detail: format!("node {replica}"), slots: shard.slots, ..Effect::default() }
}

pub fn restart_all(scene: &mut Scene) -> Effect {
    let from = scene.bench.now();
    scene.site.nodes.iter_mut().for_each(|node| node.kill());
    let killed = scene.bench.now();
    for node in &mut scene.site.nodes {
        let addr = node.addr();
        node.restart_at(addr);
    }
    let broken = Some(Span::new(from, scene.bench.now()));
    let overruled = scene.shards.iter().filter_map(|shard| scene.overruled(shard.primary)).max();
    Effect {
        detail: "all nodes".into(),
        slots: vec![ALL],
        lost: Some(overruled.unwrap_or(killed)),
        broken,
        late: None,
        roles: Roles::Any,
    }
}
