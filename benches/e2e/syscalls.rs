//! System calls per request, counted by the kernel without slowing the process.
//!
//! Uses `perf stat` on the raw_syscalls tracepoint (strace would stop the process at every call and change how requests
//! are batched). Where perf has not the right, it says so.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fastrand::Rng;

use crate::Result;
use crate::load::{Load, Plan};
use crate::process::Usage;
use crate::rounds::Extent;
use crate::table::Writer;
use crate::targets::Target;
use crate::workload::{Pool, Workload};

/// Columns of the result file.
pub const COLUMNS: &[&str] =
    &["round", "workload", "target", "requests", "syscalls", "per_request", "switches"];

const EVENT: &str = "raw_syscalls:sys_enter";
/// Time perf gets to attach to every thread before the first request, and half of what it stays longer than the load.
const ATTACH: Duration = Duration::from_millis(500);

/// Counts every target under every workload once per round.
///
/// # Errors
/// When a target fails.
pub fn run(
    targets: &[Target],
    workloads: &[&Workload],
    extent: &Extent,
    folder: &Path,
    writer: &mut Writer,
) -> Result<()> {
    if !is_permitted() {
        println!("system calls: not permitted (perf is missing or may not read {EVENT})");
        return Ok(());
    }
    for round in 1..=extent.rounds {
        for workload in workloads {
            let pool = Pool::random(workload, extent.keys, u64::from(round));
            for target in targets {
                let mut cells = vec![round.to_string(), workload.name.to_owned(), target.name.clone()];
                cells.extend(count(target, workload, &pool, extent.time, folder)?);
                println!("system calls  {}", cells.join("  "));
                writer.row(&cells)?;
            }
        }
    }
    Ok(())
}

/// Requests, system calls, calls per request, context switches. The connections are open before the counter starts and
/// close after it ends.
fn count(
    target: &Target,
    workload: &Workload,
    pool: &Pool,
    time: Duration,
    folder: &Path,
) -> Result<Vec<String>> {
    let mut load = Load::connect(target.addr, workload.connections, workload.pipeline)?;
    let mut rng = Rng::with_seed(workload.connections as u64);
    load.run(pool, Plan::For(time / 5, rng.fork()))?;
    let file = folder.join("perf.txt");
    let pid = target.pid.to_string();
    let length = format!("{:.1}", (time + 2 * ATTACH).as_secs_f64());
    let mut perf = Command::new("perf")
        .args(["stat", "-x", ",", "-e", EVENT, "-p", &pid, "-o"])
        .arg(&file)
        .args(["sleep", &length])
        .spawn()?;
    std::thread::sleep(ATTACH);
    let before = Usage::of(target.pid)?;
    let outcome = load.run(pool, Plan::For(time, rng))?;
    let used = Usage::of(target.pid)?.since(before);
    perf.wait()?;
    let calls = counted(&std::fs::read_to_string(&file)?).ok_or("perf counted nothing")?;
    let requests = outcome.seen.replies;
    let per_request = format!("{:.3}", calls as f64 / requests as f64);
    let switches = (used.voluntary + used.involuntary).to_string();
    Ok(vec![requests.to_string(), calls.to_string(), per_request, switches])
}

/// The first field of perf's line for the event.
fn counted(text: &str) -> Option<u64> {
    text.lines().find(|line| line.contains(EVENT))?.split(',').next()?.parse().ok()
}

/// Whether perf may count here, tried on a process that does nothing.
fn is_permitted() -> bool {
    let tried =
        Command::new("perf").args(["stat", "-x", ",", "-e", EVENT, "true"]).stdout(Stdio::null()).output();
    tried.is_ok_and(|output| counted(&String::from_utf8_lossy(&output.stderr)).is_some())
}
