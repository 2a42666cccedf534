//! One whole request: what is it, may this client send it now, who answers it? Local commands are
//! answered here, everything with keys goes to `route`.

use std::rc::Rc;

use bytes::Bytes;

use super::pending::CellState;
use super::state::SessionMode;
use super::transaction::TransactionCommand;
use super::{Session, SessionInner};
use crate::backend::ticket::NO_SLOT;
use crate::command::errors::{unknown_command, unknown_subcommand, wrong_arity};
use crate::command::{Command, Handling, Lookup};
use crate::error::ProxyError;
use crate::protocol::request::{Args, Span};
use crate::reply::merge::error_line;
use crate::telemetry::CommandClass;

/// A request's bytes: a view, and a share of them where they are large.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// The request as an array.
    pub bytes: &'a [u8],
    /// The same as a slice that can be kept without copying.
    pub shared: Option<&'a Bytes>,
}

/// Handles one request: afterwards it has a cell, and either its reply is in it or someone owes it.
#[inline]
pub fn dispatch(session: &Rc<Session>, inner: &mut SessionInner, frame: Frame<'_>, spans: &[Span]) {
    let worker = session.worker();
    let args = Args::new(frame.bytes, spans);
    inner.client.commands += 1;
    inner.client.last_active_ms = worker.clock.now() / 1000;
    if inner.pending.open() == 0 {
        inner.epoch = worker.epoch();
    }
    worker.counters.in_flight(1);
    let command = match worker.commands.lookup(&args) {
        Lookup::Found(command) => command,
        missing => match worker.topology.learned().lookup(missing, &args) {
            Lookup::Found(command) => command,
            // Redis says so, as it says of the arity, before it asks for a password.
            Lookup::UnknownCommand => {
                inner.fail_transaction();
                return inner.reply_text(session, unknown_command(&args));
            }
            Lookup::UnknownSubcommand(container) => {
                inner.fail_transaction();
                return inner.reply_text(session, unknown_subcommand(container, &args));
            }
        },
    };
    worker.counters.command(command.id);
    inner.client.last_command = Some(command);
    if !command.arity_ok(args.len()) {
        inner.fail_transaction();
        if command.handling == Handling::Transaction(TransactionCommand::Exec) {
            super::transaction::abort_by_arity(session, inner);
        }
        return inner.reply_text(session, wrong_arity(command));
    }
    if !inner.client.authenticated && !command.allowed_without_auth() {
        return inner.reply_error(session, ProxyError::NoAuth);
    }
    if worker.budget.is_full() && command.class != CommandClass::Local {
        inner.fail_transaction();
        return inner.reply_error(session, ProxyError::OutOfMemory);
    }
    if inner.client.mode != SessionMode::Normal && super::modes::take(session, inner, command, frame, &args) {
        return;
    }
    match command.handling_for(&args) {
        Handling::Route => super::route::route(session, inner, command, frame, &args),
        Handling::Learned { asks } => super::learned::route(session, inner, (command, asks), frame, &args),
        Handling::Split(kind) => super::route::split(session, inner, (command, kind), frame, &args),
        Handling::Local(local) => super::local::answer(session, inner, (command, local), &args),
        Handling::Transaction(kind) => {
            super::transaction::handle(session, inner, (command, kind), &args);
        }
        Handling::Operation(kind) => crate::operation::start(session, inner, (command, kind), &args),
        Handling::PubSub(what) => {
            crate::pubsub::client::handle(session, inner, (command, what), frame, &args);
        }
        Handling::Refuse(text) => inner.reply_text(session, text),
    }
}

impl SessionInner {
    /// Answers the request at hand with a whole reply made here.
    pub fn reply(&mut self, session: &Rc<Session>, class: CommandClass, frame: &[u8]) {
        let worker = session.worker();
        let seq = self.pending.push(class, NO_SLOT, worker.clock.now(), CellState::Waiting);
        self.pending.answer(seq, frame, &mut self.out, &worker.pool);
        self.settled_one(session, worker);
        session.watch();
    }

    /// Answers the request at hand with an error from the table of errors.
    pub fn reply_error(&mut self, session: &Rc<Session>, error: ProxyError) {
        session.worker().counters.error(error);
        self.reply(session, CommandClass::Other, &error_line(error));
    }

    /// The same, with what it is about behind its text: never a key or a value.
    pub fn reply_error_about(&mut self, session: &Rc<Session>, error: ProxyError, detail: &str) {
        session.worker().counters.error(error);
        self.reply_text(session, format!("{}: {detail}", error.text()));
    }

    /// Answers the request at hand with an error whose text is Redis' own or the command table's.
    pub fn reply_text(&mut self, session: &Rc<Session>, text: impl AsRef<[u8]>) {
        let mut frame = Vec::new();
        crate::protocol::encode::error(&mut frame, text);
        self.reply(session, CommandClass::Other, &frame);
    }

    /// A cell for the request at hand, to be answered later.
    #[inline]
    pub fn expect(
        &mut self,
        session: &Rc<Session>,
        command: &'static Command,
        slot: u16,
        state: CellState,
    ) -> u32 {
        session.watch();
        self.pending.push(command.class, slot, session.worker().clock.now(), state)
    }
}
