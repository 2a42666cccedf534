//! Commands of one connection keep their order although its reads and writes take different connections, and
//! what it wrote it reads.

use crate::support::client::{Client, words};
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{check, eventually};

use super::{number, numbered, proxy, reader, wait_fit, wait_reader};

fn started(cluster: &FakeCluster) -> (Proxy, Client) {
    started_with(cluster, &[])
}

fn started_with(cluster: &FakeCluster, keys: &[(&str, &str)]) -> (Proxy, Client) {
    let mut all = vec![("read-from", "prefer-replica")];
    all.extend_from_slice(keys);
    let proxy = proxy(&cluster.addrs()[..1], &all);
    wait_fit(&proxy, 1);
    let mut client = proxy.client();
    wait_reader(&mut client, "k", 1);
    (proxy, client)
}

#[test]
fn a_write_waits_for_reads_of_its_slot_at_a_replica() {
    let cluster = numbered(1, 1);
    let (proxy, mut client) = started(&cluster);
    let gate = Gate::default();
    let held = gate.clone();
    cluster.script(move |seen| match (seen.node, seen.arg(1).as_str()) {
        (1, "held") if seen.name() == "GET" => Answer::Hold(held.clone(), b"$3\r\nold\r\n".to_vec()),
        _ => number(seen),
    });
    // Of another slot: it goes at once.
    client.send(&[cmd!["GET", "held"], cmd!["SET", "other", "v"]].concat());
    eventually("the write to another slot arrives", || {
        let sets = cluster.seen_named("SET");
        check(sets.iter().any(|seen| seen.arg(1) == "other"), sets)
    });
    let mut waiting: Vec<Client> = Vec::new();
    for write in ["SET held v", "EVAL x 1 held", "DEL held second"] {
        waiting.push(proxy.client());
        let client = waiting.last_mut().expect("just pushed");
        client.send(&[cmd!["GET", "held"], words(write)].concat());
        // Long after it could have arrived.
        let mut busy = proxy.client();
        (0..50).for_each(|_| drop(busy.ok(&cmd!["INCR", "n"])));
        assert!(!cluster.seen().iter().any(|seen| seen.arg(1) == "held" && seen.node == 0), "{write}");
        assert!(!cluster.seen().iter().any(|seen| seen.arg(3) == "held"), "{write}");
    }
    gate.open();
    let replies: Vec<String> = client.values(2).iter().map(Value::text).collect();
    assert_eq!(replies, ["old", "OK"]);
    for client in &mut waiting {
        assert_eq!(client.value().text(), "old");
        client.value();
    }
    for name in ["SET", "EVAL", "DEL"] {
        assert!(
            cluster
                .seen_named(name)
                .iter()
                .any(|seen| seen.node == 0 && seen.args.contains(&b"held".to_vec()))
        );
    }
}

#[test]
fn a_connection_reads_what_it_wrote() {
    let cluster = numbered(1, 1);
    let (proxy, mut writer) = started(&cluster);
    let mut other = proxy.client();
    wait_reader(&mut other, "k", 1);
    // From now on the replica lags, within the bound.
    cluster.change_map(|map| map.data(0).offset = 7);
    let pipeline = [cmd!["SET", "k", "v"], cmd!["GET", "k"], cmd!["GET", "elsewhere"]].concat();
    writer.send(&pipeline);
    let replies: Vec<String> = writer.values(3).iter().map(Value::text).collect();
    assert_eq!(replies, ["OK", "0", "1"], "behind the write; what it did not write, at the replica");
    for _ in 0..20 {
        assert_eq!(reader(&mut writer, "k"), 0, "the replica does not have it yet");
        assert_eq!(reader(&mut other, "k"), 1, "others take what it has");
    }
    assert!(proxy.metrics().sum("slotway_replica_fit", &[]) == 1.0);
    cluster.change_map(|map| map.data(1).offset = 7);
    wait_reader(&mut writer, "k", 1);
    assert_eq!(reader(&mut writer, "k"), 1);
    proxy.wait_metric("slotway_reads_total", &["primary_own_write"], |count| count >= 20.0);
}

#[test]
fn what_takes_another_way_counts_as_a_write_anywhere() {
    let cluster = numbered(1, 1);
    let (_proxy, mut client) = started(&cluster);
    let key = key_in(7, "far");
    wait_reader(&mut client, &key, 1);
    cluster.change_map(|map| map.data(0).offset = 7);
    client.ok(&cmd!["FLUSHALL"]);
    assert_eq!(reader(&mut client, &key), 0);
    assert_eq!(reader(&mut client, "k"), 0);
    cluster.change_map(|map| map.data(1).offset = 7);
    wait_reader(&mut client, &key, 1);
}

#[test]
fn replies_of_both_nodes_come_in_request_order() {
    let cluster = numbered(1, 1);
    let (_proxy, mut client) = started(&cluster);
    let gate = Gate::default();
    let held = gate.clone();
    cluster.script(move |seen| match (seen.name().as_str(), seen.node, seen.arg(1).as_str()) {
        ("GET", 1, "slow") => Answer::Hold(held.clone(), b"$4\r\nslow\r\n".to_vec()),
        _ => number(seen),
    });
    client.send(&[cmd!["GET", "slow"], cmd!["TOUCH", "x"], cmd!["SET", "y", "v"], cmd!["GET", "y"]].concat());
    eventually("the others have arrived", || {
        let gets = cluster.seen_named("GET");
        check(gets.iter().any(|seen| seen.arg(1) == "y" && seen.node == 0), gets)
    });
    gate.open();
    let replies: Vec<String> = client.values(4).iter().map(Value::text).collect();
    assert_eq!(replies, ["slow", "OK", "OK", "0"]);
}

#[test]
fn what_large_writes_and_held_transactions_wrote_is_read_too() {
    let cluster = numbered(1, 1);
    let (proxy, mut large) = started_with(&cluster, &[("dedicated-request-bytes", "64KiB")]);
    let mut held = proxy.client();
    for key in ["{a}k", "{b}k", "{s}k"] {
        wait_reader(&mut large, key, 1);
        wait_reader(&mut held, key, 1);
    }
    // From now on the replica lags.
    cluster.change_map(|map| map.data(0).offset = 7);
    let value = "v".repeat(60_000);
    large.ok(&cmd!["MSET", "{a}k", value, "{b}k", value]);
    for key in ["{a}k", "{b}k"] {
        assert_eq!(reader(&mut large, key), 0, "{key}");
    }
    assert_eq!(reader(&mut large, "{s}k"), 1);
    // Nobody knows the script: the transaction waits until the nodes were asked for it.
    let asked = cluster.seen_named("SCRIPT").len();
    held.ok(&cmd!["MULTI"]);
    held.call(&cmd!["EVALSHA", "0123456789012345678901234567890123456789", "1", "{s}k"]);
    held.send(&cmd!["EXEC"]);
    held.value();
    assert!(cluster.seen_named("SCRIPT").len() > asked, "it was held");
    assert_eq!(reader(&mut held, "{s}k"), 0);
    assert_eq!(reader(&mut held, "{a}k"), 1);
}

#[test]
fn a_script_without_keys_waits_for_all_reads_at_replicas() {
    let cluster = numbered(1, 1);
    let (proxy, mut client) = started(&cluster);
    let gate = Gate::default();
    let held = gate.clone();
    cluster.script(move |seen| match (seen.name().as_str(), seen.node, seen.arg(1).as_str()) {
        ("GET", 1, "held") => Answer::Hold(held.clone(), b"$3\r\nold\r\n".to_vec()),
        _ => number(seen),
    });
    client.send(&[cmd!["GET", "held"], cmd!["EVAL", "x", "0"]].concat());
    eventually("the read arrives", || {
        let gets = cluster.seen_named("GET");
        check(gets.iter().any(|seen| seen.arg(1) == "held"), gets)
    });
    let mut busy = proxy.client();
    (0..50).for_each(|_| drop(busy.ok(&cmd!["INCR", "n"])));
    assert!(cluster.seen_named("EVAL").is_empty());
    gate.open();
    let replies: Vec<String> = client.values(2).iter().map(Value::text).collect();
    assert_eq!(replies, ["old", "OK"]);
}

#[test]
fn readonly_and_readwrite_inside_multi_take_effect_with_exec() {
    let cluster = numbered(1, 1);
    let (proxy, mut client) = started(&cluster);
    let gate = Gate::default();
    let held = gate.clone();
    cluster.script(move |seen| match (seen.name().as_str(), seen.node, seen.arg(1).as_str()) {
        ("GET", 1, "held") => Answer::Hold(held.clone(), b"$3\r\nold\r\n".to_vec()),
        ("EXEC", ..) => Answer::text("*1\r\n+OK"),
        ("APPEND", ..) => Answer::text("-ERR no"),
        _ => number(seen),
    });
    let transaction = [cmd!["MULTI"], cmd!["READWRITE"], cmd!["SET", "held", "v"], cmd!["EXEC"]].concat();
    client.send(&[cmd!["GET", "held"], transaction].concat());
    let mut busy = proxy.client();
    (0..50).for_each(|_| drop(busy.ok(&cmd!["INCR", "n"])));
    assert!(cluster.seen_named("EXEC").is_empty(), "the read of the same key is not answered");
    gate.open();
    assert_eq!(client.value().text(), "old");
    (0..3).for_each(|_| drop(client.value()));
    let replies = client.value();
    assert_eq!(replies.items().len(), 2, "{replies:?}");
    for _ in 0..20 {
        assert_eq!(reader(&mut client, "k"), 0, "READWRITE was executed");
    }
    // What EXEC does not execute changes nothing.
    let mut client = proxy.client();
    wait_reader(&mut client, "k", 1);
    cluster.script(|seen| match seen.name().as_str() {
        "EXEC" => Answer::text("-EXECABORT Transaction discarded because of previous errors."),
        _ => number(seen),
    });
    for line in ["MULTI", "READWRITE", "SET k v", "EXEC"] {
        client.call(&words(line));
    }
    wait_reader(&mut client, "k", 1);
    assert_eq!(reader(&mut client, "k"), 1);
}
