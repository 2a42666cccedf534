//! The parts of a split command become one reply: by key position, as a sum, or `+OK` when all said so.
//! A part that fails makes the whole reply an error, the first one in key order: never a nil, never a
//! count too small. Owns the values until they go out.

use std::rc::Rc;

use bytes::Bytes;

use crate::command::SplitKind;
use crate::error::{Executed, ProxyError};
use crate::protocol::reply::{array_elements, integer};
use crate::router::split::{Few, SplitPlan};
use crate::worker::outgoing::{LARGE, Outgoing, is_small_part};
use crate::worker::pool::BufferPool;

/// Where the value of one key lies: in the arena, or in one of the slices.
#[derive(Clone, Copy, Debug, Default)]
struct Value {
    /// 0: the arena; n: slice n - 1.
    source: u32,
    start: u32,
    len: u32,
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartState {
    /// At a node, or waits for one.
    Open,
    /// Redirected: held back until it may be sent again.
    Held,
    /// Answered.
    Done,
}

/// What the parts that are answered may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// None of them was executed.
    Nothing,
    /// Nobody knows.
    Maybe,
    /// At least one was executed.
    Done,
}

/// The error that the whole reply will be.
#[derive(Debug)]
struct Failure {
    /// First key of its part.
    position: u32,
    line: Vec<u8>,
    /// The text itself says that something may have been executed.
    warns: bool,
}

/// The reply of a split command in the making.
#[derive(Debug)]
pub struct Merge {
    kind: SplitKind,
    plan: Rc<SplitPlan>,
    states: Few<PartState>,
    left: usize,
    values: Vec<Value>,
    arena: Vec<u8>,
    slices: Vec<Bytes>,
    slice_bytes: usize,
    sum: i64,
    error: Option<Failure>,
    effect: Effect,
    write: bool,
    limit: u64,
}

impl Merge {
    /// Waits for all parts of `plan`. `write`: an error has to say that other parts may have been
    /// executed. `limit`: most bytes of a merged reply.
    pub fn new(kind: SplitKind, plan: Rc<SplitPlan>, write: bool, limit: u64) -> Self {
        let parts = plan.parts().len();
        let values =
            if kind == SplitKind::ByPosition { vec![Value::default(); plan.keys()] } else { Vec::new() };
        Self {
            kind,
            states: Few::from_elem(PartState::Open, parts),
            left: parts,
            plan,
            values,
            arena: Vec::new(),
            slices: Vec::new(),
            slice_bytes: 0,
            sum: 0,
            error: None,
            effect: Effect::Nothing,
            write,
            limit: limit.min(u64::from(u32::MAX)),
        }
    }

    /// True for a command that changes data.
    pub fn is_write(&self) -> bool {
        self.write
    }

    /// How many parts are under way, if no other part can have been executed: when these were not sent,
    /// nothing was.
    pub fn only_under_way(&self) -> Option<usize> {
        let under_way = || self.states.iter().filter(|state| **state == PartState::Open).count();
        (self.effect == Effect::Nothing).then(under_way)
    }

    /// True when every part is answered.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// Bytes of values held.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.slice_bytes
    }

    /// The slots of the parts that are at a node.
    pub fn slots_at_node(&self) -> impl Iterator<Item = u16> {
        let parts = self.plan.parts().iter().zip(&self.states);
        parts.filter(|(_, state)| **state == PartState::Open).map(|(part, _)| part.slot)
    }

    /// Replaces a part by one part per key; the number of the first of them.
    pub fn explode(&mut self, part: u16) -> Option<u16> {
        if !self.wants(part) {
            return None;
        }
        let added = self.plan.positions(usize::from(part)).len();
        let number = u16::try_from(self.states.len()).ok()?;
        number.checked_add(u16::try_from(added).ok()?)?;
        let first = Rc::make_mut(&mut self.plan).explode(usize::from(part));
        self.finish_part(part);
        self.states.resize(first + added, PartState::Open);
        self.left += added;
        Some(number)
    }

    /// Marks a part as held back (redirected), or as under way again.
    pub fn set_held(&mut self, part: u16, held: bool) {
        if let Some(state) = self.states.get_mut(usize::from(part))
            && *state != PartState::Done
        {
            *state = if held { PartState::Held } else { PartState::Open };
        }
    }

    /// True when the part still wants its reply.
    pub fn wants(&self, part: u16) -> bool {
        self.states.get(usize::from(part)).is_some_and(|s| *s != PartState::Done)
    }

    fn finish_part(&mut self, part: u16) -> bool {
        match self.states.get_mut(usize::from(part)) {
            Some(state) if *state != PartState::Done => {
                *state = PartState::Done;
                self.left -= 1;
                true
            }
            _ => false,
        }
    }

    /// Takes the reply of one part. `shared` is the same bytes as a slice, for large replies.
    pub fn accept(&mut self, part: u16, reply: &[u8], shared: Option<&Bytes>) {
        if !self.finish_part(part) {
            return;
        }
        if reply.first() == Some(&b'-') {
            return self.fail(part, reply.to_vec(), false);
        }
        let fits = match self.kind {
            SplitKind::ByPosition => return self.accept_values(part, reply, shared),
            SplitKind::Sum => integer(reply).map(|n| self.sum = self.sum.saturating_add(n)).is_some(),
            SplitKind::AllOk => reply == b"+OK\r\n",
        };
        if fits {
            self.effect = Effect::Done;
        } else {
            self.fail_with(part, ProxyError::BadReply);
        }
    }

    fn accept_values(&mut self, part: u16, reply: &[u8], shared: Option<&Bytes>) {
        if (self.bytes() + reply.len()) as u64 > self.limit {
            self.arena = Vec::new();
            self.slices = Vec::new();
            self.slice_bytes = 0;
            return self.fail_with(part, ProxyError::MergeTooLarge);
        }
        let (source, base) = match shared {
            Some(bytes) => {
                self.slice_bytes += bytes.len();
                self.slices.push(bytes.clone());
                (self.slices.len() as u32, 0)
            }
            None => {
                self.arena.extend_from_slice(reply);
                (0, self.arena.len() - reply.len())
            }
        };
        self.effect = Effect::Done;
        let positions = self.plan.positions(usize::from(part));
        let values = &mut self.values;
        let whole = array_elements(reply, positions.len(), |index, start, len| {
            if let Some(value) = positions.get(index).and_then(|&p| values.get_mut(p as usize)) {
                *value = Value { source, start: (base + start) as u32, len: len as u32 };
            }
        });
        if !whole {
            self.fail_with(part, ProxyError::BadReply);
        }
    }

    /// A part ended in an error of the proxy's own.
    pub fn fail_part(&mut self, part: u16, error: ProxyError) {
        if self.finish_part(part) {
            self.fail_with(part, error);
        }
    }

    fn fail_with(&mut self, part: u16, error: ProxyError) {
        let maybe = error.executed() != Executed::No;
        if maybe {
            self.effect = self.effect.max(Effect::Maybe);
        }
        self.fail(part, error_line(error), maybe);
    }

    fn fail(&mut self, part: u16, line: Vec<u8>, warns: bool) {
        let position = self.plan.positions(usize::from(part)).first().copied().unwrap_or(0);
        if self.error.as_ref().is_none_or(|first| position < first.position) {
            self.error = Some(Failure { position, line, warns });
        }
    }

    /// What an error of a write has to say about the other parts.
    fn warning(&self, error: &Failure) -> &'static [u8] {
        match self.effect {
            Effect::Done if self.write => b" (slotway: other parts of this command were executed)",
            Effect::Maybe if self.write && !error.warns => {
                b" (slotway: other parts of this command may have been executed)"
            }
            _ => b"",
        }
    }

    /// Writes the whole reply. Call once, when complete.
    pub fn write(&self, out: &mut Outgoing, pool: &BufferPool) {
        let mut put = |bytes: &[u8]| out.append(bytes, || pool.take());
        if let Some(error) = &self.error {
            put(error.line.strip_suffix(b"\r\n").unwrap_or(&error.line));
            put(self.warning(error));
            return put(b"\r\n");
        }
        let mut digits = itoa::Buffer::new();
        match self.kind {
            SplitKind::AllOk => put(b"+OK\r\n"),
            SplitKind::Sum => {
                put(b":");
                put(digits.format(self.sum).as_bytes());
                put(b"\r\n");
            }
            SplitKind::ByPosition => {
                put(b"*");
                put(digits.format(self.values.len()).as_bytes());
                put(b"\r\n");
                self.write_values(out, pool);
            }
        }
    }

    fn write_values(&self, out: &mut Outgoing, pool: &BufferPool) {
        let shared = self.shared_bytes();
        for value in &self.values {
            let range = value.start as usize..(value.start + value.len) as usize;
            let index = (value.source as usize).checked_sub(1);
            let slice = index.and_then(|index| Some((self.slices.get(index)?, *shared.get(index)?)));
            match slice {
                Some((bytes, shared))
                    if range.len() >= LARGE
                        && range.end <= bytes.len()
                        && !is_small_part(shared, bytes.len()) =>
                {
                    out.push(bytes.slice(range))
                }
                Some((bytes, _)) => out.append(bytes.get(range).unwrap_or(&[]), || pool.take()),
                None => out.append(self.arena.get(range).unwrap_or(&[]), || pool.take()),
            }
        }
    }

    /// How many bytes of each slice are values that need not be copied: one of them keeps the whole slice.
    fn shared_bytes(&self) -> Few<usize> {
        let mut shared = Few::from_elem(0, self.slices.len());
        for value in self.values.iter().filter(|value| value.len as usize >= LARGE) {
            if let Some(bytes) = (value.source as usize).checked_sub(1).and_then(|i| shared.get_mut(i)) {
                *bytes += value.len as usize;
            }
        }
        shared
    }
}

/// The bytes of a proxy error.
pub fn error_line(error: ProxyError) -> Vec<u8> {
    let text = error.text();
    let mut line = Vec::with_capacity(text.len() + 3);
    line.push(b'-');
    line.extend_from_slice(text.as_bytes());
    line.extend_from_slice(b"\r\n");
    line
}

#[cfg(test)]
#[path = "merge_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
