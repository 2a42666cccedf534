//! CLIENT LIST, KILL, PAUSE, UNPAUSE and UNBLOCK: every worker does its part, the asking one puts the answers
//! together. The only commands that need other workers; it asks them by letter and waits off the path.
//! The asking client sends nothing more until it has its answer.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::pending::CellState;
use super::state::Resp;
use super::{OTHER_LANE, Session, SessionInner};
use crate::backend::ticket::{Errand, NO_SLOT};
use crate::command::Command;
use crate::command::local::{ClientFilter, ClientIo, ClientsRequest, KillFilter, Unblock, client_line};
use crate::protocol::encode;
use crate::telemetry::CloseReason;
use crate::worker::WorkerContext;
use crate::worker::mailbox::{Letter, Process};

/// What one worker answers.
#[derive(Debug, Default)]
pub struct Told {
    /// Lines of CLIENT LIST.
    lines: String,
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
fn describe(worker: &WorkerContext, filter: &ClientFilter) -> String {
    let now_ms = worker.clock.now() / 1000;
    let mut lines = String::new();
    for session in worker.sessions.borrow().iter() {
        let inner = session.inner();
        if filter.matches(&inner.client) {
            lines.push_str(&client_line(&inner.client, &inner.io(worker), worker.commands, now_ms));
        }
    }
    lines
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
    let errand = Errand {
        session: Rc::clone(session),
        seq,
        part: 0,
        split: false,
        slot: NO_SLOT,
        command,
        resp: inner.client.resp,
        redirects: 0,
        waiting_since: 0,
    };
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
        all.lines.push_str(&told.lines);
        all.count += told.count;
        all.asking |= told.asking;
    }
    if all.asking {
        let mut inner = errand.session.inner();
        inner.closing = Some(CloseReason::Killed);
        inner.wake();
    }
    let frame = answer(&request, &all, errand.resp);
    errand.session.deliver(&errand, &frame, None);
}

/// Whether worker `index` may have a client that `request` is about.
fn concerns(process: &Process, request: &ClientsRequest, index: usize) -> bool {
    let lives_there = |id: &u64| process.registry.get(id).is_some_and(|at| *at == index);
    match request {
        ClientsRequest::List(ClientFilter::Ids(ids)) => ids.iter().any(lives_there),
        ClientsRequest::Kill(KillFilter { id: Some(id), .. }) | ClientsRequest::Unblock(id, _) => {
            lives_there(id)
        }
        _ => true,
    }
}

fn answer(request: &ClientsRequest, all: &Told, resp: Resp) -> Vec<u8> {
    let mut out = Vec::new();
    match request {
        ClientsRequest::List(_) => encode::verbatim(&mut out, resp, &all.lines),
        ClientsRequest::Kill(KillFilter { old_form: true, .. }) if all.count == 0 => {
            encode::error(&mut out, "ERR No such client");
        }
        ClientsRequest::Kill(KillFilter { old_form: false, .. }) | ClientsRequest::Unblock(..) => {
            encode::integer(&mut out, all.count);
        }
        _ => encode::simple(&mut out, "OK"),
    }
    out
}

impl Session {
    /// Ends the wait of a blocking command; false when this client does not wait.
    fn unblock(&self, how: Unblock) -> bool {
        let waiting = self.inner().unblock.take();
        waiting.is_some_and(|waiting| waiting.send(how).is_ok())
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
            fd: self.writer.as_ref().map_or(-1, crate::worker::transport::WriteSide::descriptor),
            query_bytes,
            query_free,
            output_bytes: self.out.len(),
            output_replies: self.pending.len(),
            total_bytes: self.footprint(),
            ..ClientIo::default()
        }
    }
}
