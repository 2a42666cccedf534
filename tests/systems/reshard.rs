//! E: a cluster with a password that its people scale by hand with `redis-cli --cluster`: two nodes more, slots
//! from everybody to the new one, back again, and the pods stopped without anybody forgetting them.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use crate::support::client::words;
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::load::Load;
use crate::support::proxy::{Proxy, Setup};
use crate::support::server::Server;
use crate::support::{check, eventually, heavy, within};

const PASSWORD: &str = "secret";
/// Slots that move; a real one moves 4096, which takes minutes here.
const MOVED: &str = "300";

/// What it prints.
fn redis_cli(args: &[&str]) -> Result<String, String> {
    let mut command = Command::new("redis-cli");
    let run = command.args(["-a", PASSWORD, "--no-auth-warning", "--cluster"]).args(args).output();
    let run = run.expect("redis-cli");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    if run.status.success() { Ok(said) } else { Err(format!("redis-cli --cluster {args:?}: {said}")) }
}

#[test]
fn system_e_manual_reshard_with_a_password() {
    need_redis!();
    let _one_at_a_time = heavy();
    let options = &["--requirepass", PASSWORD, "--masterauth", PASSWORD];
    let node_timeout = Duration::from_secs(5);
    let cluster = RedisCluster::shaped(&Shape { node_timeout, options, ..Shape::default() });
    let seeds = vec![format!("localhost:{}", cluster.nodes[1].addr().port())];
    let proxy =
        Proxy::launch(&Setup { seeds, keys: vec![("upstream-password", PASSWORD)], wrapper: Vec::new() });
    proxy.wait_ready();
    let mut pods: Vec<Server> = (0..2).map(|_| Server::cluster_node(node_timeout, options)).collect();
    let (first, new, replica) =
        (cluster.nodes[0].addr().to_string(), pods[0].addr().to_string(), pods[1].addr().to_string());
    let id = pods[0].client().call(&words("CLUSTER MYID")).text();
    let owner = cluster.client(0).call(&words("CLUSTER MYID")).text();
    let move_slots = |from, to| {
        let what = ["reshard", &first, "--cluster-from", from, "--cluster-to", to];
        [&what[..], &["--cluster-slots", MOVED, "--cluster-yes"]].concat()
    };
    Load::default().during(proxy.addr(), |progress| {
        step(&first, &["add-node", &new, &first], 7);
        step(&first, &["add-node", &replica, &first, "--cluster-slave", "--cluster-master-id", &id], 8);
        progress.wait(20);
        step(&first, &move_slots("all", &id), 8);
        progress.wait(50);
        step(&first, &move_slots(&id, &owner), 8);
        progress.wait(50);
    });
    nodes_stop_without_forget(&cluster, &proxy, &mut pods);
}

/// One step of a scaling, and until all nodes, so many, agree on what came of it, as people wait before the next.
fn step(first: &str, args: &[&str], nodes: usize) {
    redis_cli(args).unwrap_or_else(|said| panic!("{said}"));
    eventually("all nodes agree", || {
        let said = redis_cli(&["check", first])?;
        let known = said.lines().filter(|line| line.contains("M: ") || line.contains("S: ")).count();
        check(known == nodes && !said.contains("[ERR]"), said)
    });
}

fn nodes_stop_without_forget(cluster: &RedisCluster, proxy: &Proxy, pods: &mut [Server]) {
    within(Duration::from_secs(25), "the new node has no slots any more", || {
        let topology = proxy.admin("/topology").1;
        check(topology.matches("\"primary\": {").count() == 3, topology)
    });
    for pod in pods.iter_mut().rev() {
        pod.kill();
    }
    for index in 0..cluster.nodes.len() {
        within(Duration::from_secs(60), "the dead rows stay", || {
            let nodes = cluster.client(index).call(&words("CLUSTER NODES")).text();
            let dead = nodes.lines().filter(|line| line.contains("fail ") || line.contains("fail,")).count();
            check(dead == 2, nodes)
        });
    }
    within(Duration::from_secs(40), "the proxy leaves them alone", || {
        let topology = proxy.admin("/topology").1;
        check(topology.matches("\"reason\": \"fail\"").count() == 2, topology)
    });
    // If anybody dials them, it is us: their peers use another port.
    let listeners: Vec<TcpListener> =
        pods.iter().map(|pod| TcpListener::bind(pod.addr()).expect("free")).collect();
    listeners.iter().for_each(|listener| listener.set_nonblocking(true).expect("a listener"));
    Load::default().during(proxy.addr(), |progress| {
        progress.slowest();
        let seen = proxy.metrics().sum("slotway_topology_refreshes_total", &[]);
        progress.wait(200);
        proxy.wait_metric("slotway_topology_refreshes_total", &[], |now| now > seen);
        let slowest = progress.slowest();
        assert!(slowest < Duration::from_secs(1), "a request took {slowest:?}");
    });
    for listener in &listeners {
        assert!(listener.accept().is_err(), "a dead node's address was dialled");
    }
}
