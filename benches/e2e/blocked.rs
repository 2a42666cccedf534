//! Many clients that wait: do others notice?
//!
//! Owns the rounds. The usual load runs three times on the same connections: alone, while many clients wait in BLPOP, and
//! alone again. Afterwards every waiting client gets an element of its own, so that it is certain that all of them waited
//! and none was lost.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::Result;
use crate::load::{Load, Outcome, Plan};
use crate::rounds::{Extent, refuse_errors};
use crate::servers::{Servers, number_in_info};
use crate::table::Writer;
use crate::targets::Target;
use crate::workload::{Pool, Workload};

/// Columns of the result file.
pub const COLUMNS: &[&str] =
    &["round", "target", "phase", "waiting", "requests", "rps", "p50_us", "p99_us", "p999_us"];
const PHASES: [&str; 3] = ["before", "blocked", "after"];
/// How long all of them may take to wait, or to get their elements.
const PATIENCE: Duration = Duration::from_secs(20);

/// Clients that wait, each for a key of its own.
struct Waiting(Vec<TcpStream>);

/// Measures every target once per round.
///
/// # Errors
/// When a target answers with an error, or a waiting client does not wait or does not get its element.
pub fn run(
    targets: &[Target],
    servers: &Servers,
    (workload, clients): (&Workload, usize),
    extent: &Extent,
    writer: &mut Writer,
) -> Result<()> {
    for round in 1..=extent.rounds {
        let pool = Pool::random(workload, extent.keys, u64::from(round));
        for place in 0..targets.len() {
            let Some(target) = targets.get((place + round as usize) % targets.len()) else { continue };
            let mut load = Load::connect(target.addr, workload.connections, workload.pipeline)?;
            let mut line = format!("round {round}  {:10} p99 in µs:", target.name);
            for phase in PHASES {
                let waiting = if phase == "blocked" { clients } else { 0 };
                let held = Waiting::begin(target.addr, servers, waiting)?;
                let outcome = measure(&mut load, &pool, extent.time, target)?;
                held.end(target.addr)?;
                writer.row(&cells(round, target, (phase, waiting), &outcome))?;
                line += &format!("  {phase} {:5.0}", outcome.latency.percentile_us(0.99));
            }
            println!("{line}");
        }
    }
    Ok(())
}

fn measure(load: &mut Load, pool: &Pool, time: Duration, target: &Target) -> Result<Outcome> {
    refuse_errors(&load.run(pool, Plan::For(time / 5, Rng::with_seed(1)))?, target)?;
    let outcome = load.run(pool, Plan::For(time, Rng::with_seed(2)))?;
    refuse_errors(&outcome, target)?;
    Ok(outcome)
}

fn cells(round: u32, target: &Target, (phase, waiting): (&str, usize), outcome: &Outcome) -> Vec<String> {
    let requests = outcome.seen.replies;
    let mut cells = vec![round.to_string(), target.name.clone(), phase.to_owned(), waiting.to_string()];
    cells.extend([requests.to_string(), format!("{:.0}", requests as f64 / outcome.elapsed.as_secs_f64())]);
    cells.extend([0.5, 0.99, 0.999].map(|share| format!("{:.1}", outcome.latency.percentile_us(share))));
    cells
}

fn key(index: usize) -> String {
    format!("wait:{index}")
}

impl Waiting {
    /// Returns when the nodes say that all of them wait.
    fn begin(addr: SocketAddr, servers: &Servers, count: usize) -> Result<Self> {
        let mut clients = Vec::with_capacity(count);
        for index in 0..count {
            let mut client = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
            client.set_read_timeout(Some(PATIENCE))?;
            client.write_all(format!("BLPOP {} 0\r\n", key(index)).as_bytes())?;
            clients.push(client);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut blocked = 0;
            for node in &servers.cluster {
                blocked += number_in_info(*node, "clients", "blocked_clients")?;
            }
            if blocked == count as u64 {
                return Ok(Self(clients));
            }
            if Instant::now() > deadline {
                return Err(format!("{blocked} of {count} clients wait at the nodes").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Gives each its element.
    fn end(self, addr: SocketAddr) -> Result<()> {
        let mut pusher = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
        pusher.set_read_timeout(Some(PATIENCE))?;
        for (index, mut client) in self.0.into_iter().enumerate() {
            let (key, element) = (key(index), index.to_string());
            pusher.write_all(format!("RPUSH {key} {element}\r\n").as_bytes())?;
            let mut told = [0; 4];
            pusher.read_exact(&mut told)?;
            let expected =
                format!("*2\r\n${}\r\n{key}\r\n${}\r\n{element}\r\n", key.len(), element.len()).into_bytes();
            let mut got = vec![0; expected.len()];
            client.read_exact(&mut got)?;
            if &told != b":1\r\n" || got != expected {
                let got = String::from_utf8_lossy(&got).into_owned();
                return Err(format!("a client that waited for {key} got {got:?}").into());
            }
        }
        Ok(())
    }
}
