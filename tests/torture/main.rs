//! `make torture`: the fault bench for people. Exit code 0 when nothing is wrong, 1 when something is, 2 for bad usage.
//!
//! The bench itself is the module `torture`, which the integration tests use too; here is only what is asked and what
//! is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]
// The harness serves the tests, too, and they use more of it.
#![allow(dead_code)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

#[path = "mod.rs"]
mod torture;

#[path = "report.rs"]
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use torture::check::{Excuse, Suspicion};
use torture::fault::Fault;
use torture::run::{Outcome, Plan, run};

/// Violations that are printed; all are counted.
const SHOWN: usize = 50;

/// Faults in a throw-away Redis Cluster under load through slotway, and a checker that finds what is lost, wrong or noticed.
#[derive(Parser)]
#[command(bin_name = "make torture ARGS=…", after_help = faults_help())]
struct Cli {
    /// The same seed gives the same faults and requests [default: from the clock, and printed].
    #[arg(long)]
    seed: Option<u64>,
    /// Inject faults for so long.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Only these, separated by commas [default: all].
    #[arg(long, value_delimiter = ',', value_parser = fault)]
    faults: Vec<Fault>,
    /// Inject each fault so many times, in the order of the list, instead of for some minutes.
    #[arg(long)]
    rounds: Option<usize>,
    /// The numbers of RELIABILITY.md: 20 rounds of failover, reshard, add-remove, kill-replica, kill-primary, freeze-primary.
    #[arg(long, conflicts_with_all = ["minutes", "faults"])]
    numbers: bool,
    /// Instances of slotway.
    #[arg(long, default_value_t = 2)]
    instances: usize,
    /// `cluster-node-timeout` of the nodes, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    node_timeout: u64,
    /// Folder for the result as Markdown and as tab-separated values.
    #[arg(long, default_value = "target/torture")]
    out: PathBuf,
    /// Also put the tables between the marks of this document.
    #[arg(long)]
    into: Option<PathBuf>,
}

fn fault(name: &str) -> Result<Fault, String> {
    Fault::by_name(name).ok_or_else(|| "no such fault; --help lists them".to_owned())
}

fn faults_help() -> String {
    let lines = Fault::ALL.iter().map(|f| format!("  {:<15} {}\n", f.name(), f.what()));
    format!("Faults:\n{}", lines.collect::<String>())
}

/// What the numbers are asked for.
const NUMBERS: [Fault; 6] = [
    Fault::Failover,
    Fault::Reshard,
    Fault::AddRemove,
    Fault::KillReplica,
    Fault::KillPrimary,
    Fault::FreezePrimary,
];
const NUMBERS_ROUNDS: usize = 20;

impl Cli {
    fn plan(&self) -> Plan {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = self.seed.unwrap_or_else(|| now.map_or(1, |t| t.as_secs() % 1_000_000));
        let mut faults = if self.faults.is_empty() { Fault::ALL.to_vec() } else { self.faults.clone() };
        let mut rounds = self.rounds;
        if self.numbers {
            faults = NUMBERS.to_vec();
            rounds = rounds.or(Some(NUMBERS_ROUNDS));
        }
        let time = rounds.is_none().then(|| Duration::from_secs_f64(self.minutes * 60.0));
        let times = rounds.unwrap_or(1);
        let faults = faults.iter().flat_map(|fault| std::iter::repeat_n(*fault, times)).collect();
        let node_timeout = Duration::from_millis(self.node_timeout);
        let quiet = Duration::from_millis(1500);
        Plan { seed, faults, time, node_timeout, quiet, instances: self.instances.max(1) }
    }

    fn write(&self, outcome: &Outcome) -> Result<(), String> {
        let (name, title) = match self.numbers {
            true => ("numbers", "Each of these faults by itself, several times."),
            false => ("torture", "All faults, mixed."),
        };
        let markdown = report::markdown(outcome, title);
        println!("\n{markdown}");
        std::fs::create_dir_all(&self.out).map_err(|e| format!("{}: {e}", self.out.display()))?;
        let path = self.out.join(format!("{name}-{}", outcome.seed));
        for (ending, text) in [("md", &markdown), ("tsv", &report::tsv(outcome))] {
            let path = path.with_extension(ending);
            std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        println!("written: {}.md and .tsv", path.display());
        self.into.as_ref().map_or(Ok(()), |document| report::insert(document, name, &markdown))
    }
}

/// When what is missing was acknowledged or first shown.
fn missed(violation: &Suspicion) -> String {
    let moments = match &violation.excuse {
        Excuse::Loss(all) => all.clone(),
        Excuse::LossOfOne(all) => all.iter().map(|(_, at)| *at).collect(),
        _ => return String::new(),
    };
    let first: Vec<String> = moments.iter().take(5).map(|at| format!("{:.3}", *at as f64 / 1e6)).collect();
    format!("; known since {} s", first.join(", "))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !support::server::redis_present() {
        eprintln!("redis-server is not on PATH");
        return ExitCode::from(2);
    }
    let plan = cli.plan();
    println!("seed {}", plan.seed);
    let outcome = run(&plan, &|line| println!("{line}"));
    for violation in outcome.violations.iter().take(SHOWN) {
        println!(
            "VIOLATION {:?} at {:.3}–{:.3} s: {}{}",
            violation.kind,
            violation.span.from as f64 / 1e6,
            violation.span.to as f64 / 1e6,
            violation.text,
            missed(violation)
        );
    }
    if let Err(error) = cli.write(&outcome) {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
