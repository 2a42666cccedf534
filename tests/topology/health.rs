//! Nodes that die, freeze, load, are busy and come back.

use std::time::{Duration, Instant};

use slotway::topology::Event;
use tokio::time::sleep;

use super::running::{Running, config, run};
use super::scripted::{Cluster, Mood};

#[test]
fn a_dead_primary_is_ejected_and_its_successor_found_fast() {
    run(|| async {
        let cluster = Cluster::start("a", 3).await;
        let service = Running::ready(config(cluster.seeds(&[0, 1]))).await;
        service.until("all asked", |t| t.snapshot().views.len() >= 5).await;
        let (dead, heir) = (service.id(&cluster, 0), service.id(&cluster, 3));
        cluster.nodes[0].kill();
        service.until_up(dead, false).await;
        assert_eq!(service.topology.stats().ejections(), 1);
        sleep(Duration::from_millis(500)).await;
        assert_eq!(service.topology.table().primary(0), Some(dead), "nobody was promoted yet");
        cluster.fail_over(0, 3);
        let promoted = Instant::now();
        service.until("the successor", |t| t.table().primary(0) == Some(heir)).await;
        assert!(promoted.elapsed() < Duration::from_secs(1), "{:?}", promoted.elapsed());
        assert!(!service.is_up(dead), "nobody probes it any more: what is owed there must not wait");
        assert_eq!(service.topology.table().covered(), 16384);
        let quiet = service.refreshes();
        sleep(Duration::from_millis(500)).await;
        // What is urgent would be looked at four times.
        assert!(service.refreshes() <= quiet + 2, "back to the timer");
    });
}

#[test]
fn a_node_that_comes_back_is_up_at_the_first_success() {
    run(|| async {
        let mut cluster = Cluster::start("a", 2).await;
        let service = Running::ready(config(cluster.seeds(&[0, 1]))).await;
        let node = service.id(&cluster, 1);
        let mut generation = service.topology.generation();
        cluster.nodes[1].kill();
        service.until_up(node, false).await;
        generation.mark_unchanged();
        cluster.revive(1).await;
        service.until_up(node, true).await;
        assert!(generation.has_changed().unwrap());
        assert_eq!(service.topology.node_by_addr("127.0.0.1", cluster.port(1)), Some(node), "the id stays");
    });
}

#[test]
fn a_frozen_node_is_noticed_by_silence() {
    run(|| async {
        let cluster = Cluster::start("a", 3).await;
        let service = Running::ready(config(cluster.seeds(&[0, 1]))).await;
        service.until("all asked", |t| t.snapshot().views.len() >= 5).await;
        let node = service.id(&cluster, 1);
        cluster.nodes[1].mood.set(Mood::Frozen);
        let frozen = Instant::now();
        service.until_up(node, false).await;
        let took = frozen.elapsed();
        assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(2), "{took:?}");
        assert!(service.topology.snapshot().shards[1].primary.health == "silent");
        cluster.fail_over(1, 4);
        let heir = service.id(&cluster, 4);
        service.until("the successor", |t| t.table().primary(8000) == Some(heir)).await;
    });
}

#[test]
fn a_frozen_node_wakes_up() {
    run(|| async {
        let cluster = Cluster::start("a", 3).await;
        let service = Running::ready(config(cluster.seeds(&[0]))).await;
        let node = service.id(&cluster, 1);
        cluster.nodes[1].mood.set(Mood::Frozen);
        service.until_up(node, false).await;
        sleep(Duration::from_millis(300)).await;
        assert!(!service.is_up(node), "a probe that connects but gets no answer is no success");
        cluster.nodes[1].mood.set(Mood::Fine);
        service.until_up(node, true).await;
    });
}

#[test]
fn a_busy_node_is_alive_and_a_loading_one_cannot_be_used() {
    run(|| async {
        let cluster = Cluster::start("a", 3).await;
        let service = Running::ready(config(cluster.seeds(&[0]))).await;
        let (busy, loading) = (service.id(&cluster, 1), service.id(&cluster, 2));
        cluster.nodes[1].mood.set(Mood::Busy);
        cluster.nodes[2].mood.set(Mood::Loading);
        service.until_up(loading, false).await;
        sleep(Duration::from_millis(700)).await;
        assert!(service.is_up(busy) && !service.is_up(loading));
        assert_eq!(service.topology.snapshot().shards[2].primary.health, "loading");
        cluster.nodes[2].mood.set(Mood::Fine);
        service.until_up(loading, true).await;
    });
}

#[test]
fn workers_failures_count_only_while_the_control_connection_is_down() {
    run(|| async {
        let cluster = Cluster::start("a", 3).await;
        let service = Running::ready(config(cluster.seeds(&[0]))).await;
        service.until("all asked", |t| t.snapshot().views.len() >= 5).await;
        let node = service.id(&cluster, 1);
        let before = service.refreshes();
        for _ in 0..10 {
            service.topology.report(Event::ConnectFailed(node));
        }
        service
            .until("a refresh", |t| {
                t.stats().refresh_counts().iter().any(|(t, _, n)| *t == "connect_failed" && *n > 0)
            })
            .await;
        assert!(service.is_up(node), "the control connection stands");
        sleep(Duration::from_millis(200)).await;
        assert!(service.refreshes() - before < 5, "coalesced, and the PONG ended the suspicion");
    });
}
