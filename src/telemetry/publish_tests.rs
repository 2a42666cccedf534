//! Tests of `publish`: sums over workers, nodes that come and go, the form of the text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::command::CommandId;
use crate::telemetry::Counters;

fn line<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

fn gauges(nodes: &[(u16, &str)]) -> TopologyGauges {
    let gauge = |&(id, name): &(u16, &str)| NodeGauge {
        replica: None,
        id: NodeId(id),
        name: name.into(),
        up: true,
        dedicated: usize::from(id),
    };
    let nodes = nodes.iter().map(gauge);
    TopologyGauges {
        refreshes: vec![("start", "ok", 2)],
        age: Some(Duration::from_millis(1500)),
        ignored: vec![("fail", 1)],
        ejections: 3,
        events_dropped: 4,
        learned: 1,
        slots_covered: 16384,
        nodes: nodes.collect(),
    }
}

#[test]
fn workers_are_summed() {
    let workers = [Counters::new(2), Counters::new(2)];
    for counters in &workers {
        counters.command(CommandId(1));
        counters.command(CommandId(7)); // beyond the table
        counters.error(ProxyError::CrossSlot);
        counters.redirect(RedirectKind::Ask);
        counters.closed(CloseReason::Quit);
        counters.bytes_in(10);
        counters.bytes_out(20);
        counters.client_opened();
        counters.in_flight(3);
        counters.in_flight(-1);
        counters.blocked(1);
        counters.request_done(CommandClass::Read, 20);
        counters.backend_request(NodeId(1));
        counters.backend_connections(NodeId(1), 1);
        counters.backend_done(CommandClass::Read, NodeId(1), 40);
        counters.publish();
    }
    workers[0].client_closed();
    workers[0].publish();
    let snapshots = workers.iter().map(Counters::snapshot).collect();
    let names = vec!["get".to_owned(), "set".to_owned()];
    let text = Telemetry::new(snapshots, names, || gauges(&[(1, "a:1")])).render();
    for (series, expected) in [
        ("slotway_commands_total{command=\"set\"}", "2"),
        ("slotway_errors_total{kind=\"cross_slot\"}", "2"),
        ("slotway_errors_total{kind=\"no_auth\"}", "0"),
        ("slotway_redirects_total{kind=\"ask\"}", "2"),
        ("slotway_client_closed_total{reason=\"quit\"}", "2"),
        ("slotway_client_bytes_total{direction=\"in\"}", "20"),
        ("slotway_blocked_clients", "2"),
        ("slotway_backend_dedicated_connections{node=\"a:1\"}", "1"),
        ("slotway_client_connections", "1"),
        ("slotway_client_connections_total", "2"),
        ("slotway_requests_in_flight", "4"),
        ("slotway_request_duration_seconds_bucket{class=\"read\",le=\"0.000016\"}", "0"),
        ("slotway_request_duration_seconds_bucket{class=\"read\",le=\"0.000024\"}", "2"),
        ("slotway_request_duration_seconds_bucket{class=\"read\",le=\"+Inf\"}", "2"),
        ("slotway_request_duration_seconds_sum{class=\"read\"}", "0.00004"),
        ("slotway_request_duration_seconds_count{class=\"read\"}", "2"),
        ("slotway_request_backend_duration_seconds_count{class=\"read\"}", "2"),
        ("slotway_backend_up{node=\"a:1\"}", "1"),
        ("slotway_backend_connections{node=\"a:1\"}", "2"),
        ("slotway_backend_requests_total{node=\"a:1\"}", "2"),
        ("slotway_backend_request_duration_seconds_bucket{node=\"a:1\",le=\"0.000064\"}", "2"),
        ("slotway_topology_refreshes_total{trigger=\"start\",result=\"ok\"}", "2"),
        ("slotway_topology_age_seconds", "1.5"),
        ("slotway_slots_covered", "16384"),
        ("slotway_topology_ignored_rows{reason=\"fail\"}", "1"),
        ("slotway_topology_events_dropped_total", "4"),
        ("slotway_backend_ejections_total", "3"),
        ("slotway_workers", "2"),
    ] {
        assert_eq!(line(&text, series), Some(expected), "{series}\n{text}");
    }
    assert!(!text.contains("command=\"get\""));
}

#[test]
fn series_of_forgotten_nodes_disappear() {
    let counters = Counters::new(0);
    counters.backend_request(NodeId(0));
    counters.backend_request(NodeId(3));
    counters.publish();
    let known = Rc::new(RefCell::new(gauges(&[(0, "old:1"), (3, "new:1")])));
    let seen = Rc::clone(&known);
    let telemetry = Telemetry::new(vec![counters.snapshot()], Vec::new(), move || seen.borrow().clone());
    assert!(telemetry.render().contains("old:1"));
    *known.borrow_mut() = gauges(&[(3, "new:1"), (9, "never used:1")]);
    let text = telemetry.render();
    assert!(!text.contains("old:1"));
    assert_eq!(line(&text, "slotway_backend_requests_total{node=\"new:1\"}"), Some("1"));
    assert_eq!(line(&text, "slotway_backend_requests_total{node=\"never used:1\"}"), Some("0"));
}

#[test]
fn exactly_the_listed_families_are_rendered() {
    let counters = Counters::new(1);
    counters.command(CommandId(0));
    counters.publish();
    let names = vec!["get".to_owned()];
    let text = Telemetry::new(vec![counters.snapshot()], names, || gauges(&[(0, "a:1")])).render();
    let mut rendered: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let mut listed: Vec<(String, String)> =
        names::METRICS.iter().map(|m| (m.name.to_owned(), m.kind.text().to_owned())).collect();
    rendered.sort();
    listed.sort();
    assert_eq!(rendered, listed);
    for metric in names::METRICS {
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
    }
}

#[test]
fn a_worker_that_does_not_publish_is_not_live() {
    let counters = Counters::new(0);
    counters.publish();
    let telemetry = Telemetry::new(vec![counters.snapshot()], Vec::new(), TopologyGauges::default);
    assert_eq!(telemetry.live(Duration::from_secs(60)), Ok(()));
    std::thread::sleep(Duration::from_millis(20));
    assert!(telemetry.live(Duration::from_millis(5)).is_err());
    counters.publish();
    assert_eq!(telemetry.live(Duration::from_secs(60)), Ok(()));
}
