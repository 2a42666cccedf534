//! One request's place among the replies a session owes: what it holds until its turn. Only `Pending` changes
//! it, so that its counts stay true.

use bytes::Bytes;

use crate::reply::merge::Merge;
use crate::session::exec::Completion;
use crate::telemetry::CommandClass;

/// What a cell holds.
#[derive(Debug)]
pub enum CellState {
    /// Nothing yet: the request is at a node or waits for one.
    Waiting,
    /// Nothing yet; a transaction with more to do when it is executed.
    Completing(Box<Completion>),
    /// The parts of a split command; complete when none is left.
    Merging(Box<Merge>),
    /// A whole reply, at this place of the stash.
    Stashed {
        /// First byte.
        start: usize,
        /// Length in bytes.
        len: usize,
    },
    /// A whole reply, not copied.
    Large(Bytes),
    /// The reply is coming in and passes through.
    Flowing,
}

/// One request's place.
#[derive(Debug)]
pub struct Cell {
    /// What it holds.
    pub state: CellState,
    /// Reply frames still to go to the client before the cell is done; the cell holds its place meanwhile.
    /// None in a cell that waits: the client wants no reply, the one that comes is thrown away.
    pub frames: u16,
    /// Slot of the request's keys; `NO_SLOT` for none or several.
    pub slot: u16,
    /// For the duration histogram.
    pub class: CommandClass,
    /// The request was redirected and is held back for the sake of order.
    pub held: bool,
    /// When the request was read, on the worker's clock in microseconds.
    pub arrived: u64,
}

impl Cell {
    /// True while a node still owes something.
    pub fn is_open(&self) -> bool {
        match &self.state {
            CellState::Waiting | CellState::Completing(_) | CellState::Flowing => true,
            CellState::Merging(merge) => !merge.is_complete(),
            CellState::Stashed { .. } | CellState::Large(_) => false,
        }
    }
}

/// What a part of a split command did for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// Nothing: the request was answered before.
    Unwanted,
    /// Parts are missing still.
    More,
    /// The reply is complete.
    Complete,
}

/// A request that was just finished: what the histograms want to know.
pub type Finished = (CommandClass, u64);
