//! CLIENT LIST: every worker describes its own clients, the asking one puts the lines together. The
//! only command that needs other workers; it asks them by letter and waits off the path.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::pending::CellState;
use super::{Session, SessionInner};
use crate::backend::ticket::{Errand, NO_SLOT};
use crate::command::Command;
use crate::command::local::{ClientIo, ListFilter, client_line, encode_client_list};
use crate::worker::WorkerContext;
use crate::worker::mailbox::Letter;

/// A line for each of this worker's clients that `filter` lets through.
pub fn describe(worker: &WorkerContext, filter: &ListFilter) -> String {
    let now_ms = worker.clock.now() / 1000;
    let mut lines = String::new();
    for session in worker.sessions.borrow().iter() {
        let inner = session.inner();
        if filter.matches(&inner.client) {
            lines.push_str(&client_line(&inner.client, &inner.io(), now_ms));
        }
    }
    lines
}

/// Gives the request a cell and asks every worker that may have such clients.
pub fn start(session: &Rc<Session>, inner: &mut SessionInner, command: &'static Command, filter: ListFilter) {
    let seq = inner.expect(session, command, NO_SLOT, CellState::Waiting);
    let errand = Errand::new(session, seq, NO_SLOT, command, inner.client.resp);
    tokio::task::spawn_local(gather(Rc::clone(session.worker()), errand, filter));
}

async fn gather(worker: Rc<WorkerContext>, errand: Errand, filter: ListFilter) {
    let process = &worker.process;
    let mut lines = String::new();
    for (index, other) in process.workers.iter().enumerate() {
        let concerned = match &filter {
            ListFilter::Ids(ids) => {
                ids.iter().any(|id| process.registry.get(id).is_some_and(|at| *at == index))
            }
            _ => true,
        };
        if !concerned {
            continue;
        }
        if index == worker.index {
            lines.push_str(&describe(&worker, &filter));
            continue;
        }
        let (reply, answer) = oneshot::channel();
        // A worker that has ended has no clients to list.
        if other.mailbox.send(Letter::ListClients(filter.clone(), reply)).await.is_ok() {
            lines.push_str(&answer.await.unwrap_or_default());
        }
    }
    let mut frame = Vec::new();
    encode_client_list(&mut frame, errand.resp, &lines);
    errand.session.deliver(&errand, &frame, None);
}

impl SessionInner {
    /// What CLIENT LIST says of the buffers.
    fn io(&self) -> ClientIo {
        let (query_bytes, query_free) =
            self.partial.as_ref().map_or((0, 0), |p| (p.buffer.len(), p.buffer.capacity() - p.buffer.len()));
        ClientIo {
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
