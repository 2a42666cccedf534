//! The workers: each group writes values that describe themselves, through slotway, and holds every reply against a
//! model. A group knows nothing of the faults.

pub mod blocking;
pub mod cached;
pub mod counters;
pub mod mixed;
pub mod registers;
pub mod replicas;
pub mod scans;
pub mod scripts;
pub mod subscribers;
pub mod transactions;

use std::time::Duration;

use super::bench::Bench;
use crate::support::keys::{SLOTS, key_in};
use crate::support::resp::Value;

/// Mean pause of a worker between two batches.
pub const PAUSE: Duration = Duration::from_millis(25);

/// Some threads with a common purpose.
pub trait Group: Sync {
    fn name(&self) -> &'static str;

    fn threads(&self) -> usize;

    /// Works until the bench stops.
    fn work(&self, bench: &Bench, thread: usize);

    /// The last look, when all faults are over and all workers have ended.
    fn finish(&self, _bench: &Bench) {}
}

/// All groups of a run.
pub fn all() -> Vec<Box<dyn Group>> {
    vec![
        Box::new(registers::Registers::default()),
        Box::new(counters::Counters::default()),
        Box::new(mixed::Mixed),
        Box::new(transactions::Transactions::default()),
        Box::new(blocking::Queues::default()),
        Box::new(subscribers::Channels::default()),
        Box::new(scripts::Scripts::default()),
        Box::new(cached::Cached),
        Box::new(scans::Scans),
        Box::new(replicas::Replicas::default()),
    ]
}

/// Every slot with keys of the run lies in one of these stretches, at the lowest slots of each shard: those that
/// `redis-cli --cluster reshard` moves first.
const STRETCH: u16 = 40;

/// The first slot of a third of all, as the cluster was cut at its beginning.
fn third(zone: u16) -> u16 {
    (u32::from(SLOTS) * u32::from(zone) / 3) as u16
}

/// True for a slot in which the run has keys, or may have.
pub fn is_used(slot: u16) -> bool {
    (0..3).any(|zone| (third(zone)..third(zone) + STRETCH).contains(&slot))
}

/// A slot for the `n`th key of a kind: the shards take turns.
pub fn place(n: usize) -> u16 {
    third((n % 3) as u16) + (n / 3 * 7) as u16 % STRETCH
}

/// A key of the run, in the `n`th place.
pub fn key(group: &str, name: &str, n: usize) -> String {
    key_in(place(n), &format!("t:{group}:{name}:"))
}

/// The text of a bulk string, `None` for nil; `Err` for anything else.
pub fn text(value: &Value) -> Result<Option<String>, ()> {
    match value {
        Value::Bulk(bytes) => Ok(Some(String::from_utf8_lossy(bytes).into_owned())),
        Value::NullBulk | Value::Null => Ok(None),
        _ => Err(()),
    }
}

/// The value of write `number` to a key.
pub fn numbered(key: &str, number: usize, padding: usize) -> String {
    format!("{key}|{number}|{}", "x".repeat(padding))
}

/// The number in a value of `numbered`, `None` for nil; `Err` for anything else.
pub fn number_in(key: &str, value: &Value) -> Result<Option<usize>, ()> {
    let Some(shown) = text(value)? else { return Ok(None) };
    let mut parts = shown.split('|');
    let (name, number) = (parts.next(), parts.next().and_then(|n| n.parse().ok()));
    if name == Some(key) { number.map(Some).ok_or(()) } else { Err(()) }
}
