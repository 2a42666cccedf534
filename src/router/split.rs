//! Splitting MGET, MSET, DEL, UNLINK, EXISTS and TOUCH: one part per slot, for a node answers CROSSSLOT
//! to two slots in one command even when it owns both. Parts are made of pieces of the client's own
//! bytes. Pure.

use memchr::memchr;
use smallvec::SmallVec;

use super::slot::slot_of;
use crate::protocol::request::{Args, Span};

/// A list that needs no allocation of its own for the usual handful of keys.
pub type Few<T> = SmallVec<[T; 16]>;

/// The keys of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartPlan {
    /// Their slot.
    pub slot: u16,
    first: u32,
    count: u32,
}

/// Which key goes into which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitPlan {
    /// Key positions (0 for the first key), grouped by part, ascending within each.
    order: Few<u32>,
    parts: Few<PartPlan>,
}

impl SplitPlan {
    /// All keys in one slot, one part per key.
    pub fn key_by_key(slot: u16, keys: usize) -> Self {
        let parts = (0..keys as u32).map(|first| PartPlan { slot, first, count: 1 }).collect();
        Self { order: (0..keys as u32).collect(), parts }
    }

    /// Adds one part for each key of `part`; the number of the first of them.
    pub fn explode(&mut self, part: usize) -> usize {
        let added = self.parts.len();
        if let Some(&PartPlan { slot, first, count }) = self.parts.get(part) {
            self.parts.extend((first..first + count).map(|first| PartPlan { slot, first, count: 1 }));
        }
        added
    }
}

/// What splitting came to.
#[derive(Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a value on the stack of one call; a box would be the allocation saved"
)]
pub enum Split {
    /// All keys share this slot: forward untouched.
    OneSlot(u16),
    /// Several slots.
    Parts(SplitPlan),
}

impl SplitPlan {
    /// The parts, in order of their slots.
    pub fn parts(&self) -> &[PartPlan] {
        &self.parts
    }

    /// Number of keys in all.
    pub fn keys(&self) -> usize {
        self.order.len()
    }

    /// Key positions of one part.
    pub fn positions(&self, part: usize) -> &[u32] {
        let Some(part) = self.parts.get(part) else { return &[] };
        self.order.get(part.first as usize..(part.first + part.count) as usize).unwrap_or(&[])
    }
}

/// Groups the keys of a command whose arguments are all keys (`step` 1) or key-value pairs (`step` 2).
/// Arity is checked before: there is at least one whole group.
pub fn split(args: &Args<'_>, step: usize) -> Split {
    let keys = (args.len() - 1) / step;
    let first = slot_of(args.at(1));
    let mut slots: Few<u64> = Few::with_capacity(keys);
    slots.push(u64::from(first) << 32);
    let mut several = false;
    for index in 1..keys {
        let slot = slot_of(args.at(1 + index * step));
        several |= slot != first;
        slots.push(u64::from(slot) << 32 | index as u64);
    }
    if !several {
        return Split::OneSlot(first);
    }
    slots.sort_unstable();
    let mut plan = SplitPlan { order: Few::with_capacity(keys), parts: Few::new() };
    for entry in slots {
        let slot = (entry >> 32) as u16;
        match plan.parts.last_mut() {
            Some(part) if part.slot == slot => part.count += 1,
            _ => plan.parts.push(PartPlan { slot, first: plan.order.len() as u32, count: 1 }),
        }
        plan.order.push(entry as u32);
    }
    Split::Parts(plan)
}

/// One part as bytes: first its length, then the writing.
#[derive(Debug)]
pub struct PartBytes<'a> {
    args: Args<'a>,
    /// The command's name with its length line.
    name: &'a [u8],
    positions: Positions<'a>,
    step: usize,
}

#[derive(Debug)]
enum Positions<'a> {
    Many(&'a [u32]),
    One([u32; 1]),
}

impl<'a> PartBytes<'a> {
    /// The request with only the key at `position`.
    pub fn one(args: Args<'a>, position: u32, step: usize) -> Self {
        Self { args, name: name(&args), positions: Positions::One([position]), step }
    }

    fn positions(&self) -> &[u32] {
        match &self.positions {
            Positions::Many(many) => many,
            Positions::One(one) => one,
        }
    }

    /// Part `part` of `plan`, cut from the request it was made for; `name` is that request's [`name`].
    pub fn new(args: Args<'a>, name: &'a [u8], plan: &'a SplitPlan, part: usize, step: usize) -> Self {
        Self { args, name, positions: Positions::Many(plan.positions(part)), step }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        let mut len = self.header(&mut itoa::Buffer::new()).len() + 3 + self.name.len();
        for &position in self.positions() {
            len += self.pieces(position).len();
        }
        len
    }

    /// Never: a part has a key.
    pub fn is_empty(&self) -> bool {
        self.positions().is_empty()
    }

    /// Appends exactly `len` bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'*');
        out.extend_from_slice(self.header(&mut itoa::Buffer::new()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.name);
        for &position in self.positions() {
            out.extend_from_slice(self.pieces(position));
        }
    }

    fn header<'b>(&self, digits: &'b mut itoa::Buffer) -> &'b str {
        digits.format(1 + self.positions().len() * self.step)
    }

    /// A key (and its value) with their length lines.
    fn pieces(&self, position: u32) -> &'a [u8] {
        let first = 1 + position as usize * self.step;
        let spans = self.args.spans();
        let start = spans.get(first - 1).map_or(0, |before| (before.start + before.len) as usize + 2);
        cut(&self.args, start, spans.get(first + self.step - 1))
    }
}

/// The command's name with its length line.
pub fn name<'a>(args: &Args<'a>) -> &'a [u8] {
    let start = memchr(b'\r', args.frame()).map_or(0, |at| at + 2);
    cut(args, start, args.spans().first())
}

/// From `start` to the end of the argument `last`, line end included.
fn cut<'a>(args: &Args<'a>, start: usize, last: Option<&Span>) -> &'a [u8] {
    let end = last.map_or(start, |span| (span.start + span.len) as usize + 2);
    args.frame().get(start..end).unwrap_or(&[])
}

#[cfg(test)]
#[path = "split_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(crate) mod tests;
