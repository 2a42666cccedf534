//! What is sent and when, decided before the clock starts.
//!
//! Owns the moments, the requests and the keys of both groups of connections. A key belongs to one connection, and every
//! value says which key it was written to and by which request, so a reply proves whose it is. A key's slot is computed
//! here, not asked of slotway: what is measured must not decide what is right.

use std::time::Duration;

use fastrand::Rng;

use crate::servers::SlotRange;
use crate::workload::Pool;

/// Connections of each group.
pub const CONNECTIONS: usize = 50;
/// Requests per second on the connections that use only the shards that stay awake, all together.
pub const OTHERS_RATE: u32 = 5_000;
/// Requests per second on the connections that use only the shard that freezes, all together.
pub const FROZEN_RATE: u32 = 1_000;
/// Bytes per value.
const VALUE_LEN: usize = 64;
/// Keys of each connection.
const KEYS: usize = 16;
/// One SET, the rest GET.
const SET_EVERY: u8 = 11;

/// Which nodes a connection uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Only the node that freezes.
    Frozen,
    /// Only the other nodes.
    Others,
}

/// A key and the connection that alone uses it.
pub struct Key {
    /// Its name.
    pub name: String,
    /// Which nodes it is on.
    pub side: Side,
}

/// One request.
pub struct Request {
    /// When it is to be sent, from the start.
    pub due: Duration,
    /// Which connection sends it.
    pub connection: usize,
    /// Place of its key among the keys.
    pub key: usize,
    /// SET, else GET.
    pub is_set: bool,
}

/// Everything that one measurement sends.
pub struct Schedule {
    /// In the order in which they are due.
    pub requests: Vec<Request>,
    /// The bytes of each.
    pub pool: Pool,
    /// The requests of every connection, as places in `requests`.
    pub by_connection: Vec<Vec<usize>>,
}

/// The keys of all connections: those of connection `n` are in one piece, the group `Others` comes first.
pub fn keys(frozen: &[SlotRange]) -> Vec<Key> {
    let mut keys = Vec::with_capacity(2 * CONNECTIONS * KEYS);
    for connection in 0..2 * CONNECTIONS {
        let side = if connection < CONNECTIONS { Side::Others } else { Side::Frozen };
        let names = (0..).map(|number: u32| format!("frozen:{connection:03}:{number:05}"));
        let fitting = names.filter(|name| is_in(frozen, name) == (side == Side::Frozen)).take(KEYS);
        keys.extend(fitting.map(|name| Key { name, side }));
    }
    keys
}

fn is_in(ranges: &[SlotRange], key: &str) -> bool {
    let slot = crc16::State::<crc16::XMODEM>::calculate(key.as_bytes()) % 16_384;
    ranges.iter().any(|range| range.contains(&slot))
}

/// SET of every key to the value of request 0.
pub fn preload(keys: &[Key]) -> Pool {
    let mut pool = Pool::new();
    for key in keys {
        pool.push(&[b"SET", key.name.as_bytes(), value(&key.name, 0).as_bytes()]);
    }
    pool
}

/// The value that request `number` writes to a key; requests count from 1.
pub fn value(key: &str, number: usize) -> String {
    let head = format!("{key}|{number}|");
    format!("{head:.<VALUE_LEN$}")
}

/// The number of the request that wrote this value to this key; None for any other bytes.
pub fn writer_of(key: &str, bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number = text.strip_prefix(key)?.strip_prefix('|')?.split('|').next()?.parse().ok()?;
    (value(key, number) == text).then_some(number)
}

impl Schedule {
    /// Both groups at their rates, evenly spaced, for this long; keys and commands are drawn at random.
    pub fn new(keys: &[Key], length: Duration, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut schedule = Self {
            requests: Vec::new(),
            pool: Pool::new(),
            by_connection: vec![Vec::new(); 2 * CONNECTIONS],
        };
        let others = Moments::new(OTHERS_RATE, 0, 0.0);
        // Half a step beside the others, so that the two groups are never due at once.
        let frozen = Moments::new(FROZEN_RATE, CONNECTIONS, 0.5 / f64::from(OTHERS_RATE));
        let mut due: Vec<_> = others.until(length).chain(frozen.until(length)).collect();
        due.sort_unstable();
        for (due, connection) in due {
            schedule.push(keys, due, connection, &mut rng);
        }
        schedule
    }

    fn push(&mut self, keys: &[Key], due: Duration, connection: usize, rng: &mut Rng) {
        let (place, key) = (self.requests.len(), connection * KEYS + rng.usize(0..KEYS));
        let is_set = rng.u8(0..SET_EVERY) == 0;
        let name = keys.get(key).map_or("", |key| key.name.as_str());
        if is_set {
            self.pool.push(&[b"SET", name.as_bytes(), value(name, place + 1).as_bytes()]);
        } else {
            self.pool.push(&[b"GET", name.as_bytes()]);
        }
        self.requests.push(Request { due, connection, key, is_set });
        if let Some(own) = self.by_connection.get_mut(connection) {
            own.push(place);
        }
    }
}

/// The moments of one group and whose turn it is at each.
struct Moments {
    rate: u32,
    first_connection: usize,
    offset: f64,
}

impl Moments {
    fn new(rate: u32, first_connection: usize, offset: f64) -> Self {
        Self { rate, first_connection, offset }
    }

    fn until(self, length: Duration) -> impl Iterator<Item = (Duration, usize)> {
        let count = (length.as_secs_f64() * f64::from(self.rate)) as u32;
        (0..count).map(move |number| {
            let due = Duration::from_secs_f64(f64::from(number) / f64::from(self.rate) + self.offset);
            (due, self.first_connection + number as usize % CONNECTIONS)
        })
    }
}
