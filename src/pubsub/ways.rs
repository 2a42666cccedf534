//! The order of a publisher's messages around its transactions. PUBLISH goes to the owner of the channel's slot, but
//! inside a transaction it is executed by the transaction's node, and comes to the owner over the nodes' bus: what
//! the same connection publishes on that channel afterwards would overtake it, and therefore takes the same way,
//! until the bus has brought everything or dropped it. Messages of two transactions at different nodes come over
//! different connections of the bus, which nobody can put in order.
//!
//! Owns what a session remembers of that: a way for each channel. Must never hold a channel's name.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use crate::topology::node::NodeId;

/// How long a channel keeps to its way after its last message, in microseconds. A node gives up a connection of
/// the bus that takes nothing for half of cluster-node-timeout (15 s by default), and what was queued on it.
const KEPT: u64 = 15_000_000;
/// Channels remembered; of more than that, the half that was used last.
const CHANNELS_MAX: usize = 4096;

/// Channels a session published on inside transactions, and the nodes where.
#[derive(Debug, Default)]
pub struct Ways {
    /// By the hash of the name: the node, and when the last message went there.
    nodes: HashMap<u64, (NodeId, u64)>,
    /// Channels of the transaction that is being sent.
    sending: Vec<u64>,
}

/// What stands for a channel here.
pub fn hash(channel: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(channel);
    hasher.finish()
}

impl Ways {
    /// A transaction that publishes on these channels is about to be sent.
    pub fn send(&mut self, channels: Vec<u64>) {
        self.sending = channels;
    }

    /// The transaction goes to `node`, perhaps not for the first time.
    pub fn went_to(&mut self, node: NodeId, now: u64) {
        self.nodes.extend(self.sending.iter().map(|&channel| (channel, (node, now))));
        if self.nodes.len() > CHANNELS_MAX {
            let mut times: Vec<u64> = self.nodes.values().map(|(_, last)| *last).collect();
            let (_, &mut middle, _) = times.select_nth_unstable(self.nodes.len() - CHANNELS_MAX / 2);
            self.nodes.retain(|_, (_, last)| *last >= middle.max(now.saturating_sub(KEPT)));
        }
    }

    /// The node to which a message on this channel goes now, if not to the channel's own.
    pub fn of(&mut self, channel: &[u8], now: u64) -> Option<NodeId> {
        let channel = hash(channel);
        let (node, last) = self.nodes.get_mut(&channel)?;
        if now.saturating_sub(*last) >= KEPT {
            self.nodes.remove(&channel);
            return None;
        }
        *last = now;
        Some(*node)
    }

    /// Bytes held.
    pub fn footprint(&self) -> usize {
        self.nodes.capacity() * size_of::<(u64, (NodeId, u64))>() + self.sending.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn a_channel_keeps_to_its_way_while_messages_may_be_under_way() {
        let mut ways = Ways::default();
        ways.send(vec![hash(b"c"), hash(b"d")]);
        ways.went_to(A, 0);
        assert_eq!((ways.of(b"c", 1), ways.of(b"other", 1)), (Some(A), None));
        ways.went_to(B, 2);
        assert_eq!(ways.of(b"c", KEPT + 1), Some(B), "it was sent again, elsewhere");
        assert_eq!((ways.of(b"c", 2 * KEPT), ways.of(b"d", KEPT + 2)), (Some(B), None));
        assert_eq!(ways.of(b"c", 3 * KEPT), None);
        ways.send(Vec::new());
        ways.went_to(A, 3 * KEPT);
        assert_eq!(ways.of(b"c", 3 * KEPT), None, "a transaction that publishes nothing");
    }

    #[test]
    fn it_is_bounded_and_forgets_the_oldest() {
        let mut ways = Ways::default();
        let name = |number: u64| number.to_string().into_bytes();
        for number in 0..3 * CHANNELS_MAX as u64 {
            ways.send(vec![hash(&name(number))]);
            ways.went_to(A, number);
            assert_eq!(ways.of(&name(number), number), Some(A));
            assert!(ways.nodes.len() <= CHANNELS_MAX);
        }
        let last = 3 * CHANNELS_MAX as u64 - 1;
        assert_eq!((ways.of(&name(0), last), ways.of(&name(last - 1000), last)), (None, Some(A)));
        ways.send((0..2 * CHANNELS_MAX as u64).map(|number| hash(&name(number))).collect());
        ways.went_to(B, last + 1);
        assert_eq!(ways.of(&name(0), last + 1), Some(B), "all of one transaction");
    }
}
