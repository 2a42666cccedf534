//! One node frozen: do connections that use only the other nodes notice?
//!
//! Owns the rounds. Two groups of connections ask at fixed rates, one only the first primary, one only the others; that
//! primary is stopped (SIGSTOP) for one phase and wakes again. Measured is the latency of the second group. Every reply of
//! both is checked against its request, those after the waking too.

mod freezer;
mod open_loop;
mod phases;
mod replies;
mod schedule;

use std::time::Duration;

use crate::Result;
use crate::load::{Load, Plan};
use crate::rounds::{Extent, refuse_errors};
use crate::servers::Servers;
use crate::table::Writer;
use crate::targets::Target;

use freezer::Freezer;
use phases::{Count, FROZEN, NAMES, PHASES, Phases};
use schedule::{Key, Schedule};

/// Columns of the result file.
pub const COLUMNS: &[&str] = &[
    "round",
    "target",
    "phase",
    "requests",
    "p50_us",
    "p99_us",
    "p999_us",
    "late_p99_us",
    "frozen_requests",
    "deadline_errors",
];

/// With it slotway runs: its request deadline, so short that errors come again and again within a phase.
pub const SLOTWAY_OPTIONS: [&str; 2] = ["--set", "request-deadline=1s"];
const DEADLINE: Duration = Duration::from_secs(1);
/// Milliseconds until the cluster's nodes would call the frozen one failed; longer than it is ever frozen.
pub const NODE_TIMEOUT_MS: u32 = 60_000;
/// Seconds of a phase: below, the deadline's errors and the silence before them fill it; above, slotway drops the silent
/// node (`node-silence-timeout`, 7 s), which is another matter.
const SECONDS: std::ops::RangeInclusive<f64> = 3.0..=6.0;
/// How much earlier than a deadline before the waking a request must be due for its error to be certain.
const MARGIN: Duration = Duration::from_millis(250);

/// What is measured, for the head of the result file.
pub fn note() -> String {
    format!(
        "{} connections at {} requests/s in all on the nodes that run, as many at {} requests/s on the one that freezes; \
         GET and SET of 64 bytes, request-deadline {DEADLINE:?}",
        schedule::CONNECTIONS,
        schedule::OTHERS_RATE,
        schedule::FROZEN_RATE
    )
}

/// Whether phases may be this long; asked before anything is started.
///
/// # Errors
/// When they may not.
pub fn check(seconds: f64) -> Result<()> {
    if SECONDS.contains(&seconds) {
        return Ok(());
    }
    Err(format!("--frozen takes phases of {} to {} s", SECONDS.start(), SECONDS.end()).into())
}

/// Measures every target once per round, in an order that turns from round to round.
///
/// # Errors
/// When a reply is not that of its request, an error comes that must not be, or the cluster fails over.
pub fn run(targets: &[Target], servers: &Servers, extent: &Extent, writer: &mut Writer) -> Result<()> {
    if targets.is_empty() {
        return Err("--frozen measures slotway-1 and slotway-2, and none of them is wanted".into());
    }
    let phases = Phases { length: extent.time };
    let slots = servers.slots_of_first()?;
    let keys = schedule::keys(&slots);
    let mut freezer = Freezer::new(servers.first_pid()?)?;
    for round in 1..=extent.rounds {
        let schedule = Schedule::new(&keys, phases.total(), u64::from(round));
        for place in 0..targets.len() {
            let Some(target) = targets.get((place + round as usize) % targets.len()) else { continue };
            let counts = measure(target, &keys, &schedule, &phases, &mut freezer)
                .map_err(|error| format!("{} in round {round}: {error}", target.name))?;
            if servers.slots_of_first()? != slots {
                return Err("the cluster failed over: nothing was measured".into());
            }
            for (name, count) in NAMES.iter().zip(&counts) {
                writer.row(&cells(round, target, name, count))?;
            }
            println!("{}", line(round, target, &counts));
        }
    }
    Ok(())
}

fn measure(
    target: &Target,
    keys: &[Key],
    schedule: &Schedule,
    phases: &Phases,
    freezer: &mut Freezer,
) -> Result<[Count; PHASES]> {
    let outcome = Load::connect(target.addr, 8, 64)?.run(&schedule::preload(keys), Plan::Once)?;
    refuse_errors(&outcome, target)?;
    let counts = open_loop::run(target.addr, keys, schedule, phases, freezer)?;
    let [_, frozen, _, after] = &counts;
    // Whoever asked early enough for the deadline to pass while the node was stopped must have its error.
    let certain =
        phases.length.saturating_sub(DEADLINE + MARGIN).as_secs_f64() * f64::from(schedule::FROZEN_RATE);
    if (frozen.deadline as f64) < certain {
        return Err(format!(
            "{} of {} requests to the frozen node got the deadline's error, expected at least {certain:.0}",
            frozen.deadline, frozen.frozen
        )
        .into());
    }
    if after.deadline > 0 {
        let errors = after.deadline;
        return Err(format!("{errors} errors {:?} after the node woke: it is not back", phases.length).into());
    }
    Ok(counts)
}

fn cells(round: u32, target: &Target, phase: &str, count: &Count) -> Vec<String> {
    let mut cells = vec![round.to_string(), target.name.clone(), phase.to_owned(), count.others.to_string()];
    cells.extend([0.5, 0.99, 0.999].map(|share| format!("{:.1}", count.latency.percentile_us(share))));
    cells.push(format!("{:.1}", count.late.percentile_us(0.99)));
    cells.extend([count.frozen, count.deadline].map(|number| number.to_string()));
    cells
}

fn line(round: u32, target: &Target, counts: &[Count; PHASES]) -> String {
    let p99 = counts.each_ref().map(|count| count.latency.percentile_us(0.99));
    let each: Vec<String> = NAMES.iter().zip(p99).map(|(name, p99)| format!("{name} {p99:5.0}")).collect();
    let deadline = counts.get(FROZEN).map_or(0, |count| count.deadline);
    format!("round {round}  {:10} p99 in µs: {}  deadline errors {deadline}", target.name, each.join("  "))
}
