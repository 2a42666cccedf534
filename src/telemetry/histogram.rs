//! Durations in fixed buckets: two per power of two from 16 µs to 67 s, so that recording is a shift
//! and an add, and instances can be summed. Owns the bucket bounds, nothing else.

/// Bucket 0 holds everything up to this many microseconds.
const FIRST_EXPONENT: u32 = 4;
/// 2^26 µs = 67 s: longer than any sane deadline.
const LAST_EXPONENT: u32 = 26;

/// Buckets with a bound, and one more for everything longer.
pub const BUCKETS: usize = 2 + 2 * (LAST_EXPONENT - FIRST_EXPONENT) as usize;

/// Words of one histogram: its buckets, then the sum in microseconds.
pub const WORDS: usize = BUCKETS + 1;

/// The bucket of a duration. Bounds are inclusive, as Prometheus' `le` is.
#[inline]
pub fn bucket(micros: u64) -> usize {
    let below = micros.saturating_sub(1);
    if below < 1 << FIRST_EXPONENT {
        return 0;
    }
    let exponent = 63 - below.leading_zeros();
    if exponent >= LAST_EXPONENT {
        return BUCKETS - 1;
    }
    let upper_half = (below >> (exponent - 1)) & 1;
    1 + 2 * (exponent - FIRST_EXPONENT) as usize + upper_half as usize
}

/// Largest duration of a bucket in microseconds; `None` for the last one, which has no bound.
pub fn bound(bucket: usize) -> Option<u64> {
    if bucket >= BUCKETS - 1 {
        return None;
    }
    let Some(step) = bucket.checked_sub(1) else { return Some(1 << FIRST_EXPONENT) };
    let base = 1u64 << (FIRST_EXPONENT + (step / 2) as u32);
    Some(if step % 2 == 0 { base + base / 2 } else { base * 2 })
}

/// True for the buckets whose bound is a power of two: enough where there are many series.
pub fn is_coarse(bucket: usize) -> bool {
    bound(bucket).is_none_or(u64::is_power_of_two)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_duration_lies_within_its_bucket() {
        let bounds: Vec<u64> = (0..BUCKETS).filter_map(bound).collect();
        assert_eq!(bounds.len(), BUCKETS - 1);
        assert!(bounds.is_sorted_by(|a, b| a < b));
        assert_eq!((bounds.first(), bounds.last()), (Some(&16), Some(&(1 << 26))));
        for (index, &upper) in bounds.iter().enumerate() {
            assert_eq!(bucket(upper), index);
            assert_eq!(bucket(upper + 1), index + 1);
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn coarse_buckets_are_every_second_one() {
        assert_eq!((0..BUCKETS).filter(|&b| is_coarse(b)).count(), 2 + BUCKETS / 2 - 1);
    }
}
