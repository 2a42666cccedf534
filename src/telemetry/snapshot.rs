//! What a worker lets others see of its counters: copied about once a second, read at a scrape.
//!
//! One writer per snapshot, so stores are plain; the alignment keeps two workers' snapshots from
//! sharing a cache line. Must never be written on the path of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::counters::word;

const LINE: usize = 16;

/// Two cache lines, for the processors that fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Line([AtomicU64; LINE]);

/// Words that one thread writes and any may read.
pub struct Block(Box<[Line]>);

impl Block {
    pub(super) fn new(words: usize) -> Self {
        Self((0..words.div_ceil(LINE)).map(|_| Line::default()).collect())
    }

    pub(super) fn store(&self, values: impl Iterator<Item = u64>) {
        for (word, value) in self.words().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Adds every word to `sums`, wrapping: gauges are kept as two's complement.
    pub(super) fn add_to(&self, sums: &mut [u64]) {
        for (word, sum) in self.words().zip(sums) {
            *sum = sum.wrapping_add(word.load(Ordering::Relaxed));
        }
    }

    fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        self.0.iter().flat_map(|line| &line.0)
    }
}

/// Requests and bytes of clients since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Commands received.
    pub commands: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes written to clients.
    pub bytes_out: u64,
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            commands: sum.commands + one.commands,
            bytes_in: sum.bytes_in + one.bytes_in,
            bytes_out: sum.bytes_out + one.bytes_out,
        })
    }
}

/// One worker's published counters and its heartbeat.
pub struct Snapshot {
    pub(super) totals: Block,
    /// By `NodeId`; replaced when the worker meets a node with a higher one.
    pub(super) nodes: ArcSwap<Vec<Arc<Block>>>,
    /// Milliseconds of `clock_ms` at the last publish.
    pub(super) beat_ms: AtomicU64,
    /// Commands, bytes in and bytes out per second, between the last two publishes.
    rates: [AtomicU64; 3],
}

impl Snapshot {
    pub(super) fn new(words: usize) -> Self {
        Self {
            totals: Block::new(words),
            nodes: ArcSwap::default(),
            beat_ms: AtomicU64::new(super::clock_ms()),
            rates: Default::default(),
        }
    }

    /// What went through the worker, as of the last publish.
    pub fn traffic(&self) -> Traffic {
        let words = self.totals.words().map(|word| word.load(Ordering::Relaxed));
        let mut traffic = Traffic::default();
        for (index, value) in words.enumerate() {
            match index {
                word::BYTES_IN => traffic.bytes_in = value,
                word::BYTES_OUT => traffic.bytes_out = value,
                word::COMMANDS.. => traffic.commands += value,
                _ => {}
            }
        }
        traffic
    }

    /// What went through the worker per second, as of the last publish.
    pub fn rates(&self) -> Traffic {
        let [commands, bytes_in, bytes_out] = self.rates.each_ref().map(|rate| rate.load(Ordering::Relaxed));
        Traffic { commands, bytes_in, bytes_out }
    }

    /// Clients that wait in a blocking command, as of the last publish.
    pub fn blocked(&self) -> u64 {
        self.totals.words().nth(word::BLOCKED).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Adds how often each command was received, by `CommandId`.
    pub fn add_commands(&self, sums: &mut [u64]) {
        add(self.totals.words().skip(word::COMMANDS), sums);
    }

    /// Adds how often clients were answered with each error of the proxy, in the order of
    /// `ProxyError::ALL`.
    pub fn add_errors(&self, sums: &mut [u64]) {
        add(self.totals.words().skip(word::ERRORS), sums);
    }

    /// Takes over the worker's totals at `now_ms`.
    pub(super) fn publish(&self, totals: impl Iterator<Item = u64>, now_ms: u64) {
        let before = self.traffic();
        self.totals.store(totals);
        let after = self.traffic();
        let elapsed = now_ms.saturating_sub(self.beat_ms()).max(1);
        let grown = [
            after.commands - before.commands,
            after.bytes_in - before.bytes_in,
            after.bytes_out - before.bytes_out,
        ];
        for (rate, grown) in self.rates.iter().zip(grown) {
            rate.store(grown.saturating_mul(1000) / elapsed, Ordering::Relaxed);
        }
    }

    /// When the worker last published, in milliseconds of `telemetry::clock_ms`.
    pub fn beat_ms(&self) -> u64 {
        self.beat_ms.load(Ordering::Relaxed)
    }
}

fn add<'a>(words: impl Iterator<Item = &'a AtomicU64>, sums: &mut [u64]) {
    for (sum, word) in sums.iter_mut().zip(words) {
        *sum += word.load(Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("beat_ms", &self.beat_ms).finish_non_exhaustive()
    }
}
