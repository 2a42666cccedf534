//! Keyspace events come from all shards, each once, whatever channel or pattern brings them; other messages that
//! match such a pattern come once, too. And nodes that send none are told to.

use crate::path::pubsub::{message, nothing_more, subscribe};
use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::{check, eventually, shared};

/// All events.
const ALL: &[&str] = &["--notify-keyspace-events", "KEA"];

fn cluster(replicas_per: usize, options: &[&str]) -> RedisCluster {
    RedisCluster::shaped(&Shape { replicas_per, options, ..Shape::default() })
}

/// The next `count` messages, in the order of their words.
fn sorted(client: &mut Client, count: usize) -> Vec<Vec<String>> {
    let mut got: Vec<Vec<String>> = client.values(count).iter().map(message).collect();
    got.sort();
    got
}

#[test]
fn events_of_all_shards_and_messages_come_once_each() {
    need_redis!();
    let cluster = cluster(1, ALL);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let keys: Vec<String> = (0..120).map(|n| key_in(n * 136, &format!("k{n}:"))).collect();
    let connect = |command: &str, topic: &str| {
        let mut client = if topic.len().is_multiple_of(2) { proxy.client() } else { proxy.client_resp3() };
        subscribe(&mut client, command, &[topic.to_owned()]);
        client
    };
    let mut by_event = connect("SUBSCRIBE", "__keyevent@0__:set");
    let mut by_key = connect("SUBSCRIBE", &format!("__keyspace@0__:{}", keys[7]));
    let mut by_pattern = connect("PSUBSCRIBE", "__key*__:*");
    let mut all = connect("PSUBSCRIBE", "*");
    let mut other = connect("PSUBSCRIBE", "news.*");
    let mut writer = proxy.client();
    for key in &keys {
        writer.ok(&cmd!["SET", key, "v"]);
        writer.ok(&cmd!["PUBLISH", format!("news.{key}"), "text"]);
    }
    // To a channel of events, by hand: a message like any other.
    writer.ok(&cmd!["PUBLISH", "__keyevent@0__:set", "by hand"]);
    let (space, event) = (|key: &String| format!("__keyspace@0__:{key}"), "__keyevent@0__:set".to_owned());
    let of = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let mut wanted: [Vec<Vec<String>>; 5] = Default::default();
    for key in &keys {
        wanted[0].push(of(&["message", &event, key]));
        for (index, pattern) in [(2, "__key*__:*"), (3, "*")] {
            wanted[index].push(of(&["pmessage", pattern, &event, key]));
            wanted[index].push(of(&["pmessage", pattern, &space(key), "set"]));
        }
        for (index, pattern) in [(3, "*"), (4, "news.*")] {
            wanted[index].push(of(&["pmessage", pattern, &format!("news.{key}"), "text"]));
        }
    }
    wanted[1].push(of(&["message", &space(&keys[7]), "set"]));
    wanted[0].push(of(&["message", &event, "by hand"]));
    wanted[2].push(of(&["pmessage", "__key*__:*", &event, "by hand"]));
    wanted[3].push(of(&["pmessage", "*", &event, "by hand"]));
    let clients = [&mut by_event, &mut by_key, &mut by_pattern, &mut all, &mut other];
    for (client, mut wanted) in clients.into_iter().zip(wanted) {
        wanted.sort();
        assert_eq!(sorted(client, wanted.len()), wanted);
        nothing_more(client);
    }
    // What was subscribed by nobody else is gone from all primaries.
    drop((by_event, by_key, by_pattern, all, other));
    eventually("nothing is left upstream", || {
        let left = |node| cluster.client(node).call(&words("PUBSUB NUMPAT")).int();
        let left: Vec<i64> = (0..3).map(left).collect();
        check(left == [0, 0, 0], left)
    });
}

#[test]
fn events_of_a_moving_slot_come_once_from_whichever_side() {
    need_redis!();
    let cluster = cluster(0, ALL);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("refresh-interval", "1h")]);
    let mut client = proxy.client();
    subscribe(&mut client, "PSUBSCRIBE", &["__keyevent@*:set".to_owned()]);
    let slot = cluster.slot_of(0);
    let mut expected = Vec::new();
    // Written at the nodes, so that nobody tells the proxy that a slot has moved.
    for round in 0..6 {
        let (from, to) = [(0, 1), (1, 2), (2, 0)][round % 3];
        for (node, name) in [(from, "before"), (to, "after")] {
            let key = key_in(slot, &format!("{name}{round}:"));
            if node == to {
                cluster.move_slot(slot, from, to);
            }
            cluster.client(node).ok(&cmd!["SET", key, "v"]);
            expected.push(key);
        }
    }
    let mut got: Vec<String> =
        sorted(&mut client, expected.len()).into_iter().filter_map(|mut words| words.pop()).collect();
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
    // A half-moved slot: both sides tell.
    cluster.open_slot(slot, 0, 1);
    let key = key_in(slot, "half:");
    let mut importing = cluster.client(1);
    importing.ok(&words("ASKING"));
    importing.ok(&cmd!["SET", key, "v"]);
    assert_eq!(message(&client.value())[3], key);
    nothing_more(&mut client);
}

fn setting(cluster: &RedisCluster, node: usize) -> String {
    cluster.client(node).call(&words("CONFIG GET notify-keyspace-events")).items()[1].text()
}

#[test]
fn primaries_that_send_no_events_get_the_setting_of_the_others() {
    need_redis!();
    let _one_at_a_time = crate::support::heavy();
    let mut cluster = cluster(1, &[]);
    for node in [0, 1] {
        cluster.client(node).ok(&words("CONFIG SET notify-keyspace-events KEA"));
    }
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let mut plain = proxy.client();
    subscribe(&mut plain, "SUBSCRIBE", &["news".to_owned()]);
    let mut client = proxy.client();
    assert_eq!(setting(&cluster, 2), "", "nobody wants events");
    subscribe(&mut client, "SUBSCRIBE", &["__keyevent@0__:set".to_owned()]);
    let equal = |cluster: &RedisCluster, node: usize| {
        eventually("it has what the others have", || {
            let now = setting(cluster, node);
            check(now == "AKE", now)
        });
    };
    equal(&cluster, 2);
    // A replica was never told.
    let promoted = cluster.replica_of(0);
    assert_eq!(setting(&cluster, promoted), "");
    cluster.nodes[0].kill();
    equal(&cluster, promoted);
    let key = key_in(cluster.slot_of(0), "k");
    let mut writer = proxy.client();
    eventually("events of the new primary come", || {
        writer.ok(&cmd!["SET", key, "v"]);
        client.patience(std::time::Duration::from_millis(200));
        client.try_reply().map_err(|error| error.to_string())
    });
}

#[test]
fn without_the_right_to_config_events_still_come() {
    need_redis!();
    let cluster = cluster(0, ALL);
    for node in 0..3 {
        let rules = "ACL SETUSER default on nopass ~* &* +@all -config";
        cluster.client(node).ok(&words(rules));
    }
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "1")]);
    let mut client = proxy.client();
    subscribe(&mut client, "SUBSCRIBE", &["__keyevent@0__:set".to_owned()]);
    eventually("the log says so", || {
        let log = proxy.log();
        check(log.contains("nodes refuse CONFIG to us"), log)
    });
    for node in 0..3 {
        let key = key_in(cluster.slot_of(node), "k");
        proxy.client().ok(&cmd!["SET", key, "v"]);
        assert_eq!(message(&client.value())[2], key);
    }
}
