//! MULTI, EXEC, DISCARD: a transaction is queued here and leaves as one contiguous push at EXEC, on the shared
//! lane, so that it costs no connection of its own; only one that follows a WATCH goes over the line that
//! watches (`operation/watch.rs`). Owns the queue. A command is judged when it is queued, as Redis does; what
//! only the node can judge comes back from EXEC as EXECABORT.

use std::rc::Rc;

use bytes::Bytes;
use serde::Deserialize;

use super::dispatch::Frame;
use super::learned::Told;
use super::pending::CellState;
use super::state::{Resp, SessionMode};
use super::{Session, SessionInner, local};
use crate::backend::line::Line;
use crate::backend::ticket::{Errand, NO_SLOT};
use crate::command::{Command, CommandClass, Flags, Handling, LocalCommand};
use crate::error::ProxyError;
use crate::operation::{self, OperationKind, OwnedRequest};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::pubsub::{Act, Kind};
use crate::reply::splice::Splice;
use crate::router::slot::slot_of;

/// MULTI as a request; every transaction begins with it.
const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
/// EXEC as a request; every transaction ends with it.
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// What EXEC says after an error in the queue (Redis' words).
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

/// The commands of a transaction; `transaction = "…"` in `overrides.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each variant is the command of that name")]
pub enum TransactionCommand {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
}

/// One queued command.
#[derive(Debug)]
enum Queued {
    /// Stands in the push.
    Sent,
    /// Answered by us when EXEC comes.
    Local(LocalCommand, OwnedRequest),
    /// UNWATCH, which does nothing here.
    Nothing,
}

/// What was queued since MULTI.
#[derive(Debug)]
pub struct Transaction {
    push: Vec<u8>,
    queued: Vec<Queued>,
    sent: u32,
    slot: u16,
    scripts: bool,
    failed: bool,
    may_replicate: bool,
}

/// Keys a client watches, and the line that does.
#[derive(Debug)]
pub struct Watch {
    /// The line; `None` once it was lost: the next EXEC answers null.
    pub line: Option<Line>,
    /// The slot of the keys.
    pub slot: u16,
}

/// A transaction ready to be sent.
#[derive(Debug)]
pub struct Push {
    /// MULTI, the commands, EXEC.
    pub bytes: Bytes,
    /// Commands in it.
    pub commands: u32,
    /// Slot of its keys, or [`NO_SLOT`].
    pub slot: u16,
    /// Among them are EVAL or EVALSHA.
    pub scripts: bool,
    /// What of the reply is made here.
    pub splice: Option<Box<Splice>>,
}

impl Transaction {
    fn new() -> Self {
        Self {
            push: MULTI.to_vec(),
            queued: Vec::new(),
            sent: 0,
            slot: NO_SLOT,
            scripts: false,
            failed: false,
            may_replicate: false,
        }
    }

    /// Commands queued.
    pub fn commands(&self) -> usize {
        self.queued.len()
    }

    /// True when one of them is held back by CLIENT PAUSE WRITE, and so is EXEC.
    pub fn may_replicate(&self) -> bool {
        self.may_replicate
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.push.capacity() + self.queued.len() * size_of::<Queued>()
    }
}

/// Handles MULTI, EXEC, DISCARD, WATCH and UNWATCH.
pub fn handle(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, kind): (&'static Command, TransactionCommand),
    args: &Args<'_>,
) {
    let queueing = inner.transaction.is_some();
    match kind {
        TransactionCommand::Multi if queueing => {
            inner.reply_text(session, "ERR MULTI calls can not be nested")
        }
        TransactionCommand::Multi => {
            inner.transaction = Some(Box::new(Transaction::new()));
            inner.settle_mode();
            inner.reply(session, command.class, b"+OK\r\n");
        }
        TransactionCommand::Watch if queueing => {
            inner.reply_text(session, "ERR WATCH inside MULTI is not allowed")
        }
        TransactionCommand::Watch => {
            operation::start(session, inner, (command, OperationKind::Watch), args);
        }
        TransactionCommand::Unwatch if inner.watch.is_none() => {
            inner.reply(session, command.class, b"+OK\r\n")
        }
        TransactionCommand::Unwatch => {
            operation::start(session, inner, (command, OperationKind::Unwatch), args);
        }
        TransactionCommand::Exec => match inner.take_transaction() {
            Some(transaction) => exec(session, inner, command, *transaction, args),
            None => inner.reply_text(session, "ERR EXEC without MULTI"),
        },
        TransactionCommand::Discard => match inner.take_transaction() {
            Some(_) => {
                inner.unwatch(session);
                inner.reply(session, command.class, b"+OK\r\n");
            }
            None => inner.reply_text(session, "ERR DISCARD without MULTI"),
        },
    }
}

/// Queues a command between MULTI and EXEC.
pub fn queue(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    command: &'static Command,
    frame: Frame<'_>,
    args: &Args<'_>,
) {
    match judge(session, command, args) {
        Ok((Queued::Sent, slot)) => {
            let limits = &session.worker().limits;
            let Some(transaction) = &mut inner.transaction else { return };
            if slot != NO_SLOT && transaction.slot != NO_SLOT && transaction.slot != slot {
                return inner.refuse_queued_error(session, ProxyError::CrossSlot);
            }
            if transaction.bytes() + frame.bytes.len() > limits.transaction_bytes
                || transaction.queued.len() >= limits.transaction_commands
            {
                return inner.refuse_queued_error(session, ProxyError::TransactionTooLarge);
            }
            if slot != NO_SLOT {
                transaction.slot = slot;
            }
            if command.class == CommandClass::Script {
                transaction.scripts = true;
                super::script::prepare_queued(session, command, args);
            }
            transaction.push.extend_from_slice(frame.bytes);
            transaction.sent += 1;
            transaction.may_replicate |= command.may_replicate();
            transaction.queued.push(Queued::Sent);
        }
        Ok((queued, _)) => {
            let limits = &session.worker().limits;
            let Some(transaction) = &mut inner.transaction else { return };
            if transaction.queued.len() >= limits.transaction_commands {
                return inner.refuse_queued_error(session, ProxyError::TransactionTooLarge);
            }
            transaction.queued.push(queued);
        }
        Err(Refused::Text(text)) => return inner.refuse_queued(session, &text),
        Err(Refused::CrossSlot) => return inner.refuse_queued_error(session, ProxyError::CrossSlot),
    }
    inner.charge(&session.worker().budget);
    inner.reply(session, command.class, b"+QUEUED\r\n");
}

enum Refused {
    Text(String),
    CrossSlot,
}

/// What becomes of a queued command, and the slot of its keys.
fn judge(
    session: &Rc<Session>,
    command: &'static Command,
    args: &Args<'_>,
) -> Result<(Queued, u16), Refused> {
    if command.flags.has(Flags::NO_MULTI) {
        return Err(Refused::Text("ERR Command not allowed inside a transaction".to_owned()));
    }
    let not_here = |why: &str| {
        Refused::Text(format!("ERR slotway: '{}' cannot be part of a transaction: {why}", command.name))
    };
    match command.handling_for(args) {
        Handling::Refuse(text) => Err(Refused::Text(text.to_owned())),
        Handling::Operation(kind) if !kind.is_routed_in_transaction() => {
            Err(not_here("it concerns several shards or the proxy itself"))
        }
        Handling::Transaction(_) => Ok((Queued::Nothing, NO_SLOT)),
        Handling::Local(local) if local::needs_more_than_bytes(local, args) => {
            Err(not_here("slotway answers it itself, and not at once"))
        }
        Handling::Local(local) => Ok((Queued::Local(local, OwnedRequest::new(args)), NO_SLOT)),
        Handling::Learned { asks } => match super::learned::told(session, (command, asks), args) {
            Told::Slot(slot) => Ok((Queued::Sent, slot)),
            Told::CrossSlot => Err(Refused::CrossSlot),
            Told::Nothing | Told::NoKey => Err(not_here("its keys cannot be told from its arguments")),
        },
        Handling::PubSub(what) => match what.act() {
            // The node it goes to tells all others.
            Act::Publish(Kind::Channel | Kind::Pattern) => Ok((Queued::Sent, NO_SLOT)),
            Act::Publish(Kind::Shard) => Ok((Queued::Sent, slot_of(args.at(1)))),
            Act::Join(_) | Act::Leave(_) => Err(not_here("subscriptions are slotway's own")),
        },
        Handling::Route | Handling::Split(_) | Handling::Operation(_) => {
            match super::route::slot_of_keys(session, command, args) {
                Ok(slot) => Ok((Queued::Sent, slot)),
                Err(_) => Err(Refused::CrossSlot),
            }
        }
    }
}

/// Sends the transaction, or says why not.
fn exec(
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
    let push = ready(session, inner, transaction);
    if inner.watch.is_some() {
        inner.push = Some(Box::new(push));
        return operation::start(session, inner, (command, OperationKind::Exec), args);
    }
    if push.commands == 0 {
        let mut frame = b"*0\r\n".to_vec();
        if let Some(splice) = &push.splice {
            frame = splice.apply(&frame).unwrap_or(frame);
        }
        return inner.reply(session, command.class, &frame);
    }
    send(session, inner, command, push);
}

/// Sends a transaction on the shared lane.
fn send(session: &Rc<Session>, inner: &mut SessionInner, command: &'static Command, push: Push) {
    let state = push.splice.map_or(CellState::Waiting, CellState::Splicing);
    let seq = inner.expect(session, command, push.slot, state);
    let mut errand = Errand::new(session, seq, push.slot, command, inner.client.resp);
    errand.before = push.commands + 1;
    let worker = session.worker();
    let Some(errand) = super::show::unless_held(inner, errand, &push) else { return };
    if push.scripts
        && let Some(lane) = worker.ready_lane(push.slot, session, inner.client.resp)
    {
        worker.load_scripts_of(&lane, &errand, &push.bytes);
    }
    let len = push.bytes.len();
    worker.send_new(inner, errand, Some(&push.bytes), len, |run| run.extend_from_slice(&push.bytes));
}

/// Closes the push, and answers what is ours.
fn ready(session: &Rc<Session>, inner: &mut SessionInner, mut transaction: Transaction) -> Push {
    let mut splice = Splice::new(transaction.queued.len());
    for (index, queued) in transaction.queued.iter().enumerate() {
        match queued {
            Queued::Sent => {}
            Queued::Nothing => splice.add(index, b"+OK\r\n".to_vec()),
            Queued::Local(local, request) => {
                splice.add(index, local::answer_queued(session, inner, *local, &request.args()));
            }
        }
    }
    transaction.push.extend_from_slice(EXEC);
    Push {
        bytes: transaction.push.into(),
        commands: transaction.sent,
        slot: transaction.slot,
        scripts: transaction.scripts,
        splice: (!splice.is_empty()).then(|| Box::new(splice)),
    }
}

impl SessionInner {
    /// A command was refused before it could be queued: EXEC will give up the transaction.
    #[cold]
    pub fn fail_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.failed = true;
        }
    }

    fn refuse_queued(&mut self, session: &Rc<Session>, text: &str) {
        self.fail_transaction();
        self.reply_text(session, text);
    }

    fn refuse_queued_error(&mut self, session: &Rc<Session>, error: ProxyError) {
        self.fail_transaction();
        self.reply_error(session, error);
    }

    fn take_transaction(&mut self) -> Option<Box<Transaction>> {
        let transaction = self.transaction.take()?;
        self.settle_mode();
        Some(transaction)
    }

    /// Forgets watched keys; the line is cleaned behind the client's back.
    pub fn unwatch(&mut self, session: &Rc<Session>) {
        if let Some(Watch { line: Some(line), .. }) = self.watch.take().map(|watch| *watch) {
            operation::watch::clean_later(session.worker(), line);
        }
    }

    /// Sets the mode by what the session is in.
    pub fn settle_mode(&mut self) {
        self.client.subscribed = self.subscriptions.is_some();
        self.client.mode = if self.transaction.is_some() {
            SessionMode::Multi
        } else if self.client.subscribed && self.client.resp == Resp::V2 {
            SessionMode::Subscribed
        } else if self.monitor.is_some() {
            SessionMode::Monitor
        } else if self.client.tracking.is_some() {
            SessionMode::Tracking
        } else {
            SessionMode::Normal
        };
    }

    /// RESET: nothing is left of any mode.
    pub fn reset_modes(&mut self, session: &Rc<Session>) {
        self.transaction = None;
        self.written = Default::default();
        self.unwatch(session);
        self.monitor = None;
        session.worker().stop_tracking(session, self);
        self.unsubscribe_all(session.worker());
        self.settle_mode();
    }
}

/// The error of EXEC when it was sent with arguments: Redis gives the transaction up.
pub fn abort_by_arity(session: &Rc<Session>, inner: &mut SessionInner) {
    if inner.take_transaction().is_some() {
        inner.unwatch(session);
    }
}

/// A null reply as EXEC gives it.
pub fn null_array(out: &mut Vec<u8>, resp: Resp) {
    match resp {
        Resp::V2 => out.extend_from_slice(b"*-1\r\n"),
        resp => encode::null(out, resp),
    }
}
