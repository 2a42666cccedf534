//! PING while scripts that name no keys run (see `script::keyless`): busy is what a node that runs one says it is, as
//! a single Redis would say. It is asked over a connection that nothing else is on, for a node reads nothing behind a
//! script on the same one. Owns these questions, one per node, whose answer all clients of the worker share. Must
//! never hold a client up for longer than `PATIENCE`: a node says nothing at all until the script's time is over.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::Operation;
use crate::command::local;
use crate::error::ProxyError;
use crate::script::keyless::KeylessScripts;
use crate::session::state::Resp;
use crate::topology::node::NodeId;
use crate::worker::WorkerContext;

/// How long a question may be open before a PING is answered without it, in microseconds.
const PATIENCE: u64 = 500_000;
/// The question.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The questions of a worker.
#[derive(Debug, Default)]
pub struct Questions {
    open: RefCell<Vec<Rc<Question>>>,
    answered: Notify,
}

/// Is this node busy?
#[derive(Debug)]
struct Question {
    node: NodeId,
    /// When it was asked, on the worker's clock.
    asked: u64,
    /// The node's error, if it has one.
    answer: OnceCell<Option<Bytes>>,
}

/// PING, at a moment when a node owes the reply of a script without keys.
///
/// # Errors
/// None: a node's error is the reply.
pub async fn ping(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    if let Some(busy) = busy(&operation.worker, operation.resp).await {
        return Ok(busy.to_vec());
    }
    let mut out = Vec::new();
    local::ping(&operation.request.args(), &mut out);
    Ok(out)
}

/// What a node with such a script says if it is busy with it.
async fn busy(worker: &Rc<WorkerContext>, resp: Resp) -> Option<Bytes> {
    let nodes: Vec<NodeId> = {
        let table = worker.table.borrow();
        let primaries = table.shards().iter().filter_map(|shard| table.node(shard.primary));
        primaries.filter(|node| node.is_up() && KeylessScripts::is_at(node)).map(|node| node.id).collect()
    };
    let questions: Vec<_> = nodes.into_iter().map(|node| question(worker, node, resp)).collect();
    loop {
        let answered = worker.busy_questions.answered.notified();
        if let Some(busy) = questions.iter().find_map(|question| question.answer.get()?.clone()) {
            return Some(busy);
        }
        let open = questions.iter().filter(|question| question.answer.get().is_none());
        let until = open.map(|question| question.asked.saturating_add(PATIENCE)).max()?;
        let rest = until.checked_sub(worker.clock.tick()).filter(|rest| *rest > 0)?;
        let _answered = tokio::time::timeout(Duration::from_micros(rest), answered).await;
    }
}

/// The open question to `node`, asked if there is none.
fn question(worker: &Rc<WorkerContext>, node: NodeId, resp: Resp) -> Rc<Question> {
    let mut open = worker.busy_questions.open.borrow_mut();
    if let Some(question) = open.iter().find(|question| question.node == node) {
        return Rc::clone(question);
    }
    let question = Rc::new(Question { node, asked: worker.clock.tick(), answer: OnceCell::new() });
    open.push(Rc::clone(&question));
    let end = End { worker: Rc::clone(worker), question: Rc::clone(&question) };
    tokio::task::spawn_local(async move {
        // It stays open as long as a silent node may: all who ask meanwhile need no connection of their own.
        let answer = tokio::time::timeout(end.worker.limits.silence, ask(&end.worker, node, resp)).await;
        let _first = end.question.answer.set(answer.ok().flatten());
    });
    question
}

/// The end of a question, also by a panic.
struct End {
    worker: Rc<WorkerContext>,
    question: Rc<Question>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.question.answer.get_or_init(|| None);
        let questions = &self.worker.busy_questions;
        questions.open.borrow_mut().retain(|open| !Rc::ptr_eq(open, &self.question));
        questions.answered.notify_waiters();
    }
}

async fn ask(worker: &Rc<WorkerContext>, node: NodeId, resp: Resp) -> Option<Bytes> {
    let mut line = worker.check_out(node, resp).await.ok()?;
    let reply = line.ask(PING).await.ok()?;
    // One made while the node was busy has not been told its number, which those who wait need.
    if line.id().is_some() {
        worker.give_back(line);
    }
    reply.starts_with(b"-BUSY ").then_some(reply)
}
