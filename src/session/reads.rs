//! What a session whose reads may go to replicas has to remember so that its own commands keep their order: two
//! connections keep none between them.
//!
//! - A write waits until no read that went to a replica is in flight on its slot: the replica could have the
//!   write before it gets to the read.
//! - A read goes to a replica only if that is proven to have what this session wrote on its slot, and to be as new
//!   as the replica of the same primary that it last read from was proven to be.
//!
//! Slots are lumped together by their last bits; a slot that suffers for another one costs a moment, never an
//! order. Sessions that read from primaries have nothing of this.

use super::{OTHER_LANE, Session, SessionInner};
use crate::backend::ticket::{Errand, NO_SLOT};
use crate::config::ReadFrom;
use crate::topology::node::NodeId;

/// Lumps of slots with reads in flight.
const LUMPS: usize = 1024;
const WORD: usize = u64::BITS as usize;
/// Lumps of slots that were written.
const WRITTEN: usize = 64;

/// The bookkeeping of one session.
#[derive(Debug)]
pub struct Reads {
    /// Lumps in which a read went to a replica since the session last had nothing in flight.
    away: [u64; LUMPS / WORD],
    /// The request of the session that was looked at last.
    seq: u32,
    /// Of each lump the last write, once there is one.
    written: Option<Box<[Write; WRITTEN]>>,
    /// The same for writes that may concern any slot.
    anywhere: Write,
    /// Of each primary the newest time as of which a replica of it was read from. At most one per primary.
    seen: Vec<(NodeId, u64)>,
}

/// The last write of a lump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Write {
    /// There was none.
    #[default]
    None,
    /// Request of this number; it may not be answered yet.
    Sent(u32),
    /// It was answered before this time of the process' clock, in milliseconds.
    Answered(u64),
}

impl Reads {
    /// Nothing is known of what the session did before: like a write to any slot, request `seq`.
    fn after(seq: u32) -> Self {
        Self { anywhere: Write::Sent(seq), ..Self::default() }
    }

    /// Request `seq` is looked at; `alone`: nothing else of the session is in flight.
    pub fn begin(&mut self, seq: u32, alone: bool) {
        // The parts of a split request are one after the other, with the same number.
        if alone && self.seq != seq {
            self.away = [0; LUMPS / WORD];
        }
        self.seq = seq;
    }

    /// A read of `slot` goes to a replica.
    pub fn goes_away(&mut self, slot: u16) {
        let (word, bit) = place(slot);
        if let Some(word) = self.away.get_mut(word) {
            *word |= bit;
        }
    }

    /// True if a read of `slot` may be at a replica; for a request without keys, one of any slot: a script
    /// touches what it likes.
    pub fn is_away(&self, slot: u16) -> bool {
        if slot == NO_SLOT {
            return self.away.iter().any(|word| *word != 0);
        }
        let (word, bit) = place(slot);
        self.away.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Request `seq` writes in `slot`.
    pub fn wrote(&mut self, slot: u16, seq: u32) {
        if slot == NO_SLOT {
            self.anywhere = Write::Sent(seq);
            return;
        }
        let written = self.written.get_or_insert_with(|| Box::new([Write::None; WRITTEN]));
        if let Some(write) = written.get_mut(usize::from(slot) % WRITTEN) {
            *write = Write::Sent(seq);
        }
    }

    /// A read goes to a replica of `primary` that has its data as of `at`.
    pub fn sees(&mut self, primary: NodeId, at: u64) {
        match self.seen.iter_mut().find(|(known, _)| *known == primary) {
            Some((_, seen)) => *seen = at.max(*seen),
            None => self.seen.push((primary, at)),
        }
    }

    /// The newest time as of which a replica of `primary` was read from; 0 for none.
    pub fn seen(&self, primary: NodeId) -> u64 {
        self.seen.iter().find(|(known, _)| *known == primary).map_or(0, |(_, at)| *at)
    }

    /// As of when a replica must have its primary's data for this session to read `slot` there, on the process'
    /// clock; `None` if none can be known to have what it wrote. `is_open` tells whether a request is not
    /// answered yet.
    pub fn floor(&mut self, slot: u16, now: u64, is_open: impl Fn(u32) -> bool) -> Option<u64> {
        let anywhere = self.anywhere.settle(now, &is_open)?;
        let write = self.written.as_mut().and_then(|written| written.get_mut(usize::from(slot) % WRITTEN));
        Some(anywhere.max(write.map_or(Some(0), |write| write.settle(now, &is_open))?))
    }
}

impl Default for Reads {
    fn default() -> Self {
        Self { away: [0; LUMPS / WORD], seq: 0, written: None, anywhere: Write::None, seen: Vec::new() }
    }
}

impl Write {
    /// When it was answered, at the latest. Seen to be answered for the first time: now.
    fn settle(&mut self, now: u64, is_open: impl Fn(u32) -> bool) -> Option<u64> {
        match *self {
            Write::None => Some(0),
            Write::Sent(seq) if is_open(seq) => None,
            Write::Sent(_) => {
                // Data as of this millisecond may be as of its beginning.
                *self = Write::Answered(now + 1);
                Some(now + 1)
            }
            Write::Answered(at) => Some(at),
        }
    }
}

fn place(slot: u16) -> (usize, u64) {
    let lump = usize::from(slot) % LUMPS;
    (lump / WORD, 1 << (lump % WORD))
}

impl Session {
    /// READONLY, READWRITE or RESET may have been said: reads go where they then go, once all that is in flight is
    /// answered.
    pub fn settle_reads(&self, inner: &mut SessionInner) {
        let limits = &self.worker().limits;
        let mode = inner.client.settings.reads.mode(limits.read_from, limits.read_from_readonly);
        if self.read_from.replace(mode) != mode {
            inner.epoch = OTHER_LANE;
            // Whatever was written before: nobody kept count.
            inner.reads = None;
            if mode != ReadFrom::Primary {
                inner.reads = Some(Box::new(Reads::after(inner.pending.last())));
            }
        }
    }
}

impl SessionInner {
    /// A request that may write somewhere goes another way than the lanes. It is alone while it lasts.
    pub fn note_write_elsewhere(&mut self) {
        if let Some(reads) = &mut self.reads {
            reads.anywhere = Write::Sent(self.pending.last());
        }
    }

    /// A request that is about to leave other than by `send_new` may write.
    pub fn note_write(&mut self, errand: &Errand) {
        if errand.session.read_from.get() != ReadFrom::Primary && !errand.command.is_read_only() {
            self.must_wait_for_reads(errand);
        }
    }

    /// True while a read at a replica could see what this request does.
    pub fn must_wait_for_reads(&mut self, errand: &Errand) -> bool {
        let alone = self.pending.open() == 1;
        let reads = self.reads.get_or_insert_default();
        reads.begin(errand.seq, alone);
        reads.wrote(errand.slot, errand.seq);
        reads.is_away(errand.slot)
    }

    /// As of when a replica must have its primary's data for this session to read there: see [`Reads::floor`].
    pub fn read_floor(&mut self, errand: &Errand, now: u64) -> Option<u64> {
        let alone = self.pending.open() == 1;
        let Self { reads, pending, .. } = self;
        let reads = reads.get_or_insert_default();
        reads.begin(errand.seq, alone);
        // A part of this very request writes nothing.
        reads.floor(errand.slot, now, |seq| seq != errand.seq && pending.is_open(seq))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn reads_in_flight_are_remembered_until_the_session_is_quiet() {
        let mut reads = Reads::default();
        reads.begin(1, true);
        reads.goes_away(7);
        assert!(reads.is_away(7) && reads.is_away(7 + LUMPS as u16) && !reads.is_away(8));
        assert!(reads.is_away(NO_SLOT), "a request without keys may touch any");
        reads.begin(1, true);
        assert!(reads.is_away(7), "the next part of the same request");
        reads.begin(2, false);
        assert!(reads.is_away(7));
        reads.begin(3, true);
        assert!(!reads.is_away(7) && !reads.is_away(NO_SLOT));
    }

    #[test]
    fn what_was_read_of_a_primary_does_not_get_older() {
        let mut reads = Reads::default();
        reads.sees(NodeId(1), 50);
        reads.sees(NodeId(1), 40);
        reads.sees(NodeId(2), 7);
        assert_eq!([0, 1, 2].map(|node| reads.seen(NodeId(node))), [0, 50, 7]);
        assert_eq!(reads.floor(5, 100, |_| false), Some(0), "what was written is another matter");
    }

    #[test]
    fn a_replica_must_have_what_the_session_wrote() {
        let mut reads = Reads::default();
        let answered = |_| false;
        assert_eq!(reads.floor(5, 100, answered), Some(0));
        reads.wrote(5, 9);
        assert_eq!(reads.floor(5, 100, |seq| seq == 9), None, "not answered yet");
        assert_eq!(reads.floor(6, 100, |seq| seq == 9), Some(0), "another slot");
        assert_eq!(reads.floor(5, 200, answered), Some(201), "seen to be answered now");
        assert_eq!(reads.floor(5, 300, answered), Some(201));
        reads.wrote(NO_SLOT, 10);
        assert_eq!(reads.floor(6, 400, |seq| seq == 10), None);
        assert_eq!(reads.floor(6, 400, answered), Some(401));
        reads.wrote(5, 11);
        assert_eq!(reads.floor(5, 500, answered), Some(501));
        assert_eq!(reads.floor(6, 500, answered), Some(401));
    }
}
