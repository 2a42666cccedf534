//! Tracking beside the data: an invalidation and the value it is about come over different connections, the client
//! that is to be told leaves, a node lets nobody track.

use super::tracking::{FLUSH, invalidation, text};
use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, show};
use crate::support::{check, eventually, shared};

fn value(value: &str) -> String {
    format!("${}\r\n{value}\r\n", value.len())
}

/// Two nodes that track; the first keeps its replies to GET and to MGET back until their gates open, the second says that the key is
/// invalid right behind its value.
fn two_sides() -> (FakeCluster, [Gate; 2], [String; 2]) {
    let fake = FakeCluster::start(2);
    let keys = [key_in(100, "slow"), key_in(16_000, "quick")];
    let gates = [Gate::default(), Gate::default()];
    let (hold, later, quick) = (gates[0].clone(), gates[1].clone(), keys[1].clone());
    fake.script(move |seen| match (seen.name().as_str(), seen.node) {
        ("GET", 0) => Answer::Hold(hold.clone(), value("slow").into_bytes()),
        ("MGET", 0) => Answer::Hold(later.clone(), format!("*1\r\n{}", value("slow")).into_bytes()),
        ("MGET", _) => {
            Answer::Reply([format!("*1\r\n{}", value("old")), invalidation(&quick)].concat().into_bytes())
        }
        ("GET", _) => Answer::Reply([value("old"), invalidation(&quick)].concat().into_bytes()),
        _ => Answer::Standard,
    });
    (fake, gates, keys)
}

#[test]
fn a_value_that_waits_for_its_turn_is_called_invalid_behind_it() {
    let (fake, [gate, later], keys) = two_sides();
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let mut client = proxy.client_resp3();
    client.ok(&words("CLIENT TRACKING ON"));
    client.send(&[cmd!["GET", keys[0]], cmd!["GET", keys[1]]].concat());
    assert_eq!(text(&client.reply()), invalidation(&keys[1]), "at once");
    gate.open();
    for expected in [value("slow"), value("old"), invalidation(&keys[1])] {
        assert_eq!(text(&client.reply()), expected);
    }
    // As part of one reply, too.
    client.send(&cmd!["MGET", keys[0], keys[1]]);
    assert_eq!(text(&client.reply()), invalidation(&keys[1]), "at once");
    later.open();
    assert_eq!(text(&client.reply()), format!("*2\r\n{}{}", value("slow"), value("old")));
    assert_eq!(text(&client.reply()), invalidation(&keys[1]), "and behind it");
    // Nothing waits any more, nothing is repeated.
    assert_eq!(text(&client.raw(&cmd!["GET", keys[1]])), value("old"));
    assert_eq!(text(&client.reply()), invalidation(&keys[1]));
    assert_eq!(text(&client.raw(&words("PING"))), "+PONG\r\n");
}

#[test]
fn a_value_of_a_lost_connection_that_waits_for_its_turn_is_forgotten_behind_it() {
    let (fake, [gate, _], keys) = two_sides();
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let mut client = proxy.client_resp3();
    client.ok(&words("CLIENT TRACKING ON"));
    client.send(&[cmd!["GET", keys[0]], cmd!["GET", keys[1]]].concat());
    assert_eq!(text(&client.reply()), invalidation(&keys[1]));
    fake.disconnect(1);
    assert_eq!(text(&client.reply()), FLUSH);
    gate.open();
    assert_eq!(text(&client.reply()), value("slow"));
    assert_eq!(text(&client.reply()), value("old"));
    assert_eq!(text(&client.reply()), FLUSH, "that, and what the node had said before");
    assert_eq!(text(&client.raw(&words("PING"))), "+PONG\r\n");
}

#[test]
fn a_value_that_waits_for_its_turn_while_a_slot_gets_another_owner_is_forgotten_behind_it() {
    let fake = FakeCluster::start(2);
    let (keys, gate) = ([key_in(100, "slow"), key_in(16_000, "quick")], Gate::default());
    let hold = gate.clone();
    fake.script(move |seen| match (seen.name().as_str(), seen.node) {
        ("GET", 0) => Answer::Hold(hold.clone(), value("slow").into_bytes()),
        ("GET", _) => Answer::Reply(value("old").into_bytes()),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1"), ("refresh-interval", "100ms")]);
    let mut client = proxy.client_resp3();
    client.ok(&words("CLIENT TRACKING ON"));
    client.send(&[cmd!["GET", keys[0]], cmd!["GET", keys[1]]].concat());
    // Its answer is on its way, or here and kept: either way it was given before.
    eventually("both are asked", || check(fake.seen_named("GET").len() == 2, "not yet"));
    fake.change_map(|map| map.assign(9_000, 0));
    assert_eq!(text(&client.reply()), FLUSH);
    gate.open();
    for expected in [value("slow"), value("old"), FLUSH.to_owned()] {
        assert_eq!(text(&client.reply()), expected);
    }
    assert_eq!(text(&client.raw(&words("PING"))), "+PONG\r\n");
}

#[test]
fn the_redirection_to_a_client_that_left_is_broken_as_with_a_single_redis() {
    need_redis!();
    let cluster = shared::cluster();
    let keys: Vec<String> = (0..3).map(|n| key_in(cluster.slot_of(n), &shared::unique("broken"))).collect();
    for version in ["2", "3"] {
        let play = |addr| {
            let (mut reader, mut writer) = (Client::connect(addr), Client::connect(addr));
            let mut target = Client::connect(addr);
            let id = target.ok(&words("CLIENT ID")).int();
            let masked = |said: String| said.replace(&format!(":{id}\\r"), ":ID\\r");
            reader.ok(&words(&format!("HELLO {version}")));
            let mut said = vec![show(&reader.raw(&words(&format!("CLIENT TRACKING ON REDIRECT {id}"))))];
            keys.iter().for_each(|key| drop(reader.ok(&cmd!["GET", key])));
            drop(target);
            eventually("the target is gone", || {
                let left = writer.ok(&words(&format!("CLIENT LIST ID {id}"))).text();
                check(left.is_empty(), left)
            });
            for key in &keys {
                writer.ok(&cmd!["SET", key, "v"]);
                if version == "3" {
                    said.push(masked(show(&reader.reply())));
                } else {
                    // Nothing is said; that it is noticed shows in the flags.
                    eventually("it is noticed", || {
                        let info = show(&reader.raw(&words("CLIENT TRACKINGINFO")));
                        check(info.contains("broken_redirect"), info)
                    });
                }
            }
            said.push(masked(show(&reader.raw(&words("CLIENT TRACKINGINFO")))));
            said.push(masked(show(&reader.raw(&words("CLIENT GETREDIR")))));
            // A new target mends it.
            said.push(show(&reader.raw(&words("CLIENT TRACKING OFF"))));
            let mut target = Client::connect_resp3(addr);
            let id = target.ok(&words("CLIENT ID")).int();
            reader.ok(&words(&format!("CLIENT TRACKING ON REDIRECT {id}")));
            reader.ok(&cmd!["GET", keys[0]]);
            writer.ok(&cmd!["SET", keys[0], "w"]);
            said.push(show(&target.reply()));
            said
        };
        assert_eq!(play(shared::proxy().addr()), play(shared::standalone().addr()), "HELLO {version}");
    }
}

#[test]
fn nodes_that_let_nobody_track_refuse_it_and_are_no_bad_nodes() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "1"), ("owner-wait", "1s")]);
    let rule = |rule: &str| {
        let request = words(&format!("ACL SETUSER default on nopass ~* &* +@all {rule}client|tracking"));
        (0..3).for_each(|node| drop(cluster.client(node).ok(&request)));
    };
    let (mut tracker, mut other) = (proxy.client_resp3(), proxy.client());
    let key = key_in(cluster.slot_of(0), "k");
    other.ok(&cmd!["SET", key, "v"]);
    rule("-");
    let refused = tracker.call(&words("CLIENT TRACKING ON"));
    assert!(refused.error().starts_with("NOPERM"), "{refused:?}");
    assert_eq!(tracker.call(&cmd!["GET", key]), Value::Bulk(b"v".to_vec()));
    rule("+");
    tracker.ok(&words("CLIENT TRACKING ON"));
    tracker.ok(&cmd!["GET", key]);
    // Taken away later: a connection that cannot track is of no use, but nobody else's.
    rule("-");
    for node in 0..3 {
        cluster.client(node).call(&words("CLIENT KILL TYPE normal SKIPME yes"));
    }
    assert_eq!(text(&tracker.reply()), FLUSH);
    for _ in 0..3 {
        let refused = tracker.call(&cmd!["GET", key]);
        assert!(refused.error().starts_with("CLUSTERDOWN"), "{refused:?}");
        assert_eq!(other.call(&cmd!["GET", key]), Value::Bulk(b"v".to_vec()));
    }
    for node in &cluster.nodes {
        let label = format!("node=\"{}\"", node.addr());
        assert_eq!(proxy.metrics().sum("slotway_backend_up", &[&label]), 1.0);
    }
    tracker.ok(&words("CLIENT TRACKING OFF"));
    assert_eq!(tracker.call(&cmd!["GET", key]), Value::Bulk(b"v".to_vec()));
}

#[test]
fn without_a_connection_to_listen_on_tracking_is_refused() {
    need_redis!();
    let keys = [("workers", "1"), ("dedicated-max-per-node", "1")];
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &keys);
    let mut monitor = proxy.client();
    monitor.ok(&words("MONITOR"));
    let (mut reader, mut target) = (proxy.client(), proxy.client_resp3());
    let id = target.ok(&words("CLIENT ID")).int();
    let refused = reader.call(&words(&format!("CLIENT TRACKING ON REDIRECT {id}")));
    assert!(refused.error().starts_with("ERR slotway: no dedicated connection"), "{refused:?}");
    // In RESP3 the connection itself tells.
    target.ok(&words("CLIENT TRACKING ON"));
}
