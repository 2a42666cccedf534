//! One run from the first process to the verdict.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::bench::Bench;
use super::check::verdict::{Change, Window, judge};
use super::check::{Kind, Micros, Slots, Span, Suspicion};
use super::fault::{Fault, Injected, Scene, inject};
use super::keep::{Evidence, Keep};
use super::load::{self, mixed};
use super::site::{Shard, Site};

/// After the cluster is whole again every worker has a success within this time, and every subscription a message:
/// the longest BLPOP, a tracking client's wait and some seconds for a slow machine.
const RECOVERY: Duration = Duration::from_secs(20);
/// Work before the first fault, so that everything has values.
const WARM_UP: Duration = Duration::from_secs(2);

/// What to do.
pub struct Plan {
    pub seed: u64,
    /// In this order; `shuffled` makes one.
    pub faults: Vec<Fault>,
    /// No fault begins later than this; the faults begin anew until then.
    pub time: Option<Duration>,
    pub node_timeout: Duration,
    /// Quiet time between faults.
    pub quiet: Duration,
    /// Instances of slotway.
    pub instances: usize,
}

/// A fault and what was noticed of it.
pub struct Row {
    pub injected: Injected,
    /// Until everyone had a success again, after the cluster was whole.
    pub recovered: Micros,
    /// Errors clients got, by text.
    pub errors: BTreeMap<String, usize>,
    /// The cluster failed over by itself: the machine was too slow.
    pub own_failover: bool,
}

/// What a run showed.
pub struct Outcome {
    pub seed: u64,
    pub rows: Vec<Row>,
    pub answered: u64,
    pub evidence: Evidence,
    pub excused: usize,
    pub violations: Vec<Suspicion>,
    pub took: Duration,
}

/// The faults in an order of the seed's.
pub fn shuffled(mut faults: Vec<Fault>, random: &mut fastrand::Rng) -> Vec<Fault> {
    random.shuffle(&mut faults);
    faults
}

/// Runs the plan; `say` hears of every step.
pub fn run(plan: &Plan, say: &(dyn Fn(String) + Sync)) -> Outcome {
    let start = Instant::now();
    let mut site = Site::start(plan.node_timeout, plan.instances);
    say(format!("a cluster of {} nodes, {} slotway", site.nodes.len(), site.proxies.len()));
    let bench = Bench::new(plan.seed, site.proxies.iter().map(|p| p.addr()).collect());
    let keep = Keep::new();
    site.nodes.iter().for_each(|node| keep.add(node.folder()));
    mixed::prepare(&bench);
    let groups = load::all();
    let bench = &bench;
    let kept = AtomicBool::new(false);
    let rows = std::thread::scope(|scope| {
        let _end = bench.stop.at_end();
        let _kept = SetAtEnd(&kept);
        scope.spawn(|| keep.watch(|| kept.load(Ordering::Relaxed)));
        let workers: Vec<_> = groups
            .iter()
            .flat_map(|group| (0..group.threads()).map(move |thread| (group, thread)))
            .map(|(group, thread)| (group.name(), scope.spawn(move || group.work(bench, thread))))
            .collect();
        let rows = Conductor { plan, bench, keep: &keep, say }.conduct(&mut site);
        bench.stop.set();
        for (name, worker) in workers {
            if worker.join().is_err() {
                let span = Span::new(0, bench.now());
                bench.wrong(
                    Kind::WrongReply,
                    Slots::All,
                    span,
                    format!("a worker of {name} panicked, see above"),
                );
            }
        }
        groups.iter().for_each(|group| group.finish(bench));
        rows
    });
    let evidence = keep.examine(bench);
    let suspicions = bench.take_suspicions();
    let violations: Vec<Suspicion> = judge(&suspicions, &bench.windows()).into_iter().cloned().collect();
    Outcome {
        seed: plan.seed,
        rows,
        answered: bench.answered.load(Ordering::Relaxed),
        evidence,
        excused: suspicions.len() - violations.len(),
        violations,
        took: start.elapsed(),
    }
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Injects one fault after the other.
struct Conductor<'a> {
    plan: &'a Plan,
    bench: &'a Bench,
    keep: &'a Keep,
    say: &'a (dyn Fn(String) + Sync),
}

impl Conductor<'_> {
    fn conduct(&self, site: &mut Site) -> Vec<Row> {
        let mut random = self.bench.random("the faults");
        let mut rows = Vec::new();
        let mut shards = site.settle();
        std::thread::sleep(WARM_UP);
        self.recover(self.bench.now());
        let start = Instant::now();
        let over = || self.plan.time.is_some_and(|time| start.elapsed() > time);
        loop {
            for fault in self.order(&mut random) {
                if over() {
                    return rows;
                }
                let row;
                (row, shards) = self.step(fault, site, &mut random, &shards);
                (self.say)(row.line());
                rows.push(row);
            }
            if self.plan.time.is_none() {
                return rows;
            }
        }
    }

    fn order(&self, random: &mut fastrand::Rng) -> Vec<Fault> {
        let faults = self.plan.faults.clone();
        if self.plan.time.is_some() { shuffled(faults, random) } else { faults }
    }

    /// One fault, the return to normal, and some quiet.
    fn step(
        &self,
        fault: Fault,
        site: &mut Site,
        random: &mut fastrand::Rng,
        before: &[Shard],
    ) -> (Row, Vec<Shard>) {
        let start = self.bench.now();
        let shards = site.settle();
        let mut own_failover = shards != before;
        let (bench, keep) = (self.bench, self.keep);
        let scene = Scene { site, bench, keep, random, shards: shards.clone() };
        let (injected, _) = inject(fault, scene);
        let recovered = self.recover(injected.span.to);
        std::thread::sleep(self.plan.quiet);
        let after = site.settle();
        own_failover |= !injected.roles.fit(&shards, &after);
        let now = self.bench.now();
        if own_failover {
            // Whatever it was, it happened somewhere in this time, and to some shard.
            let all = Span::new(start.saturating_sub(3_000_000), now);
            let slots = vec![(0, u16::MAX)];
            let broken = Some(all);
            let window =
                Window { span: all, slots, lost: broken, change: Change::TakeOver, busy: false, broken };
            self.bench.add_window(window);
        }
        let errors = self.bench.errors_within(Span::new(start, now));
        (Row { injected, recovered, errors, own_failover }, after)
    }

    /// Waits until everyone had a success with something begun after `since`; how long that took.
    fn recover(&self, since: Micros) -> Micros {
        let start = Instant::now();
        loop {
            let silent = self.bench.silent_since(since);
            let now = self.bench.now();
            if silent.is_empty() {
                return now - since;
            }
            if start.elapsed() > RECOVERY {
                for name in silent {
                    let kind = if name.starts_with("subscriber") { Kind::Silent } else { Kind::Stuck };
                    let text = format!("{name}: no success in {RECOVERY:?} after the cluster was whole");
                    self.bench.wrong(kind, Slots::All, Span::new(since, now), text);
                }
                return now - since;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Row {
    /// Number of errors clients got.
    pub fn errors(&self) -> usize {
        self.errors.values().sum()
    }

    fn line(&self) -> String {
        let Injected { fault, detail, span, late, .. } = &self.injected;
        let late = late.map_or(String::new(), |us| format!(", {} ms after the cluster", us / 1000));
        let own = if self.own_failover { ", the cluster failed over by itself" } else { "" };
        let took = (span.to - span.from) / 1000;
        let mut line = format!(
            "{:>7.1} s  {:<15} {detail}: {took} ms, all well {} ms later{late}{own}, {} errors",
            span.from as f64 / 1e6,
            fault.name(),
            self.recovered / 1000,
            self.errors(),
        );
        for (text, count) in &self.errors {
            line += &format!("\n{:>14} {count} × {text}", "");
        }
        line
    }
}
