//! PUBLISH and SPUBLISH: to the owner of the channel's slot, as a command with a key. A node counts receivers by
//! connection; a client wants to know how many there are, so that this process' own connections are taken out of
//! the node's count and its clients put in. Where a transaction published on the channel, the message follows it.

use std::rc::Rc;

use bytes::Bytes;

use super::{Kind, PubSubCommand};
use crate::backend::ticket::{Beside, Errand};
use crate::command::{Command, Handling, Lookup};
use crate::protocol::Limits;
use crate::protocol::encode;
use crate::protocol::reply::integer;
use crate::protocol::request::Args;
use crate::protocol::scan::{RequestScanner, Scanned};
use crate::router::slot::slot_of;
use crate::session::dispatch::Frame;
use crate::session::pending::CellState;
use crate::session::{Session, SessionInner, route};
use crate::topology::node::NodeId;
use crate::worker::WorkerContext;

/// Sends a message on its way.
pub fn publish(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    command: &'static Command,
    frame: Frame<'_>,
    args: &Args<'_>,
) {
    let worker = session.worker();
    let receivers = !worker.process.pubsub.is_idle();
    let slot = slot_of(args.at(1));
    let way = match &mut inner.ways {
        Some(ways) if command.name == "publish" => ways.of(args.at(1), worker.clock.now()),
        _ => None,
    };
    match way.filter(|&node| worker.is_usable(node)) {
        Some(node) => {
            let seq = inner.expect(session, command, slot, CellState::Waiting);
            let mut errand = Errand::new(session, seq, slot, command, inner.client.resp);
            errand.beside = if receivers { Beside::Receivers } else { Beside::Nothing };
            worker.send_to(inner, errand, Bytes::copy_from_slice(frame.bytes), node);
        }
        None => route::forward(session, inner, command, frame, (slot, receivers)),
    }
}

/// The reply of `node` to this request with clients counted instead of connections; `None` where that is the
/// same, or no count.
#[cold]
pub fn recount(worker: &WorkerContext, node: NodeId, request: &[u8], reply: &[u8]) -> Option<Vec<u8>> {
    let count = integer(reply)?;
    let mut scanner = RequestScanner::default();
    let Ok(Scanned::Request(_)) = scanner.scan(request, &Limits::unlimited(), true) else { return None };
    let args = Args::new(request, scanner.spans());
    let Lookup::Found(command) = worker.commands.lookup(&args) else { return None };
    let kind = match command.handling {
        Handling::PubSub(PubSubCommand::Publish) => Kind::Channel,
        Handling::PubSub(PubSubCommand::Spublish) => Kind::Shard,
        _ => return None,
    };
    let receivers = worker.process.pubsub.receivers(kind, args.at(1), (node, count));
    (receivers != count).then(|| {
        let mut out = Vec::new();
        encode::integer(&mut out, receivers);
        out
    })
}
