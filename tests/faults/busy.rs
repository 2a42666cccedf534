//! A script or function that does not end is stopped through the proxy, while other shards go on.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, frame, show};
use crate::support::{check, eventually, shared};

fn cluster() -> (RedisCluster, Proxy) {
    let options = &["--busy-reply-threshold", "100"][..];
    let node_timeout = Duration::from_secs(20);
    let cluster = RedisCluster::shaped(&Shape { replicas_per: 0, node_timeout, options, ..Shape::default() });
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    (cluster, proxy)
}

/// Words parted by `|`, for arguments with blanks in them.
fn request(line: &str) -> Vec<u8> {
    frame(&line.split('|').map(str::as_bytes).collect::<Vec<_>>())
}

/// A script that does not end by itself, at the node of `key`.
fn spin(client: &mut Client, key: &str, writes: bool) {
    let write = if writes { "redis.call('set', KEYS[1], 1) " } else { "" };
    client.send(&cmd!["EVAL", format!("{write}while true do end"), "1", key]);
}

#[test]
fn a_busy_script_is_killed_through_the_proxy_while_others_go_on() {
    need_redis!();
    let (cluster, proxy) = cluster();
    let (busy, free) = (key_in(cluster.slot_of(1), "busy"), key_in(cluster.slot_of(0), "free"));
    for name in ["SCRIPT", "FUNCTION"] {
        let mut runs = proxy.client();
        if name == "SCRIPT" {
            spin(&mut runs, &busy, false);
        } else {
            let library =
                "#!lua name=spin\nredis.register_function('spin', function() while true do end end)";
            proxy.client().ok(&request(&format!("FUNCTION|LOAD|{library}")));
            runs.send(&cmd!["FCALL", "spin", "1", busy]);
        }
        let mut client = proxy.client();
        eventually("the node is busy", || {
            let reply = cluster.client(1).call(&cmd!["GET", busy]);
            check(reply.is_error() && reply.error().starts_with("BUSY"), reply)
        });
        client.ok(&cmd!["SET", free, "v"]);
        if name == "FUNCTION" {
            client.send(&request("FUNCTION|STATS"));
            let stats = client.reply();
            assert!(stats.windows(11).any(|at| at == b"duration_ms"), "{}", show(&stats));
        }
        assert_eq!(client.call(&request(&format!("{name}|KILL"))), Value::Simple("OK".into()));
        assert!(runs.value().error().contains("killed"), "{name}");
        assert!(client.call(&request(&format!("{name}|KILL"))).error().starts_with("NOTBUSY"));
    }
}

#[test]
fn a_script_that_has_written_is_not_killed_and_says_so() {
    need_redis!();
    let (cluster, proxy) = cluster();
    let busy = key_in(cluster.slot_of(2), "busy");
    let mut runs = proxy.client();
    spin(&mut runs, &busy, true);
    let mut client = proxy.client();
    eventually("it cannot be killed", || {
        let reply = client.call(&request("SCRIPT|KILL"));
        check(reply.is_error() && reply.error().starts_with("UNKILLABLE"), reply)
    });
}

#[test]
fn kill_reaches_a_node_whose_dedicated_connections_are_all_taken() {
    need_redis!();
    let (cluster, _) = cluster();
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("dedicated-max-per-node", "1")]);
    let (mut waits, mut refused, mut runs) = (proxy.client(), proxy.client(), proxy.client());
    let busy = key_in(cluster.slot_of(1), "busy");
    waits.send(&cmd!["BLPOP", key_in(cluster.slot_of(1), "list"), "0"]);
    eventually("the place is taken", || {
        let reply = refused.call(&cmd!["BLPOP", key_in(cluster.slot_of(1), "list"), "0.01"]);
        check(reply.is_error() && reply.error().contains("dedicated-max-per-node"), reply)
    });
    spin(&mut runs, &busy, false);
    eventually("the script is killed", || {
        let reply = proxy.client().call(&request("SCRIPT|KILL"));
        check(reply == Value::Simple("OK".into()), reply)
    });
    assert!(runs.value().error().contains("killed"));
}
