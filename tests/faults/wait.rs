//! WAIT and WAITAOF vouch for what this client wrote, wherever it went, and for nothing that may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, show};
use crate::support::{check, eventually, shared};

fn wait(client: &mut Client, line: &str) -> Value {
    client.call(&words(line))
}

/// Waits until the proxy routes `slot` to the node at `addr`.
#[track_caller]
fn await_owner(proxy: &Proxy, slot: u16, addr: std::net::SocketAddr) {
    eventually("the proxy has seen the new owner", || {
        let (_, topology) = proxy.admin("/topology");
        let topology: serde_json::Value = serde_json::from_str(&topology).unwrap();
        let shards = topology["shards"].as_array().cloned().unwrap_or_default();
        let owns = |shard: &serde_json::Value| {
            shard["slots"].as_array().is_some_and(|ranges| {
                ranges.iter().any(|range| {
                    let bound = |index: usize| range[index].as_u64().unwrap_or(u64::MAX);
                    (bound(0)..=bound(1)).contains(&u64::from(slot))
                })
            })
        };
        let owner = shards.iter().find(|shard| owns(shard)).map(|shard| shard["primary"].to_string());
        check(owner.as_ref().is_some_and(|owner| owner.contains(&addr.to_string())), (owner, topology))
    });
}

/// The workers take over a table a moment after the topology has it. More replicas than there are: a WAIT that
/// is not kept changes nothing.
#[track_caller]
fn await_doubt(client: &mut Client) {
    eventually("WAIT says 0", || {
        let count = wait(client, "WAIT 9 10");
        check(count == Value::Int(0), count)
    });
}

#[test]
fn mistakes_get_the_words_of_a_single_redis() {
    need_redis!();
    for line in
        ["WAIT", "WAIT 1", "WAIT x 10", "WAIT 1 x", "WAIT 1 -1", "WAIT 1 1.5", "WAIT 1 1 1", "wait 1 01"]
    {
        let [got, expected] = [shared::proxy().addr(), shared::standalone().addr()].map(|addr| {
            let mut client = Client::connect(addr);
            client.ok(&cmd!["SET", shared::unique("wait"), "v"]);
            show(&client.raw(&words(line)))
        });
        assert_eq!(got, expected, "{line}");
    }
}

#[test]
fn a_frozen_replica_does_not_count() {
    need_redis!();
    let mut cluster =
        RedisCluster::shaped(&Shape { node_timeout: Duration::from_secs(60), ..Shape::default() });
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let keys = [0, 1].map(|shard| key_in(cluster.slot_of(shard), "k"));
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    let [none, first, second, both] = clients.as_mut_slice() else { panic!("four") };
    for client in [&mut *none, &mut *first] {
        assert_eq!(wait(client, "WAIT 1 5000"), Value::Int(1), "nothing was written: the replicas there are");
    }
    let replica = cluster.replica_of(0);
    first.ok(&cmd!["SET", keys[0], "v"]);
    assert_eq!(wait(first, "WAIT 1 5000"), Value::Int(1));
    cluster.nodes[replica].freeze();
    first.ok(&cmd!["SET", keys[0], "w"]);
    second.ok(&cmd!["SET", keys[1], "w"]);
    both.ok(&cmd!["MSET", keys[0], "x", keys[1], "x"]);
    assert_eq!(wait(first, "WAIT 1 300"), Value::Int(0));
    assert_eq!(wait(second, "WAIT 1 5000"), Value::Int(1));
    assert_eq!(wait(both, "WAIT 1 300"), Value::Int(0));
    // In a transaction it says what is known, at once, of the transaction's shard.
    first.send(&[words("MULTI"), cmd!["SET", keys[0], "y"], words("WAIT 1 0"), words("EXEC")].concat());
    assert_eq!(first.values(4)[3].items(), [Value::Simple("OK".into()), Value::Int(0)]);
    // Without an end; others on both workers go on, and it ends when it can be said.
    let id = both.call(&words("CLIENT ID")).int();
    both.send(&[words("WAIT 1 0"), words("PING")].concat());
    first.send(&words("WAIT 1 0"));
    eventually("it waits", || {
        let line = second.call(&cmd!["CLIENT", "LIST", "ID", id.to_string()]).text();
        check(line.contains(" flags=b ") && line.contains(" cmd=wait "), line)
    });
    second.ok(&cmd!["SET", keys[0], "z"]);
    assert_eq!(second.call(&cmd!["CLIENT", "UNBLOCK", id.to_string()]), Value::Int(1));
    assert_eq!(both.values(2), [Value::Int(0), Value::Simple("PONG".into())]);
    both.send(&words("WAIT 1 0"));
    eventually("it waits again", || {
        let told = second.call(&cmd!["CLIENT", "UNBLOCK", id.to_string(), "ERROR"]);
        check(told == Value::Int(1), told)
    });
    assert_eq!(both.value().error(), "UNBLOCKED client unblocked via CLIENT UNBLOCK");
    cluster.nodes[replica].thaw();
    assert_eq!(first.value(), Value::Int(1));
    assert_eq!(wait(both, "WAIT 1 20000"), Value::Int(1));
}

#[test]
fn after_a_failover_nothing_is_vouched_for_until_the_next_write() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let (slot, replica) = (cluster.slot_of(0), cluster.replica_of(0));
    let key = key_in(slot, "k");
    let (mut client, mut elsewhere) = (proxy.client(), proxy.client());
    client.ok(&cmd!["SET", key, "v"]);
    elsewhere.ok(&cmd!["SET", key_in(cluster.slot_of(1), "k"), "v"]);
    cluster.client(replica).ok(&words("CLUSTER FAILOVER"));
    await_owner(&proxy, slot, cluster.nodes[replica].addr());
    await_doubt(&mut client);
    assert_eq!(wait(&mut client, "WAIT 0 100"), Value::Int(0), "asking again makes it no truer");
    assert_eq!(wait(&mut elsewhere, "WAIT 1 5000"), Value::Int(1));
    client.ok(&cmd!["SET", key, "w"]);
    assert_eq!(wait(&mut client, "WAIT 1 20000"), Value::Int(1));
    // What a WAIT has vouched for is not in doubt later.
    client.ok(&cmd!["SET", key, "x"]);
    assert_eq!(wait(&mut client, "WAIT 1 20000"), Value::Int(1));
    cluster.nodes[replica].kill();
    await_owner(&proxy, slot, cluster.nodes[0].addr());
    assert_eq!(wait(&mut client, "WAIT 0 100"), Value::Int(0), "the one replica is dead");
    client.ok(&cmd!["SET", key, "y"]);
    elsewhere.ok(&cmd!["SET", key, "y"]);
    assert_eq!(wait(&mut client, "WAIT 1 100"), Value::Int(0));
}

#[test]
fn only_the_slots_written_to_matter() {
    need_redis!();
    let cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let slot = cluster.slot_of(0);
    let (mut moved, mut stays) = (proxy.client(), proxy.client());
    moved.ok(&cmd!["SET", key_in(slot, "k"), "v"]);
    stays.ok(&cmd!["SET", key_in(slot + 1, "k"), "v"]);
    cluster.move_slot(slot, 0, 1);
    await_owner(&proxy, slot, cluster.nodes[1].addr());
    await_doubt(&mut moved);
    assert_eq!(wait(&mut moved, "WAIT 1 100"), Value::Int(0));
    assert_eq!(wait(&mut stays, "WAIT 1 5000"), Value::Int(1));
    moved.ok(&cmd!["SET", key_in(slot, "k"), "w"]);
    assert_eq!(wait(&mut moved, "WAIT 1 5000"), Value::Int(1));
}

/// What is sent: to each primary written to a line of its own, some command, and WAIT behind it.
#[test]
fn each_primary_written_to_is_asked_and_the_least_counts() {
    let nodes = FakeCluster::start(3);
    nodes.script(|seen| match seen.name().as_str() {
        "WAIT" => Answer::text(&format!(":{}", seen.node + 1)),
        "WAITAOF" if seen.arg(1) == "9" => {
            Answer::text("-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
        }
        "WAITAOF" => Answer::Reply(format!("*2\r\n:{}\r\n:{}\r\n", 2 - seen.node, seen.node).into_bytes()),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(nodes.addrs(), &[]);
    let mut client = proxy.client();
    let keys = [100, 6000, 12000].map(|slot| key_in(slot, "k"));
    client.ok(&cmd!["GET", keys[2]]);
    client.ok(&cmd!["SET", keys[1], "v"]);
    assert_eq!(wait(&mut client, "WAIT 3 100"), Value::Int(2));
    client.ok(&cmd!["EVAL", "return 1", "1", keys[2]]);
    assert_eq!(wait(&mut client, "wAiT 3 100"), Value::Int(2));
    client.ok(&cmd!["MSET", keys[0], "v", keys[2], "v"]);
    assert_eq!(wait(&mut client, "WAIT 3 100"), Value::Int(1));
    assert_eq!(client.raw(&words("WAITAOF 1 1 100")), b"*2\r\n:0\r\n:0\r\n");
    let refused = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    assert_eq!(wait(&mut client, "WAITAOF 9 1 100").error(), refused);
    let asked = nodes.seen_named("WAIT");
    assert_eq!(asked.iter().map(|seen| seen.node).collect::<Vec<_>>().len(), 1 + 2 + 3);
    let all = nodes.seen();
    for seen in asked {
        let line: Vec<String> = all
            .iter()
            .filter(|s| s.connection == seen.connection)
            .map(crate::support::node::Seen::name)
            .collect();
        let at = line.iter().position(|name| name == "WAIT").expect("there");
        assert_eq!(line[at - 1], "PING", "{line:?}");
        assert!(!line.contains(&"SET".to_owned()));
    }
}

#[test]
fn a_broken_connection_takes_what_went_over_it_out_of_the_count() {
    let nodes = FakeCluster::start(3);
    let asked = Arc::new(AtomicUsize::new(0));
    nodes.script(move |seen| match seen.name().as_str() {
        "WAIT" => {
            asked.fetch_add(1, Ordering::SeqCst);
            Answer::text(":1")
        }
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(nodes.addrs(), &[("workers", "1")]);
    let mut client = proxy.client();
    let key = key_in(100, "k");
    client.ok(&cmd!["SET", key, "v"]);
    assert_eq!(wait(&mut client, "WAIT 2 100"), Value::Int(1), "fewer than asked for: not settled");
    nodes.disconnect(0);
    eventually("the connection is there again", || {
        let connected = proxy.client().call(&cmd!["GET", key]);
        check(!connected.is_error(), connected)
    });
    assert_eq!(wait(&mut client, "WAIT 1 100"), Value::Int(0));
    client.ok(&words("RESET"));
    client.ok(&cmd!["SET", key, "v"]);
    assert_eq!(wait(&mut client, "WAIT 1 100"), Value::Int(1));
    nodes.disconnect(0);
    eventually("the connection is there again", || {
        let connected = proxy.client().call(&cmd!["GET", key]);
        check(!connected.is_error(), connected)
    });
    assert_eq!(wait(&mut client, "WAIT 1 100"), Value::Int(1), "vouched for before");
}
