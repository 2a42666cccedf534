//! Finding the cluster, following it, and not being led astray.

use std::time::Duration;

use slotway::backend::handshake::Credentials;
use slotway::topology::node::NodeAddr;
use slotway::topology::{
    Event, Topology, TopologyConfig, TopologyError, Trigger, fetch_once, render_json, render_text,
};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::running::{Running, config, listen_again, run};
use super::scripted::{Cluster, Mood, ScriptedNode, start_node};

#[test]
fn starts_with_any_one_seed_and_finds_the_rest() {
    run(|| async {
        let cluster = Cluster::start("a", 3).await;
        let mut seeds = vec![NodeAddr { host: "127.0.0.1".into(), port: 1 }];
        seeds.extend(cluster.seeds(&[4]));
        let service = Running::ready(config(seeds)).await;
        let table = service.topology.table();
        assert_eq!((table.covered(), table.epoch(), table.shards().len()), (16384, 1, 3));
        let primary = table.node(table.primary(16383).unwrap()).unwrap();
        assert_eq!(primary.addr.port, cluster.port(2));
        assert_eq!(table.shards()[0].replicas, [service.id(&cluster, 3)]);
        assert!(table.is_member(service.id(&cluster, 3)));
        assert_eq!(service.topology.node_by_addr("127.0.0.1", 1), None, "a seed is no member by itself");
        assert_eq!(service.topology.not_ready_reason(), None);
        assert_eq!(service.topology.server_version().as_deref(), Some("7.0.15"));
        service.until("all nodes compared", |t| t.snapshot().views.len() > 1).await;
        assert_eq!(service.topology.table().epoch(), 1, "the same picture is no new table");
        assert!(service.topology.stats().age().unwrap() < Duration::from_secs(5));
        let states = service.topology.node_states();
        assert!(states.len() == 6 && states.iter().all(|s| s.up));
    });
}

#[test]
fn no_seed_is_not_the_end() {
    run(|| async {
        let mut cluster = Cluster::start("a", 1).await;
        cluster.nodes[0].kill();
        cluster.nodes[1].kill();
        let service = Running::start(config(cluster.seeds(&[0])));
        service.until("a reason", |t| t.not_ready_reason().unwrap().contains("no seed is reachable")).await;
        sleep(Duration::from_millis(300)).await;
        assert!(!service.topology.ready());
        cluster.revive(0).await;
        service.until("ready", |t| t.ready()).await;
    });
}

#[test]
fn reasons_for_not_being_ready() {
    run(|| async {
        let cluster = Cluster::start("a", 1).await;
        let credentials = Credentials { username: None, password: Some("wrong".into()) };
        let service = Running::start(TopologyConfig { credentials, ..config(cluster.seeds(&[0])) });
        service
            .until("wrong password", |t| {
                t.not_ready_reason().unwrap().contains("WRONGPASS invalid username-password pair")
            })
            .await;
        cluster.nodes[0].mood.set(Mood::Locked);
        let service = Running::start(config(cluster.seeds(&[0])));
        service.until("no password", |t| t.not_ready_reason().unwrap().contains("NOAUTH")).await;
        cluster.nodes[0].mood.set(Mood::NoCluster);
        let service = Running::start(config(cluster.seeds(&[0])));
        service
            .until("no cluster", |t| t.not_ready_reason().unwrap().contains("cluster support is disabled"))
            .await;
        let service = Running::start(config(Vec::new()));
        service.until("no seeds", |t| t.not_ready_reason().unwrap() == "no seeds are configured").await;
        let unknown = NodeAddr { host: "no-such-name.invalid".into(), port: 1 };
        let service = Running::start(config(vec![unknown]));
        service.until("unknown", |t| t.not_ready_reason().unwrap().contains("cannot be resolved")).await;
        cluster.nodes[0].mood.set(Mood::Fine);
        cluster.book.borrow_mut().members[0].slots = None;
        let service = Running::start(config(cluster.seeds(&[0])));
        service.until("no slots", |t| t.not_ready_reason().unwrap() == "the cluster has no slots yet").await;
    });
}

#[test]
fn every_node_at_a_new_address_at_once() {
    run(|| async {
        let mut cluster = Cluster::start("a", 2).await;
        // Plays the name service: one fixed address through which the first node is found.
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seed = NodeAddr { host: "localhost".into(), port: door.local_addr().unwrap().port() };
        let _door = start_node(door, 0, cluster.book.clone());
        let service = Running::ready(config(vec![seed])).await;
        let before: Vec<u16> = (0..4).map(|n| cluster.port(n)).collect();
        for node in 0..4 {
            cluster.nodes[node].kill();
        }
        for node in 0..4 {
            cluster.move_node(node).await;
        }
        service
            .until("the new addresses", |t| {
                let table = t.table();
                (0..4).all(|n| {
                    t.node_by_addr("127.0.0.1", cluster.port(n)).is_some_and(|id| table.is_member(id))
                })
            })
            .await;
        for port in before {
            assert_eq!(
                service.topology.node_by_addr("127.0.0.1", port),
                None,
                "the old address is forgotten"
            );
        }
        let up = |t: &Topology| t.node_states().iter().all(|s| s.up) && t.node_states().len() == 4;
        service.until("all up", up).await;
    });
}

#[test]
fn forgotten_nodes_are_not_dialled_any_more() {
    run(|| async {
        let cluster = Cluster::start("a", 2).await;
        let service = Running::ready(config(cluster.seeds(&[0, 1]))).await;
        service.until("all connected", |_| cluster.nodes[3].dials.get() > 0).await;
        let id = service.id(&cluster, 3);
        cluster.book.borrow_mut().members[3].listed = false;
        service.topology.report(Event::Refresh(Trigger::Redirect));
        service.until("forgotten", |t| t.node_by_addr("127.0.0.1", cluster.port(3)).is_none()).await;
        assert!(!service.topology.table().is_member(id));
        let dials = cluster.nodes[3].dials.get();
        cluster.nodes[3].connections.borrow_mut().drain(..).for_each(|c| c.abort());
        sleep(Duration::from_millis(500)).await;
        // Its last connection is held until it breaks, and a dial may have been under way by then.
        assert!(cluster.nodes[3].dials.get() <= dials + 1);
    });
}

#[test]
fn a_foreign_cluster_at_our_addresses_is_not_taken() {
    run(|| async {
        let ours = Cluster::start("a", 2).await;
        let service = Running::ready(config(ours.seeds(&[2]))).await;
        service.until("all asked", |t| t.snapshot().views.len() == 4).await;
        let epoch = service.topology.table().epoch();
        let node = service.id(&ours, 1);
        // Another cluster's node takes over the address of node 1.
        ours.nodes[1].kill();
        let foreign = Cluster::start("f", 2).await;
        let listener = listen_again(ours.port(1)).await;
        let _impostor = start_node(listener, 1, foreign.book.clone());
        service.until_up(node, false).await;
        sleep(Duration::from_millis(400)).await;
        assert_eq!(service.topology.table().epoch(), epoch);
        let health = service.topology.snapshot().shards[1].primary.health.clone();
        assert_eq!(health, "refused");
    });
}

#[test]
fn a_rebuilt_cluster_is_taken_when_nobody_else_is_left() {
    run(|| async {
        let mut ours = Cluster::start("a", 1).await;
        let service = Running::ready(config(ours.seeds(&[0]))).await;
        let port = ours.port(0);
        ours.nodes.clear();
        let rebuilt = Cluster::start("b", 2).await;
        let listener = listen_again(port).await;
        let _door = start_node(listener, 0, rebuilt.book.clone());
        service.until("the new cluster", |t| t.table().shards().len() == 2).await;
    });
}

#[test]
fn rounds_are_counted_and_end_for_those_who_wait() {
    run(|| async {
        let cluster = Cluster::start("a", 1).await;
        let service = Running::ready(config(cluster.seeds(&[0]))).await;
        let mut generation = service.topology.generation();
        for dead in [false, true] {
            if dead {
                cluster.nodes.iter().for_each(ScriptedNode::kill);
            }
            let round = service.topology.next_round();
            service.topology.report(Event::Refresh(Trigger::Redirect));
            while service.topology.round() < round {
                timeout(Duration::from_secs(5), generation.changed()).await.unwrap().unwrap();
            }
        }
        let stats = service.topology.stats();
        assert!(stats.refresh_counts().iter().any(|(_, result, n)| *result == "same" && *n > 0));
        assert!(stats.refresh_counts().iter().any(|(_, result, n)| *result == "failed" && *n > 0));
        assert!(service.topology.ready(), "once ready, ready");
    });
}

#[test]
fn a_flood_of_events_is_bounded_and_coalesced() {
    run(|| async {
        let cluster = Cluster::start("a", 1).await;
        let service = Running::ready(config(cluster.seeds(&[0]))).await;
        sleep(Duration::from_millis(100)).await;
        let before = service.refreshes();
        for _ in 0..100_000 {
            service.topology.report(Event::Refresh(Trigger::Uncovered));
        }
        assert!(service.topology.stats().events_dropped() > 90_000);
        sleep(Duration::from_millis(300)).await;
        assert!(service.refreshes() - before <= 2);
    });
}

#[test]
fn one_look_without_a_service() {
    run(|| async {
        let cluster = Cluster::start("a", 3).await;
        cluster.nodes[5].kill();
        let snapshot = fetch_once(config(cluster.seeds(&[0]))).await.unwrap();
        assert_eq!((snapshot.shards.len(), snapshot.views.len(), snapshot.failures.len()), (3, 5, 1));
        let text = render_text(&snapshot);
        for part in [
            "cluster    state ok, current epoch 10, redis 7.0.15",
            "coverage   16384 of 16384 slots covered, 3 shards, 6 nodes",
            "shard  slots",
            "0-5460",
            "unreachable",
            "taken",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.lines().all(|line| line.trim_end() == line));
        assert!(render_json(&snapshot).contains("\"slots_covered\": 16384"));
        cluster.nodes.iter().for_each(ScriptedNode::kill);
        let error = fetch_once(config(cluster.seeds(&[0]))).await.unwrap_err();
        assert!(
            matches!(&error, TopologyError::NoAnswer(text) if text.contains("no seed is reachable")),
            "{error}"
        );
    });
}
