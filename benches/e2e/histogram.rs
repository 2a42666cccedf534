//! Latencies in a log-linear histogram.
//!
//! Owns the buckets: 64 per power of two, so a percentile is exact to 1.6 %. Fixed memory, no allocation while
//! recording.

use std::time::Duration;

const SUB_BITS: u32 = 6;
const SUB: usize = 1 << SUB_BITS;
/// Powers of two above the linear part; 2^40 ns is 18 minutes, longer than any run.
const OCTAVES: usize = 35;
const BUCKETS: usize = SUB * OCTAVES;

/// Counts of latencies by size.
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0 }
    }
}

impl Histogram {
    /// Adds one latency.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(nanos)) {
            *bucket += 1;
        }
        self.count += 1;
    }

    /// The latency in microseconds that `share` (0..=1) of all records do not exceed; 0 without records.
    pub fn percentile_us(&self, share: f64) -> f64 {
        let wanted = ((self.count as f64) * share).ceil() as u64;
        let mut passed = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            passed += count;
            if *count > 0 && passed >= wanted {
                return middle_of(index) / 1_000.0;
            }
        }
        0.0
    }
}

fn bucket_of(nanos: u64) -> usize {
    if nanos < SUB as u64 {
        return nanos as usize;
    }
    let octave = nanos.ilog2() - SUB_BITS;
    let index = (octave as usize + 1) * SUB + (nanos >> octave) as usize - SUB;
    index.min(BUCKETS - 1)
}

/// The middle of a bucket in nanoseconds.
fn middle_of(index: usize) -> f64 {
    if index < SUB {
        return index as f64;
    }
    let octave = (index / SUB - 1) as u32;
    let low = ((index % SUB + SUB) as u64) << octave;
    low as f64 + (1u64 << octave) as f64 / 2.0
}
