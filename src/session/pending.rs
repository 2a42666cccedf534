//! The replies a session owes, in request order: one cell per request. A cell at the front lets its
//! reply through to the outgoing bytes at once; one behind keeps it until its turn. Owns the order of
//! replies; knows no node and no socket.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Buf, Bytes};

pub use super::cell::{Cell, CellState, Finished, Merged};
use crate::backend::ticket::Errand;
use crate::command::SplitKind;
use crate::reply::merge::Merge;
use crate::router::split::SplitPlan;
use crate::session::exec::Completion;
use crate::session::state::Replies;
use crate::telemetry::CommandClass;
use crate::worker::outgoing::{LARGE, Outgoing};
use crate::worker::pool::BufferPool;

/// The stash is compacted when it is larger than this and less than half alive.
const STASH_COMPACT: usize = 64 << 10;

/// The cells of one session.
#[derive(Debug, Default)]
pub struct Pending {
    cells: VecDeque<Cell>,
    first: u32,
    open: u32,
    stash: Vec<u8>,
    stash_alive: usize,
    held_bytes: usize,
    replies: Replies,
    /// The last request of whose reply something was kept back.
    kept: Option<u32>,
}

impl Pending {
    /// Requests not fully answered.
    #[inline]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// True when nothing is owed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Requests whose reply has not come in.
    #[inline]
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Bytes of replies that wait for their turn.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.stash.len() + self.held_bytes
    }

    /// The number of the last request, also when it is answered.
    pub fn last_seq(&self) -> u32 {
        self.first.wrapping_add(self.cells.len() as u32).wrapping_sub(1)
    }

    /// The last request whose reply, or a part of it, is here and waits for its turn.
    pub fn last_kept(&self) -> Option<u32> {
        self.kept.filter(|&seq| self.place(seq) < self.cells.len())
    }

    fn keep(&mut self, seq: u32) {
        self.kept = self.last_kept().filter(|&last| self.place(last) > self.place(seq)).or(Some(seq));
    }

    fn place(&self, seq: u32) -> usize {
        seq.wrapping_sub(self.first) as usize
    }

    /// A new cell at the end; its sequence number.
    #[inline]
    pub fn push(&mut self, class: CommandClass, slot: u16, arrived: u64, state: CellState) -> u32 {
        let seq = self.first.wrapping_add(self.cells.len() as u32);
        let frames = if self.replies == Replies::On { 1 } else { self.muted_frames() };
        let cell = Cell { state, frames, slot, class, held: false, arrived };
        self.open += u32::from(cell.is_open());
        self.cells.push_back(cell);
        seq
    }

    #[cold]
    fn muted_frames(&mut self) -> u16 {
        self.replies = match self.replies {
            Replies::SkipTwo => Replies::SkipOne,
            Replies::Off => Replies::Off,
            Replies::On | Replies::SkipOne => Replies::On,
        };
        0
    }

    /// Which replies the client wants from the next cell on.
    pub fn set_replies(&mut self, replies: Replies) {
        self.replies = replies;
    }

    /// Which replies the client wants of the requests to come.
    pub fn replies(&self) -> Replies {
        self.replies
    }

    /// The cell of a request; `None` when it was answered already (a late reply is swallowed).
    #[inline]
    pub fn cell(&mut self, seq: u32) -> Option<&mut Cell> {
        let place = self.place(seq);
        self.cells.get_mut(place)
    }

    /// All cells with their sequence numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Cell)> {
        let first = self.first;
        self.cells.iter().enumerate().map(move |(i, cell)| (first.wrapping_add(i as u32), cell))
    }

    /// True when the reply of `seq` would go out at once.
    #[inline]
    pub fn is_front(&self, seq: u32) -> bool {
        seq == self.first && !self.cells.is_empty()
    }

    /// A reply frame of a request that waits for it. False when the request wants no reply any more.
    #[inline]
    pub fn answer(&mut self, seq: u32, frame: &[u8], out: &mut Outgoing, pool: &BufferPool) -> bool {
        let front = seq == self.first;
        let Some(cell) = self.cells.get_mut(seq.wrapping_sub(self.first) as usize) else { return false };
        if !matches!(cell.state, CellState::Waiting) {
            return false;
        }
        if front {
            if cell.frames > 0 {
                out.append(frame, || pool.take());
                cell.frames -= 1;
            }
            if cell.frames == 0 {
                self.open -= 1;
                cell.state = CellState::Stashed { start: 0, len: 0 };
            }
        } else {
            self.stash(seq, frame);
        }
        true
    }

    /// More is to be done when request `seq`, a transaction that waits, is executed.
    #[cold]
    pub fn complete_later(&mut self, seq: u32, completion: Box<Completion>) {
        let bytes = completion.bytes();
        if let Some(cell) = self.cell(seq) {
            cell.state = CellState::Completing(completion);
            self.held_bytes += bytes;
        }
    }

    /// What is to be done for request `seq`, which only waits for its reply then.
    #[cold]
    pub fn completion(&mut self, seq: u32) -> Option<Completion> {
        let cell = self.cell(seq)?;
        if !matches!(cell.state, CellState::Completing(_)) {
            return None;
        }
        let CellState::Completing(completion) = std::mem::replace(&mut cell.state, CellState::Waiting) else {
            return None;
        };
        self.held_bytes -= completion.bytes();
        Some(*completion)
    }

    /// As `answer`, for a reply that need not be copied.
    pub fn answer_large(&mut self, seq: u32, frame: Bytes, out: &mut Outgoing) -> bool {
        let front = self.is_front(seq);
        let Some(cell) = self.cell(seq) else { return false };
        if !matches!(cell.state, CellState::Waiting) {
            return false;
        }
        let wanted = cell.frames > 0;
        self.open -= 1;
        if front || !wanted {
            if wanted {
                out.push(frame);
            }
            self.set(seq, CellState::Stashed { start: 0, len: 0 });
        } else {
            self.held_bytes += frame.len();
            self.keep(seq);
            self.set(seq, CellState::Large(frame));
        }
        true
    }

    fn set(&mut self, seq: u32, state: CellState) {
        if let Some(cell) = self.cell(seq) {
            cell.state = state;
            cell.frames = 0;
        }
    }

    fn stash(&mut self, seq: u32, frame: &[u8]) {
        let wanted = self.cell(seq).is_some_and(|cell| cell.frames > 0);
        let frame = if wanted { frame } else { &[] };
        let start = self.stash.len();
        self.stash.extend_from_slice(frame);
        self.stash_alive += frame.len();
        self.open -= 1;
        self.keep(seq);
        self.set(seq, CellState::Stashed { start, len: frame.len() });
    }

    /// Whatever the cell holds or waits for, this is its reply. For errors of the proxy and for
    /// replies it makes itself. False when the request was answered already, or its reply is half out.
    pub fn settle(&mut self, seq: u32, frame: &[u8]) -> bool {
        let Some(cell) = self.cell(seq) else { return false };
        let dropped = match &cell.state {
            CellState::Waiting => 0,
            CellState::Completing(completion) => completion.bytes(),
            CellState::Merging(merge) if !merge.is_complete() => merge.bytes(),
            _ => return false,
        };
        self.held_bytes -= dropped;
        self.stash(seq, frame);
        true
    }

    /// The reply of the front request begins to come in and passes through from now on.
    pub fn begin_flow(&mut self, seq: u32) -> bool {
        if !self.is_front(seq) {
            return false;
        }
        match self.cell(seq) {
            Some(cell) if matches!(cell.state, CellState::Waiting) && cell.frames == 1 => {
                cell.state = CellState::Flowing;
                true
            }
            _ => false,
        }
    }

    /// True while the front request's reply is passing through.
    pub fn is_flowing(&self) -> bool {
        self.cells.front().is_some_and(|cell| matches!(cell.state, CellState::Flowing))
    }

    /// The last byte of a flowing reply went out.
    pub fn end_flow(&mut self, seq: u32) {
        if let Some(cell) = self.cell(seq)
            && matches!(cell.state, CellState::Flowing)
        {
            self.open -= 1;
            self.set(seq, CellState::Stashed { start: 0, len: 0 });
        }
    }

    /// A part of a split command came in; `accept` puts it into the merge.
    pub fn merge_part(&mut self, seq: u32, accept: impl FnOnce(&mut Merge)) -> Merged {
        let Some(Cell { state: CellState::Merging(merge), .. }) = self.cell(seq) else {
            return Merged::Unwanted;
        };
        if merge.is_complete() {
            return Merged::Unwanted;
        }
        let before = merge.bytes();
        accept(merge);
        let (after, complete) = (merge.bytes(), merge.is_complete());
        self.held_bytes = self.held_bytes + after - before;
        self.open -= u32::from(complete);
        self.keep(seq);
        if complete { Merged::Complete } else { Merged::More }
    }

    /// Has a request (or a part) with several keys of one slot answered key by key; the number of the
    /// first of the new parts.
    pub fn explode(&mut self, errand: &Errand, (kind, keys): (SplitKind, usize), limit: u64) -> Option<u16> {
        let cell = self.cell(errand.seq)?;
        match &mut cell.state {
            CellState::Merging(merge) => merge.explode(errand.part),
            // A part's number has 16 bits.
            CellState::Waiting if keys <= usize::from(u16::MAX) => {
                let plan = Rc::new(SplitPlan::key_by_key(errand.slot, keys));
                let merge = Merge::new(kind, plan, !errand.command.is_read_only(), limit);
                cell.state = CellState::Merging(Box::new(merge));
                Some(0)
            }
            _ => None,
        }
    }

    /// Lets every reply at the front that is whole go out, in order. `finished` hears of each.
    #[inline]
    pub fn drain(&mut self, out: &mut Outgoing, pool: &BufferPool, mut finished: impl FnMut(Finished)) {
        while let Some(front) = self.cells.front_mut() {
            match &mut front.state {
                CellState::Stashed { start, len } => {
                    if *len > 0 {
                        let bytes = self.stash.get(*start..*start + *len).unwrap_or(&[]);
                        out.append(bytes, || pool.take());
                        self.stash_alive -= *len;
                    }
                }
                CellState::Large(bytes) => {
                    self.held_bytes -= bytes.len();
                    out.push(bytes.copy_to_bytes(bytes.len()));
                }
                CellState::Merging(merge) if merge.is_complete() => {
                    self.held_bytes -= merge.bytes();
                    if front.frames > 0 {
                        merge.write(out, pool);
                    }
                }
                _ => break,
            }
            finished((front.class, front.arrived));
            self.cells.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        self.tidy();
    }

    /// Gives memory back: at once when nothing is stashed, else when most of the stash is dead.
    #[inline]
    fn tidy(&mut self) {
        if self.stash_alive == 0 {
            if self.stash.capacity() > LARGE {
                self.stash = Vec::new();
            } else {
                self.stash.clear();
            }
        } else if self.stash.len() > STASH_COMPACT && self.stash_alive < self.stash.len() / 2 {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut kept = Vec::with_capacity(self.stash_alive);
        for cell in &mut self.cells {
            if let CellState::Stashed { start, len } = &mut cell.state {
                let bytes = self.stash.get(*start..*start + *len).unwrap_or(&[]);
                *start = kept.len();
                kept.extend_from_slice(bytes);
            }
        }
        self.stash = kept;
    }

    /// Forgets everything: the client is gone.
    pub fn clear(&mut self) {
        self.first = self.first.wrapping_add(self.cells.len() as u32);
        *self = Self { first: self.first, replies: self.replies, ..Self::default() };
    }

    /// Gives back what an idle session does not need.
    pub fn shrink(&mut self) {
        if self.cells.is_empty() {
            self.cells = VecDeque::new();
            self.stash = Vec::new();
        }
    }
}

#[cfg(test)]
#[path = "pending_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
