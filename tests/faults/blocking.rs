//! Waits that something comes between: the client leaves, the node fails over, dies or freezes, the slot moves,
//! the process stops. What may have taken an element is never repeated, what did not is, with the time left.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::process::scratch_dir;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, show};
use crate::support::{check, eventually, heavy, shared};

const MAYBE: &str = "ERR slotway: connection to the node was lost; the request may have been executed";

/// Connections of the proxy's at node `index` that wait, by the node's own word.
fn waiting_at(cluster: &RedisCluster, index: usize) -> usize {
    let list = cluster.client(index).call(&cmd!["CLIENT", "LIST"]).text();
    list.lines().filter(|line| line.contains(" name=slotway ") && line.contains(" flags=b ")).count()
}

#[track_caller]
fn await_waiting(cluster: &RedisCluster, index: usize, count: usize) {
    eventually("so many wait at the node", || {
        let seen = waiting_at(cluster, index);
        check(seen == count, seen)
    });
}

/// Waits until the proxy holds no dedicated connection in use.
fn await_none_blocked(proxy: &Proxy) {
    proxy.wait_metric("slotway_blocked_clients", &[], |count| count == 0.0);
}

#[test]
fn a_client_that_leaves_takes_nothing_with_it() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let path = scratch_dir("blocked").join("proxy.sock");
    let proxy = Proxy::start(
        &shared::seeds(&cluster),
        &[("listen-unix", path.to_str().expect("text")), ("workers", "2")],
    );
    let mut other = proxy.client();
    type Leave = fn(Client);
    let ways: [(&str, Leave); 3] = [
        ("closes", |client| drop(client)),
        ("resets", Client::reset),
        ("half-closes", |mut client| {
            client.half_close();
            assert!(client.rest().is_empty());
        }),
    ];
    // What it sent behind its wait lies unread; more than the kernel takes at once for one of them.
    let unread = |key: &str| cmd!["SET", format!("{key}x"), "y".repeat(64 << 10)];
    let behind: [fn(&str) -> Vec<u8>; 3] = [|_| Vec::new(), |_| cmd!["PING"], unread];
    let mut waiting = Vec::new();
    for (how, leave) in ways {
        for (number, behind) in behind.iter().enumerate() {
            let key = key_in(cluster.slot_of(0), &format!("queue:{how}:{number}"));
            let mut client = proxy.client();
            client.send(&[cmd!["BLPOP", key, "0"], behind(&key)].concat());
            waiting.push((how, leave, key, client));
        }
    }
    await_waiting(&cluster, 0, waiting.len());
    // Old enough that no reply can be on its way.
    eventually("all have waited for a while", || {
        let list = cluster.client(0).call(&cmd!["CLIENT", "LIST"]).text();
        let blocked: Vec<&str> = list.lines().filter(|line| line.contains(" flags=b ")).collect();
        let idle =
            |line: &str| line.split(' ').find_map(|word| word.strip_prefix("idle="))?.parse::<u32>().ok();
        check(blocked.iter().all(|line| idle(line).is_some_and(|idle| idle >= 2)), blocked.join("\n"))
    });
    while let Some((how, leave, key, client)) = waiting.pop() {
        leave(client);
        await_waiting(&cluster, 0, waiting.len());
        assert_eq!(other.raw(&cmd!["RPUSH", key, "stays"]), b":1\r\n", "{how}");
        assert_eq!(other.call(&cmd!["LPOP", key]).text(), "stays");
        assert_eq!(other.raw(&cmd!["EXISTS", format!("{key}x")]), b":0\r\n");
    }
    await_none_blocked(&proxy);
    let key = key_in(cluster.slot_of(0), "queue");
    for behind in [behind[0], behind[2]] {
        let mut client = UnixStream::connect(&path).expect("connect");
        client.write_all(&[cmd!["BLPOP", key, "0"], behind(&key)].concat()).expect("write");
        await_waiting(&cluster, 0, 1);
        drop(client);
        await_waiting(&cluster, 0, 0);
        assert_eq!(other.raw(&cmd!["RPUSH", key, "stays"]), b":1\r\n");
        assert_eq!(other.call(&cmd!["LPOP", key]).text(), "stays");
    }
    proxy.wait_metric("slotway_backend_dedicated_connections", &[], |count| count == 0.0);
}

/// Whatever stands between the request and the end of what the client sends: an element that is there is
/// delivered, nothing is popped for nobody.
#[test]
fn a_client_that_closes_its_side_behind_its_wait_still_gets_what_is_there() {
    need_redis!();
    let cluster = shared::cluster();
    let proxy = Proxy::start(&shared::seeds(cluster), &[]);
    let key = shared::unique("half");
    let mut other = proxy.client();
    for n in 0..200 {
        other.ok(&cmd!["RPUSH", key, n.to_string()]);
        let mut client = proxy.client();
        client.send(&cmd!["BLPOP", key, "0"]);
        client.half_close();
        assert_eq!(client.value().items()[1].text(), n.to_string());
        assert!(client.rest().is_empty());
        assert_eq!(other.raw(&cmd!["LLEN", key]), b":0\r\n");
    }
}

#[test]
fn storms_of_clients_that_leave_lose_no_element_and_leave_no_connection() {
    need_redis!();
    let _one_at_a_time = heavy();
    let cluster = RedisCluster::start(3, 0);
    let proxy =
        Proxy::start(&shared::seeds(&cluster), &[("workers", "2"), ("dedicated-max-per-node", "200")]);
    let key = key_in(cluster.slot_of(1), "storm");
    for _ in 0..5 {
        let mut clients: Vec<Client> = (0..150).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send(&cmd!["BRPOP", key, "0"]);
        }
        await_waiting(&cluster, 1, 150);
        for (index, client) in clients.into_iter().enumerate() {
            if index % 2 == 0 { client.reset() } else { drop(client) }
        }
        await_waiting(&cluster, 1, 0);
        await_none_blocked(&proxy);
        assert_eq!(proxy.client().call(&cmd!["RPUSH", key, "stays"]), Value::Int(1));
        proxy.client().ok(&cmd!["DEL", key]);
    }
    proxy.wait_metric("slotway_backend_dedicated_connections", &[], |count| count == 0.0);
    proxy.wait_metric("slotway_client_connections", &[], |count| count == 0.0);
}

#[test]
fn a_planned_failover_is_waited_through() {
    need_redis!();
    let cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let slot = cluster.slot_of(0);
    let (list, stream, zset) = (key_in(slot, "l"), key_in(slot, "s"), key_in(slot, "z"));
    let mut other = proxy.client();
    let first = other.ok(&cmd!["XADD", stream, "*", "f", "old"]);
    assert!(!first.is_error());
    let mut waiting: Vec<Client> =
        (0..4).map(|n| if n % 2 == 0 { proxy.client() } else { proxy.client_resp3() }).collect();
    waiting[0].send(&cmd!["BLPOP", list, "0"]);
    waiting[1].send(&cmd!["XREAD", "BLOCK", "0", "STREAMS", stream, "$"]);
    waiting[2].send(&cmd!["BZPOPMIN", zset, "60"]);
    waiting[3].send(&cmd!["XREAD", "BLOCK", "60000", "STREAMS", stream, "$"]);
    await_waiting(&cluster, 0, 4);
    let replica = cluster.replica_of(0);
    cluster.client(replica).ok(&words("CLUSTER FAILOVER"));
    await_waiting(&cluster, replica, 4);
    other.ok(&cmd!["RPUSH", list, "e"]);
    other.ok(&cmd!["ZADD", zset, "1", "m"]);
    other.ok(&cmd!["XADD", stream, "*", "f", "new"]);
    assert_eq!(waiting[0].value().items()[1].text(), "e");
    assert_eq!(waiting[2].value().items()[1].text(), "m");
    for index in [1, 3] {
        let reply = show(&waiting[index].reply());
        assert!(reply.contains("new") && !reply.contains("old"), "{reply}");
    }
    assert_eq!(cluster.client(replica).call(&cmd!["LLEN", list]), Value::Int(0));
}

/// What was added while nobody waited, between two tries, is not missed: `$` was resolved before the first.
#[test]
fn a_stream_is_read_on_from_where_the_wait_began() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let slot = cluster.slot_of(0);
    let (stream, missing) = (key_in(slot, "s"), key_in(slot, "none"));
    let mut owner = cluster.client(0);
    for (last, next, empty) in [("5-1", "6-5", false), ("7-1", "8-5", true)] {
        owner.ok(&cmd!["XADD", stream, last, "f", "old"]);
        if empty {
            // The last id is not that of the last entry.
            owner.ok(&cmd!["XTRIM", stream, "MAXLEN", "0"]);
        }
        let mut client = proxy.client();
        client.send(&cmd!["XREAD", "BLOCK", "0", "STREAMS", stream, missing, "$", "$"]);
        await_waiting(&cluster, 0, 1);
        // The wait is cut off and the entry added in one step: nobody waits when it comes.
        let list = owner.call(&words("CLIENT LIST")).text();
        let line = list.lines().find(|line| line.contains(" flags=b ")).expect("it waits").to_owned();
        let id = line.split(' ').find_map(|word| word.strip_prefix("id=")).expect("an id").to_owned();
        let kill = cmd!["CLIENT", "KILL", "ID", id];
        owner.send(&[words("MULTI"), kill, cmd!["XADD", stream, next, "f", "new"], words("EXEC")].concat());
        assert_eq!(owner.values(4)[3].items()[0], Value::Int(1));
        let reply = show(&client.reply());
        assert!(reply.contains(next) && !reply.contains("old"), "{reply}");
        owner.ok(&cmd!["DEL", stream]);
    }
}

#[test]
fn a_killed_primary_ends_waits_that_take_and_moves_those_that_read() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let slot = cluster.slot_of(0);
    let (list, stream) = (key_in(slot, "l"), key_in(slot, "s"));
    let mut other = proxy.client();
    other.ok(&cmd!["XADD", stream, "1-1", "f", "old"]);
    other.ok(&cmd!["XGROUP", "CREATE", stream, "g", "$"]);
    eventually("the replica has it", || {
        let mut replica = cluster.client(cluster.replica_of(0));
        replica.ok(&words("READONLY"));
        check(replica.call(&cmd!["XLEN", stream]) == Value::Int(1), ())
    });
    let mut taking: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    taking[0].send(&cmd!["BLPOP", list, "0"]);
    taking[1].send(&cmd!["XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", stream, ">"]);
    let mut reading = proxy.client();
    reading.send(&cmd!["XREAD", "BLOCK", "0", "STREAMS", stream, "$"]);
    await_waiting(&cluster, 0, 3);
    cluster.nodes[0].kill();
    for client in &mut taking {
        assert_eq!(client.value().error(), MAYBE);
    }
    await_waiting(&cluster, cluster.replica_of(0), 1);
    other.ok(&cmd!["XADD", stream, "2-1", "f", "new"]);
    let reply = show(&reading.reply());
    assert!(reply.contains("2-1") && !reply.contains("1-1"), "{reply}");
    taking[0].send(&cmd!["BLPOP", list, "0"]);
    await_waiting(&cluster, cluster.replica_of(0), 1);
    other.ok(&cmd!["RPUSH", list, "e"]);
    assert_eq!(taking[0].value().items()[1].text(), "e");
}

#[test]
fn a_frozen_node_does_not_hold_its_waiting_clients_for_ever() {
    need_redis!();
    let mut cluster = RedisCluster::shaped(&Shape {
        primaries: 3,
        replicas_per: 0,
        node_timeout: Duration::from_secs(60),
        options: &[],
        ..Shape::default()
    });
    let keys = [("node-silence-timeout", "1s"), ("owner-wait", "1s")];
    let proxy = Proxy::start(&shared::seeds(&cluster), &keys);
    let mut client = proxy.client();
    client.send(&cmd!["BLPOP", key_in(cluster.slot_of(0), "l"), "0"]);
    await_waiting(&cluster, 0, 1);
    cluster.nodes[0].freeze();
    assert_eq!(client.value().error(), MAYBE);
    cluster.nodes[0].thaw();
}

#[test]
fn a_slot_that_moves_takes_its_waiting_clients_along() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let slot = cluster.slot_of(0);
    let (list, stream) = (key_in(slot, "l"), key_in(slot, "s"));
    let mut other = proxy.client();
    let mut waiting: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    waiting[0].send(&cmd!["BLPOP", list, "0"]);
    waiting[1].send(&cmd!["BLMOVE", list, key_in(slot, "m"), "LEFT", "RIGHT", "90"]);
    waiting[2].send(&cmd!["XREAD", "BLOCK", "90000", "STREAMS", stream, "$"]);
    await_waiting(&cluster, 0, 3);
    cluster.move_slot(slot, 0, 1);
    await_waiting(&cluster, 1, 3);
    other.ok(&cmd!["RPUSH", list, "a", "b"]);
    other.ok(&cmd!["XADD", stream, "7-7", "f", "v"]);
    assert_eq!(waiting[2].value().items().len(), 1);
    let mut got = [waiting[0].value().items()[1].text(), waiting[1].value().text()];
    got.sort();
    assert_eq!(got, ["a", "b"]);
}

/// The key is not at the source any more, or not yet at the target: one waits where it will come to be.
#[test]
fn a_half_moved_slot_is_waited_for_at_its_new_place() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("tryagain-wait", "300ms")]);
    let slot = cluster.slot_of(0);
    let (here, there) = (key_in(slot, "here"), key_in(slot, "there"));
    cluster.client(0).ok(&cmd!["RPUSH", here, "h", "h"]);
    cluster.open_slot(slot, 0, 1);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.send(&cmd!["BLPOP", there, "0"]);
    await_waiting(&cluster, 1, 1);
    other.ok(&cmd!["RPUSH", there, "t"]);
    assert_eq!(client.value().items()[1].text(), "t");
    client.send(&cmd!["XREAD", "BLOCK", "0", "STREAMS", key_in(slot, "s"), "$"]);
    await_waiting(&cluster, 1, 1);
    other.ok(&cmd!["XADD", key_in(slot, "s"), "1-1", "f", "v"]);
    assert!(show(&client.reply()).contains("1-1"));
    assert_eq!(client.call(&cmd!["BLPOP", here, "0"]).items()[1].text(), "h");
    // Keys on both sides: as for any command that needs them at once.
    other.ok(&cmd!["RPUSH", there, "t"]);
    let both = client.call(&cmd!["BLPOP", here, there, "0"]);
    assert!(both.error().starts_with("TRYAGAIN "), "{both:?}");
}

#[test]
fn the_stop_ends_waits_at_a_reply_boundary_and_loses_no_element() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let mut proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2"), ("drain-timeout", "10s")]);
    let key = key_in(cluster.slot_of(0), "queue");
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    clients[0].send(&[cmd!["BLPOP", key, "0"], cmd!["PING"]].concat());
    clients[1].send(&cmd!["BRPOP", key, "500"]);
    clients[2].send(
        &[cmd!["XREAD", "BLOCK", "0", "STREAMS", format!("{key}s"), "$"], cmd!["BLPOP", key, "0"]].concat(),
    );
    await_waiting(&cluster, 0, 3);
    assert_eq!(proxy.terminate(), Some(0));
    let stopped = "-UNBLOCKED slotway: this instance stops; the wait was ended before anything came\r\n";
    let rest = |client: &mut Client| String::from_utf8(client.rest()).expect("text");
    assert_eq!(rest(&mut clients[0]), format!("{stopped}+PONG\r\n"));
    assert_eq!(rest(&mut clients[1]), "*-1\r\n");
    assert_eq!(rest(&mut clients[2]), stopped.repeat(2));
    let mut node = cluster.client(0);
    assert_eq!(node.call(&cmd!["RPUSH", key, "a", "b"]), Value::Int(2));
    assert_eq!(node.call(&cmd!["LLEN", key]), Value::Int(2));
}
