//! WATCH: keys are watched on a line of the session's own, and the EXEC that follows goes over it. If the slot
//! moves or its node fails meanwhile, nobody can say whether a key was changed: EXEC answers null, as for a
//! change. In a slot that is half moved, keys are watched where the owner's ASK points, and EXEC goes there, too:
//! such a key can be made or changed at no other node. Owns the line only while it runs; between WATCH and EXEC
//! the session has it.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::Operation;
use super::seek::{ASKING, PAUSE_MIN, Seek};
use crate::backend::line::{Line, LineLost};
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
/// WATCH.
pub async fn watch(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let args = operation.request.args();
    let slot =
        slot_of_keys(&operation.session, operation.command, &args).map_err(|_| ProxyError::CrossSlot)?;
    let held = operation.session.inner().watch.take();
    match held {
        Some(held) if held.slot != slot => {
            operation.session.inner().watch = Some(held);
            Err(ProxyError::CrossSlot)
        }
        Some(mut held) => {
            let reply = watch_more(operation, &mut held).await;
            operation.session.inner().watch = Some(held);
            Ok(reply)
        }
        None => {
            let (watch, reply) = first_watch(operation, slot).await?;
            operation.session.inner().watch = watch.map(Box::new);
            Ok(reply)
        }
    }
}

/// Finds the node that watches for us, and has it do so: the owner of the slot, or the node that imports it, which
/// is where a key that the owner has no more is, or would be made.
async fn first_watch(operation: &Operation, slot: u16) -> Result<(Option<Watch>, Vec<u8>), ProxyError> {
    let worker = &operation.worker;
    let (mut seek, mut pause) = (Seek::new(operation, slot), 0);
    loop {
        let (mut line, asking) = seek.line(pause).await?;
        operation.mark_sent();
        seek.arrived();
        let Ok(reply) = ask(operation, &mut line, asking).await else {
            worker.topology.report(Event::Refresh(Trigger::Redirect));
            seek.hop().ok_or(ProxyError::ClusterDown)?;
            pause = PAUSE_MIN;
            continue;
        };
        let again = match redirect::parse(&reply) {
            Some(redirect) => seek.follow(&redirect, &line)?,
            None => None,
        };
        if reply.starts_with(b"+") {
            let owner = worker.table.borrow().primary(slot);
            return Ok((Some(Watch { line: Some(line), slot, owner, asking }), reply.to_vec()));
        }
        // It watches nothing.
        worker.give_back(line);
        match again {
            Some(after) => pause = after,
            None => return Ok((None, reply.to_vec())),
        }
    }
}

/// More keys, which only the line that watches already can watch. Where it can't, EXEC will say so.
async fn watch_more(operation: &Operation, held: &mut Watch) -> Vec<u8> {
    let worker = &operation.worker;
    let mut seek = Seek::new(operation, held.slot);
    while let Some(mut line) = held.line.take() {
        let Ok(reply) = ask(operation, &mut line, held.asking).await else { break };
        match redirect::parse(&reply) {
            Some(redirect @ Redirect::TryAgain) => {
                let pause = seek.follow(&redirect, &line).ok().flatten();
                held.line = Some(line);
                let Some(pause) = pause else { return reply.to_vec() };
                tokio::time::sleep(Duration::from_micros(pause)).await;
            }
            Some(_) => {
                clean_later(worker, line);
                worker.topology.report(Event::Refresh(Trigger::Redirect));
                break;
            }
            None => {
                held.line = Some(line);
                return reply.to_vec();
            }
        }
    }
    b"+OK\r\n".to_vec()
}

/// WATCH itself; lost, too, when the node is given up: another one can watch as well.
async fn ask(operation: &Operation, line: &mut Line, asking: bool) -> Result<Bytes, LineLost> {
    let (node, request) = (line.node, operation.request.bytes());
    let talk = async {
        if !asking {
            return line.ask(request).await;
        }
        line.send(&[ASKING, request].concat()).await?;
        line.reply().await?;
        line.reply().await
    };
    operation.while_it_lives(node, talk).await.unwrap_or(Err(LineLost))
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
    let whole = completion.and_then(|completion| inner.complete(&operation.session, *completion, &frame));
    Ok(whole.unwrap_or(frame))
}

/// What of a transaction is sent; the session keeps the rest of it, and answers for its bytes.
struct Sent {
    bytes: Bytes,
    commands: u32,
    slot: u16,
    scripts: bool,
    channels: Vec<u64>,
}

impl Sent {
    fn of(push: &Push) -> Self {
        let Push { bytes, commands, slot, scripts, channels, .. } = push;
        Self {
            bytes: bytes.clone(),
            commands: *commands,
            slot: *slot,
            scripts: *scripts,
            channels: channels.clone(),
        }
    }
}

/// The reply to the transaction; null where nobody can say whether a key was changed.
async fn exec_at(operation: &Operation, watch: Watch, sent: &Sent) -> Result<Vec<u8>, ProxyError> {
    let mut null = Vec::new();
    null_array(&mut null, operation.resp);
    let (Watch { line, slot, owner, asking }, worker) = (watch, &operation.worker);
    let Some(mut line) = line else { return Ok(null) };
    let now = worker.table.borrow().primary(slot);
    let stays = now.is_some() && (now == owner || now == Some(line.node));
    // A node that is silent executes what it is sent when it wakes up: not this.
    let lives = worker.topology.node(line.node).is_some_and(|node| node.is_up());
    if !stays || !lives || line.resp != operation.resp {
        clean_later(worker, line);
        return Ok(null);
    }
    if sent.slot != NO_SLOT && sent.slot != slot {
        clean_later(worker, line);
        return Err(ProxyError::CrossSlot);
    }
    if sent.scripts {
        worker.learn_scripts(&worker.scripts_to_ask_for(&sent.bytes)).await;
        for load in worker.script_loads(&sent.bytes) {
            if !matches!(operation.while_it_lives(line.node, line.ask(&load)).await, Some(Ok(_))) {
                return Ok(null);
            }
        }
    }
    operation.mark_sent();
    {
        let mut inner = operation.session.inner();
        inner.written.add(slot, line.node, &worker.losses);
        inner.note_channels(sent.channels.clone());
        inner.note_way(line.node, worker.clock.now());
    }
    let node = line.node;
    let talk = operation.while_it_lives(node, send(&mut line, asking, sent));
    match talk.await.unwrap_or(Err(Lost::Maybe)) {
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
async fn send(line: &mut Line, asking: bool, push: &Sent) -> Result<Vec<u8>, Lost> {
    if line.is_lost() {
        return Err(Lost::Unsent);
    }
    if asking {
        // Next to MULTI: it holds for all of the transaction.
        line.send(&[ASKING, &push.bytes].concat()).await.map_err(|_| Lost::Maybe)?;
        line.reply().await.map_err(|_| Lost::Maybe)?;
    } else {
        line.send(&push.bytes).await.map_err(|_| Lost::Maybe)?;
    }
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
