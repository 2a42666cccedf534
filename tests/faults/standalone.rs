//! One server behind the proxy, and a proxy that expects a cluster where there is none.

use std::process::Command;
use std::time::Duration;

use crate::support::client::{Client, words};
use crate::support::hosts::Hosts;
use crate::support::load::Load;
use crate::support::proxy::{Proxy, Setup};
use crate::support::resp::Value;
use crate::support::server::Server;
use crate::support::{check, eventually, heavy, within};

const STANDALONE: (&str, &str) = ("upstream", "standalone");

fn proxy(server: &Server, keys: &[(&str, &str)]) -> Proxy {
    Proxy::start(&[server.addr()], &[&[STANDALONE], keys].concat())
}

/// Waits for `/readyz` to say this.
#[track_caller]
fn wait_reason(proxy: &Proxy, said: &str) {
    eventually("a clear reason", || {
        let (status, body) = proxy.admin("/readyz?verbose");
        check(status == 503 && body.contains(said), body)
    });
}

#[test]
fn what_a_cluster_cannot_do_one_server_does() {
    need_redis!();
    let (server, single) = (Server::standalone(&[]), Server::standalone(&[]));
    let proxy = proxy(&server, &[]);
    for resp3 in [false, true] {
        let mut through = if resp3 { proxy.client_resp3() } else { proxy.client() };
        let mut direct = single.client();
        if resp3 {
            direct.call(&words("HELLO 3"));
        }
        for line in [
            "FLUSHALL",
            "MSET a 1 b 2 c 3",
            "MGET a b c d",
            "SADD s1 x y",
            "SADD s2 y z",
            "SUNIONSTORE s3 s1 s2",
            "SCARD s3",
            "SINTER s1 s2",
            "RENAME a e",
            "MSETNX f 1 g 2 b 3",
            "EXISTS a b c d e f g",
            "PFMERGE h1 h2 h3",
            "BITOP AND b1 b c",
            "EVAL return{redis.call('get',KEYS[1]),redis.call('get',KEYS[2])} 2 b c",
            "WATCH b c",
            "MULTI",
            "INCR b",
            "INCR c",
            "MGET b c",
            "EXEC",
            "BLPOP l1 l2 0.01",
            "LMOVE l1 l2 LEFT RIGHT",
            "SORT s1 BY w_* ALPHA GET # GET v_*",
            "DBSIZE",
            "KEYS [bc]",
            "SCAN 0 COUNT 1000 MATCH e",
            "DEL b c e s1 s2 s3",
            "OBJECT ENCODING h1",
            "SPUBLISH shard x",
            "WAIT 0 100",
            "CLUSTER KEYSLOT a",
        ] {
            let (got, wanted) = (through.raw(&words(line)), direct.raw(&words(line)));
            let ordered = |bytes: &[u8]| {
                let mut lines: Vec<_> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                lines.sort();
                lines
            };
            if line.starts_with("CLUSTER") {
                assert_eq!(got, b":15495\r\n", "one virtual node owns all slots");
            } else {
                assert_eq!(ordered(&got), ordered(&wanted), "{line}: {}", got.escape_ascii());
            }
        }
    }
    let mut client = proxy.client();
    assert!(client.call(&words("CLUSTER SLOTS")).items().len() == 1);
    assert!(client.call(&words("SELECT 1")).is_error(), "one database, as everywhere");
}

#[test]
fn channels_and_scans_of_one_server() {
    need_redis!();
    let server = Server::standalone(&[]);
    let proxy = proxy(&server, &[]);
    let (mut client, mut listener) = (proxy.client(), proxy.client());
    listener.ok(&words("SSUBSCRIBE one"));
    listener.ok(&words("SSUBSCRIBE two"));
    listener.ok(&words("SUBSCRIBE three"));
    for (command, channel) in [("SPUBLISH", "one"), ("SPUBLISH", "two"), ("PUBLISH", "three")] {
        assert_eq!(client.call(&cmd![command, channel, "x"]).int(), 1);
        assert_eq!(listener.value().items()[1].text(), channel);
    }
    for n in 0..500 {
        client.ok(&cmd!["SET", format!("key:{n}"), "v"]);
    }
    let (mut cursor, mut keys) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        let reply = client.ok(&cmd!["SCAN", cursor, "COUNT", "37"]);
        keys.extend(reply.items()[1].items().iter().map(Value::text));
        cursor = reply.items()[0].text();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(keys.len(), 500);
}

#[test]
fn a_restart_is_waited_for() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut server = Server::standalone(&[]);
    let proxy = proxy(&server, &[]);
    let mut client = proxy.client();
    client.patience(Duration::from_secs(40));
    client.ok(&words("SET k before"));
    for _ in 0..3 {
        server.kill();
        eventually("the loss is noticed", || {
            let up = proxy.metrics().sum("slotway_backend_connections", &[]);
            check(up < 1.0, up)
        });
        client.send(&words("SET k after"));
        let addr = server.addr();
        server.restart_at(addr);
        assert_eq!(client.value(), Value::Simple("OK".to_owned()), "nothing was sent, so nothing failed");
        assert_eq!(client.call(&words("GET k")).text(), "after");
    }
    Load::default().during(proxy.addr(), |progress| progress.wait(50));
}

#[test]
fn a_demoted_server_gets_nothing_until_it_is_a_primary_again() {
    need_redis!();
    let server = Server::standalone(&[]);
    // Refreshes are rare: READONLY itself has to be the sign.
    let proxy = proxy(&server, &[("refresh-interval", "60s"), ("workers", "1")]);
    let mut client = proxy.client();
    client.patience(Duration::from_secs(40));
    client.ok(&words("SET counter 0"));
    server.client().ok(&words("REPLICAOF 127.0.0.1 1"));
    client.send(&[words("INCR counter"), words("INCR counter")].concat());
    eventually("its slots have no owner", || {
        let topology = proxy.admin("/topology").1;
        check(topology.contains("\"slots_covered\": 0,"), topology)
    });
    let mut other = proxy.client();
    other.patience(Duration::from_secs(40));
    other.send(&words("GET counter"));
    server.client().ok(&words("REPLICAOF NO ONE"));
    assert_eq!((client.value(), client.value()), (Value::Int(1), Value::Int(2)), "in order, each once");
    assert!(!other.value().is_error());
}

/// Waits until a read of `k` gets no answer: a worker takes a table over a moment after it is shown. The client is
/// still owed one.
#[track_caller]
pub(super) fn held_read(proxy: &Proxy) -> Client {
    eventually("a read waits", || {
        let mut client = proxy.client();
        client.patience(Duration::from_millis(500));
        client.send(&words("GET k"));
        match client.try_reply() {
            Ok(reply) => Err(reply),
            Err(_) => {
                client.patience(Duration::from_secs(40));
                Ok(client)
            }
        }
    })
}

#[test]
fn a_demoted_server_is_noticed_without_a_write() {
    need_redis!();
    let server = Server::standalone(&[]);
    let keys = [("refresh-interval", "300s"), ("probe-interval", "500ms"), ("workers", "1")];
    let proxy = proxy(&server, &keys);
    proxy.client().ok(&words("SET k v"));
    server.client().ok(&words("REPLICAOF 127.0.0.1 1"));
    eventually("its slots have no owner", || {
        let topology = proxy.admin("/topology").1;
        check(topology.contains("\"slots_covered\": 0,"), topology)
    });
    let mut held = held_read(&proxy);
    server.client().ok(&words("REPLICAOF NO ONE"));
    assert_eq!(held.value().text(), "v");
}

#[test]
fn a_name_is_followed_to_another_address() {
    need_redis!();
    let _one_at_a_time = heavy();
    const NAME: &str = "single.slotway.test";
    let hosts = Hosts::new(&[("127.0.0.1", NAME)]);
    let Some(wrapper) = hosts.wrapper() else { return };
    let mut server = Server::standalone(&[]);
    let port = server.addr().port();
    let (seeds, keys) = (vec![format!("{NAME}:{port}")], vec![STANDALONE, ("refresh-interval", "1s")]);
    let proxy = Proxy::launch(&Setup { seeds, keys, wrapper });
    proxy.wait_ready();
    let mut client = proxy.client();
    client.patience(Duration::from_secs(40));
    client.ok(&words("SET k first"));
    // The pod moves: the old address answers nothing any more.
    server.restart_at(std::net::SocketAddr::from(([127, 0, 0, 7], port)));
    hosts.set(&[("127.0.0.7", NAME)]);
    within(Duration::from_secs(25), "the new address is found", || {
        let reply = client.call(&words("SET k second"));
        check(!reply.is_error(), reply)
    });
    // A second server takes over while the first still runs: the name alone tells.
    let mut next = Server::standalone(&[]);
    next.restart_at(std::net::SocketAddr::from(([127, 0, 0, 8], port)));
    hosts.set(&[("127.0.0.8", NAME)]);
    within(Duration::from_secs(25), "the name is followed", || {
        client.ok(&words("SET k third"));
        let there = next.client().call(&words("EXISTS k")).int();
        check(there == 1, there)
    });
}

#[test]
fn what_is_no_primary_or_a_cluster_node_is_a_clear_reason() {
    need_redis!();
    let primary = Server::standalone(&[]);
    let replica = Server::standalone(&[]);
    let (ip, port) = (primary.addr().ip().to_string(), primary.addr().port().to_string());
    replica.client().ok(&cmd!["REPLICAOF", ip, port]);
    let launch = |server: &Server| {
        let seeds = vec![server.addr().to_string()];
        Proxy::launch(&Setup { seeds, keys: vec![STANDALONE], wrapper: Vec::new() })
    };
    let proxy = launch(&replica);
    wait_reason(&proxy, "a replica; the seeds have to lead to its primary");
    replica.client().ok(&words("REPLICAOF NO ONE"));
    proxy.wait_ready();
    let node = Server::cluster_node(Duration::from_secs(2), &[]);
    wait_reason(&launch(&node), "set `upstream` to cluster");
    // Of several seeds the primary is taken.
    let back = cmd!["REPLICAOF", primary.addr().ip().to_string(), primary.addr().port().to_string()];
    replica.client().ok(&back);
    let seeds = vec![replica.addr().to_string(), primary.addr().to_string()];
    let both = Proxy::launch(&Setup { seeds, keys: vec![STANDALONE], wrapper: Vec::new() });
    both.wait_ready();
    both.client().ok(&words("SET k v"));
}

#[test]
fn a_cluster_that_is_none_is_a_clear_reason_until_it_is_one() {
    need_redis!();
    let mut server = Server::cluster_node(Duration::from_secs(2), &[]);
    server.restart_with(&[]);
    let seeds = vec![server.addr().to_string()];
    let keys = vec![("owner-wait", "500ms")];
    let proxy = Proxy::launch(&Setup { seeds, keys, wrapper: Vec::new() });
    wait_reason(&proxy, "cluster support is disabled at the node; set `upstream` to standalone or sentinel");
    let mut client = proxy.client();
    let error = client.call(&words("GET k"));
    assert!(error.error().starts_with("CLUSTERDOWN slotway: cluster support is disabled"), "{error:?}");
    let topology = Command::new(env!("CARGO_BIN_EXE_slotway"))
        .args(["topology", "--seed", &server.addr().to_string()])
        .output()
        .expect("slotway topology");
    let said = String::from_utf8_lossy(&topology.stderr);
    assert!(topology.status.code() == Some(1) && said.contains("cluster support is disabled"), "{said}");
    let topology = Command::new(env!("CARGO_BIN_EXE_slotway"))
        .args(["topology", "--upstream", "standalone", "--seed", &server.addr().to_string()])
        .output()
        .expect("slotway topology");
    let said = String::from_utf8_lossy(&topology.stdout);
    assert!(topology.status.success() && said.contains("16384 of 16384 slots covered"), "{said}");
    server.restart_with(&["--cluster-enabled", "yes"]);
    server.client().ok(&words("CLUSTER ADDSLOTSRANGE 0 16383"));
    proxy.wait_ready();
    eventually("the cluster works", || {
        let reply = client.call(&words("SET k v"));
        check(reply == Value::Simple("OK".to_owned()), reply)
    });
}
