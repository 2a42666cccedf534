//! Commands that wait give the bytes of a single Redis: at once, later, when their time is over, and for every
//! mistake; in RESP2 and RESP3, alone and in the middle of a pipeline.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, frame, show};
use crate::support::server::Server;
use crate::support::{check, eventually, shared};

/// Commands one client sends in turn; each is answered without the help of another. Keys of one slot.
const ALONE: &[&str] = &[
    // What is there already.
    "RPUSH {t}l a b c d|BLPOP {t}l 0|BRPOP {t}l 1|BLPOP {t}n {t}l 0|brpop {t}l {t}n 0.5|LLEN {t}l",
    "RPUSH {t}l a b|BLMOVE {t}l {t}m LEFT RIGHT 0|blmove {t}l {t}m right left 0|LRANGE {t}m 0 -1|BRPOPLPUSH {t}m {t}l 0",
    "RPUSH {t}l a b c|BLMPOP 0 2 {t}n {t}l LEFT COUNT 2|blmpop 1 1 {t}l RIGHT|EXISTS {t}l",
    "ZADD {t}z 1 a 2 b 3.5 c 4 d|BZPOPMIN {t}z 0|BZPOPMAX {t}n {t}z 0|BZMPOP 0 1 {t}z MIN COUNT 5",
    "XADD {t}s 1-1 f v|XREAD BLOCK 0 STREAMS {t}s 0|XREAD COUNT 1 block 10 STREAMS {t}s 0-1",
    "XADD {t}s 1-1 f v|XGROUP CREATE {t}s g 0|xreadgroup GROUP g c bLoCk 0 STREAMS {t}s >|XREADGROUP GROUP g BLOCK BLOCK 10 STREAMS {t}s 0",
    // Time that is over.
    "BLPOP {t}n 0.01|BRPOP {t}n {t}o .01|BLMOVE {t}n {t}o LEFT LEFT 0.01|BRPOPLPUSH {t}n {t}o 0.01|BLMPOP 0.01 1 {t}n LEFT",
    "BZPOPMIN {t}n 0.01|BZPOPMAX {t}n 1e-2|BZMPOP 0.01 1 {t}n MAX|XREAD BLOCK 10 STREAMS {t}n $|XREAD BlOcK 10 STREAMS {t}n {t}o 0 $",
    "XGROUP CREATE {t}s g $ MKSTREAM|XREADGROUP GROUP g c BLOCK 10 STREAMS {t}s >|XREADGROUP GROUP g c COUNT 2 BLOCK 10 NOACK STREAMS {t}s >",
    // BLOCK that is no option.
    "XADD BLOCK{t} 1-1 f v|XREAD STREAMS BLOCK{t} 0|XREAD COUNT BLOCK STREAMS BLOCK{t} 0|XREAD BLOCK 10 BLOCK 20 STREAMS BLOCK{t} $",
    // Wrong types.
    "SET {t}w v|BLPOP {t}w 0|BRPOP {t}n {t}w 0|BLMOVE {t}w {t}n LEFT LEFT 0|BRPOPLPUSH {t}w {t}n 0|BLMPOP 0 1 {t}w LEFT",
    "SET {t}w v|BZPOPMIN {t}w 0|BZPOPMAX {t}w 0|BZMPOP 0 1 {t}w MIN|XREAD BLOCK 0 STREAMS {t}w $|XREADGROUP GROUP g c BLOCK 0 STREAMS {t}w >",
    "RPUSH {t}l a|SET {t}w v|BLMOVE {t}l {t}w LEFT LEFT 0|BRPOPLPUSH {t}l {t}w 0|LLEN {t}l",
    // Wrong timeouts.
    "BLPOP {t}n -1|BLPOP {t}n x|BRPOP {t}n inf|BLMOVE {t}n {t}o LEFT LEFT nan|BRPOPLPUSH {t}n {t}o 1e400|BLMPOP -0.1 1 {t}n LEFT",
    "BZPOPMIN {t}n 1e16|BZPOPMAX {t}n x|BZMPOP x 1 {t}n MIN|XREAD BLOCK -1 STREAMS {t}n 0|XREAD BLOCK x STREAMS {t}n 0|XREAD BLOCK 1.5 STREAMS {t}n 0",
    "XREADGROUP GROUP g c BLOCK -1 STREAMS {t}n >|XREAD BLOCK 01 STREAMS {t}n 0|XREAD BLOCK 10 BLOCK x STREAMS {t}n 0",
    // Wrong arguments.
    "BLPOP|BLPOP {t}n|BLMOVE {t}n {t}o LEFT 0|BLMOVE {t}n {t}o UP DOWN 0|BLMPOP 0 0 {t}n LEFT|BLMPOP 0 1 {t}n MIDDLE",
    "BZMPOP 0 x {t}n MIN|BZMPOP 0 1 {t}n MIN COUNT 0|XREAD BLOCK 0 STREAMS {t}a {t}b 0|XREAD BLOCK|XREAD BLOCK 0|XREAD BLOCK 0 STREAMS {t}n x",
    "XREADGROUP BLOCK 0 STREAMS {t}n >|XREADGROUP GROUP g c BLOCK 0 STREAMS {t}n >|XREADGROUP GROUP g c BLOCK 0 STREAMS {t}n $|XREAD BLOCK 0 STREAMS {t}n >",
    // Inside a transaction nothing waits.
    "MULTI|BLPOP {t}n 0|BRPOPLPUSH {t}n {t}o 0|BLMPOP 0 1 {t}n LEFT|XREAD BLOCK 0 STREAMS {t}n $|RPUSH {t}l x|BLPOP {t}l 0|BZPOPMIN {t}n 0|EXEC",
    "MULTI|BLPOP {t}n x|BLMOVE {t}n {t}o LEFT LEFT -1|EXEC|MULTI|BLPOP {t}n|EXEC",
    "WATCH {t}l|MULTI|BLPOP {t}l 0|EXEC",
    // What stands around a wait.
    "PING|BLPOP {t}n 0.01|PING|RPUSH {t}l a|BLPOP {t}l 0|SET {t}k v|BLPOP {t}n 0.01|GET {t}k|DEL {t}k {t}l|XREAD BLOCK 5 STREAMS {t}n $|PING",
];

/// What one client waits for and what another then does.
const LATER: &[(&str, &str)] = &[
    ("BLPOP {t}l 0", "RPUSH {t}l a b"),
    ("BRPOP {t}n {t}l 100", "RPUSH {t}l a b"),
    ("BLPOP {t}l 0", "MSET {t}a 1 {t}b 2|LPUSH {t}l a b c"),
    ("BLMOVE {t}l {t}m LEFT RIGHT 0", "RPUSH {t}l a b"),
    ("BRPOPLPUSH {t}l {t}m 50.5", "RPUSH {t}l a b"),
    ("BLMPOP 0 2 {t}n {t}l RIGHT COUNT 10", "RPUSH {t}l a b c"),
    ("BZPOPMIN {t}n {t}z 0", "ZADD {t}z 1.5 a 2 b"),
    ("BZPOPMAX {t}z 100", "ZADD {t}z 1.5 a 2 b"),
    ("BZMPOP 0 1 {t}z MIN COUNT 2", "ZADD {t}z 1 a 2 b 3 c"),
    ("XREAD BLOCK 0 STREAMS {t}s $", "XADD {t}s 5-1 f v g w"),
    ("XREAD COUNT 2 bloCK 100000 STREAMS {t}s {t}r $ 3-0", "XADD {t}r 2-0 a b|XADD {t}r 3-1 f v"),
    ("XREADGROUP GROUP g c BLOCK 0 STREAMS {t}g >", "XADD {t}g 5-1 f v"),
    ("BLPOP {t}l 0", "RENAME {t}full {t}l"),
    ("BLPOP {t}l 0", "LPUSH {t}n x|LMOVE {t}n {t}l LEFT LEFT"),
    ("BLPOP {t}l 0", "EVAL return(redis.call('rpush',KEYS[1],'e')) 1 {t}l"),
    ("BLPOP {t}l 0", "MULTI|RPUSH {t}l a|RPUSH {t}l b|EXEC"),
    ("XREADGROUP GROUP g c BLOCK 0 STREAMS {t}g >", "DEL {t}g"),
];

fn request(line: &str) -> Vec<u8> {
    frame(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

fn steps(script: &str, tag: &str) -> Vec<Vec<u8>> {
    script.split('|').map(|step| request(&step.replace("{t}", tag))).collect()
}

fn connect(addr: std::net::SocketAddr, resp3: bool) -> Client {
    if resp3 { Client::connect_resp3(addr) } else { Client::connect(addr) }
}

/// Waits until the client with this id is blocked, as `other` sees it.
fn await_blocked(other: &mut Client, id: i64) {
    eventually("the client waits", || {
        let line = other.call(&cmd!["CLIENT", "LIST", "ID", id.to_string()]).text();
        check(line.contains(" flags=b "), line)
    });
}

#[test]
fn every_command_gives_the_bytes_of_a_single_redis() {
    need_redis!();
    for resp3 in [false, true] {
        for script in ALONE {
            let tag = format!("{{{}}}", shared::unique("wait"));
            let [got, expected] = [shared::proxy().addr(), shared::standalone().addr()].map(|addr| {
                let mut client = connect(addr, resp3);
                let steps = steps(script, &tag);
                let replies: Vec<String> = steps.iter().map(|step| show(&client.raw(step))).collect();
                client.raw(&cmd!["DEL", format!("BLOCK{tag}")]);
                replies
            });
            assert_eq!(got, expected, "{script} in RESP{}", if resp3 { 3 } else { 2 });
        }
    }
}

#[test]
fn the_same_in_one_packet() {
    need_redis!();
    for script in ALONE {
        let tag = format!("{{{}}}", shared::unique("wait"));
        let [got, expected] = [shared::proxy().addr(), shared::standalone().addr()].map(|addr| {
            let mut client = connect(addr, false);
            let steps = steps(script, &tag);
            client.send(&steps.concat());
            let replies: Vec<String> = steps.iter().map(|_| show(&client.reply())).collect();
            client.raw(&cmd!["DEL", format!("BLOCK{tag}")]);
            replies
        });
        assert_eq!(got, expected, "{script}");
    }
}

#[test]
fn what_comes_later_is_delivered_as_by_a_single_redis() {
    need_redis!();
    for resp3 in [false, true] {
        for (wait, then) in LATER {
            let tag = format!("{{{}}}", shared::unique("later"));
            let [got, expected] = [shared::proxy().addr(), shared::standalone().addr()].map(|addr| {
                let (mut waiting, mut other) = (connect(addr, resp3), connect(addr, resp3));
                for step in steps("XGROUP CREATE {t}g g $ MKSTREAM|RPUSH {t}full a b", &tag) {
                    other.ok(&step);
                }
                let id = waiting.call(&cmd!["CLIENT", "ID"]).int();
                // The request behind it is answered behind it.
                let behind = request(&format!("EXISTS {tag}l {tag}m {tag}z {tag}n"));
                waiting.send(&[steps(wait, &tag).concat(), behind].concat());
                await_blocked(&mut other, id);
                let mut heard: Vec<String> =
                    steps(then, &tag).iter().map(|step| show(&other.raw(step))).collect();
                heard.extend([show(&waiting.reply()), show(&waiting.reply())]);
                heard
            });
            assert_eq!(got, expected, "{wait}, then {then}");
        }
    }
}

/// What a node says when the key is gone is the reply; what it says when its role changes is not.
#[test]
fn a_wait_for_a_key_that_is_gone_ends_in_the_words_of_a_single_redis() {
    need_redis!();
    let cases = [
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS {t}g >", "SET {t}g v"),
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS {t}g >", "DEL {t}g"),
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS {t}g >", "MULTI|DEL {t}g|SADD {t}g e|EXEC"),
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS {t}g >", "XGROUP DESTROY {t}g g"),
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS {t}g >", "FLUSHALL"),
        ("XREAD BLOCK 0 STREAMS {t}g $", "SET {t}g v|DEL {t}g|XADD {t}g 667-0 f v"),
    ];
    // Nobody else's waits: nothing tells that it is at the node but that somebody waits there.
    let cluster = RedisCluster::start(1, 0);
    let proxy = Proxy::start(&cluster.addrs(), &[]);
    let single = Server::standalone(&[]);
    for (wait, then) in cases {
        for resp3 in [false, true] {
            let [got, expected] = [(proxy.addr(), cluster.client(0)), (single.addr(), single.client())].map(
                |(addr, mut node)| {
                    let (mut waiting, mut other) = (connect(addr, resp3), connect(addr, resp3));
                    other.ok(&request("DEL {t}g"));
                    other.ok(&request("XGROUP CREATE {t}g g $ MKSTREAM"));
                    waiting.send(&request(wait));
                    eventually("it waits at the node", || {
                        let clients = node.call(&cmd!["INFO", "clients"]).text();
                        check(clients.contains("blocked_clients:1\r"), clients)
                    });
                    let mut heard: Vec<String> =
                        steps(then, "{t}").iter().map(|step| show(&other.raw(step))).collect();
                    heard.push(show(&waiting.reply()));
                    heard
                },
            );
            assert_eq!(got, expected, "{wait}, then {then}");
        }
    }
}

#[test]
fn the_first_to_wait_is_served_first() {
    need_redis!();
    let key = shared::unique("{fair}queue");
    let mut other = shared::client();
    let mut waiting: Vec<Client> = (0..5).map(|_| shared::client()).collect();
    for client in &mut waiting {
        let id = client.call(&cmd!["CLIENT", "ID"]).int();
        client.send(&cmd!["BLPOP", key, "0"]);
        await_blocked(&mut other, id);
        // Blocked here is not yet blocked there.
        let owner = &shared::cluster().nodes
            [shared::cluster().initial_owner(crate::support::keys::slot(key.as_bytes()))];
        eventually("it waits at the node", || {
            let list = owner.client().call(&cmd!["CLIENT", "LIST"]).text();
            let blocked = list.lines().filter(|l| l.contains("cmd=blpop") && l.contains(" flags=b ")).count();
            check(blocked > 0, list)
        });
    }
    for (place, client) in waiting.iter_mut().enumerate() {
        other.ok(&cmd!["RPUSH", key, place.to_string()]);
        assert_eq!(client.value().items()[1].text(), place.to_string());
    }
}

#[test]
fn keys_of_several_slots_are_refused_and_nothing_waits() {
    need_redis!();
    let mut client = shared::client();
    let (a, b) = (key_in(1, "a"), key_in(2, "b"));
    for line in [
        format!("BLPOP {a} {b} 0"),
        format!("BLMOVE {a} {b} LEFT LEFT 0"),
        format!("BRPOPLPUSH {a} {b} 0"),
        format!("BLMPOP 0 2 {a} {b} LEFT"),
        format!("BZMPOP 0 2 {a} {b} MIN"),
        format!("BZPOPMAX {a} {b} 0"),
        format!("XREAD BLOCK 0 STREAMS {a} {b} $ $"),
        format!("XREADGROUP GROUP g c BLOCK 0 STREAMS {a} {b} > >"),
    ] {
        let refused = client.call(&request(&line)).error().to_owned();
        assert_eq!(refused, "CROSSSLOT Keys in request don't hash to the same slot", "{line}");
    }
}

#[test]
fn client_unblock_ends_a_wait_as_in_redis() {
    need_redis!();
    let waits = [
        "BLPOP {t}n 0",
        "BLMOVE {t}n {t}o LEFT LEFT 100",
        "BRPOPLPUSH {t}n {t}o 0",
        "BLMPOP 0 1 {t}n LEFT",
        "BZPOPMIN {t}n 0",
        "BZMPOP 100 1 {t}n MIN",
        "XREAD BLOCK 0 STREAMS {t}n $",
        "XREADGROUP GROUP g c BLOCK 100000 STREAMS {t}g >",
    ];
    for resp3 in [false, true] {
        for (wait, how) in waits.iter().flat_map(|wait| ["", "TIMEOUT", "error"].map(|how| (wait, how))) {
            let tag = format!("{{{}}}", shared::unique("unblock"));
            let [got, expected] = [shared::proxy().addr(), shared::standalone().addr()].map(|addr| {
                let (mut waiting, mut other) = (connect(addr, resp3), connect(addr, resp3));
                other.ok(&request(&format!("XGROUP CREATE {tag}g g $ MKSTREAM")));
                let id = waiting.call(&cmd!["CLIENT", "ID"]).int();
                waiting.send(&[steps(wait, &tag).concat(), cmd!["PING"]].concat());
                await_blocked(&mut other, id);
                let unblock = format!("CLIENT UNBLOCK {id} {how}");
                let told = show(&other.raw(&request(unblock.trim())));
                let heard = [show(&waiting.reply()), show(&waiting.reply())];
                let again = show(&other.raw(&request(unblock.trim())));
                // Nothing of the wait is left: what comes now stays.
                let left = show(&other.raw(&request(&format!("RPUSH {tag}n x"))));
                (told, heard, again, left)
            });
            assert_eq!(got, expected, "{wait} {how}");
        }
    }
}

#[test]
fn a_thousand_waiting_clients_hold_up_nobody() {
    need_redis!();
    const COUNT: usize = 1000;
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &[("workers", "2")]);
    let name = shared::unique("many");
    let key = |index: usize| format!("{name}:{index}");
    let mut waiting: Vec<Client> = (0..COUNT).map(|_| proxy.client()).collect();
    for (index, client) in waiting.iter_mut().enumerate() {
        client.send(&cmd!["BLPOP", key(index), "0"]);
    }
    proxy.wait_metric("slotway_blocked_clients", &[], |count| count == COUNT as f64);
    proxy.wait_metric("slotway_backend_dedicated_connections", &[], |count| count == COUNT as f64);
    let mut others: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    let work = |client: usize| -> Vec<u8> {
        (0..500).flat_map(|n| cmd!["INCR", format!("{name}:{client}:{}", n % 7)]).collect()
    };
    for (index, client) in others.iter_mut().enumerate() {
        client.send(&work(index));
    }
    for client in &mut others {
        assert!(client.values(500).iter().all(|value| value.int() > 0));
    }
    for index in 0..COUNT {
        others[index % 20].send(&cmd!["RPUSH", key(index), index.to_string()]);
    }
    for index in 0..COUNT {
        assert_eq!(others[index % 20].value(), Value::Int(1));
    }
    for (index, client) in waiting.iter_mut().enumerate() {
        assert_eq!(client.value().items()[1].text(), index.to_string());
    }
    proxy.wait_metric("slotway_blocked_clients", &[], |count| count == 0.0);
}

/// A bound of two per node, two workers: what is idle at one makes room for the other, what is in use does not.
#[test]
fn at_the_bound_of_dedicated_connections_waits_are_refused_and_nothing_else() {
    need_redis!();
    let keys = [("workers", "2"), ("dedicated-max-per-node", "2")];
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &keys);
    let key = shared::unique("{bound}");
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut clients {
        // Each leaves an idle connection behind, of both workers.
        assert_eq!(client.raw(&cmd!["BLPOP", key, "0.001"]), b"*-1\r\n");
    }
    let [one, two, three, four] = clients.as_mut_slice() else { panic!("four") };
    one.send(&cmd!["BLPOP", key, "0"]);
    proxy.wait_metric("slotway_blocked_clients", &[], |count| count == 1.0);
    two.send(&cmd!["BRPOP", key, "0"]);
    proxy.wait_metric("slotway_blocked_clients", &[], |count| count == 2.0);
    for client in [&mut *three, &mut *four] {
        let refused = client.call(&cmd!["XREAD", "BLOCK", "0", "STREAMS", key, "$"]);
        let expected = "ERR slotway: no dedicated connection to the node is free (dedicated-max-per-node)";
        assert_eq!(refused.error(), expected);
        assert_eq!(client.raw(&cmd!["EXISTS", key]), b":0\r\n");
    }
    proxy.wait_metric("slotway_errors_total", &["dedicated_full"], |count| count == 2.0);
    // Another node has its own.
    let elsewhere = key_in(shared::cluster().slot_of(0), "bound");
    let elsewhere =
        if crate::support::keys::slot(key.as_bytes()) < 5461 { key_in(10000, "bound") } else { elsewhere };
    assert_eq!(three.raw(&cmd!["BLPOP", elsewhere, "0.001"]), b"*-1\r\n");
    four.ok(&cmd!["RPUSH", key, "1", "2"]);
    assert_eq!((one.value().items().len(), two.value().items().len()), (2, 2));
    assert_eq!(three.raw(&cmd!["BLPOP", key, "0.001"]), b"*-1\r\n");
}

/// Element sizes around the sizes at which replies are shared instead of copied.
#[test]
fn large_elements_arrive_whole() {
    need_redis!();
    let (mut waiting, mut other) = (shared::client(), shared::client());
    let key = shared::unique("{large}");
    for size in [1usize, 16 << 10, (16 << 10) + 1, 3 << 20] {
        let value: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        waiting.send(&cmd!["BLPOP", key, "0"]);
        other.ok(&cmd!["RPUSH", key, value]);
        assert!(waiting.value().items()[1].bytes() == value, "{size} bytes");
    }
    waiting.patience(Duration::from_secs(1));
    assert_eq!(waiting.raw(&cmd!["EXISTS", key]), b":0\r\n");
}
