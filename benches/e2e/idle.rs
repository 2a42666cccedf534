//! Memory per idle connection.
//!
//! Opens many connections to a freshly started target, does one GET on each, and reads the resident memory before and
//! after.

use std::time::Duration;

use crate::Result;
use crate::load::{Load, Plan};
use crate::process::resident_kib;
use crate::table::Writer;
use crate::targets::Target;
use crate::workload::Pool;

/// Columns of the result file.
pub const COLUMNS: &[&str] = &[
    "target",
    "connections",
    "fresh_kib",
    "connected_kib",
    "after_get_kib",
    "closed_kib",
    "bytes_connected",
    "bytes_after_get",
];

/// GETs in flight at a time: a burst on all connections would measure the queues of a burst.
const WIDTH: usize = 50;
/// Time a target gets to come to rest before its memory is read.
const REST: Duration = Duration::from_millis(1_500);

/// Measures each target once.
///
/// # Errors
/// When a target does not take that many connections.
pub fn run(targets: &[Target], connections: usize, writer: &mut Writer) -> Result<()> {
    let pool = Pool::gets(connections);
    for target in targets {
        let named = |error: Box<dyn std::error::Error>| format!("{}: {error}", target.name);
        // The first connections make a target open its own to the servers; that is not the cost of a client.
        Load::connect(target.addr, 50, 1)
            .and_then(|mut load| load.run(&pool, Plan::InTurn(WIDTH)))
            .map_err(named)?;
        let fresh = rested(target);
        let mut load = Load::connect(target.addr, connections, 1).map_err(named)?;
        let connected = rested(target);
        let outcome = load.run(&pool, Plan::InTurn(WIDTH)).map_err(named)?;
        if let Some(error) = outcome.seen.first_error {
            return Err(format!("{}: {error}", target.name).into());
        }
        let after_get = rested(target);
        drop(load);
        let closed = rested(target);
        let per_connection = |kib: u64| (kib.saturating_sub(fresh) * 1_024) as f64 / connections as f64;
        println!(
            "idle  {:12} {:6.0} bytes per connection after a GET",
            target.name,
            per_connection(after_get)
        );
        let mut cells = vec![target.name.clone(), connections.to_string()];
        cells.extend([fresh, connected, after_get, closed].map(|kib| kib.to_string()));
        cells.extend([connected, after_get].map(|kib| format!("{:.0}", per_connection(kib))));
        writer.row(&cells)?;
    }
    Ok(())
}

fn rested(target: &Target) -> u64 {
    std::thread::sleep(REST);
    resident_kib(target.pid)
}
