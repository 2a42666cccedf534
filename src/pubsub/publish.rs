//! PUBLISH and SPUBLISH: to the owner of the channel's slot, as a command with a key. A node counts receivers by
//! connection; a client wants to know how many there are, so that this process' own connections are taken out of
//! the count and its clients put in.

use std::rc::Rc;

use super::Kind;
use crate::command::Command;
use crate::protocol::request::Args;
use crate::reply::splice::Splice;
use crate::router::slot::slot_of;
use crate::session::dispatch::Frame;
use crate::session::pending::CellState;
use crate::session::{Session, SessionInner, route};

/// Sends a message on its way.
pub fn publish(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, kind): (&'static Command, Kind),
    frame: Frame<'_>,
    args: &Args<'_>,
) {
    let channel = args.at(1);
    let slot = slot_of(channel);
    let worker = session.worker();
    let counts = &worker.process.pubsub;
    let beyond = if counts.is_idle() {
        0
    } else {
        let owner = worker.table.borrow().primary(slot);
        owner.map_or(0, |owner| counts.beyond(kind, channel, owner))
    };
    let state = match beyond {
        0 => CellState::Waiting,
        beyond => CellState::Splicing(Box::new(Splice::count(beyond))),
    };
    route::forward(session, inner, command, frame, (slot, state));
}
