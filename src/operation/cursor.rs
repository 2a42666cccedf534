//! SCAN's cursor: where a pass stands, in one number that any slotway in front of the cluster can continue.
//! Pure.
//!
//! ```text
//! bit 63   62 … 51            50 … 38              37 … 0
//!     0    config epoch       fingerprint          the node's own cursor
//!          of the shard,      of the node's run id (cluster id,
//!          its lower 12 bits  where the node's cursor is 0)
//! ```
//!
//! Below 2^63, for clients whose integers have a sign; never 0 before the end. 38 bits are enough for a node's
//! cursor up to Redis 7.2, which is smaller than its hash table (2^38 buckets alone are 2 TiB); from Redis 7.4 and
//! Valkey 8 on, which put the slot into the lowest 14 bits, for 2^24 buckets in one slot. A larger one is an error.

/// Bits of the node's own cursor.
const NODE_BITS: u32 = 38;
/// Bits of the fingerprint.
const MARK_BITS: u32 = 13;
/// Bits of the config epoch.
const EPOCH_BITS: u32 = 12;
const _: () = assert!(NODE_BITS + MARK_BITS + EPOCH_BITS == 63);

/// A fingerprint; never 0.
pub(super) type Mark = u16;

/// Where a pass stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// Nothing is done yet.
    Begin,
    /// Shards of a lower config epoch are done.
    At {
        /// The lower bits of the config epoch of the shard that is next or in progress.
        epoch: u16,
        /// Of its cluster id before it was begun, then of its run id.
        mark: Mark,
        /// Its own cursor; 0 before it was begun.
        node: u64,
    },
}

/// The node's cursor does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Cursor {
    /// From what a client sends; `None` if no pass of ours gave that.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() {
            // Redis reads nothing as 0.
            return Some(Self::Begin);
        }
        if text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let value: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        if value == 0 {
            return Some(Self::Begin);
        }
        let (epoch, mark) = (value >> (NODE_BITS + MARK_BITS), (value >> NODE_BITS) & ((1 << MARK_BITS) - 1));
        let node = value & ((1 << NODE_BITS) - 1);
        (mark != 0 && epoch < 1 << EPOCH_BITS).then_some(Self::At {
            epoch: epoch as u16,
            mark: mark as u16,
            node,
        })
    }

    /// Before a shard was begun.
    pub(super) fn before(epoch: u64, cluster_id: &str) -> Self {
        Self::At { epoch: low(epoch), mark: mark(cluster_id.as_bytes()), node: 0 }
    }

    /// In the middle of a shard, at a node whose run id has the fingerprint `mark`.
    pub(super) fn within(epoch: u64, mark: Mark, node: u64) -> Result<Self, TooLarge> {
        if node >= 1 << NODE_BITS { Err(TooLarge) } else { Ok(Self::At { epoch: low(epoch), mark, node }) }
    }

    /// As the client gets it.
    pub(super) fn value(self) -> u64 {
        match self {
            Self::Begin => 0,
            Self::At { epoch, mark, node } => {
                (u64::from(epoch) << (NODE_BITS + MARK_BITS)) | (u64::from(mark) << NODE_BITS) | node
            }
        }
    }
}

/// What a cursor keeps of a config epoch.
pub(super) fn low(epoch: u64) -> u16 {
    (epoch & ((1 << EPOCH_BITS) - 1)) as u16
}

/// The whole config epoch a cursor was made from, given the highest there is now. `None` if it can't be told.
pub(super) fn whole(low: u16, highest: u64) -> Option<u64> {
    let fits = highest < 1 << EPOCH_BITS;
    Some(u64::from(low)).filter(|epoch| fits && *epoch <= highest)
}

/// The same for every slotway of this version or another (FNV-1a, folded).
pub(super) fn mark(text: &[u8]) -> Mark {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325, step);
    (hash % ((1 << MARK_BITS) - 1)) as u16 + 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_place_comes_back() {
        let largest = (1 << NODE_BITS) - 1;
        for epoch in [0, 1, 77, 4095] {
            for node in [1, 1024, (1 << 32) - 1, largest] {
                for id in ["a", "0123456789abcdef0123456789abcdef01234567"] {
                    for cursor in [
                        Cursor::before(epoch, id),
                        Cursor::within(epoch, mark(id.as_bytes()), node).unwrap(),
                        Cursor::within(epoch, (1 << MARK_BITS) - 1, node).unwrap(),
                    ] {
                        let value = cursor.value();
                        assert!(value > 0 && value <= i64::MAX as u64, "{cursor:?}");
                        assert_eq!(Cursor::parse(value.to_string().as_bytes()), Some(cursor));
                    }
                }
            }
        }
        assert_eq!(Cursor::parse(b"0"), Some(Cursor::Begin));
        assert_eq!(Cursor::parse(b""), Some(Cursor::Begin));
        assert_eq!(Cursor::within(1, 1, largest + 1), Err(TooLarge));
    }

    #[test]
    fn what_no_pass_gave_is_refused() {
        for text in ["-1", "+1", " 1", "1 ", "x", "1", "4096", "9223372036854775808", "18446744073709551615"]
        {
            assert_eq!(Cursor::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Cursor::parse(b"9223372036854775807").map(Cursor::value), Some(i64::MAX as u64));
    }

    #[test]
    fn epochs_are_told_or_not() {
        assert_eq!(whole(7, 9), Some(7));
        assert_eq!(whole(9, 9), Some(9));
        assert_eq!(whole(10, 9), None, "newer than what we know");
        assert_eq!(whole(7, 5000), None, "7 or 4103");
        assert_eq!(low(4103), 7);
    }

    #[test]
    fn marks_are_spread_and_never_zero() {
        let marks: std::collections::HashSet<Mark> = (0..1000).map(|n: u32| mark(&n.to_be_bytes())).collect();
        assert!(marks.len() > 900 && !marks.contains(&0));
        assert_eq!(mark(b"slotway"), mark(b"slotway"));
    }
}
