//! What a session's mode makes of a request before it is handled as usual. Asked only when the mode is not
//! `Normal`, so that ordinary requests pay one comparison.

use std::rc::Rc;

use super::dispatch::Frame;
use super::state::SessionMode;
use super::{Session, SessionInner, transaction};
use crate::command::{Command, Flags, Handling, LocalCommand};
use crate::protocol::request::Args;

/// Deals with a request in the way of the session's mode; false when it is to be handled as usual.
#[cold]
pub fn take(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    command: &'static Command,
    frame: Frame<'_>,
    args: &Args<'_>,
) -> bool {
    // What CLIENT CACHING says holds for a transaction as a whole.
    if inner.client.mode != SessionMode::Multi || command.name == "exec" {
        inner.arm_caching(command);
    }
    match inner.client.mode {
        SessionMode::Multi => {
            let at_once = matches!(
                command.handling,
                Handling::Local(LocalCommand::Quit | LocalCommand::Reset) | Handling::Transaction(_)
            );
            // UNWATCH is the one command of transactions that can be queued.
            if at_once && command.name != "unwatch" {
                return false;
            }
            transaction::queue(session, inner, command, frame, args);
            true
        }
        SessionMode::Subscribed => crate::pubsub::client::restrict(session, inner, command, args),
        SessionMode::Monitor
            if command.flags.has(Flags::WRITE)
                || command.flags.has(Flags::READONLY)
                || command.may_replicate() =>
        {
            inner.reply_text(session, "ERR Replica can't interact with the keyspace");
            true
        }
        _ => false,
    }
}
