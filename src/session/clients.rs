//! CLIENT LIST, KILL, PAUSE, UNPAUSE and UNBLOCK: every worker does its part, the asking one puts the answers
//! together. The only commands that need other workers; it asks them by letter and waits off the path.
//! The asking client sends nothing more until it has its answer.

use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::pending::CellState;
use super::state::Resp;
use super::{OTHER_LANE, Session, SessionInner};
use crate::backend::ticket::{Errand, NO_SLOT};
use crate::command::Command;
use crate::command::local::{ClientFilter, ClientIo, ClientsRequest, KillFilter, Unblock, client_line};
use crate::error::ProxyError;
use crate::operation::ending::Ending;
use crate::protocol::encode;
use crate::pubsub::Kind;
use crate::telemetry::CloseReason;
use crate::worker::WorkerContext;
use crate::worker::mailbox::{Letter, Process};

/// What one worker answers.
#[derive(Debug, Default)]
pub struct Told {
    /// Lines of CLIENT LIST, by client.
    lines: BTreeMap<u64, String>,
    /// Clients closed or unblocked.
    count: i64,
    /// The asking client is one of those to be closed.
    asking: bool,
}

/// Does this worker's part of `request`. `asking`: the client that asked, which is not closed here.
pub fn perform(worker: &WorkerContext, request: &ClientsRequest, asking: u64) -> Told {
    match request {
        ClientsRequest::List(filter) => Told { lines: describe(worker, filter), ..Told::default() },
        ClientsRequest::Kill(filter) => kill(worker, filter, asking),
        ClientsRequest::Pause(mode, time) => {
            worker.pause_clients(*mode, *time);
            Told::default()
        }
        ClientsRequest::Unpause => {
            worker.unpause_clients();
            Told::default()
        }
        ClientsRequest::Unblock(id, how) => {
            let session = worker.sessions.borrow().iter().find(|session| session.id == *id).cloned();
            let unblocked = session.is_some_and(|session| session.unblock(*how));
            Told { count: i64::from(unblocked), ..Told::default() }
        }
    }
}

/// A line for each of this worker's clients that `filter` lets through.
fn describe(worker: &WorkerContext, filter: &ClientFilter) -> BTreeMap<u64, String> {
    let sessions = worker.sessions.borrow();
    let shown = sessions.iter().filter(|session| filter.matches(&session.inner().client));
    shown.map(|session| (session.id, session.inner().line(worker))).collect()
}

/// Closes what `filter` lets through, but for the asking client, which has to get its answer first.
fn kill(worker: &WorkerContext, filter: &KillFilter, asking: u64) -> Told {
    let matches = |session: &&Rc<Session>| {
        let inner = session.inner();
        let (addr, laddr) = inner.addresses(worker);
        filter.matches(&inner.client, &addr, &laddr)
    };
    let killed: Vec<Rc<Session>> = worker.sessions.borrow().iter().filter(matches).cloned().collect();
    for session in killed.iter().filter(|session| session.id != asking) {
        let mut inner = session.inner();
        inner.broken = Some(CloseReason::Killed);
        inner.wake();
        drop(inner);
        worker.close_session(session, CloseReason::Killed);
    }
    Told {
        count: killed.len() as i64,
        asking: killed.iter().any(|session| session.id == asking),
        ..Told::default()
    }
}

/// Gives the request a cell and asks every worker that may have such clients.
pub fn start(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    command: &'static Command,
    request: ClientsRequest,
) {
    let seq = inner.expect(session, command, NO_SLOT, CellState::Waiting);
    inner.epoch = OTHER_LANE;
    let errand = Errand::new(session, seq, NO_SLOT, command, inner.client.resp);
    tokio::task::spawn_local(gather(Rc::clone(session.worker()), errand, request));
}

async fn gather(worker: Rc<WorkerContext>, errand: Errand, request: ClientsRequest) {
    let asking = errand.session.id;
    let mut all = Told::default();
    for (index, other) in worker.process.workers.iter().enumerate() {
        if !concerns(&worker.process, &request, index) {
            continue;
        }
        let told = if index == worker.index {
            perform(&worker, &request, asking)
        } else {
            let (reply, answer) = oneshot::channel();
            // A worker that has ended has no clients.
            match other.mailbox.send(Letter::Clients(request.clone(), asking, reply)).await {
                Ok(()) => answer.await.unwrap_or_default(),
                Err(_) => Told::default(),
            }
        };
        all.lines.extend(told.lines);
        all.count += told.count;
        all.asking |= told.asking;
    }
    if all.asking {
        let mut inner = errand.session.inner();
        inner.closing = Some(CloseReason::Killed);
        inner.wake();
    }
    match answer(&request, &all, errand.resp, worker.limits.merge_reply_bytes) {
        Ok(frame) => errand.session.deliver(&errand, &frame, None),
        Err(error) => errand.session.fail(&errand, error),
    }
}

/// Whether worker `index` may have a client that `request` is about.
fn concerns(process: &Process, request: &ClientsRequest, index: usize) -> bool {
    let lives_there = |id: &u64| process.registry.get(id).is_some_and(|at| *at == index);
    match request {
        ClientsRequest::List(ClientFilter::Ids { asked, .. }) => asked.iter().any(lives_there),
        ClientsRequest::Kill(KillFilter { id: Some(id), .. }) | ClientsRequest::Unblock(id, _) => {
            lives_there(id)
        }
        _ => true,
    }
}

fn answer(request: &ClientsRequest, all: &Told, resp: Resp, limit: u64) -> Result<Vec<u8>, ProxyError> {
    let mut out = Vec::new();
    match request {
        ClientsRequest::List(filter) => encode::verbatim(&mut out, resp, &list(filter, &all.lines, limit)?),
        ClientsRequest::Kill(KillFilter { old_form: true, .. }) if all.count == 0 => {
            encode::error(&mut out, "ERR No such client");
        }
        ClientsRequest::Kill(KillFilter { old_form: false, .. }) | ClientsRequest::Unblock(..) => {
            encode::integer(&mut out, all.count);
        }
        _ => encode::simple(&mut out, "OK"),
    }
    Ok(out)
}

/// All lines in Redis' order: by age, or as they were asked for.
fn list(filter: &ClientFilter, lines: &BTreeMap<u64, String>, limit: u64) -> Result<String, ProxyError> {
    let shown: Vec<&String> = match filter {
        ClientFilter::Ids { asked, .. } => asked.iter().filter_map(|id| lines.get(id)).collect(),
        _ => lines.values().collect(),
    };
    let len: usize = shown.iter().map(|line| line.len()).sum();
    if len as u64 > limit {
        return Err(ProxyError::MergeTooLarge);
    }
    Ok(shown.into_iter().map(String::as_str).collect())
}

impl Session {
    /// Ends the wait of a blocking command; false when this client does not wait.
    fn unblock(&self, how: Unblock) -> bool {
        self.inner().end_wait(match how {
            Unblock::Timeout => Ending::Timeout,
            Unblock::Error => Ending::Error,
        })
    }
}

impl SessionInner {
    /// Peer and own address as CLIENT LIST shows them.
    fn addresses(&self, worker: &WorkerContext) -> (String, String) {
        match (self.client.peer, self.client.local) {
            (Some(peer), Some(local)) => (peer.to_string(), local.to_string()),
            (Some(peer), None) => (peer.to_string(), "?:0".to_owned()),
            (None, _) => {
                let path = worker.process.config.listen_unix.as_deref().unwrap_or("?".as_ref());
                let address = format!("{}:0", path.display());
                (address.clone(), address)
            }
        }
    }

    /// Answers CLIENT INFO.
    pub fn describe(&self, worker: &WorkerContext, out: &mut Vec<u8>) {
        encode::verbatim(out, self.client.resp, &self.line(worker));
    }

    fn line(&self, worker: &WorkerContext) -> String {
        client_line(&self.client, &self.io(worker), worker.clock.now() / 1000)
    }

    /// What CLIENT LIST says beside the client's state.
    fn io(&self, worker: &WorkerContext) -> ClientIo {
        let (query_bytes, query_free) =
            self.partial.as_ref().map_or((0, 0), |p| (p.buffer.len(), p.buffer.capacity() - p.buffer.len()));
        let (addr, laddr) = self.addresses(worker);
        ClientIo {
            addr,
            laddr,
            is_unix: self.client.peer.is_none(),
            is_postponed: self.postponed,
            is_closing: self.closing.is_some(),
            is_writing: self.write_blocked,
            fd: self.writer.as_ref().map_or(-1, |writer| writer.descriptor()),
            query_bytes,
            query_free,
            output_bytes: self.out.len(),
            output_chunks: self.out.chunks(),
            channels: self.subscribed(Kind::Channel),
            patterns: self.subscribed(Kind::Pattern),
            shard_channels: self.subscribed(Kind::Shard),
            queued: self.transaction.as_ref().map_or(0, |transaction| transaction.commands()),
            total_bytes: self.footprint(),
        }
    }
}
