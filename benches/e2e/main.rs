//! The end-to-end benchmark: slotway beside other proxies, on servers it starts itself.
//!
//! Owns the command line. What is measured and why stands in `benches/README.md`; `benches/run` builds and starts this.

#![allow(clippy::print_stdout, reason = "a command-line tool: the terminal is its output")]

mod bars;
mod blocked;
mod frozen;
mod histogram;
mod idle;
mod load;
mod process;
mod report;
mod rounds;
mod scan;
mod servers;
mod syscalls;
mod table;
mod targets;
mod workload;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use fastrand::Rng;

use load::{Load, Plan};
use rounds::Extent;
use servers::{Layout, Servers};
use table::Writer;
use targets::{Extra, Slotway, Target};
use workload::Pool;

/// What everything here returns: a failure is a sentence for the user.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// End-to-end benchmark of slotway and its peers.
#[derive(Parser)]
#[command(bin_name = "benches/run")]
struct Cli {
    /// Cargo gives this to every benchmark.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Start servers and targets, and measure.
    #[command(override_usage = "benches/run [OPTIONS] [EXTRA]...")]
    Run(Box<Run>),
    /// Turn result files into Markdown.
    Table {
        /// Files that `run` wrote.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Put it between the marks of this document instead of printing it.
        #[arg(long)]
        into: Option<PathBuf>,
        /// Leave the lesser tables out.
        #[arg(long)]
        brief: bool,
    },
    /// Only the load generator, against an address that listens already.
    Load {
        /// Where to.
        addr: SocketAddr,
        /// Workload.
        #[arg(long, default_value = "p1")]
        workload: String,
        /// Seconds.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Number of small keys.
        #[arg(long, default_value_t = 100_000)]
        keys: u64,
    },
}

#[derive(Args)]
struct Run {
    /// Rounds; medians are taken over them.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Workloads, separated by commas [default: all; with --syscalls: p1,p16].
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Targets to start, separated by commas; `none` for only those given as arguments.
    #[arg(long, value_delimiter = ',', default_values = targets::OWN)]
    targets: Vec<String>,
    /// Folder of the result files.
    #[arg(long, default_value = "benches/results")]
    out: PathBuf,
    /// First part of the name of the result files.
    #[arg(long, default_value = "run")]
    label: String,
    /// The slotway to measure [default: built from this source].
    #[arg(long)]
    slotway: Option<PathBuf>,
    /// First port of the cluster's nodes, for targets that are configured before this starts [default: free ports].
    #[arg(long)]
    cluster_port: Option<u16>,
    /// A cluster of three primaries only.
    #[arg(long)]
    no_replicas: bool,
    /// Number of small keys.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Measure memory per idle connection instead, with this many connections.
    #[arg(long, value_name = "CONNECTIONS", conflicts_with = "syscalls")]
    idle: Option<usize>,
    /// Count system calls per request instead.
    #[arg(long)]
    syscalls: bool,
    /// Measure what connections of other nodes notice while one node is frozen instead; slotway only.
    #[arg(long, conflicts_with_all = ["idle", "syscalls", "workloads", "keys", "extra"])]
    frozen: bool,
    /// Measure what others notice while so many clients wait in BLPOP instead; slotway only.
    #[arg(long, value_name = "CLIENTS", conflicts_with_all = ["idle", "syscalls", "frozen", "workloads", "extra"])]
    blocked: Option<usize>,
    /// Targets that run already, each with one thread: name=127.0.0.1:port=pid.
    extra: Vec<Extra>,
}

fn main() -> ExitCode {
    match act(Cli::parse().action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn act(action: Option<Action>) -> Result<()> {
    match action {
        None => println!("the end-to-end benchmark is started by benches/run"),
        Some(Action::Run(run)) => run.run()?,
        Some(Action::Table { files, into, brief }) => {
            let markdown = report::markdown(&files, brief)?;
            match into {
                None => print!("{markdown}"),
                Some(document) => report::insert(&document, &markdown)?,
            }
        }
        Some(Action::Load { addr, workload, seconds, keys }) => only_load(addr, workload, seconds, keys)?,
    }
    Ok(())
}

fn only_load(addr: SocketAddr, workload: String, seconds: f64, keys: u64) -> Result<()> {
    for workload in workload::by_names(&[workload])? {
        let pool = Pool::random(workload, keys, 1);
        let mut load = Load::connect(addr, workload.connections, workload.pipeline)?;
        let outcome = load.run(&pool, Plan::For(Duration::from_secs_f64(seconds), Rng::with_seed(1)))?;
        let rate = outcome.seen.replies as f64 / outcome.elapsed.as_secs_f64();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| outcome.latency.percentile_us(share));
        println!(
            "{rate:.0} requests/s, p50 {p50:.0} µs, p99 {p99:.0} µs, p99.9 {p999:.0} µs, {:?}",
            outcome.seen
        );
    }
    Ok(())
}

impl Run {
    fn run(&self) -> Result<()> {
        let workloads = workload::by_names(&self.workload_names())?;
        if self.frozen {
            frozen::check(self.seconds)?;
        }
        let folder = tempfile::tempdir()?;
        let servers = Servers::start(folder.path(), &self.layout())?;
        let seeds: Vec<String> = servers.cluster.iter().map(ToString::to_string).collect();
        println!("cluster: {}", seeds.join(" "));
        let extent =
            Extent { rounds: self.rounds, time: Duration::from_secs_f64(self.seconds), keys: self.keys };
        // Idle memory is that of a process which has done nothing before: not even the preload, where it is not ours.
        let extras = if self.idle.is_some() { &[] } else { self.extra.as_slice() };
        let mut targets = self.start(extras, &servers, folder.path())?;
        if !self.frozen {
            rounds::preload(&targets, &workloads, self.keys)?;
        }
        let mut writer = self.writer()?;
        if self.frozen {
            frozen::run(&targets, &servers, &extent, &mut writer)?;
        } else if let Some(clients) = self.blocked {
            let workload = workloads.first().ok_or("no workload")?;
            blocked::run(&targets, &servers, (workload, clients), &extent, &mut writer)?;
        } else if let Some(connections) = self.idle {
            targets.clear();
            targets = self.start(&self.extra, &servers, folder.path())?;
            idle::run(&targets, connections, &mut writer)?;
        } else if self.syscalls {
            syscalls::run(&targets, &workloads, &extent, folder.path(), &mut writer)?;
        } else {
            rounds::run(&targets, &workloads, &extent, &mut writer)?;
        }
        let markdown = report::markdown(std::slice::from_ref(&writer.path), false)?;
        let path = writer.path.with_extension("md");
        std::fs::write(&path, &markdown)?;
        println!("\n{markdown}written: {} and .md", writer.path.display());
        Ok(())
    }

    fn workload_names(&self) -> Vec<String> {
        match (self.workloads.is_empty(), self.syscalls, self.idle) {
            (true, true, _) => ["p1", "p16"].map(str::to_owned).to_vec(),
            (true, _, Some(_)) => vec!["p1".to_owned()],
            _ if self.blocked.is_some() => vec!["p1".to_owned()],
            _ => self.workloads.clone(),
        }
    }

    fn start(&self, extras: &[Extra], servers: &Servers, folder: &Path) -> Result<Vec<Target>> {
        let only_slotway = self.frozen || self.blocked.is_some();
        let wanted = |name: &&String| *name != "none" && (!only_slotway || name.starts_with("slotway"));
        let names: Vec<String> = self.targets.iter().filter(wanted).cloned().collect();
        let options: &[&str] = if self.frozen { &frozen::SLOTWAY_OPTIONS } else { &[] };
        targets::start(&names, extras, &Slotway { binary: &self.slotway(), options }, servers, folder)
    }

    fn layout(&self) -> Layout {
        Layout {
            replicas: !self.no_replicas,
            cluster_port: self.cluster_port,
            node_timeout_ms: if self.frozen { frozen::NODE_TIMEOUT_MS } else { servers::NODE_TIMEOUT_MS },
            standalone: !self.frozen && self.blocked.is_none(),
        }
    }

    /// Cargo builds the binary for benchmarks with the release settings and tells where.
    fn slotway(&self) -> PathBuf {
        let built = option_env!("CARGO_BIN_EXE_slotway").unwrap_or("target/release/slotway");
        self.slotway.clone().unwrap_or_else(|| PathBuf::from(built))
    }

    fn writer(&self) -> Result<Writer> {
        let (kind, columns) = match (self.idle, self.syscalls, self.frozen) {
            (_, _, true) => ("frozen", frozen::COLUMNS),
            _ if self.blocked.is_some() => ("blocked", blocked::COLUMNS),
            (Some(_), _, _) => ("idle", idle::COLUMNS),
            (None, true, _) => ("syscalls", syscalls::COLUMNS),
            (None, false, _) => ("rounds", rounds::COLUMNS),
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let date = std::process::Command::new("date").args(["-u", "+%F"]).output()?.stdout;
        let date = String::from_utf8_lossy(&date).trim_end().to_owned();
        let what = if self.frozen { frozen::note() } else { format!("{} keys", self.keys) };
        let mut notes = vec![format!("{date}, {cores} cores, {} s per measurement, {what}", self.seconds)];
        notes.extend(targets::versions(&self.slotway()));
        Writer::create(&self.out, &format!("{}-{kind}", self.label), &notes, columns)
    }
}
