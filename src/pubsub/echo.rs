//! What a topic's clients were told lately, and by whose word: so that a message the lost home had brought is not told
//! again when the cluster bus brings it to the next home, too. Forgets by itself. Pure.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::places::QUIET;
use crate::topology::node::NodeId;

/// A message that another node tells later than this is another message, in microseconds.
const LATEST: u64 = 3 * QUIET;
/// Most messages that are remembered: of a topic that is busier than that, the last ones.
const MOST: usize = 64;
/// Memory it takes at most, in bytes.
pub const BYTES: usize = MOST * size_of::<Told>();

#[derive(Clone, Copy, Debug)]
struct Told {
    digest: u64,
    /// Milliseconds of the worker's clock, as far as they fit.
    at: u32,
    node: NodeId,
}

/// The messages.
#[derive(Debug, Default)]
pub struct Echoes {
    told: VecDeque<Told>,
}

impl Echoes {
    /// True when a message that `node` brings is to be told. False when another node brought the same a moment ago:
    /// each time it did so counts for one echo.
    pub fn is_new(&mut self, node: NodeId, message: (&[u8], &[u8]), now: u64) -> bool {
        let at = (now / 1000) as u32;
        let is_old = |told: &Told| u64::from(at.wrapping_sub(told.at)) > LATEST / 1000;
        while self.told.front().is_some_and(is_old) || self.told.len() >= MOST {
            self.told.pop_front();
        }
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let digest = hasher.finish();
        let before = self.told.iter().position(|told| told.digest == digest && told.node != node);
        match before {
            Some(before) => drop(self.told.remove(before)),
            None => self.told.push_back(Told { digest, at, node }),
        }
        before.is_none()
    }

    /// Nothing that was told is under way any more.
    pub fn forget(&mut self) {
        self.told.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn an_echo_is_what_another_node_said_a_moment_ago() {
        let mut echoes = Echoes::default();
        let mut new = |node, text: &str, now| echoes.is_new(node, (b"c", text.as_bytes()), now);
        assert!(
            new(A, "x", 1_000) && new(A, "x", 2_000) && new(A, "y", 3_000),
            "the same node may repeat itself"
        );
        assert!(!new(B, "x", 4_000) && !new(B, "x", 5_000), "one echo for each");
        assert!(new(B, "x", 6_000), "said by B alone");
        assert!(!new(B, "y", 3_000 + LATEST));
        assert!(new(A, "z", 10_000_000) && new(B, "z", 10_001_000 + LATEST), "too late to be one");
        assert!(echoes.is_new(B, (b"other", b"x"), 7_000));
    }

    #[test]
    fn remembers_the_last_ones_and_can_forget() {
        let mut echoes = Echoes::default();
        for n in 0..2 * MOST {
            assert!(echoes.is_new(A, (b"c", &[n as u8]), 0));
            assert!(echoes.told.len() <= MOST);
        }
        assert!(echoes.is_new(B, (b"c", &[0]), 0), "long gone");
        assert!(!echoes.is_new(B, (b"c", &[2 * MOST as u8 - 1]), 0));
        echoes.forget();
        assert!(echoes.is_new(B, (b"c", &[2 * MOST as u8 - 2]), 0));
    }
}
