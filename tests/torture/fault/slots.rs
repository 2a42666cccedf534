//! Slots change their owner while they are in use.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Effect, Scene};
use crate::support::{check, within};
use crate::torture::load::is_used;
use crate::torture::site::Shard;

/// Slots that move one by one.
const MOVED: usize = 12;
/// Slots for `redis-cli`: it takes the lowest, where the keys of the run are.
const MOVED_BY_CLI: u16 = 60;

/// Two different shards.
fn two(scene: &mut Scene) -> (Shard, Shard) {
    scene.random.shuffle(&mut scene.shards);
    (scene.shards[0].clone(), scene.shards[1].clone())
}

/// Moves the shards in which the run has keys to the front: others may have given all those slots away.
fn used_first(scene: &mut Scene) {
    let shards = scene.shards.clone();
    let (mut front, back): (Vec<Shard>, Vec<Shard>) =
        shards.into_iter().partition(|shard| !used(scene, shard).is_empty());
    front.extend(back);
    scene.shards = front;
}

/// Slots of a shard in which the run has keys, in a random order.
fn used(scene: &mut Scene, shard: &Shard) -> Vec<u16> {
    let mut client = scene.site.nodes[shard.primary].client();
    let own = shard.slots.iter().flat_map(|(first, last)| *first..=*last);
    let mut slots: Vec<u16> = own.filter(|slot| is_used(*slot)).collect();
    slots.retain(|slot| client.ok(&cmd!["CLUSTER", "COUNTKEYSINSLOT", slot.to_string()]).int() > 0);
    scene.random.shuffle(&mut slots);
    slots
}

pub fn reshard(scene: &mut Scene) -> Effect {
    scene.random.shuffle(&mut scene.shards);
    used_first(scene);
    let (from, to) = (scene.shards[0].clone(), scene.shards[1].clone());
    let slots: Vec<u16> = used(scene, &from).into_iter().take(MOVED).collect();
    for slot in &slots {
        scene.site.move_slot(*slot, from.primary, to.primary);
        scene.site.wait_agreement();
    }
    let detail = format!("{} slots from node {} to {}", slots.len(), from.primary, to.primary);
    Effect { detail, slots: slots.iter().map(|s| (*s, *s)).collect(), ..Effect::default() }
}

pub fn reshard_cli(scene: &mut Scene) -> Effect {
    let (from, to) = two(scene);
    let site = &scene.site;
    let (from_id, to_id) = (site.id(from.primary), site.id(to.primary));
    let output = Command::new("redis-cli")
        .args(["--cluster", "reshard", &site.nodes[from.primary].addr().to_string()])
        .args(["--cluster-from", &from_id, "--cluster-to", &to_id])
        .args(["--cluster-slots", &MOVED_BY_CLI.to_string(), "--cluster-yes"])
        .stdin(Stdio::null())
        .output()
        .expect("redis-cli");
    let said = String::from_utf8_lossy(&output.stdout);
    let tail = said.len().saturating_sub(2000);
    assert!(output.status.success(), "redis-cli: {}", said.get(tail..).unwrap_or(&said));
    let detail = format!("{MOVED_BY_CLI} slots from node {} to {}", from.primary, to.primary);
    Effect { detail, slots: from.slots, ..Effect::default() }
}

pub fn add_remove(scene: &mut Scene) -> Effect {
    scene.random.shuffle(&mut scene.shards);
    used_first(scene);
    let from = scene.shards[0].clone();
    let slots: Vec<u16> = used(scene, &from).into_iter().take(MOVED / 2).collect();
    let node = scene.site.new_node();
    scene.keep.add(node.folder());
    scene.site.meet(&node);
    let guest = scene.site.nodes.len();
    scene.site.nodes.push(node);
    scene.site.settle();
    for slot in &slots {
        scene.site.move_slot(*slot, from.primary, guest);
        scene.site.wait_agreement();
    }
    scene.wait(Duration::from_millis(500));
    for slot in &slots {
        scene.site.move_slot(*slot, guest, from.primary);
        scene.site.wait_agreement();
    }
    // As one does before one stops a node: what waits there has gone by then.
    scene.wait(Duration::from_secs(1));
    let id = scene.site.id(guest);
    let removed = scene.site.nodes.remove(guest);
    forget(scene, &id);
    drop(removed);
    let detail = format!("{} slots of node {} there and back", slots.len(), from.primary);
    Effect { detail, slots: slots.iter().map(|s| (*s, *s)).collect(), ..Effect::default() }
}

/// CLUSTER FORGET everywhere; gossip can bring a node back until all have forgotten it.
pub fn forget(scene: &Scene, id: &str) {
    within(Duration::from_secs(30), "the node is forgotten", || {
        // Also without an address, as a node that another answers for.
        let rows = |n: usize| scene.site.nodes[n].client().call(&cmd!["CLUSTER", "NODES"]).text();
        let knows = |n: usize| rows(n).lines().any(|row| row.starts_with(id));
        let left: Vec<usize> = scene.site.others(&[]).into_iter().filter(|n| knows(*n)).collect();
        for node in &left {
            scene.site.nodes[*node].client().call(&cmd!["CLUSTER", "FORGET", id]);
        }
        check(left.is_empty(), left)
    });
}
