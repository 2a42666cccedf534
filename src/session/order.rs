//! The order rule after a redirect. A redirected request is held until every request of this
//! session for its slot that is already at a node has been answered; then the held ones are sent again
//! in order. If meanwhile a later one that shares a key was executed, sending the earlier one now would
//! swap them: it is answered with an error instead. While anything is held or under way again, no new
//! request of this client is taken: it is the rare case, and the simplest rule that can't be wrong.

use std::collections::HashMap;
use std::rc::Rc;

use super::transaction::TransactionCommand;
use super::{Session, SessionInner};
use crate::backend::ticket::{Aim, Beside, Errand, NO_SLOT, Parcel};
use crate::command::{Command, CommandTable, Handling, LearnedTable, Lookup, find_keys};
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
    /// A later request on one of its keys was executed, or it is of no use any more: it is not sent again.
    overtaken: bool,
    /// Its keys, once somebody asked for them.
    keys: Option<Keys>,
}

/// What a session holds back, in request order.
#[derive(Debug, Default)]
pub struct Order {
    held: Vec<Held>,
    /// Bytes of the requests held.
    bytes: usize,
    /// When a timer looks again; 0 for none.
    timer: u64,
}

impl Order {
    /// Bytes of the requests held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when request `seq` is held and may have been executed nevertheless.
    pub fn is_in_doubt(&self, seq: u32) -> bool {
        self.held.iter().any(|held| held.parcel.errand.seq == seq && held.parcel.is_in_doubt())
    }
}

/// What the held requests of one slot have to heed.
#[derive(Clone, PartialEq, Eq)]
enum Course {
    /// Nothing so far.
    Free,
    /// One before them goes to this aim: they may go there, too, and at once. An ASK that is followed late may lead to a
    /// node that is not where the key is any more.
    Goes(Aim),
    /// They stay.
    Blocked,
}

impl SessionInner {
    /// Takes a redirected request; it goes on to `parcel.aim` when its turn comes.
    pub fn hold(&mut self, parcel: Parcel, not_before: u64, worker: &WorkerContext) {
        self.pending.set_held(&parcel.errand, true);
        let by_redirect = !matches!(parcel.aim, Aim::Table | Aim::WithScript(_));
        if parcel.errand.beside == Beside::Caching(true) && by_redirect {
            // A node heeds either ASKING or CLIENT CACHING: what it reads then is not kept track of.
            self.flush_behind();
        }
        let place = (parcel.errand.seq, parcel.errand.part);
        if self.order.is_none() {
            worker.sessions_in_order.set(worker.sessions_in_order.get() + 1);
        }
        let order = self.order.get_or_insert_default();
        let at = order.held.partition_point(|h| precedes(&h.parcel.errand, place));
        order.bytes += parcel.bytes.len();
        order.held.insert(at, Held { parcel, not_before, overtaken: false, keys: None });
        self.charge(&worker.budget);
    }

    /// What request `seq` is held for is over: as soon as its order allows it goes, or, if not `useful`, ends.
    pub fn hold_no_longer(&mut self, seq: u32, useful: bool) {
        let held = self.order.iter_mut().flat_map(|order| &mut order.held);
        for held in held.filter(|held| held.parcel.errand.seq == seq) {
            held.not_before = 0;
            held.overtaken |= !useful;
        }
    }

    /// A request was executed: earlier held ones of its slot that share a key were overtaken.
    pub fn note_executed(&mut self, executed: &Errand, request: &[u8]) {
        let Some(order) = &mut self.order else { return };
        let learned = executed.session.worker().topology.learned();
        let mut keys = None;
        for Held { parcel, overtaken, keys: held_keys, .. } in &mut order.held {
            let errand = &parcel.errand;
            if !precedes(errand, (executed.seq, executed.part)) {
                break;
            }
            let both_read = errand.command.is_read_only() && executed.command.is_read_only();
            if *overtaken || errand.slot != executed.slot || both_read {
                continue;
            }
            let keys = keys.get_or_insert_with(|| keys_of(request, executed.command, &learned));
            let held_keys = held_keys.get_or_insert_with(|| keys_of(&parcel.bytes, errand.command, &learned));
            *overtaken = held_keys.meet(keys);
        }
    }

    /// Takes out what may go on at `now`, in order, and says when to look again if only time is in the
    /// way. What of one slot goes together has the same aim: on two connections they could overtake each other.
    fn take_ready(&mut self, now: u64) -> (Vec<Held>, Option<u64>) {
        let (mut ready, mut later) = (Vec::new(), None);
        let Some(order) = &mut self.order else { return (ready, later) };
        if order.held.is_empty() {
            return (ready, later);
        }
        let mut courses: HashMap<u16, Course> =
            order.held.iter().map(|held| (held.parcel.errand.slot, Course::Free)).collect();
        let mut is_any_at_node = false;
        self.pending.each_slot_at_node(|slot| {
            is_any_at_node = true;
            courses.entry(slot).and_modify(|course| *course = Course::Blocked);
        });
        // Without keys it may touch what a read at a replica is about.
        let of_any_slot = is_any_at_node && self.reads.as_ref().is_some_and(|reads| reads.is_away(NO_SLOT));
        for held in std::mem::take(&mut order.held) {
            let (errand, aim) = (&held.parcel.errand, &held.parcel.aim);
            let slot = errand.slot;
            let course = courses.get(&slot).filter(|_| slot != NO_SLOT).unwrap_or(&Course::Free);
            let blocked = match course {
                _ if slot == NO_SLOT && of_any_slot => !held.parcel.errand.command.is_read_only(),
                Course::Free => false,
                Course::Goes(other) => other != aim,
                Course::Blocked => true,
            };
            if blocked || held.not_before > now {
                if !blocked {
                    later = Some(later.map_or(held.not_before, |at: u64| at.min(held.not_before)));
                }
                courses.insert(slot, Course::Blocked);
                order.held.push(held);
            } else {
                courses.insert(slot, Course::Goes(aim.clone()));
                order.bytes -= held.parcel.bytes.len();
                ready.push(held);
            }
        }
        (ready, later)
    }

    /// Notes that a timer looks again at `at`; false when one does by then anyway.
    fn set_timer(&mut self, at: u64) -> bool {
        let Some(order) = &mut self.order else { return false };
        let sooner = order.timer == 0 || at < order.timer;
        if sooner {
            order.timer = at;
        }
        sooner
    }
}

/// Sends on what a session holds, as far as its order allows; ends the holding when nothing of the
/// session is at a node any more. Called by the flusher after replies came in, and after a delay.
pub fn advance(worker: &Rc<WorkerContext>, session: &Rc<Session>) {
    // What ends here makes way for what was held behind it.
    while let Step::Ended = step(worker, session) {}
}

/// What came of a look at what is held.
enum Step {
    /// Something ended without being sent.
    Ended,
    /// Nothing did.
    Done,
}

fn step(worker: &Rc<WorkerContext>, session: &Rc<Session>) -> Step {
    let now = worker.clock.now();
    let mut inner = session.inner();
    if let Some(order) = inner.order.as_mut().filter(|order| order.timer <= now) {
        order.timer = 0;
    }
    let (ready, later) = inner.take_ready(now);
    let taken = ready.len();
    inner.charge(&worker.budget);
    let (mut failed, mut refused) = (Vec::new(), Vec::new());
    let mut sendable = Vec::new();
    for Held { parcel, overtaken, .. } in ready {
        if !inner.pending.set_held(&parcel.errand, false) {
            continue;
        }
        if overtaken && let Aim::WithScript(frame) = parcel.aim {
            refused.push((parcel.errand, frame));
        } else if overtaken {
            let error = if parcel.is_in_doubt() { ProxyError::BadReply } else { ProxyError::OrderConflict };
            failed.push((parcel.errand, error));
        } else {
            sendable.push(parcel);
        }
    }
    let idle = inner.pending.open() == 0 && inner.order.as_ref().is_some_and(|order| order.held.is_empty());
    if idle && sendable.is_empty() && failed.is_empty() && refused.is_empty() {
        inner.release_order(worker);
    }
    let ended = sendable.len() < taken;
    let timer = later.filter(|&at| inner.set_timer(at));
    drop(inner);
    for (errand, error) in failed {
        session.fail(&errand, error);
    }
    for (errand, frame) in refused {
        session.deliver(&errand, &frame, None);
    }
    for parcel in sendable {
        worker.send(parcel);
    }
    if let Some(at) = timer {
        worker.look_again(session, at);
    }
    if ended { Step::Ended } else { Step::Done }
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

/// Keys of a request.
#[derive(Debug, PartialEq, Eq)]
enum Keys {
    /// These.
    Are(Vec<Vec<u8>>),
    /// Whichever: nobody can tell them any more.
    Any,
}

impl Keys {
    /// True if both may be about the same key.
    fn meet(&self, other: &Keys) -> bool {
        match (self, other) {
            (Keys::Are(keys), Keys::Are(others)) => keys.iter().any(|key| others.contains(key)),
            _ => true,
        }
    }
}

/// The keys of a request; of a transaction, those of all its commands, built in or learned. A request whose keys
/// can't be told counts as one with the whole request as its key: such requests are routed by their slot and
/// never split.
fn keys_of(request: &[u8], command: &'static Command, learned: &LearnedTable) -> Keys {
    let transaction = command.handling == Handling::Transaction(TransactionCommand::Exec);
    let (mut keys, mut rest) = (Vec::new(), request);
    let mut scanner = RequestScanner::new();
    while let Ok(Scanned::Request(len)) = scanner.scan(rest, &Limits::unlimited(), true) {
        let args = Args::new(rest, scanner.spans());
        let mut indexes = Vec::new();
        let known = match CommandTable::builtin().lookup(&args) {
            _ if !transaction => command,
            Lookup::Found(queued) => queued,
            missing => match learned.lookup(missing, &args) {
                Lookup::Found(queued) => queued,
                // The cluster has taken it back since.
                _ => return Keys::Any,
            },
        };
        match find_keys(known, &args, &mut indexes) {
            Ok(()) => keys.extend(indexes.iter().map(|&index| args.at(index as usize).to_vec())),
            Err(_) if !transaction => keys.push(request.to_vec()),
            Err(_) if matches!(known.handling, Handling::Learned { .. }) => return Keys::Any,
            // MULTI, EXEC and the like have none.
            Err(_) => {}
        }
        rest = rest.get(len..).unwrap_or(&[]);
        scanner.reset();
    }
    Keys::Are(keys)
}

#[cfg(test)]
#[path = "order_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
