//! Commands learned from the cluster: routed by the keys their key specifications tell. Where those do not
//! tell, a node is asked first (`operation/keys.rs`). No shard is ever guessed. One that may wait has a connection
//! of its own, as the built-in ones have.

use std::rc::Rc;

use super::dispatch::Frame;
use super::route::{CrossSlot, common_slot, forward};
use super::{Session, SessionInner};
use crate::backend::ticket::NO_SLOT;
use crate::command::errors::wrong_arity;
use crate::command::{Command, Flags, find_keys};
use crate::error::ProxyError;
use crate::operation::{self, OperationKind};
use crate::protocol::request::Args;

/// What key specifications tell of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Its keys are in this slot; or it reads and has none ([`NO_SLOT`]): any primary will do.
    Slot(u16),
    /// Its keys are in several.
    CrossSlot,
    /// It has no key and may write.
    NoKey,
    /// Nothing: they do not fit.
    Nothing,
}

/// The slot of a request. `asks`: the specifications are of no use.
pub fn told(session: &Rc<Session>, (command, asks): (&'static Command, bool), args: &Args<'_>) -> Told {
    if asks {
        return Told::Nothing;
    }
    let mut keys = session.worker().key_indexes.borrow_mut();
    keys.clear();
    if find_keys(command, args, &mut keys).is_err() {
        return Told::Nothing;
    }
    match common_slot(session.worker().limits.key_slots, keys.iter().map(|&index| args.at(index as usize))) {
        Err(CrossSlot) => Told::CrossSlot,
        Ok(NO_SLOT) if !command.is_read_only() => Told::NoKey,
        Ok(slot) => Told::Slot(slot),
    }
}

/// Sends a learned command to the owner of its keys.
pub fn route(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, asks): (&'static Command, bool),
    frame: Frame<'_>,
    args: &Args<'_>,
) {
    match told(session, (command, asks), args) {
        Told::Slot(_) if command.flags.has(Flags::BLOCKING) => {
            operation::start(session, inner, (command, OperationKind::Block), args);
        }
        Told::Slot(slot) => forward(session, inner, command, frame, (slot, false)),
        Told::CrossSlot => inner.reply_error(session, ProxyError::CrossSlot),
        Told::NoKey => inner.reply_error(session, ProxyError::KeysUnknown),
        // What any server would say of it, whatever else it says.
        Told::Nothing if args.len() < command.first_key_arguments() => {
            inner.reply_text(session, wrong_arity(command));
        }
        // The question is as large as the request, and goes the way of all small ones.
        Told::Nothing if frame.bytes.len() >= session.worker().limits.dedicated_request => {
            inner.reply_error(session, ProxyError::KeysUnknown);
        }
        Told::Nothing => {
            let waits = command.flags.has(Flags::BLOCKING);
            let kind = if waits { OperationKind::Block } else { OperationKind::AskKeys };
            operation::start(session, inner, (command, kind), args);
        }
    }
}
