//! The rule that README asks for is enough: everything slotway does by itself works under it, and no node denied
//! it anything.

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, frame};
use crate::support::{check, eventually};

/// The rule as README has it, without the name of the user.
fn rule() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let start = readme.find("ACL SETUSER slotway").expect("the rule");
    let rule: String = readme[start..].chars().take_while(|c| *c != '`').collect();
    rule.split_whitespace().map(str::to_owned).collect()
}

fn guarded() -> (RedisCluster, Proxy) {
    let cluster = RedisCluster::start(3, 1);
    let rule = rule();
    let rule: Vec<&[u8]> = rule.iter().map(String::as_bytes).collect();
    for node in &cluster.nodes {
        node.client().ok(&frame(&rule));
    }
    let addrs = cluster.addrs();
    let proxy = Proxy::start(&addrs, &[("upstream-username", "slotway"), ("upstream-password", "PASSWORD")]);
    (cluster, proxy)
}

fn ok(client: &mut Client, line: &str) -> Value {
    client.ok(&words(line))
}

/// What the nodes refused, as far as they remember.
fn denied(cluster: &RedisCluster) -> Vec<Value> {
    let logs = cluster.nodes.iter().map(|node| node.client().ok(&words("ACL LOG")));
    logs.flat_map(|log| log.items().to_vec()).collect()
}

#[test]
fn the_rule_of_the_readme_is_enough() {
    need_redis!();
    let (cluster, proxy) = guarded();
    let mut client = proxy.client();
    let keys: Vec<String> = (0..3).map(|node| key_in(cluster.slot_of(node), "acl")).collect();
    let [a, b, c] = &keys[..] else { panic!("three") };

    ok(&mut client, &format!("MSET {a} 1 {b} 2 {c} 3"));
    assert_eq!(ok(&mut client, &format!("MGET {a} {b} {c}")).items().len(), 3);
    assert_eq!(ok(&mut client, "DBSIZE"), Value::Int(3));
    ok(&mut client, &format!("EVAL return{{}} 1 {a}"));
    let sha = ok(&mut client, "SCRIPT LOAD return{}").text();
    keys.iter().for_each(|key| drop(ok(&mut client, &format!("EVALSHA {sha} 1 {key}"))));

    for line in
        ["MULTI", &format!("INCR {a}"), "EXEC", &format!("WATCH {b}"), "UNWATCH", &format!("WATCH {b}")]
    {
        ok(&mut client, line);
    }
    for line in ["MULTI", &format!("INCR {b}"), "EXEC"] {
        ok(&mut client, line);
    }
    ok(&mut client, "INFO everything");
    assert_eq!(ok(&mut client, "WAIT 1 5000"), Value::Int(1));
    waits(&proxy, &cluster);
    pushes(&proxy, a);
    scans(&proxy, &cluster);

    ok(&mut client, "FLUSHALL");
    let denied = denied(&cluster);
    assert!(denied.is_empty(), "{denied:?}");
}

/// A wait ends by CLIENT UNBLOCK, and one in a stream is asked where it begins.
fn waits(proxy: &Proxy, cluster: &RedisCluster) {
    let (mut waits, mut other) = (proxy.client(), proxy.client());
    let id = ok(&mut waits, "CLIENT ID").int();
    let list = key_in(cluster.slot_of(1), "list");
    for line in [format!("BLPOP {list} 0"), format!("XREAD BLOCK 0 STREAMS {list} $")] {
        waits.send(&words(&line));
        eventually("it waits and is let go", || {
            let reply = other.call(&words(&format!("CLIENT UNBLOCK {id}")));
            check(reply == Value::Int(1), reply)
        });
        assert!(!waits.value().is_error());
    }
}

fn pushes(proxy: &Proxy, key: &str) {
    let (mut listens, mut speaks) = (proxy.client_resp3(), proxy.client());
    for line in ["SUBSCRIBE chan", "SSUBSCRIBE shard", "PSUBSCRIBE p*"] {
        listens.send(&words(line));
        assert!(!listens.value().is_error(), "{line}");
    }
    for line in ["PUBLISH chan m", "SPUBLISH shard m"] {
        assert_eq!(ok(&mut speaks, line), Value::Int(1), "{line}");
        listens.value();
    }
    let mut caches = proxy.client_resp3();
    ok(&mut caches, "CLIENT TRACKING ON OPTIN");
    ok(&mut caches, "CLIENT CACHING YES");
    ok(&mut caches, &format!("GET {key}"));
    ok(&mut speaks, &format!("SET {key} new"));
    assert!(format!("{:?}", caches.value()).contains("Push"), "an invalidation");
}

/// A pass over a slot whose keys are in two places.
fn scans(proxy: &Proxy, cluster: &RedisCluster) {
    let mut client = proxy.client();
    let slot = cluster.slot_of(0) + 3;
    let moving: Vec<Vec<u8>> = (0..4).map(|n| key_in(slot, &format!("m{n}")).into_bytes()).collect();
    moving.iter().for_each(|key| drop(client.ok(&frame(&[b"SET", key.as_slice(), b"v"]))));
    cluster.open_slot(slot, 0, 1);
    cluster.move_keys(0, 1, &moving[..2]);
    let (mut cursor, mut found) = ("0".to_owned(), 0);
    loop {
        let reply = ok(&mut client, &format!("SCAN {cursor} COUNT 100 MATCH m*"));
        found += reply.items()[1].items().len();
        cursor = reply.items()[0].text();
        if cursor == "0" {
            break;
        }
    }
    assert!(found >= 4, "{found}");
    assert_eq!(client.ok(&cmd!["CLUSTER", "COUNTKEYSINSLOT", slot.to_string()]), Value::Int(4));
    cluster.move_keys(0, 1, &moving[2..]);
    cluster.close_slot(slot, 0, 1);
}
