//! The topology service under test.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slotway::topology::node::{NodeAddr, NodeId};
use slotway::topology::{Topology, TopologyConfig, TopologyTask};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::scripted::Cluster;

/// Listens on a port whose last listener was just killed: its task ends at its next turn.
pub async fn listen_again(port: u16) -> TcpListener {
    loop {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return listener,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

pub fn config(seeds: Vec<NodeAddr>) -> TopologyConfig {
    let ms = Duration::from_millis;
    TopologyConfig {
        seeds,
        connect_timeout: ms(200),
        refresh_interval: ms(20_000),
        refresh_min_interval: ms(20),
        probe_interval: ms(50),
        node_silence_timeout: ms(300),
        probe_backoff_max: ms(200),
        ..TopologyConfig::default()
    }
}

pub fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    let done = runtime.block_on(async { timeout(Duration::from_secs(30), test()).await });
    runtime.shutdown_background();
    done.expect("the test hangs");
}

/// Service under test; ends with the value.
pub struct Running {
    pub topology: Arc<Topology>,
    pub task: JoinHandle<()>,
}

impl Running {
    pub fn start(config: TopologyConfig) -> Self {
        let (topology, task) = TopologyTask::new(config);
        Self { topology, task: spawn_local(task.run()) }
    }

    pub async fn ready(config: TopologyConfig) -> Self {
        let running = Self::start(config);
        running.until("ready", |t| t.ready()).await;
        running
    }

    pub async fn until(&self, what: &str, mut holds: impl FnMut(&Topology) -> bool) {
        let start = Instant::now();
        while !holds(&self.topology) {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:#?}", self.topology.snapshot());
            sleep(Duration::from_millis(2)).await;
        }
    }

    pub fn id(&self, cluster: &Cluster, node: usize) -> NodeId {
        self.topology.node_by_addr("127.0.0.1", cluster.port(node)).unwrap()
    }

    pub fn is_up(&self, id: NodeId) -> bool {
        self.topology.node(id).unwrap().is_up()
    }

    pub async fn until_up(&self, id: NodeId, up: bool) {
        self.until(if up { "up" } else { "down" }, |t| t.node(id).unwrap().is_up() == up).await;
    }

    pub fn refreshes(&self) -> u64 {
        self.topology.stats().refresh_counts().iter().map(|(_, _, n)| n).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
