//! `/metrics`: sums the workers' snapshots and hands them to the Prometheus exporter.
//!
//! Owns the exporter's handles. Runs at a scrape, on the control thread; takes no lock a worker waits
//! for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::counters::{node_word, word};
use super::histogram;
use super::labels::{CloseReason, CommandClass, ReadRole, RedirectKind};
use super::names::{self, Kind, Metric};
use super::process::Process;
use super::snapshot::Snapshot;
use super::text::Text;
use crate::error::ProxyError;
use crate::topology::node::NodeId;

/// What the topology contributes to a scrape.
#[derive(Clone, Debug, Default)]
pub struct TopologyGauges {
    /// Refreshes so far by trigger and result; both from fixed lists.
    pub refreshes: Vec<(&'static str, &'static str, u64)>,
    /// Since the table was last confirmed; `None` before the first time.
    pub age: Option<Duration>,
    /// Rows of the last accepted view that get no traffic, by reason; from a fixed list.
    pub ignored: Vec<(&'static str, u64)>,
    /// How often a node was taken out.
    pub ejections: u64,
    /// Reports of workers that found the mailbox full.
    pub events_dropped: u64,
    /// Slots that have an owner.
    pub slots_covered: u16,
    /// Commands learned from the cluster.
    pub learned: usize,
    /// Nodes the cluster knows now. Only these get series: a forgotten node's disappear.
    pub nodes: Vec<NodeGauge>,
}

/// One node in `TopologyGauges`.
#[derive(Clone, Debug)]
pub struct NodeGauge {
    /// Its index in the workers' counters.
    pub id: NodeId,
    /// Its address, the label's text.
    pub name: String,
    /// False while it is ejected.
    pub up: bool,
    /// Dedicated connections to it.
    pub dedicated: usize,
    /// For a replica that may be read from, its fitness permitting.
    pub replica: Option<ReplicaGauge>,
}

/// How a replica stands to its primary.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaGauge {
    /// It is fit to be read from.
    pub fit: bool,
    /// How old its data may be; `None` while nothing is proven.
    pub lag: Option<Duration>,
}

/// Everything a scrape needs.
pub struct Telemetry {
    workers: Vec<Arc<Snapshot>>,
    commands: Vec<String>,
    topology: Box<dyn Fn() -> TopologyGauges>,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    counters: RefCell<HashMap<(&'static str, String), Counter>>,
    gauges: RefCell<HashMap<&'static str, Gauge>>,
}

impl Telemetry {
    /// `workers`: every worker's `Counters::snapshot`. `commands`: the label of each `CommandId`, in
    /// order. `topology` is called at every scrape.
    pub fn new(
        workers: Vec<Arc<Snapshot>>,
        commands: Vec<String>,
        topology: impl Fn() -> TopologyGauges + 'static,
    ) -> Self {
        // Not installed as the process' recorder: several proxies may live in one process.
        let recorder = PrometheusBuilder::new().build_recorder();
        for metric in names::METRICS {
            let (name, help) = (KeyName::from_const_str(metric.name), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => recorder.describe_histogram(name, None, help),
            }
        }
        let handle = recorder.handle();
        let (counters, gauges) = (RefCell::default(), RefCell::default());
        Self { workers, commands, topology: Box::new(topology), recorder, handle, counters, gauges }
    }

    /// The text of `/metrics`, as of the workers' last publish.
    pub fn render(&self) -> String {
        let topology = (self.topology)();
        let totals = self.totals();
        self.clients(&totals);
        self.requests(&totals);
        self.table(&topology);
        let process = self.process();
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        text.push_str(&self.histograms(&totals, &topology, process));
        text
    }

    /// Whether every worker has published within `within`.
    ///
    /// # Errors
    /// Says which worker has not.
    pub fn live(&self, within: Duration) -> Result<(), String> {
        let now = super::clock_ms();
        for (worker, snapshot) in self.workers.iter().enumerate() {
            let silent = Duration::from_millis(now.saturating_sub(snapshot.beat_ms()));
            if silent > within {
                return Err(format!("worker {worker} has not turned for {} s", silent.as_secs()));
            }
        }
        Ok(())
    }

    /// All workers' words added up.
    fn totals(&self) -> Vec<u64> {
        let mut sums = vec![0; word::COMMANDS + self.commands.len()];
        for worker in &self.workers {
            worker.totals.add_to(&mut sums);
        }
        sums
    }

    /// All workers' words of one node added up.
    fn node(&self, id: NodeId) -> Vec<u64> {
        let mut sums = vec![0; node_word::COUNT];
        for worker in &self.workers {
            if let Some(block) = worker.nodes.load().get(id.index()) {
                block.add_to(&mut sums);
            }
        }
        sums
    }

    fn clients(&self, totals: &[u64]) {
        self.counter(&names::CLIENT_OPENED, &[], at(totals, word::CLIENTS_OPENED));
        self.gauge(&names::CLIENT_CONNECTIONS, signed(at(totals, word::CLIENTS)));
        self.gauge(&names::IN_FLIGHT, signed(at(totals, word::IN_FLIGHT)));
        self.gauge(&names::BLOCKED, signed(at(totals, word::BLOCKED)));
        self.counter(&names::CLIENT_BYTES, &["in"], at(totals, word::BYTES_IN));
        self.counter(&names::CLIENT_BYTES, &["out"], at(totals, word::BYTES_OUT));
        self.gauge(&names::SUBSCRIPTIONS, signed(at(totals, word::SUBSCRIPTIONS)));
        self.counter(&names::PUBSUB_RECEIVED, &[], at(totals, word::PUBSUB_RECEIVED));
        self.counter(&names::PUBSUB_DELIVERED, &[], at(totals, word::PUBSUB_DELIVERED));
        self.counter(&names::PUBSUB_DROPPED, &[], at(totals, word::PUBSUB_DROPPED));
        for reason in CloseReason::ALL {
            self.counter(&names::CLIENT_CLOSED, &[reason.label()], at(totals, word::CLOSED + reason.index()));
        }
    }

    fn requests(&self, totals: &[u64]) {
        for kind in RedirectKind::ALL {
            self.counter(&names::REDIRECTS, &[kind.label()], at(totals, word::REDIRECTS + kind.index()));
        }
        for role in ReadRole::ALL {
            self.counter(&names::READS, &[role.label()], at(totals, word::READS + role.index()));
        }
        for error in ProxyError::ALL {
            self.counter(&names::ERRORS, &[error.kind()], at(totals, word::ERRORS + *error as usize));
        }
        for (index, command) in self.commands.iter().enumerate() {
            let count = at(totals, word::COMMANDS + index);
            // Hundreds of series that nobody ever uses would only cost the scraper.
            if count > 0 {
                self.counter(&names::COMMANDS, &[command], count);
            }
        }
    }

    fn table(&self, topology: &TopologyGauges) {
        for &(trigger, result, count) in &topology.refreshes {
            self.counter(&names::TOPOLOGY_REFRESHES, &[trigger, result], count);
        }
        let age = topology.age.unwrap_or_else(|| Duration::from_millis(super::clock_ms()));
        self.gauge(&names::TOPOLOGY_AGE, age.as_secs_f64());
        self.counter(&names::TOPOLOGY_DROPPED, &[], topology.events_dropped);
        self.counter(&names::BACKEND_EJECTIONS, &[], topology.ejections);
        self.gauge(&names::SLOTS_COVERED, f64::from(topology.slots_covered));
        self.gauge(&names::LEARNED, topology.learned as f64);
        self.gauge(&names::WORKERS, self.workers.len() as f64);
    }

    fn process(&self) -> Process {
        let process = Process::read();
        self.gauge(&names::PROCESS_RESIDENT, process.resident_bytes);
        self.gauge(&names::PROCESS_VIRTUAL, process.virtual_bytes);
        self.gauge(&names::PROCESS_OPEN_FDS, process.open_fds);
        self.gauge(&names::PROCESS_MAX_FDS, process.max_fds);
        self.gauge(&names::PROCESS_THREADS, process.threads);
        self.gauge(&names::PROCESS_START, process.start_seconds);
        process
    }

    /// What the exporter cannot hold.
    fn histograms(&self, totals: &[u64], topology: &TopologyGauges, process: Process) -> String {
        let mut text = Text::default();
        text.family(&names::BUILD_INFO);
        text.sample(&names::BUILD_INFO, Some(env!("CARGO_PKG_VERSION")), 1.0);
        text.family(&names::PROCESS_CPU);
        text.sample(&names::PROCESS_CPU, None, process.cpu_seconds);
        for (metric, first) in
            [(&names::REQUEST_DURATION, word::WHOLE), (&names::REQUEST_BACKEND_DURATION, word::BACKEND)]
        {
            text.family(metric);
            for class in CommandClass::ALL {
                let start = first + class.index() * histogram::WORDS;
                let words = totals.get(start..start + histogram::WORDS).unwrap_or_default();
                text.histogram(metric, class.label(), words, false);
            }
        }
        text.family(&names::TOPOLOGY_IGNORED);
        for &(reason, rows) in &topology.ignored {
            text.sample(&names::TOPOLOGY_IGNORED, Some(reason), rows as f64);
        }
        self.nodes(&mut text, topology);
        text.finish()
    }

    /// The series of each node the cluster knows.
    fn nodes(&self, text: &mut Text, topology: &TopologyGauges) {
        let nodes: Vec<_> = topology.nodes.iter().map(|node| (node, self.node(node.id))).collect();
        text.family(&names::BACKEND_UP);
        for (node, _) in &nodes {
            text.sample(&names::BACKEND_UP, Some(&node.name), f64::from(u8::from(node.up)));
        }
        replicas(text, topology);
        text.family(&names::BACKEND_CONNECTIONS);
        for (node, words) in &nodes {
            let open = signed(at(words, node_word::CONNECTIONS));
            text.sample(&names::BACKEND_CONNECTIONS, Some(&node.name), open);
        }
        text.family(&names::BACKEND_DEDICATED);
        for (node, _) in &nodes {
            text.sample(&names::BACKEND_DEDICATED, Some(&node.name), node.dedicated as f64);
        }
        text.family(&names::BACKEND_REQUESTS);
        for (node, words) in &nodes {
            let count = at(words, node_word::REQUESTS);
            text.sample(&names::BACKEND_REQUESTS, Some(&node.name), count as f64);
        }
        text.family(&names::BACKEND_DURATION);
        for (node, words) in &nodes {
            let words = words.get(node_word::DURATION..).unwrap_or_default();
            text.histogram(&names::BACKEND_DURATION, &node.name, words, true);
        }
    }

    fn counter(&self, metric: &Metric, labels: &[&str], total: u64) {
        let mut counters = self.counters.borrow_mut();
        let handle = counters.entry((metric.name, labels.join("\n"))).or_insert_with(|| {
            let labels: Vec<Label> = metric
                .labels
                .iter()
                .zip(labels)
                .map(|(&name, &value)| Label::new(name, value.to_owned()))
                .collect();
            self.recorder.register_counter(&Key::from_parts(metric.name, labels), &METADATA)
        });
        handle.absolute(total);
    }

    fn gauge(&self, metric: &Metric, value: f64) {
        let mut gauges = self.gauges.borrow_mut();
        let handle = gauges
            .entry(metric.name)
            .or_insert_with(|| self.recorder.register_gauge(&Key::from_static_name(metric.name), &METADATA));
        handle.set(value);
    }
}

/// The series of each replica that may be read from.
fn replicas(text: &mut Text, topology: &TopologyGauges) {
    let replicas = || topology.nodes.iter().filter_map(|node| Some((&node.name, node.replica?)));
    text.family(&names::REPLICA_FIT);
    for (name, replica) in replicas() {
        text.sample(&names::REPLICA_FIT, Some(name), f64::from(u8::from(replica.fit)));
    }
    text.family(&names::REPLICA_LAG);
    for (name, replica) in replicas() {
        if let Some(lag) = replica.lag {
            text.sample(&names::REPLICA_LAG, Some(name), lag.as_secs_f64());
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new("slotway", Level::INFO, None);

fn at(words: &[u64], index: usize) -> u64 {
    words.get(index).copied().unwrap_or(0)
}

/// A gauge's sum. Workers publish at different times, so it may be below zero for a moment.
fn signed(word: u64) -> f64 {
    (word as i64).max(0) as f64
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
