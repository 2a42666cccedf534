//! CLIENT PAUSE on one worker: which requests are held back, and until when. A session meets it before it
//! takes a request: one that is held back stays in the session's buffer, unread, and so does what follows it.
//! Requests in flight are not concerned.

use std::cell::Cell;
use std::time::Duration;

use super::WorkerContext;
use super::clock::micros;
use crate::command::local::PauseMode;
use crate::command::{Command, Handling, Lookup};
use crate::protocol::request::Args;
use crate::session::SessionInner;
use crate::session::transaction::TransactionCommand;

/// The pause of one worker.
#[derive(Debug, Default)]
pub struct Pause {
    mode: Cell<PauseMode>,
    /// On the worker's clock.
    until: Cell<u64>,
}

impl Pause {
    /// True while some requests are held back.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.mode.get() != PauseMode::Off
    }

    /// As Redis: the stricter mode and the later end of this pause and one under way.
    pub fn extend(&self, mode: PauseMode, until: u64) {
        self.mode.set(self.mode.get().max(mode));
        self.until.set(self.until.get().max(until));
    }

    /// Whether a request of `client` is held back. One that would only get an error is not.
    fn holds(&self, command: &Command, args: &Args, client: &SessionInner) -> bool {
        let sends_writes = || {
            command.handling == Handling::Transaction(TransactionCommand::Exec)
                && client.transaction.as_ref().is_some_and(|transaction| transaction.may_replicate())
        };
        let concerned = match self.mode.get() {
            PauseMode::Off => false,
            PauseMode::Write => command.may_replicate() || sends_writes(),
            PauseMode::All => true,
        };
        concerned
            && command.arity_ok(args.len())
            && (client.client.authenticated || command.allowed_without_auth())
    }
}

impl WorkerContext {
    /// Whether CLIENT PAUSE holds this request of `client` back.
    #[cold]
    pub fn is_paused(&self, args: &Args, client: &SessionInner) -> bool {
        let found = match self.commands.lookup(args) {
            Lookup::Found(command) => Lookup::Found(command),
            missing => self.topology.learned().lookup(missing, args),
        };
        match found {
            Lookup::Found(command) => self.pause.holds(command, args, client),
            Lookup::UnknownCommand | Lookup::UnknownSubcommand(_) => false,
        }
    }

    /// CLIENT PAUSE.
    pub fn pause_clients(&self, mode: PauseMode, time: Duration) {
        self.pause.extend(mode, self.clock.tick().saturating_add(micros(time)));
    }

    /// The end of the pause, if its time has come. Once per tick of the wheel.
    pub fn settle_pause(&self, now: u64) {
        if self.pause.is_on() && self.pause.until.get() <= now {
            self.unpause_clients();
        }
    }

    /// The end of the pause: requests held back are taken.
    pub fn unpause_clients(&self) {
        self.pause.mode.set(PauseMode::Off);
        self.pause.until.set(0);
        for session in self.sessions.borrow().iter() {
            session.inner().postponed = false;
        }
        self.wake_paused();
    }
}
