//! What a worker lets others see of its counters: copied about once a second, read at a scrape.
//!
//! One writer per snapshot, so stores are plain; the alignment keeps two workers' snapshots from
//! sharing a cache line. Must never be written on the path of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

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

/// One worker's published counters and its heartbeat.
pub struct Snapshot {
    pub(super) totals: Block,
    /// By `NodeId`; replaced when the worker meets a node with a higher one.
    pub(super) nodes: ArcSwap<Vec<Arc<Block>>>,
    /// Milliseconds of `clock_ms` at the last publish.
    pub(super) beat_ms: AtomicU64,
}

impl Snapshot {
    pub(super) fn new(words: usize) -> Self {
        Self {
            totals: Block::new(words),
            nodes: ArcSwap::default(),
            beat_ms: AtomicU64::new(super::clock_ms()),
        }
    }

    /// When the worker last published, in milliseconds of `telemetry::clock_ms`.
    pub fn beat_ms(&self) -> u64 {
        self.beat_ms.load(Ordering::Relaxed)
    }
}
