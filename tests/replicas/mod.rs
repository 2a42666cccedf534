//! Reads from replicas: where each mode reads, which replicas are fit, what keeps the order of one connection's
//! commands, and what becomes of a read that a replica does not answer.

mod choice;
mod order;
mod real;
mod refused;

use std::net::SocketAddr;

use crate::support::client::Client;
use crate::support::node::{Answer, FakeCluster, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::bulk;
use crate::support::{check, eventually};

/// A proxy with one worker that looks at replicas often.
fn proxy(seeds: &[SocketAddr], keys: &[(&str, &str)]) -> Proxy {
    let mut all = vec![("workers", "1"), ("probe-interval", "100ms")];
    all.extend_from_slice(keys);
    Proxy::start(seeds, &all)
}

/// Waits until so many replicas are fit to be read from.
#[track_caller]
fn wait_fit(proxy: &Proxy, count: usize) {
    proxy.wait_metric("slotway_replica_fit", &[], |fit| fit == count as f64);
}

/// Fake nodes that answer every read with their number.
fn numbered(primaries: usize, per: usize) -> FakeCluster {
    let cluster = FakeCluster::with_replicas(primaries, per);
    cluster.script(number);
    cluster
}

/// What a numbered node says.
fn number(seen: &Seen) -> Answer {
    match seen.name().as_str() {
        "GET" | "EVAL_RO" | "EVALSHA_RO" => Answer::Reply(bulk(seen.node.to_string().as_bytes())),
        "MGET" => {
            let values: Vec<u8> =
                (1..seen.args.len()).flat_map(|_| bulk(seen.node.to_string().as_bytes())).collect();
            Answer::Reply([format!("*{}\r\n", seen.args.len() - 1).into_bytes(), values].concat())
        }
        _ => Answer::Standard,
    }
}

/// The node that answers a read of `key`.
#[track_caller]
fn reader(client: &mut Client, key: &str) -> usize {
    client.call(&cmd!["GET", key]).text().parse().expect("a node's number")
}

/// Waits until this client's reads of `key` come from `node`.
#[track_caller]
fn wait_reader(client: &mut Client, key: &str, node: usize) {
    eventually(&format!("node {node} is read from"), || {
        let from = reader(client, key);
        check(from == node, from)
    });
}
