//! Which node a read goes to: by mode, by the fitness of the replicas, by zone.

use crate::support::client::{Client, words};
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{check, eventually};

use super::{number, numbered, proxy, reader, wait_fit, wait_reader};

/// Reads until the lane to a replica stands, then so often that chance can't explain it.
#[track_caller]
fn always_reads(client: &mut Client, node: usize) {
    wait_reader(client, "k", node);
    for _ in 0..20 {
        assert_eq!(reader(client, "k"), node);
    }
}

fn started(cluster: &FakeCluster, mode: &str, keys: &[(&str, &str)]) -> Proxy {
    let mut all = vec![("read-from", mode)];
    all.extend_from_slice(keys);
    proxy(&cluster.addrs()[..1], &all)
}

#[test]
fn each_mode_reads_where_it_says() {
    let cluster = numbered(1, 1);
    for (mode, node) in [("primary", 0), ("prefer-primary", 0), ("prefer-replica", 1), ("replica-only", 1)] {
        let proxy = started(&cluster, mode, &[]);
        if mode != "primary" {
            wait_fit(&proxy, 1);
        }
        let mut client = proxy.client();
        if mode == "replica-only" {
            assert_eq!(reader(&mut client, "k"), 1, "the first waits for its connection");
        }
        always_reads(&mut client, node);
        always_reads(&mut proxy.client_resp3(), node);
    }
    let from_replica: Vec<_> = cluster.seen_named("GET").into_iter().filter(|seen| seen.node == 1).collect();
    let readonly = cluster.seen_named("READONLY");
    for read in from_replica {
        assert!(readonly.iter().any(|seen| seen.connection == read.connection), "{read:?}");
    }
    assert!(readonly.iter().all(|seen| seen.node == 1), "{readonly:?}");
}

#[test]
fn only_what_a_replica_can_answer_goes_there() {
    let cluster = numbered(1, 1);
    let proxy = started(&cluster, "prefer-replica", &[]);
    wait_fit(&proxy, 1);
    always_reads(&mut proxy.client(), 1);
    let mut client = proxy.client();
    let at_replica =
        ["EXISTS k", "STRLEN k", "HGETALL k", "XREAD STREAMS k 0", "SORT_RO k", "OBJECT ENCODING k"];
    let at_primary =
        ["TOUCH k", "HSCAN k 0", "SSCAN k 0", "ZSCAN k 0", "OBJECT FREQ k", "EVAL x 1 k", "SORT k", "LOLWUT"];
    for (lines, node) in [(&at_replica[..], 1), (&at_primary[..], 0)] {
        for line in lines {
            // A client of its own each: what one wrote, it reads at the primary.
            proxy.client().call(&words(line));
            let seen = cluster.seen().into_iter().rfind(|seen| seen.bytes == words(line)).expect("arrived");
            assert_eq!(seen.node, node, "{line}");
        }
    }
    // What WATCH is about to guard, what stands in a transaction, what a node keeps track of.
    client.ok(&cmd!["WATCH", "k"]);
    assert_eq!(reader(&mut client, "k"), 0);
    client.ok(&cmd!["UNWATCH"]);
    wait_reader(&mut client, "k", 1);
    client.ok(&cmd!["MULTI"]);
    client.ok(&cmd!["GET", "transaction"]);
    client.send(&cmd!["EXEC"]);
    eventually("it arrives", || {
        let seen = cluster.seen_named("GET").into_iter().rfind(|seen| seen.arg(1) == "transaction");
        check(seen.as_ref().is_some_and(|seen| seen.node == 0), seen)
    });
    let mut tracking = proxy.client_resp3();
    wait_reader(&mut tracking, "k", 1);
    tracking.ok(&cmd!["CLIENT", "TRACKING", "ON"]);
    assert_eq!(reader(&mut tracking, "k"), 0);
}

#[test]
fn a_split_read_goes_part_by_part() {
    let cluster = numbered(3, 1);
    // The second shard's replica lacks something.
    cluster.change_map(|map| map.data(1).offset = 9);
    let proxy = started(&cluster, "prefer-replica", &[]);
    wait_fit(&proxy, 2);
    let mut client = proxy.client();
    let keys = [100, 6_000, 12_000].map(|slot| key_in(slot, "k"));
    let mget = cmd!["MGET", keys[0], keys[1], keys[2], keys[0]];
    eventually("each part from its node", || {
        let nodes = client.call(&mget).items().iter().map(Value::text).collect::<Vec<_>>();
        check(nodes == ["3", "1", "5", "3"], nodes)
    });
}

/// Makes a replica unfit, or fit again.
type Switch = fn(&FakeCluster, bool);

#[test]
fn replicas_that_are_not_fit_are_not_read_from() {
    let cluster = numbered(1, 1);
    let lag = &[("replica-max-lag", "2s")][..];
    let prefers = started(&cluster, "prefer-replica", lag);
    let only = started(&cluster, "replica-only", &[lag[0], ("owner-wait", "300ms")]);
    let unfit: [(&str, Switch); 4] = [
        ("lags", |cluster, on| cluster.change_map(|map| map.data(0).offset = u64::from(on))),
        ("cut off", |cluster, on| cluster.change_map(|map| map.data(1).cut = on)),
        ("loads", |cluster, on| cluster.change_map(|map| map.data(1).loading = on)),
        ("moves", |cluster, on| {
            cluster.change_map(|map| map.data(0).leaving = if on { " [5->-x]" } else { "" });
        }),
    ];
    for (why, set) in unfit {
        let fit = |count| {
            wait_fit(&prefers, count);
            wait_fit(&only, count);
        };
        fit(1);
        always_reads(&mut prefers.client(), 1);
        always_reads(&mut only.client(), 1);
        set(&cluster, true);
        fit(0);
        assert_eq!(reader(&mut prefers.client(), "k"), 0, "{why}");
        let refused = only.client().call(&cmd!["GET", "k"]);
        assert!(refused.error().starts_with("NOREPLICAS slotway: "), "{why}: {refused:?}");
        only.client().ok(&cmd!["SET", "k", "v"]);
        set(&cluster, false);
    }
    wait_fit(&prefers, 1);
    prefers.wait_metric("slotway_reads_total", &["primary_unusable"], |count| count >= 4.0);
}

#[test]
fn a_redirect_to_where_slots_move_keeps_reads_at_the_primary() {
    let cluster = numbered(1, 1);
    let proxy = started(&cluster, "prefer-replica", &[]);
    wait_fit(&proxy, 1);
    always_reads(&mut proxy.client(), 1);
    // The primary has given the key away, the target is it itself again: what it says does not matter here.
    let addr = cluster.addrs()[0];
    cluster.script(move |seen| match seen.name().as_str() {
        "APPEND" => Answer::text(&format!("-ASK {} {addr}", crate::support::keys::slot(b"k"))),
        _ => number(seen),
    });
    proxy.client().send(&cmd!["APPEND", "k", "x"]);
    wait_fit(&proxy, 0);
    assert_eq!(reader(&mut proxy.client(), "k"), 0);
}

#[test]
fn a_slot_that_has_gone_is_noticed_without_a_request() {
    let cluster = numbered(2, 1);
    let proxy = started(&cluster, "prefer-replica", &[]);
    wait_fit(&proxy, 2);
    let key = key_in(5, "k");
    wait_reader(&mut proxy.client(), &key, 2);
    // A refresh of the timer's, which comes often after the start, may be first: then the next slot goes.
    let mut slots = 5..;
    eventually("a node's own word makes a refresh", || {
        cluster.change_map(|map| map.assign(slots.next().expect("a slot"), 1));
        let count = proxy.metrics().sum("slotway_topology_refreshes_total", &["moving"]);
        check(count >= 1.0, count)
    });
    wait_reader(&mut proxy.client(), &key, 1);
    // When both have settled.
    wait_reader(&mut proxy.client(), &key, 3);
}

#[test]
fn while_the_primary_is_lost_prefer_primary_reads_at_a_replica() {
    let cluster = numbered(1, 1);
    let proxy = started(&cluster, "prefer-primary", &[("eject-after-failures", "1")]);
    wait_fit(&proxy, 1);
    let mut client = proxy.client();
    always_reads(&mut client, 0);
    cluster.script(|seen| if seen.node == 0 { Answer::Close(Vec::new()) } else { number(seen) });
    cluster.disconnect(0);
    // It was in flight, or comes before the loss is known: it may wait for the primary. Others do not.
    eventually("others read at the replica", || {
        let mut other = proxy.client();
        other.patience(std::time::Duration::from_millis(300));
        let reply = other.try_raw(&cmd!["GET", "k"]).map_err(|error| error.to_string());
        check(reply.as_deref() == Ok(&b"$1\r\n1\r\n"[..]), reply)
    });
    always_reads(&mut proxy.client(), 1);
    cluster.script(number);
    always_reads(&mut proxy.client(), 0);
    always_reads(&mut client, 0);
}

#[test]
fn nodes_of_our_own_zone_come_first() {
    let cluster = numbered(1, 2);
    let rules = "127.0.0.1/32=centre,127.0.0.2/32=east,127.0.0.3/32=west";
    let cases = [
        ("prefer-replica", "east", 1),
        ("prefer-replica", "west", 2),
        ("replica-only", "west", 2),
        ("nearest", "centre", 0),
        ("nearest", "west", 2),
    ];
    for (mode, zone, node) in cases {
        let proxy = started(&cluster, mode, &[("zone", zone), ("node-zones", rules)]);
        wait_fit(&proxy, 2);
        for _ in 0..4 {
            always_reads(&mut proxy.client(), node);
        }
    }
    // By the nodes' own word; the map of the configuration wins over it.
    cluster.change_map(|map| {
        map.data(1).zone = "a";
        map.data(2).zone = "b";
    });
    for (rules, node) in [("", 2), ("127.0.0.3=a,127.0.0.0/30=b", 1)] {
        let proxy = started(&cluster, "prefer-replica", &[("zone", "b"), ("node-zones", rules)]);
        wait_fit(&proxy, 2);
        for _ in 0..4 {
            always_reads(&mut proxy.client(), node);
        }
        let zones = if node == 2 { ["a", "b"] } else { ["b", "a"] };
        // Shown once a second.
        eventually("/topology shows it", || {
            let json: serde_json::Value = serde_json::from_str(&proxy.admin("/topology").1).expect("JSON");
            let replicas = json["shards"][0]["replicas"].as_array().cloned().unwrap_or_default();
            let good = replicas.iter().zip(zones).all(|(replica, zone)| {
                let fit = replica["reads"] == "yes" && replica["lag_bytes"] == 0;
                fit && replica["zone"] == zone && replica["lag_seconds"].is_number()
            });
            check(good && replicas.len() == 2, json)
        });
    }
}

#[test]
fn without_zones_clients_are_spread_and_each_stays_with_one() {
    let cluster = numbered(1, 2);
    let proxy = started(&cluster, "prefer-replica", &[]);
    wait_fit(&proxy, 2);
    let mut clients: Vec<Client> = (0..40).map(|_| proxy.client()).collect();
    eventually("both lanes stand", || {
        let nodes: Vec<usize> = clients.iter_mut().map(|client| reader(client, "k")).collect();
        check(nodes.contains(&1) && nodes.contains(&2) && !nodes.contains(&0), nodes)
    });
    let nodes: Vec<usize> = clients.iter_mut().map(|client| reader(client, "k")).collect();
    for _ in 0..10 {
        for (client, node) in clients.iter_mut().zip(&nodes) {
            assert_eq!(reader(client, "k"), *node);
        }
    }
}

#[test]
fn a_replica_that_leaves_moves_only_its_own_clients_and_none_to_older_data() {
    let cluster = numbered(1, 3);
    let proxy = started(&cluster, "prefer-replica", &[("replica-max-lag", "60s")]);
    wait_fit(&proxy, 3);
    let mut clients: Vec<Client> = (0..40).map(|_| proxy.client()).collect();
    let nodes_of = |clients: &mut [Client]| -> Vec<usize> {
        clients.iter_mut().map(|client| reader(client, "k")).collect()
    };
    eventually("all lanes stand", || {
        let nodes = nodes_of(&mut clients);
        check((1..=3).all(|node| nodes.contains(&node)) && !nodes.contains(&0), nodes)
    });
    let before = nodes_of(&mut clients);
    cluster.change_map(|map| map.data(3).loading = true);
    wait_fit(&proxy, 2);
    for (before, after) in before.iter().zip(nodes_of(&mut clients)) {
        assert!(after == *before || *before == 3, "{before} is as fit as it was, not {after}");
    }
    eventually("those have another replica", || {
        let nodes = nodes_of(&mut clients);
        check(!nodes.contains(&0), nodes)
    });
    // The second lags from now on; the first is proven to be newer, and read from. Then it goes.
    cluster.change_map(|map| {
        map.data(0).offset = 7;
        map.data(1).offset = 7;
    });
    let mut writer = proxy.client();
    writer.ok(&cmd!["SET", "k", "v"]);
    wait_reader(&mut writer, "k", 1);
    let before = nodes_of(&mut clients);
    cluster.change_map(|map| map.data(1).loading = true);
    wait_fit(&proxy, 1);
    for (before, after) in before.iter().zip(nodes_of(&mut clients)) {
        assert_eq!(after, if *before == 1 { 0 } else { 2 }, "not to older data");
    }
    assert_eq!(reader(&mut proxy.client(), "k"), 2, "it may be read from");
}

#[test]
fn a_client_chooses_by_readonly_and_readwrite() {
    let cluster = numbered(1, 1);
    let by_choice = started(&cluster, "primary", &[("read-from-readonly", "prefer-replica")]);
    wait_fit(&by_choice, 1);
    let mut client = by_choice.client();
    let mut other = by_choice.client();
    assert_eq!(reader(&mut client, "k"), 0);
    client.ok(&cmd!["READONLY"]);
    always_reads(&mut client, 1);
    assert_eq!(reader(&mut other, "k"), 0, "each for itself");
    client.ok(&cmd!["READWRITE"]);
    always_reads(&mut client, 0);
    // In one pipeline, and back by RESET.
    let pipeline =
        [cmd!["GET", "k"], cmd!["READONLY"], cmd!["GET", "k"], cmd!["READWRITE"], cmd!["GET", "k"]].concat();
    client.send(&pipeline);
    let replies: Vec<String> = client.values(5).iter().map(Value::text).collect();
    assert_eq!(replies, ["0", "OK", "0", "OK", "0"], "what was written before is not known to be there yet");
    client.ok(&cmd!["READONLY"]);
    wait_reader(&mut client, "k", 1);
    client.ok(&cmd!["RESET"]);
    assert_eq!(reader(&mut client, "k"), 0);
    // The other way round, and without a choice of its own READONLY changes nothing.
    let usual = started(&cluster, "prefer-replica", &[]);
    wait_fit(&usual, 1);
    let mut client = usual.client();
    always_reads(&mut client, 1);
    client.ok(&cmd!["READWRITE"]);
    always_reads(&mut client, 0);
    client.ok(&cmd!["READONLY"]);
    always_reads(&mut client, 1);
    let off = started(&cluster, "primary", &[]);
    let mut client = off.client();
    client.ok(&cmd!["READONLY"]);
    always_reads(&mut client, 0);
    assert_eq!(off.metrics().sum("slotway_reads_total", &[]), 0.0);
}
