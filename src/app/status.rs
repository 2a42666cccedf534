//! What the admin port shows, put together from the process, its workers and the topology.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::admin::{AdminState, Check};
use crate::config;
use crate::telemetry::{NodeGauge, ReplicaGauge, Telemetry, TopologyGauges, clock_ms};
use crate::topology::{NodeState, render_json};
use crate::worker::mailbox::Process;

/// A worker whose loop has not turned for so long makes `/livez` fail.
const LIVE_WITHIN: Duration = Duration::from_secs(10);

/// Everything the admin port reads.
pub struct Status {
    /// The process.
    pub process: Arc<Process>,
    /// Its numbers.
    pub telemetry: Telemetry,
}

impl AdminState for Status {
    fn live(&self) -> Result<(), String> {
        self.telemetry.live(LIVE_WITHIN)
    }

    /// Ready once a complete table was loaded, until the process stops; what becomes of the cluster
    /// afterwards is a metric, or one fault there would empty the Service.
    fn ready(&self) -> Vec<Check> {
        let draining = self.process.draining.load(Ordering::Relaxed);
        let accepting = if draining { Err("the process stops".to_owned()) } else { Ok(()) };
        let topology = match self.process.topology.not_ready_reason() {
            None => Ok(()),
            Some(reason) => Err(reason),
        };
        // Or the first clients would be told that their modules' commands do not exist.
        let commands = match self.process.topology.commands_read() {
            true => Ok(()),
            false => Err("the cluster has not been asked for its commands yet".to_owned()),
        };
        vec![
            Check { name: "accepting", result: accepting },
            Check { name: "topology", result: topology },
            Check { name: "commands", result: commands },
        ]
    }

    fn topology_json(&self) -> String {
        render_json(&self.process.topology.snapshot())
    }

    fn metrics_text(&self) -> String {
        self.telemetry.render()
    }

    fn config_text(&self) -> String {
        config::render::effective_text(&self.process.config, None)
    }
}

/// How a replica stands, where anybody may read from it.
fn replica(process: &Process, up: bool, as_of: Option<u64>) -> Option<ReplicaGauge> {
    let config = &process.config;
    let lag = as_of.map(|at| Duration::from_millis(clock_ms().saturating_sub(at)));
    let fit = up && lag.is_some_and(|lag| lag <= config.replica_max_lag);
    config.reads_replicas().then_some(ReplicaGauge { fit, lag })
}

/// What the topology and the process contribute to a scrape.
pub fn gauges(process: &Process) -> TopologyGauges {
    let topology = &process.topology;
    let stats = topology.stats();
    let gauge = |node: NodeState| NodeGauge {
        id: node.id,
        dedicated: process.dedicated.taken(node.id),
        replica: node.replica.and_then(|as_of| replica(process, node.up, as_of)),
        name: node.name,
        up: node.up,
    };
    TopologyGauges {
        refreshes: stats.refresh_counts(),
        age: stats.age(),
        ignored: stats.ignored_counts(),
        ejections: stats.ejections(),
        events_dropped: stats.events_dropped(),
        slots_covered: topology.slots_covered(),
        learned: topology.learned().len(),
        nodes: topology.node_states().into_iter().map(gauge).collect(),
    }
}
