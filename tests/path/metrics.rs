//! The admin port: every promised metric is there and moves; probes and the topology page.

use crate::support::client::words;
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::proxy::{Proxy, Setup};
use crate::support::{check, eventually, shared};

const PROMISED: &[&str] = &[
    "slotway_client_connections",
    "slotway_commands_total",
    "slotway_request_duration_seconds_bucket",
    "slotway_request_duration_seconds_sum",
    "slotway_request_duration_seconds_count",
    "slotway_errors_total",
    "slotway_backend_up",
    "slotway_backend_connections",
    "slotway_backend_requests_total",
    "slotway_backend_request_duration_seconds_bucket",
    "slotway_redirects_total",
    "slotway_topology_refreshes_total",
    "slotway_topology_age_seconds",
    "slotway_slots_covered",
    "slotway_client_bytes_total",
    "slotway_requests_in_flight",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
];

#[test]
fn promised_metrics_are_present_and_move() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let key = key_in(cluster.slot_of(0), "m");
    let mut client = proxy.client();
    for _ in 0..100 {
        client.ok(&cmd!["SET", key, "x".repeat(1000)]);
        client.ok(&cmd!["GET", key]);
    }
    assert!(client.call(&words("RENAME {a}1 {b}1")).is_error());
    cluster.move_slot(cluster.slot_of(0), 0, 1);
    client.ok(&cmd!["GET", key]);

    proxy.wait_metric("slotway_commands_total", &["command=\"set\""], |n| n == 100.0);
    proxy.wait_metric("slotway_commands_total", &["command=\"get\""], |n| n == 101.0);
    proxy.wait_metric("slotway_client_connections", &[], |n| n == 1.0);
    proxy.wait_metric("slotway_slots_covered", &[], |n| n == 16384.0);
    proxy.wait_metric("slotway_errors_total", &["kind=\"cross_slot\""], |n| n == 1.0);
    proxy.wait_metric("slotway_redirects_total", &["kind=\"moved\""], |n| n == 1.0);
    proxy.wait_metric("slotway_topology_refreshes_total", &[], |n| n >= 2.0);
    proxy.wait_metric("slotway_client_bytes_total", &["direction=\"in\""], |n| n > 100_000.0);
    proxy.wait_metric("slotway_client_bytes_total", &["direction=\"out\""], |n| n > 100_000.0);
    proxy.wait_metric("slotway_request_duration_seconds_count", &[], |n| n >= 201.0);
    proxy.wait_metric("slotway_requests_in_flight", &[], |n| n == 0.0);
    for addr in cluster.addrs() {
        let label = format!("node=\"{addr}\"");
        proxy.wait_metric("slotway_backend_up", &[&label], |n| n == 1.0);
    }
    let first = format!("node=\"{}\"", cluster.nodes[0].addr());
    proxy.wait_metric("slotway_backend_requests_total", &[&first], |n| n >= 200.0);
    proxy.wait_metric("slotway_backend_request_duration_seconds_count", &[&first], |n| n >= 200.0);
    proxy.wait_metric("slotway_backend_connections", &[&first], |n| n >= 1.0);

    let metrics = proxy.metrics();
    let missing: Vec<_> = PROMISED.iter().filter(|name| !metrics.has(name)).collect();
    assert!(missing.is_empty(), "not in /metrics: {missing:?}");
    let (_, text) = proxy.admin("/metrics");
    assert!(!text.contains(&key), "a key in the metrics");
    for name in PROMISED {
        let family = name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
        assert!(text.contains(&format!("# TYPE {family} ")), "no TYPE for {family}");
        assert!(text.contains(&format!("# HELP {family} ")), "no HELP for {family}");
    }
    drop(client);
    proxy.wait_metric("slotway_client_connections", &[], |n| n == 0.0);
}

#[test]
fn a_node_that_is_gone_is_not_up() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let label = format!("node=\"{}\"", cluster.nodes[2].addr());
    proxy.wait_metric("slotway_backend_up", &[&label], |n| n == 1.0);
    cluster.nodes[2].kill();
    proxy.wait_metric("slotway_backend_up", &[&label], |n| n == 0.0);
    assert_eq!(proxy.admin("/readyz").0, 200, "stays ready when Redis degrades later");
    let addr = cluster.nodes[2].addr();
    cluster.nodes[2].restart_at(addr);
    proxy.wait_metric("slotway_backend_up", &[&label], |n| n == 1.0);
}

#[test]
fn without_any_reachable_seed_it_lives_is_not_ready_and_keeps_trying() {
    need_redis!();
    let mut cluster = RedisCluster::start(1, 0);
    let addr = cluster.nodes[0].addr();
    cluster.nodes[0].kill();
    let setup =
        Setup { seeds: vec![addr.to_string()], keys: vec![("owner-wait", "500ms")], ..Setup::default() };
    let proxy = Proxy::launch(&setup);
    assert_eq!(proxy.admin("/livez").0, 200);
    assert_eq!(proxy.admin("/readyz").0, 503);
    assert!(proxy.client().call(&words("GET k")).error().starts_with("CLUSTERDOWN"));
    cluster.nodes[0].restart_at(addr);
    proxy.wait_ready();
    eventually("it serves", || {
        let reply = proxy.client().call(&words("SET k v"));
        check(!reply.is_error(), reply)
    });
}

#[test]
fn topology_page_shows_every_node() {
    need_redis!();
    let (status, body) = shared::proxy().admin("/topology");
    assert_eq!(status, 200);
    let _: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    for addr in shared::cluster().addrs().iter().take(3) {
        assert!(body.contains(&addr.to_string()), "no {addr} in {body}");
    }
    assert_eq!(shared::proxy().admin("/nosuch").0, 404);
}
