//! Interleaved rounds: every workload on every target, again and again.
//!
//! Owns the order and the accounting: what a target used between two moments at which nothing was in flight, divided by
//! the requests answered between them. The order of the targets turns by one from round to round and from workload to
//! workload, so that no target always runs behind the same one.

use std::time::Duration;

use fastrand::Rng;

use crate::Result;
use crate::load::{Load, Outcome, Plan};
use crate::process::{Usage, peak_kib, reset_peak};
use crate::table::Writer;
use crate::targets::Target;
use crate::workload::{KEY_SETS, Pool, Workload};

/// Columns of the result file.
pub const COLUMNS: &[&str] = &[
    "round",
    "workload",
    "target",
    "requests",
    "seconds",
    "cpu_us",
    "rps",
    "p50_us",
    "p99_us",
    "p999_us",
    "peak_kib",
    "voluntary",
    "involuntary",
    "errors",
    "misses",
    "load_cores",
];

/// How much is measured.
pub struct Extent {
    /// Rounds.
    pub rounds: u32,
    /// Length of one measurement.
    pub time: Duration,
    /// Small keys.
    pub keys: u64,
}

/// Sets every key that the workloads read, through each target.
///
/// # Errors
/// When a target refuses a SET.
pub fn preload(targets: &[Target], workloads: &[&Workload], keys: u64) -> Result<()> {
    for set in KEY_SETS {
        if !workloads.iter().any(|workload| workload.keys == *set) {
            continue;
        }
        let pool = Pool::preload(set, keys);
        let pipeline = if set.value_len > 1_024 { 1 } else { 64 };
        for target in targets {
            let outcome = Load::connect(target.addr, 8, pipeline)?.run(&pool, Plan::Once)?;
            refuse_errors(&outcome, target)?;
        }
    }
    Ok(())
}

/// Measures everything; a line per measurement goes to `writer` and to the terminal.
///
/// # Errors
/// When a target fails or answers with errors.
pub fn run(targets: &[Target], workloads: &[&Workload], extent: &Extent, writer: &mut Writer) -> Result<()> {
    for round in 0..extent.rounds {
        for (turn, workload) in workloads.iter().enumerate() {
            let pool = Pool::random(workload, extent.keys, u64::from(round) + 1);
            for place in 0..targets.len() {
                let index = (place + turn + round as usize) % targets.len();
                let Some(target) = targets.get(index) else { continue };
                let sample = measure(target, workload, &pool, extent.time)
                    .map_err(|error| format!("{} under {}: {error}", target.name, workload.name))?;
                println!("{}", sample.line(round + 1, workload, target));
                writer.row(&sample.cells(round + 1, workload, target))?;
            }
        }
    }
    Ok(())
}

/// One measurement.
pub struct Sample {
    outcome: Outcome,
    /// What the target used.
    pub used: Usage,
    load_cpu_ns: u64,
    peak_kib: u64,
}

/// Connects, warms up, and measures one target under one workload.
///
/// # Errors
/// When the target fails or answers with errors.
pub fn measure(target: &Target, workload: &Workload, pool: &Pool, time: Duration) -> Result<Sample> {
    // What the target before this one still has to tidy up must not run beside this one.
    std::thread::sleep(Duration::from_millis(150));
    reset_peak(target.pid);
    let mut load = Load::connect(target.addr, workload.connections, workload.pipeline)?;
    let mut rng = Rng::with_seed(workload.connections as u64);
    refuse_errors(&load.run(pool, Plan::For(time / 5, rng.fork()))?, target)?;
    let (before, load_before) = (Usage::of(target.pid)?, Usage::of(std::process::id())?);
    let outcome = load.run(pool, Plan::For(time, rng))?;
    let (after, load_after) = (Usage::of(target.pid)?, Usage::of(std::process::id())?);
    refuse_errors(&outcome, target)?;
    if after.since(before).cpu_ns == 0 {
        return Err(format!("process {} used no CPU: is it the one that listens?", target.pid).into());
    }
    let load_cpu_ns = load_after.since(load_before).cpu_ns;
    Ok(Sample { outcome, used: after.since(before), load_cpu_ns, peak_kib: peak_kib(target.pid) })
}

impl Sample {
    /// Requests answered.
    pub fn requests(&self) -> f64 {
        self.outcome.seen.replies as f64
    }

    fn cpu_us(&self) -> f64 {
        self.used.cpu_ns as f64 / 1_000.0 / self.requests()
    }

    fn rps(&self) -> f64 {
        self.requests() / self.outcome.elapsed.as_secs_f64()
    }

    fn load_cores(&self) -> f64 {
        self.load_cpu_ns as f64 / 1e9 / self.outcome.elapsed.as_secs_f64()
    }

    fn line(&self, round: u32, workload: &Workload, target: &Target) -> String {
        format!(
            "round {round}  {:8} {:12} {:9.3} µs CPU  {:9.0}/s  p99 {:8.0} µs  load {:.2} cores",
            workload.name,
            target.name,
            self.cpu_us(),
            self.rps(),
            self.outcome.latency.percentile_us(0.99),
            self.load_cores(),
        )
    }

    fn cells(&self, round: u32, workload: &Workload, target: &Target) -> Vec<String> {
        let (seen, latency) = (&self.outcome.seen, &self.outcome.latency);
        let mut cells = vec![round.to_string(), workload.name.to_owned(), target.name.clone()];
        cells.extend([seen.replies.to_string(), format!("{:.3}", self.outcome.elapsed.as_secs_f64())]);
        cells.extend([format!("{:.4}", self.cpu_us()), format!("{:.1}", self.rps())]);
        cells.extend([0.5, 0.99, 0.999].map(|share| format!("{:.1}", latency.percentile_us(share))));
        let counts = [self.peak_kib, self.used.voluntary, self.used.involuntary, seen.errors, seen.misses];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(format!("{:.3}", self.load_cores()));
        cells
    }
}

/// A benchmark of error replies is worth nothing.
///
/// # Errors
/// The first error reply, if there was one.
pub fn refuse_errors(outcome: &Outcome, target: &Target) -> Result<()> {
    match &outcome.seen.first_error {
        Some(error) => {
            Err(format!("{} answered {} errors, first: {error}", target.name, outcome.seen.errors).into())
        }
        None => Ok(()),
    }
}
