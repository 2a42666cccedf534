//! The order rule after a redirect. A redirected request is held until every request of this
//! session for its slot that is already at a node has been answered; then the held ones are sent again
//! in order. If meanwhile a later one that shares a key was executed, sending the earlier one now would
//! swap them: it is answered with an error instead. While anything is held or under way again, no new
//! request of this client is taken: it is the rare case, and the simplest rule that can't be wrong.

use std::rc::Rc;

use super::{Session, SessionInner};
use crate::backend::ticket::{Errand, NO_SLOT, Parcel};
use crate::command::Command;
use crate::error::ProxyError;
use crate::protocol::Limits;
use crate::protocol::request::Args;
use crate::protocol::scan::{RequestScanner, Scanned};
use crate::worker::WorkerContext;

/// A redirected request.
#[derive(Debug)]
struct Held {
    parcel: Parcel,
    /// Not before this time on the worker's clock, in microseconds.
    not_before: u64,
    /// A later request on one of its keys was executed.
    overtaken: bool,
}

/// What a session holds back, in request order.
#[derive(Debug, Default)]
pub struct Order {
    held: Vec<Held>,
}

impl SessionInner {
    /// Takes a redirected request; it goes on to `parcel.aim` when its turn comes.
    pub fn hold(&mut self, parcel: Parcel, not_before: u64, worker: &WorkerContext) {
        self.pending.set_held(&parcel.errand, true);
        let place = (parcel.errand.seq, parcel.errand.part);
        if self.order.is_none() {
            worker.sessions_in_order.set(worker.sessions_in_order.get() + 1);
        }
        let order = self.order.get_or_insert_default();
        let at = order.held.partition_point(|h| precedes(&h.parcel.errand, place));
        order.held.insert(at, Held { parcel, not_before, overtaken: false });
    }

    /// A request was executed: earlier held ones of its slot that share a key were overtaken.
    pub fn note_executed(&mut self, executed: &Errand, request: &[u8]) {
        let Some(order) = &mut self.order else { return };
        let mut keys = None;
        for held in &mut order.held {
            let errand = &held.parcel.errand;
            let both_read = errand.command.is_read_only() && executed.command.is_read_only();
            if errand.slot != executed.slot || both_read || !precedes(errand, (executed.seq, executed.part)) {
                continue;
            }
            let keys = keys.get_or_insert_with(|| keys_of(request, executed.command));
            held.overtaken |=
                keys_of(&held.parcel.bytes, errand.command).iter().any(|key| keys.contains(key));
        }
    }

    /// Takes out what may go on at `now`, in order, and says when to look again if only time is in the
    /// way. Of one slot only requests with the same aim go together: on two connections they could
    /// overtake each other.
    fn take_ready(&mut self, now: u64) -> (Vec<Held>, Option<u64>) {
        let Some(mut order) = self.order.take() else { return (Vec::new(), None) };
        let (mut ready, mut kept): (Vec<Held>, Vec<Held>) = (Vec::new(), Vec::new());
        let mut later: Option<u64> = None;
        for held in order.held.drain(..) {
            let slot = held.parcel.errand.slot;
            let same_slot = |h: &Held| h.parcel.errand.slot == slot;
            let blocked = slot != NO_SLOT
                && (self.pending.is_at_node(slot)
                    || kept.iter().any(same_slot)
                    || ready.iter().any(|h| same_slot(h) && h.parcel.aim != held.parcel.aim));
            if blocked || held.not_before > now {
                if !blocked {
                    later = Some(later.map_or(held.not_before, |at| at.min(held.not_before)));
                }
                kept.push(held);
            } else {
                ready.push(held);
            }
        }
        order.held = kept;
        self.order = Some(order);
        (ready, later)
    }
}

/// Sends on what a session holds, as far as its order allows; ends the holding when nothing of the
/// session is at a node any more. Called by the flusher after replies came in, and after a delay.
pub fn advance(worker: &Rc<WorkerContext>, session: &Rc<Session>) {
    let now = worker.clock.now();
    let mut inner = session.inner();
    let (ready, later) = inner.take_ready(now);
    let mut failed = Vec::new();
    let mut sendable = Vec::new();
    for held in ready {
        if !inner.pending.set_held(&held.parcel.errand, false) {
            continue;
        }
        if held.overtaken {
            failed.push(held.parcel.errand);
        } else {
            sendable.push(held.parcel);
        }
    }
    let idle = inner.pending.open() == 0 && inner.order.as_ref().is_some_and(|order| order.held.is_empty());
    if idle && sendable.is_empty() && failed.is_empty() {
        inner.release_order(worker);
    }
    drop(inner);
    for errand in failed {
        session.fail(&errand, ProxyError::OrderConflict);
    }
    for parcel in sendable {
        worker.send(parcel);
    }
    if let Some(at) = later {
        worker.look_again(session, at);
    }
}

impl SessionInner {
    /// Nothing is held and nothing is at a node: requests are taken again.
    pub fn release_order(&mut self, worker: &WorkerContext) {
        if self.order.take().is_some() {
            worker.sessions_in_order.set(worker.sessions_in_order.get() - 1);
            self.wake();
        }
    }
}

/// True when `errand` comes before the request and part `place`, in spite of wrap-around.
fn precedes(errand: &Errand, place: (u32, u16)) -> bool {
    match errand.seq.wrapping_sub(place.0) as i32 {
        0 => errand.part < place.1,
        distance => distance < 0,
    }
}

/// The keys of a request. A request whose keys can't be told counts as one with the whole request as
/// its key: such requests are routed by their slot and never split.
fn keys_of(request: &[u8], command: &'static Command) -> Vec<Vec<u8>> {
    let mut scanner = RequestScanner::new();
    let Ok(Scanned::Request(_)) = scanner.scan(request, &Limits::unlimited(), true) else {
        return Vec::new();
    };
    let args = Args::new(request, scanner.spans());
    let mut indexes = Vec::new();
    match crate::command::keys::find_keys(command, &args, &mut indexes) {
        Ok(()) => indexes.iter().map(|&index| args.at(index as usize).to_vec()).collect(),
        Err(_) => vec![request.to_vec()],
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
