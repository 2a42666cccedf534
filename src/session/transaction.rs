//! MULTI, DISCARD, and what is queued in between; EXEC takes it from here (`exec.rs`). Owns the queue, and its
//! bounds: bytes and commands, be they for a node or for slotway itself. A command is judged when it is queued, as
//! Redis does; what only the node can judge comes back from EXEC as EXECABORT.

use std::rc::Rc;

use serde::Deserialize;

use super::dispatch::Frame;
use super::learned::Told;
use super::state::{Resp, SessionMode};
use super::{Session, SessionInner, local};
use crate::backend::line::Line;
use crate::backend::ticket::NO_SLOT;
use crate::command::overrides::NotInMulti;
use crate::command::{Command, CommandClass, Flags, Handling, LocalCommand};
use crate::error::ProxyError;
use crate::operation::{self, OperationKind, OwnedRequest};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::pubsub::{Act, Kind, PubSubCommand, ways};
use crate::topology::node::NodeId;
use crate::worker::limits::WorkerLimits;

/// MULTI as a request; every transaction begins with it.
const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
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
pub(super) enum Queued {
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
    pub(super) push: Vec<u8>,
    pub(super) queued: Vec<Queued>,
    pub(super) sent: u32,
    pub(super) slot: u16,
    pub(super) scripts: bool,
    pub(super) failed: bool,
    may_replicate: bool,
    /// Bytes of the commands that slotway answers itself.
    kept: usize,
    /// Channels it publishes on, by their hashes; the slot of the first.
    pub(super) channels: Vec<u64>,
    pub(super) channel_slot: u16,
}

/// Keys a client watches, and the line that does.
#[derive(Debug)]
pub struct Watch {
    /// The line; `None` once it was lost: the next EXEC answers null.
    pub line: Option<Line>,
    /// The slot of the keys.
    pub slot: u16,
    /// Its owner by the table when the line began to watch.
    pub owner: Option<NodeId>,
    /// The line's node imports the slot: ASKING has to be said.
    pub asking: bool,
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
            kept: 0,
            channels: Vec::new(),
            channel_slot: NO_SLOT,
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
        self.push.capacity()
            + self.kept
            + self.queued.len() * size_of::<Queued>()
            + self.channels.len() * size_of::<u64>()
    }

    /// True when a request of `len` bytes does not fit any more.
    fn is_full(&self, len: usize, limits: &WorkerLimits) -> bool {
        self.bytes() + len > limits.transaction_bytes || self.queued.len() >= limits.transaction_commands
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
            Some(transaction) => super::exec::exec(session, inner, command, *transaction, args),
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
    // Before anything of it is kept.
    let limits = &session.worker().limits;
    if inner.transaction.as_ref().is_none_or(|transaction| transaction.is_full(frame.bytes.len(), limits)) {
        return inner.refuse_queued_error(session, ProxyError::TransactionTooLarge);
    }
    let (queued, slot) = match judge(session, command, args) {
        Ok(judged) => judged,
        Err(Refused::Text(text)) => return inner.refuse_queued(session, &text),
        Err(Refused::Error(error)) => return inner.refuse_queued_error(session, error),
        Err(Refused::NotHere(why)) => {
            inner.fail_transaction();
            let detail = format!("'{}' {}", command.name, why.words());
            return inner.reply_error_about(session, ProxyError::NotInTransaction, &detail);
        }
    };
    let Some(transaction) = &mut inner.transaction else { return };
    if slot != NO_SLOT && transaction.slot != NO_SLOT && transaction.slot != slot {
        return inner.refuse_queued_error(session, ProxyError::CrossSlot);
    }
    if slot != NO_SLOT {
        transaction.slot = slot;
    }
    match &queued {
        Queued::Sent => {
            if command.class == CommandClass::Script {
                transaction.scripts = true;
                super::script::prepare_queued(session, command, args);
            }
            if matches!(command.handling, Handling::PubSub(PubSubCommand::Publish)) {
                if transaction.channels.is_empty() {
                    transaction.channel_slot = session.worker().limits.key_slots.of(args.at(1));
                }
                transaction.channels.push(ways::hash(args.at(1)));
            }
            transaction.push.extend_from_slice(frame.bytes);
            transaction.sent += 1;
            transaction.may_replicate |= command.may_replicate();
        }
        Queued::Local(_, request) => transaction.kept += request.footprint(),
        Queued::Nothing => {}
    }
    transaction.queued.push(queued);
    inner.charge(&session.worker().budget);
    inner.reply(session, command.class, b"+QUEUED\r\n");
}

enum Refused {
    /// In Redis' words, or the table's.
    Text(String),
    Error(ProxyError),
    NotHere(NotInMulti),
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
    if let Some(why) = command.not_in_multi {
        return Err(Refused::NotHere(why));
    }
    match command.handling_for(args) {
        Handling::Refuse(text) => Err(Refused::Text(text.to_owned())),
        Handling::Transaction(_) => Ok((Queued::Nothing, NO_SLOT)),
        Handling::Local(local) if local::asks_node(session, local, args) => Ok((Queued::Sent, NO_SLOT)),
        Handling::Local(local) => Ok((Queued::Local(local, OwnedRequest::new(args)), NO_SLOT)),
        Handling::Learned { asks } => match super::learned::told(session, (command, asks), args) {
            Told::Slot(slot) => Ok((Queued::Sent, slot)),
            Told::CrossSlot => Err(Refused::Error(ProxyError::CrossSlot)),
            Told::Nothing | Told::NoKey => Err(Refused::Error(ProxyError::KeysUnknown)),
        },
        Handling::PubSub(what) => match what.act() {
            // The node it goes to tells all others.
            Act::Publish(Kind::Channel | Kind::Pattern) => Ok((Queued::Sent, NO_SLOT)),
            Act::Publish(Kind::Shard) => Ok((Queued::Sent, session.worker().limits.key_slots.of(args.at(1)))),
            Act::Join(_) | Act::Leave(_) => Err(Refused::NotHere(NotInMulti::Subscriptions)),
        },
        Handling::Route | Handling::Split(_) | Handling::Operation(_) => {
            match super::route::slot_of_keys(session, command, args) {
                Ok(slot) => Ok((Queued::Sent, slot)),
                Err(_) => Err(Refused::Error(ProxyError::CrossSlot)),
            }
        }
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
    inner.take_transaction().is_some().then(|| inner.unwatch(session));
}

/// A null reply as EXEC gives it.
pub fn null_array(out: &mut Vec<u8>, resp: Resp) {
    match resp {
        Resp::V2 => out.extend_from_slice(b"*-1\r\n"),
        resp => encode::null(out, resp),
    }
}
