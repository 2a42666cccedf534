//! Commands the proxy answers itself: gives the local replies what they need to know, and does what
//! they ask for beyond bytes.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::dispatch::Frame;
use super::state::Replies;
use super::{OTHER_LANE, Session, SessionInner};
use crate::backend::ticket::NO_SLOT;
use crate::command::learned::key_question;
use crate::command::local::{self, After, Facts, Gauges, LocalEnv, inform};
use crate::command::{Command, LearnedTable, LocalCommand};
use crate::config::Secret;
use crate::error::ProxyError;
use crate::operation::OperationKind;
use crate::protocol::request::Args;
use crate::pubsub::Kind;
use crate::reply::merge::error_line;
use crate::telemetry::CloseReason;
use crate::worker::WorkerContext;
use crate::worker::mailbox::Process;

/// Answers `local` for this client.
pub fn answer(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, local): (&'static Command, LocalCommand),
    args: &Args<'_>,
) {
    let worker = session.worker();
    if local == LocalCommand::Ping && worker.process.keyless.is_any() {
        return crate::operation::start(session, inner, (command, OperationKind::Ping), args);
    }
    let learned = worker.topology.learned();
    let env = environment(worker, &learned);
    let mut frame = worker.pool.take();
    let resp = inner.client.resp;
    let after = crate::command::local::reply(&env, &mut inner.client, local, args, &mut frame);
    if inner.client.resp != resp {
        // The next request takes another lane: not before those in flight on this one are answered.
        inner.epoch = OTHER_LANE;
        inner.settle_mode();
    }
    session.settle_reads(inner);
    match after {
        After::Continue => inner.reply(session, command.class, &frame),
        After::Close => {
            inner.reply(session, command.class, &frame);
            inner.closing = Some(CloseReason::Quit);
            inner.wake();
        }
        After::Inform => crate::operation::start(session, inner, (command, OperationKind::Info), args),
        After::Configure => {
            crate::operation::start(session, inner, (command, OperationKind::Settings), args);
        }
        After::Describe => {
            inner.describe(worker, &mut frame);
            inner.reply(session, command.class, &frame);
        }
        After::AskNode => {
            let frame = Frame { bytes: args.frame(), shared: None };
            super::route::forward(session, inner, key_question(), frame, (NO_SLOT, false));
        }
        After::Clients(request) => super::clients::start(session, inner, command, request),
        After::Error(error) => inner.reply_error(session, error),
        After::Replies(wanted) => {
            // Nothing is skipped while nothing is sent.
            if !(wanted == Replies::SkipTwo && inner.pending.replies() == Replies::Off) {
                inner.pending.set_replies(wanted);
            }
            inner.reply(session, command.class, &frame);
        }
        After::Reset => {
            inner.reset_modes(session);
            if inner.pending.replies() == Replies::Off {
                inner.pending.set_replies(Replies::On);
            }
            inner.reply(session, command.class, &frame);
        }
    }
    if inner.client.resp != resp {
        inner.hold_pushes();
        inner.renew_behind(session);
    }
    worker.pool.give(frame);
}

/// The reply of a local command inside a transaction.
pub fn answer_queued(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    local: LocalCommand,
    args: &Args<'_>,
) -> Vec<u8> {
    let worker = session.worker();
    let learned = worker.topology.learned();
    let mut frame = Vec::new();
    let env = environment(worker, &learned);
    let after = crate::command::local::reply(&env, &mut inner.client, local, args, &mut frame);
    match after {
        After::Describe => inner.describe(worker, &mut frame),
        After::Inform => inform(&env, inner.client.resp, args, None, &mut frame),
        After::Continue => {}
        After::Error(error) => {
            worker.counters.error(error);
            frame = error_line(error);
        }
        // The table lets nothing through that needs more than bytes; if it did, this would be its reply.
        After::AskNode
        | After::Close
        | After::Configure
        | After::Clients(_)
        | After::Replies(_)
        | After::Reset => {
            worker.counters.error(ProxyError::NotInTransaction);
            frame = error_line(ProxyError::NotInTransaction);
        }
    }
    frame
}

/// True for a question about a learned command that only a node can answer.
pub fn asks_node(session: &Session, local: LocalCommand, args: &Args<'_>) -> bool {
    let worker = session.worker();
    local == LocalCommand::Command && local::asks_node(&environment(worker, &worker.topology.learned()), args)
}

/// What local replies need to know of this worker and its process.
pub fn environment<'a>(worker: &'a WorkerContext, learned: &'a LearnedTable) -> LocalEnv<'a> {
    let config = &worker.process.config;
    let password = config.client_password.as_ref().map(Secret::expose);
    LocalEnv { table: worker.commands, learned, config, password, facts: &*worker.process }
}

/// What clients are told while no node has said its version: the one our command table is of.
const DEFAULT_VERSION: &str = "7.0.15";

impl Facts for Process {
    fn redis_version(&self) -> String {
        self.topology.server_version().unwrap_or_else(|| DEFAULT_VERSION.to_owned())
    }

    fn run_id(&self) -> String {
        self.run_id.clone()
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn tcp_port(&self) -> u16 {
        self.config.listen.port()
    }

    fn gauges(&self) -> Gauges {
        let (traffic, base) = (self.traffic(), self.baseline.load());
        Gauges {
            connected_clients: self.clients() as u64,
            max_clients: self.config.max_clients as u64,
            total_connections: self.accepted.load(Ordering::Relaxed).saturating_sub(base.accepted),
            rejected_connections: self.refused.load(Ordering::Relaxed).saturating_sub(base.refused),
            total_commands: traffic.commands.saturating_sub(base.traffic.commands),
            input_bytes: traffic.bytes_in.saturating_sub(base.traffic.bytes_in),
            output_bytes: traffic.bytes_out.saturating_sub(base.traffic.bytes_out),
            max_memory: self.memory_ceiling,
            rates: self.rates(),
            workers: self.workers.len(),
            slots_covered: self.topology.slots_covered(),
            blocked_clients: self.workers.iter().map(|worker| worker.snapshot.blocked()).sum(),
            tracking_clients: self.tracking.load(Ordering::Relaxed),
            channels: self.pubsub.names(Kind::Channel),
            patterns: self.pubsub.names(Kind::Pattern),
            shard_channels: self.pubsub.names(Kind::Shard),
        }
    }

    fn command_calls(&self) -> Vec<u64> {
        since(self.all_commands(), &self.baseline.load().commands)
    }

    fn error_counts(&self) -> Vec<u64> {
        since(self.all_errors(), &self.baseline.load().errors)
    }
}

/// What has come to each count.
fn since(mut counts: Vec<u64>, base: &[u64]) -> Vec<u64> {
    for (count, base) in counts.iter_mut().zip(base) {
        *count = count.saturating_sub(*base);
    }
    counts
}
