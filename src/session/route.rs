//! Requests with keys: to the slot's owner as they are, or in parts. Refuses what lies in several slots
//! and cannot be split.

use std::rc::Rc;

use super::dispatch::Frame;
use super::pending::CellState;
use super::{OTHER_LANE, Session, SessionInner};
use crate::backend::ticket::{Beside, Errand, NO_SLOT};
use crate::command::{Command, KeyRule, SplitKind, find_keys};
use crate::error::ProxyError;
use crate::protocol::request::Args;
use crate::reply::merge::Merge;
use crate::router::slot::KeySlots;
use crate::router::split::{PartBytes, Split, split as split_keys};
use crate::telemetry::CommandClass;

/// Sends a request on as it is, if all its keys share a slot.
#[inline]
pub fn route(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    command: &'static Command,
    frame: Frame<'_>,
    args: &Args<'_>,
) {
    let slot = match command.key_rule {
        KeyRule::First => session.worker().limits.key_slots.of(args.at(1)),
        _ => match slot_of_keys(session, command, args) {
            Ok(slot) => {
                if command.class == CommandClass::Script {
                    super::script::prepare(session, inner, command, args, slot);
                }
                slot
            }
            Err(CrossSlot) => return inner.reply_error(session, ProxyError::CrossSlot),
        },
    };
    forward(session, inner, command, frame, (slot, false));
}

/// Gives the request a cell and sends it to the owner of `slot`. `receivers`: as in `Errand`.
#[inline]
pub fn forward(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    command: &'static Command,
    frame: Frame<'_>,
    (slot, receivers): (u16, bool),
) {
    let seq = inner.expect(session, command, slot, CellState::Waiting);
    let mut errand = Errand::new(session, seq, slot, command, inner.client.resp);
    if receivers {
        errand.beside = Beside::Receivers;
    }
    let worker = session.worker();
    match frame.shared {
        // Connections of its own are nobody else's to hold up.
        Some(bytes) if bytes.len() >= worker.limits.dedicated_request && session.lane_set.get() == 0 => {
            worker.send_dedicated(inner, errand, bytes.clone());
            inner.epoch = OTHER_LANE;
        }
        shared => worker.send_new(inner, errand, shared, frame.bytes.len(), |run| {
            run.extend_from_slice(frame.bytes);
        }),
    }
}

/// The keys lie in several slots.
#[derive(Debug)]
pub struct CrossSlot;

/// The slot of all keys of a request, or [`NO_SLOT`] when it has none.
///
/// # Errors
/// They lie in several.
pub fn slot_of_keys(
    session: &Rc<Session>,
    command: &'static Command,
    args: &Args<'_>,
) -> Result<u16, CrossSlot> {
    let mut keys = session.worker().key_indexes.borrow_mut();
    keys.clear();
    if find_keys(command, args, &mut keys).is_err() {
        // No keys, or arguments that no node accepts: any node gives the right answer.
        return Ok(NO_SLOT);
    }
    common_slot(session.worker().limits.key_slots, keys.iter().map(|&index| args.at(index as usize)))
}

/// The slot all these keys share; [`NO_SLOT`] without any.
///
/// # Errors
/// They lie in several.
pub fn common_slot<'a>(key_slots: KeySlots, keys: impl Iterator<Item = &'a [u8]>) -> Result<u16, CrossSlot> {
    let mut slots = keys.map(|key| key_slots.of(key));
    let Some(first) = slots.next() else { return Ok(NO_SLOT) };
    if slots.all(|slot| slot == first) { Ok(first) } else { Err(CrossSlot) }
}

/// Splits a request over the slots of its keys; one slot only: forwards it untouched.
pub fn split(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, kind): (&'static Command, SplitKind),
    frame: Frame<'_>,
    args: &Args<'_>,
) {
    let worker = session.worker();
    let step = if kind == SplitKind::AllOk { 2 } else { 1 };
    if worker.limits.key_slots == KeySlots::One {
        return forward(session, inner, command, frame, (worker.limits.key_slots.of(args.at(1)), false));
    }
    let plan = match split_keys(args, step) {
        Split::OneSlot(slot) => return forward(session, inner, command, frame, (slot, false)),
        Split::Parts(_) if !worker.limits.multi_key_split => {
            return inner.reply_error(session, ProxyError::CrossSlot);
        }
        Split::Parts(plan) => Rc::new(plan),
    };
    let merge = Merge::new(kind, Rc::clone(&plan), !command.is_read_only(), worker.limits.merge_reply_bytes);
    let seq = inner.expect(session, command, NO_SLOT, CellState::Merging(Box::new(merge)));
    let name = crate::router::split::name(args);
    let alone = frame.bytes.len() >= worker.limits.dedicated_request && session.lane_set.get() == 0;
    let mut large = Vec::new();
    for (part, part_plan) in plan.parts().iter().enumerate() {
        let errand = Errand::new(session, seq, NO_SLOT, command, inner.client.resp);
        let errand = errand.part(part as u16, part_plan.slot);
        let bytes = PartBytes::new(*args, name, &plan, part, step);
        if alone {
            let mut whole = Vec::with_capacity(bytes.len());
            bytes.write(&mut whole);
            large.push((errand, whole.into()));
        } else {
            worker.send_new(inner, errand, None, bytes.len(), |run| bytes.write(run));
        }
    }
    if alone {
        worker.send_parts_dedicated(inner, large);
        inner.epoch = OTHER_LANE;
    }
}
