//! A script a client once named works after what happened to the nodes since: one came back empty, one joined,
//! a replica took over; whoever loaded it, through whichever instance. In pipelines and in transactions.

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk};
use crate::support::{check, eventually, heavy, shared};

/// Says its key and its argument.
const BODY: &str = "return {KEYS[1],ARGV[1]}";

fn sha_of(body: &str) -> String {
    shared::standalone().client().ok(&cmd!["SCRIPT", "LOAD", body]).text()
}

fn evalsha(sha: &str, key: &str, argument: &str) -> Vec<u8> {
    cmd!["EVALSHA", sha, "1", key, argument]
}

fn pair(key: &str, argument: &str) -> Value {
    Value::Array(vec![Value::Bulk(key.into()), Value::Bulk(argument.into())])
}

/// The script works for each of `keys`: in one packet, several for one key among them, and in transactions, with
/// WATCH and without.
#[track_caller]
fn works(client: &mut Client, sha: &str, keys: &[String]) {
    let all: Vec<(String, String)> = (0..30).map(|n| (keys[n % keys.len()].clone(), n.to_string())).collect();
    client.send(&all.iter().flat_map(|(key, n)| evalsha(sha, key, n)).collect::<Vec<u8>>());
    for (key, n) in &all {
        assert_eq!(client.value(), pair(key, n));
    }
    transactions_work(client, sha, keys);
}

#[track_caller]
fn transactions_work(client: &mut Client, sha: &str, keys: &[String]) {
    for (n, key) in keys.iter().enumerate() {
        if n % 2 == 1 {
            client.ok(&cmd!["WATCH", key]);
        }
        let queued = [evalsha(sha, key, "a"), cmd!["SET", key, "v"], evalsha(sha, key, "b")].concat();
        client.send(&[words("MULTI"), queued, words("EXEC")].concat());
        let replies = client.values(5);
        let expected = vec![pair(key, "a"), Value::Simple("OK".into()), pair(key, "b")];
        assert_eq!(replies[4], Value::Array(expected), "{replies:?}");
    }
}

fn keys(cluster: &RedisCluster) -> Vec<String> {
    (0..3).map(|index| key_in(cluster.slot_of(index), "script")).collect()
}

#[test]
fn scripts_work_on_a_node_that_came_back_empty() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let (keys, sha) = (keys(&cluster), sha_of(BODY));
    // Seen in an EVAL of another client.
    proxy.client().ok(&cmd!["EVAL", BODY, "1", keys[0], "x"]);
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| works(client, &sha, &keys));
    for first_transactions in [false, true] {
        for node in 0..3 {
            let addr = cluster.nodes[node].addr();
            cluster.nodes[node].restart_at(addr);
        }
        cluster.wait_healthy();
        for client in &mut clients {
            if first_transactions {
                transactions_work(client, &sha, &keys);
            }
            works(client, &sha, &keys);
        }
    }
}

#[test]
fn scripts_work_on_a_node_that_joined() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let (keys, sha, other) = (keys(&cluster), sha_of(BODY), sha_of("return ARGV[1]"));
    let mut client = proxy.client();
    client.ok(&cmd!["EVAL", BODY, "1", keys[0], "x"]);
    assert_eq!(client.ok(&cmd!["SCRIPT", "LOAD", "return ARGV[1]"]).text(), other);
    works(&mut client, &sha, &keys);
    let joined = cluster.join();
    cluster.move_slot_to(cluster.slot_of(0), 0, &joined);
    works(&mut client, &sha, &keys);
    assert_eq!(client.call(&evalsha(&other, &keys[0], "y")), Value::Bulk(b"y".to_vec()));
    let known = joined.client().ok(&cmd!["SCRIPT", "EXISTS", sha, other]);
    assert_eq!(known, Value::Array(vec![Value::Int(1), Value::Int(1)]), "it was told");
}

#[test]
fn scripts_work_on_a_replica_that_took_over() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let (keys, sha) = (keys(&cluster), sha_of(BODY));
    let mut client = proxy.client();
    client.patience(std::time::Duration::from_secs(40));
    assert_eq!(client.ok(&cmd!["SCRIPT", "LOAD", BODY]).text(), sha);
    works(&mut client, &sha, &keys);
    cluster.nodes[0].kill();
    eventually("a replica took over", || {
        let reply = client.call(&cmd!["SET", keys[0], "v"]);
        check(!reply.is_error(), reply)
    });
    works(&mut client, &sha, &keys);
}

#[test]
fn scripts_that_another_instance_loaded_work() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let start = || Proxy::start(&shared::seeds(&cluster), &[("workers", "1")]);
    let (one, two) = (start(), start());
    let (keys, sha) = (keys(&cluster), sha_of(BODY));
    assert_eq!(one.client().ok(&cmd!["SCRIPT", "LOAD", BODY]).text(), sha);
    let mut client = two.client();
    works(&mut client, &sha, &keys);
    assert_eq!(client.ok(&cmd!["SCRIPT", "EXISTS", sha]), Value::Array(vec![Value::Int(1)]));
    // A node that joins later knows nothing of it, and the second instance never saw it: the truth, and what
    // clients do then helps for good.
    let joined = cluster.join();
    cluster.move_slot_to(cluster.slot_of(0), 0, &joined);
    assert!(client.call(&evalsha(&sha, &keys[0], "x")).error().starts_with("NOSCRIPT"));
    assert_eq!(client.call(&cmd!["EVAL", BODY, "1", keys[0], "x"]), pair(&keys[0], "x"));
    works(&mut client, &sha, &keys);
    works(&mut one.client(), &sha, &keys);
}

/// Servers with SCRIPT SHOW tell what another instance loaded before this node was there.
#[test]
fn a_script_nobody_told_us_is_asked_for_where_nodes_tell() {
    need_redis!();
    let sha = sha_of(BODY);
    let fake = FakeCluster::start(3);
    let name = sha.clone();
    let loaded = std::sync::Mutex::new(false);
    fake.script(move |seen| {
        let mut loaded = loaded.lock().expect("a lock");
        match (seen.name().as_str(), seen.arg(1).to_uppercase().as_str(), seen.node) {
            ("SCRIPT", "SHOW", 2) if seen.arg(2) == name => Answer::Reply(bulk(BODY.as_bytes())),
            // Words that do not belong to that name are not believed.
            ("SCRIPT", "SHOW", 1) => Answer::Reply(bulk(b"return 'another'")),
            ("SCRIPT", "SHOW", _) => Answer::text("-NOSCRIPT No matching script."),
            ("SCRIPT", "LOAD", 0) => {
                *loaded = seen.arg(2) == BODY;
                Answer::Reply(bulk(name.as_bytes()))
            }
            ("EVALSHA", _, 0) if *loaded && seen.arg(1) == name => Answer::text("+done"),
            ("EVALSHA", ..) => Answer::text("-NOSCRIPT No matching script. Please use EVAL."),
            _ => Answer::Standard,
        }
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let key = key_in(100, "k");
    let mut client = proxy.client();
    client.send(&[evalsha(&sha, &key, "x"), words("PING"), cmd!["GET", key]].concat());
    // A later command on its key is on its way: it must not be overtaken.
    assert!(client.value().error().starts_with("NOSCRIPT"));
    client.values(2);
    assert_eq!(client.call(&evalsha(&sha, &key, "x")), Value::Simple("done".into()));
    assert_eq!(client.call(&cmd!["SCRIPT", "SHOW", sha]).text(), BODY);
    let unknown = "0".repeat(40);
    assert!(client.call(&evalsha(&unknown, &key, "x")).error().starts_with("NOSCRIPT"));
    let evals: Vec<_> =
        fake.seen_named("EVALSHA").into_iter().filter(|seen| seen.arg(1) == unknown).collect();
    assert!(evals.len() <= 2, "{evals:?}");
}

#[test]
fn servers_that_do_not_tell_scripts_are_not_asked_again_and_again() {
    let fake = FakeCluster::start(2);
    fake.script(|seen| match (seen.name().as_str(), seen.arg(1).to_uppercase().as_str()) {
        ("SCRIPT", "SHOW") => Answer::text("-ERR unknown subcommand 'SHOW'. Try SCRIPT HELP."),
        ("EVALSHA", _) => Answer::text("-NOSCRIPT No matching script. Please use EVAL."),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let mut client = proxy.client();
    for n in 0..20 {
        let reply = client.call(&evalsha(&format!("{n:040}"), "k", "x"));
        assert!(reply.error().starts_with("NOSCRIPT"), "{reply:?}");
    }
    assert_eq!(fake.seen_named("SCRIPT").len(), 2, "one question to each node");
}
