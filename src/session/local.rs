//! Commands the proxy answers itself: gives the local replies what they need to know, and does what
//! they ask for beyond bytes.

use std::rc::Rc;

use super::{Session, SessionInner};
use crate::command::local::After;
use crate::command::{Command, LocalCommand};
use crate::protocol::request::Args;
use crate::telemetry::CloseReason;

/// Answers `local` for this client.
pub fn answer(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, local): (&'static Command, LocalCommand),
    args: &Args<'_>,
) {
    let worker = session.worker();
    let env = crate::command::local::LocalEnv;
    let mut frame = worker.pool.take();
    let after = crate::command::local::reply(&env, &mut inner.client, local, args, &mut frame);
    match after {
        After::Continue => inner.reply(session, command.class, &frame),
        After::Close => {
            inner.reply(session, command.class, &frame);
            inner.closing = Some(CloseReason::Quit);
            inner.wake();
        }
        After::ListClients(filter) => super::list::start(session, inner, command, filter),
    }
    worker.pool.give(frame);
}
