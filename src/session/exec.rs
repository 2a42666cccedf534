//! EXEC: the transaction leaves as one contiguous push, on the shared lane, so that it costs no connection of its
//! own; only one that follows a WATCH goes over the line that watches (`operation/watch.rs`). Owns what is done
//! when the node has answered: replies of slotway's own go between the node's, and what queued commands change
//! about their client takes effect. Must never let anything take effect that EXEC did not execute.

use std::rc::Rc;

use bytes::Bytes;

use super::cell::CellState;
use super::state::{Changeable, ClientState};
use super::transaction::{Queued, Transaction};
use super::{OTHER_LANE, Session, SessionInner, local};
use crate::backend::ticket::{Errand, NO_SLOT};
use crate::command::Command;
use crate::error::ProxyError;
use crate::operation::{self, OperationKind};
use crate::protocol::request::Args;
use crate::reply::splice::Splice;
use crate::topology::node::NodeId;
use crate::worker::outgoing::LARGE;

/// EXEC as a request; every transaction ends with it.
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// What EXEC says after an error in the queue (Redis' words).
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

/// A transaction ready to be sent.
#[derive(Debug)]
pub struct Push {
    /// MULTI, the commands, EXEC.
    pub bytes: Bytes,
    /// Commands in it.
    pub commands: u32,
    /// Slot of its keys, or `NO_SLOT`.
    pub slot: u16,
    /// Among them are EVAL or EVALSHA.
    pub scripts: bool,
    /// Channels it publishes on, by their hashes.
    pub channels: Vec<u64>,
    /// What is left to do once it is executed.
    pub completion: Option<Box<Completion>>,
}

impl Push {
    /// Bytes held.
    pub fn footprint(&self) -> usize {
        self.bytes.len()
            + self.channels.capacity() * size_of::<u64>()
            + self.completion.as_ref().map_or(0, |completion| completion.bytes())
    }

    /// True for one that goes over a connection of its own. Scripts are loaded on the shared lane, and have to come
    /// before the transaction that calls them. Lanes of the session's own are nobody else's to hold up.
    fn is_large(&self, session: &Session) -> bool {
        let large = self.bytes.len() >= session.worker().limits.dedicated_request;
        large && !self.scripts && session.lane_set.get() == 0
    }
}

/// What is left to do when a node has answered EXEC with an array; when it has not, nothing is.
#[derive(Debug)]
pub struct Completion {
    splice: Splice,
    /// What the client is like afterwards, where that is not as before.
    changes: Option<Changeable>,
}

impl Completion {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.splice.bytes()
    }

    /// The whole reply, if `frame` is that of a transaction that was executed, and changes the client; `None`
    /// when the frame is to be passed on as it is.
    fn complete(self, client: &mut ClientState, frame: &[u8]) -> Option<Vec<u8>> {
        let whole = self.splice.apply(frame)?;
        if let Some(changes) = self.changes {
            client.change(changes);
        }
        Some(whole)
    }
}

/// Sends the transaction, or says why not.
pub fn exec(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    command: &'static Command,
    transaction: Transaction,
    args: &Args<'_>,
) {
    if transaction.failed {
        inner.unwatch(session);
        return inner.reply_text(session, ABORTED);
    }
    let push = match ready(session, inner, transaction) {
        Ok(push) => push,
        Err(error) => {
            inner.unwatch(session);
            return inner.reply_error(session, error);
        }
    };
    if inner.watch.is_some() || !push.channels.is_empty() || push.is_large(session) {
        // On a line; or alone, for messages or the whole take another way than what is before and after.
        inner.push = Some(Box::new(push));
        return operation::start(session, inner, (command, OperationKind::Exec), args);
    }
    if push.commands == 0 {
        let empty = b"*0\r\n".to_vec();
        let whole = push.completion.and_then(|completion| inner.complete(session, *completion, &empty));
        return inner.reply(session, command.class, &whole.unwrap_or(empty));
    }
    let seq = inner.expect(session, command, push.slot, CellState::Waiting);
    send(session, inner, (command, seq), push);
}

/// Sends a transaction on the shared lane, or a large one on a connection of its own, for request `seq`.
pub fn send(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, seq): (&'static Command, u32),
    push: Push,
) {
    let worker = session.worker();
    let large = push.is_large(session);
    inner.note_channels(push.channels);
    if let Some(node) = worker.owner(push.slot, session.id) {
        inner.note_way(node, worker.clock.now());
    }
    if let Some(completion) = push.completion {
        if completion.changes.is_some() {
            // What comes next finds the client as EXEC leaves it.
            inner.epoch = OTHER_LANE;
        }
        inner.pending.complete_later(seq, completion);
    }
    let mut errand = Errand::new(session, seq, push.slot, command, inner.client.resp);
    errand.before = push.commands + 1;
    let Some(errand) = super::show::unless_held(inner, errand, (push.scripts, &push.bytes)) else { return };
    if push.scripts
        && let Some(lane) = worker.ready_lane(push.slot, session, inner.client.resp)
    {
        worker.load_scripts_of(&lane, &errand, &push.bytes);
    }
    if large {
        return worker.send_dedicated(inner, errand, push.bytes);
    }
    let len = push.bytes.len();
    worker.send_new(inner, errand, Some(&push.bytes), len, |run| run.extend_from_slice(&push.bytes));
}

/// Closes the push, and answers what is ours. What that changes about the client is kept for later.
///
/// # Errors
/// Our replies together are larger than `transaction-bytes`.
fn ready(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    mut transaction: Transaction,
) -> Result<Push, ProxyError> {
    let mut splice = Splice::new(transaction.queued.len());
    let limit = session.worker().limits.transaction_bytes;
    let own = transaction.queued.iter().any(|queued| matches!(queued, Queued::Local(..)));
    let before = own.then(|| inner.client.changeable());
    for (index, queued) in std::mem::take(&mut transaction.queued).into_iter().enumerate() {
        match queued {
            Queued::Sent => {}
            Queued::Nothing => splice.add(index, b"+OK\r\n".to_vec()),
            Queued::Local(local, request) => {
                splice.add(index, local::answer_queued(session, inner, local, &request.args()));
            }
        }
        if splice.bytes() > limit {
            before.into_iter().for_each(|before| inner.client.change(before));
            return Err(ProxyError::TransactionTooLarge);
        }
    }
    let changes = before.and_then(|before| {
        let after = inner.client.changeable();
        let changed = after != before;
        inner.client.change(before);
        changed.then_some(after)
    });
    transaction.push.extend_from_slice(EXEC);
    let free = transaction.slot == NO_SLOT && inner.watch.is_none();
    Ok(Push {
        bytes: transaction.push.into(),
        commands: transaction.sent,
        // Without keys it goes where its messages belong.
        slot: if free { transaction.channel_slot } else { transaction.slot },
        channels: transaction.channels,
        scripts: transaction.scripts,
        completion: (!splice.is_empty()).then(|| Box::new(Completion { splice, changes })),
    })
}

impl SessionInner {
    /// A transaction that publishes on these channels is about to be sent.
    pub fn note_channels(&mut self, channels: Vec<u64>) {
        if self.ways.is_some() || !channels.is_empty() {
            self.ways.get_or_insert_default().send(channels);
        }
    }

    /// It goes to `node`.
    pub fn note_way(&mut self, node: NodeId, now: u64) {
        if let Some(ways) = &mut self.ways {
            ways.went_to(node, now);
        }
    }

    /// A node (or nobody, where it was not needed) has answered EXEC with `frame`: as `Completion::complete`, and
    /// what changed takes effect.
    pub fn complete(&mut self, session: &Session, completion: Completion, frame: &[u8]) -> Option<Vec<u8>> {
        let whole = completion.complete(&mut self.client, frame);
        session.settle_reads(self);
        whole
    }

    /// The reply to an EXEC that had more to do than to be passed on. False when nobody waits for it any more.
    #[cold]
    pub(super) fn complete_transaction(&mut self, session: &Session, errand: &Errand, frame: &[u8]) -> bool {
        let Some(completion) = self.pending.completion(errand.seq) else { return false };
        let whole = self.complete(session, completion, frame).unwrap_or_else(|| frame.to_vec());
        match whole.len() {
            LARGE.. => self.pending.answer_large(errand.seq, whole.into(), &mut self.out),
            _ => self.pending.answer(errand.seq, &whole, &mut self.out, &session.worker().pool),
        }
    }
}
