//! WATCH: keys are watched on a line of the session's own, and the EXEC that follows goes over it. If the slot
//! moves or its node fails meanwhile, nobody can say whether a key was changed: EXEC answers null, as for a
//! change. Owns the line only while it runs; between WATCH and EXEC the session has it.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::Operation;
use crate::backend::line::{Line, LineError};
use crate::backend::ticket::NO_SLOT;
use crate::error::ProxyError;
use crate::reply::redirect::{self, Redirect};
use crate::session::exec::Push;
use crate::session::route::slot_of_keys;
use crate::session::transaction::{Watch, null_array};
use crate::topology::{Event, Trigger};
use crate::worker::WorkerContext;

/// UNWATCH as a request.
const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";
/// How long a line may take to forget its keys before it is closed instead.
const CLEANING: Duration = Duration::from_secs(1);
/// Pause before a node is asked again that said "not here".
const PAUSE: Duration = Duration::from_millis(5);

/// WATCH.
pub async fn watch(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let args = operation.request.args();
    let slot =
        slot_of_keys(&operation.session, operation.command, &args).map_err(|_| ProxyError::CrossSlot)?;
    let held = operation.session.inner().watch.take();
    if let Some(mut held) = held {
        if held.slot != slot {
            operation.session.inner().watch = Some(held);
            return Err(ProxyError::CrossSlot);
        }
        if let Some(mut line) = held.line.take()
            && let Ok(reply) = line.ask(operation.request.bytes()).await
            && redirect::parse(&reply).is_none()
        {
            held.line = Some(line);
            operation.session.inner().watch = Some(held);
            return Ok(reply.to_vec());
        }
        // What was watched before can't be watched any more: EXEC will say so.
        operation.session.inner().watch = Some(held);
        return Ok(b"+OK\r\n".to_vec());
    }
    let (line, reply) = first_watch(operation, slot).await?;
    if reply.starts_with(b"+") {
        operation.session.inner().watch = Some(Box::new(Watch { line: Some(line), slot }));
    }
    Ok(reply)
}

/// Finds the node that watches for us.
async fn first_watch(operation: &Operation, slot: u16) -> Result<(Line, Vec<u8>), ProxyError> {
    let worker = &operation.worker;
    let until = worker.clock.now() + worker.limits.owner_wait;
    loop {
        let node = operation.owner(slot).await?;
        match worker.check_out(node, operation.resp).await {
            Ok(mut line) => {
                operation.mark_sent();
                if let Ok(reply) = line.ask(operation.request.bytes()).await
                    && matches!(redirect::parse(&reply), None | Some(Redirect::TryAgain))
                {
                    return Ok((line, reply.to_vec()));
                }
            }
            Err(LineError::Full) => return Err(ProxyError::DedicatedFull),
            Err(LineError::Connect(_) | LineError::Gone) => {}
        }
        worker.topology.report(Event::Refresh(Trigger::Redirect));
        if worker.clock.tick() >= until {
            return Err(ProxyError::ClusterDown);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// UNWATCH.
pub async fn unwatch(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let watch = operation.session.inner().watch.take();
    if let Some(line) = watch.and_then(|watch| watch.line) {
        clean(&operation.worker, line).await;
    }
    Ok(b"+OK\r\n".to_vec())
}

/// EXEC after WATCH.
pub async fn exec(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let (watch, sent) = {
        let mut inner = operation.session.inner();
        (inner.watch.take(), inner.push.as_deref().map(Sent::of))
    };
    let (Some(watch), Some(sent)) = (watch, sent) else { return Err(ProxyError::BadReply) };
    let reply = exec_at(operation, *watch, &sent).await;
    let mut inner = operation.session.inner();
    let push = inner.push.take();
    let frame = reply?;
    let completion = push.and_then(|push| push.completion);
    let whole = completion.and_then(|completion| completion.complete(&mut inner.client, &frame));
    Ok(whole.unwrap_or(frame))
}

/// What of a transaction is sent; the session keeps the rest of it, and answers for its bytes.
struct Sent {
    bytes: Bytes,
    commands: u32,
    slot: u16,
    scripts: bool,
}

impl Sent {
    fn of(push: &Push) -> Self {
        Self { bytes: push.bytes.clone(), commands: push.commands, slot: push.slot, scripts: push.scripts }
    }
}

/// The reply to the transaction; null where nobody can say whether a key was changed.
async fn exec_at(operation: &Operation, watch: Watch, sent: &Sent) -> Result<Vec<u8>, ProxyError> {
    let mut null = Vec::new();
    null_array(&mut null, operation.resp);
    let (Watch { line, slot }, worker) = (watch, &operation.worker);
    let Some(mut line) = line else { return Ok(null) };
    let owner = worker.table.borrow().primary(slot);
    if owner != Some(line.node) || line.resp != operation.resp {
        clean_later(worker, line);
        return Ok(null);
    }
    if sent.slot != NO_SLOT && sent.slot != slot {
        clean_later(worker, line);
        return Err(ProxyError::CrossSlot);
    }
    if sent.scripts {
        for load in worker.script_loads(&sent.bytes) {
            if line.ask(&load).await.is_err() {
                return Ok(null);
            }
        }
    }
    operation.mark_sent();
    operation.session.inner().written.add(slot, line.node, &worker.losses);
    match send(&mut line, sent).await {
        Ok(frame) => {
            if redirect::parse(&frame).is_some() {
                worker.topology.report(Event::Refresh(Trigger::Redirect));
                return Ok(null);
            }
            worker.give_back(line);
            Ok(frame)
        }
        // Nothing went out as a whole: the node executes no EXEC it has not read.
        Err(Lost::Unsent) => Ok(null),
        Err(Lost::Maybe) => Err(ProxyError::ConnectionLost),
    }
}

enum Lost {
    Unsent,
    Maybe,
}

/// The reply to the transaction; where a queued command was redirected, the redirect.
async fn send(line: &mut Line, push: &Sent) -> Result<Vec<u8>, Lost> {
    if line.is_lost() {
        return Err(Lost::Unsent);
    }
    line.send(&push.bytes).await.map_err(|_| Lost::Maybe)?;
    let mut trouble = None;
    for _ in 0..=push.commands {
        let frame = line.reply().await.map_err(|_| Lost::Maybe)?;
        if trouble.is_none() && redirect::parse(&frame).is_some() {
            trouble = Some(frame.to_vec());
        }
    }
    let last = line.reply().await.map_err(|_| Lost::Maybe)?.to_vec();
    Ok(trouble.filter(|_| last.starts_with(b"-EXECABORT")).unwrap_or(last))
}

async fn clean(worker: &Rc<WorkerContext>, mut line: Line) {
    let cleaned = tokio::time::timeout(CLEANING, line.ask(UNWATCH)).await;
    if let Ok(Ok(reply)) = cleaned
        && reply.starts_with(b"+")
    {
        worker.give_back(line);
    }
}

/// Has a line forget its keys, without anybody waiting for it.
pub fn clean_later(worker: &Rc<WorkerContext>, line: Line) {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move { clean(&worker, line).await });
}
