//! A request that waits at a node, on a line of its own: until the node answers, its line breaks, its time is
//! over, or the wait is to end early. That is never done by closing the line while the client still counts on a
//! reply: the node is asked over another connection (CLIENT UNBLOCK), and whatever then comes is the reply, so
//! that an element that was popped in that moment is delivered, not lost. Follows no redirect.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;

use super::Operation;
use super::ending::Ending;
use crate::backend::handshake::push_command;
use crate::backend::line::{Line, LineLost};
use crate::backend::ticket::NO_SLOT;
use crate::topology::node::NodeId;
use crate::worker::clock::micros;

/// Pause before a node is asked again to end a wait it does not know of: the request may not have arrived yet.
const PAUSE: Duration = Duration::from_millis(5);
/// A wait younger than this may have its reply on the way when its client is found gone: a client that closes
/// its side behind its last request still reads. An older one is closed at once. In microseconds.
const YOUNG: u64 = 1_000_000;

/// How one request waits.
#[derive(Clone, Copy, Debug)]
pub struct Stay {
    /// Frames that come before the reply, for what the push holds before the request.
    pub before: usize,
    /// When to give up, on the worker's clock.
    pub until: Option<u64>,
    /// The slot of its keys, or [`NO_SLOT`].
    pub slot: u16,
    /// The client set no end to its wait.
    pub endless: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Visit {
    /// The frames before the reply.
    pub before: Vec<Bytes>,
    /// The rest.
    pub end: End,
}

/// How it ended.
#[derive(Debug)]
pub enum End {
    /// With the node's reply.
    Reply(Bytes),
    /// The line broke, the node was given up, or it did not end the wait when asked to.
    Lost,
    /// `until` has passed.
    Late,
}

/// Why the node is asked to end the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The wait is to end.
    Ended(Ending),
    /// By our table the slot has another owner: the request belongs there.
    Moved,
}

type Asking<'a> = Pin<Box<dyn Future<Output = bool> + 'a>>;

impl Operation {
    /// Sends `push` and waits for its last reply. The line is of no more use unless that came.
    pub async fn visit(&self, line: &mut Line, push: &[u8], stay: &Stay) -> Visit {
        let mut before = Vec::with_capacity(stay.before);
        let _held = self.worker.budget.hold(push.len());
        self.mark_sent();
        let end = match line.send(push).await {
            Ok(()) => self.wait_at(line, &mut before, stay).await,
            Err(_) => End::Lost,
        };
        Visit { before, end }
    }

    async fn wait_at(&self, line: &mut Line, before: &mut Vec<Bytes>, stay: &Stay) -> End {
        let worker = &self.worker;
        let (node, owner) = (line.node, self.owner_by_table(stay.slot));
        let since = worker.clock.tick();
        let (mut until, mut told, mut why) = (stay.until, None, None);
        let mut asking: Option<Asking<'_>> = None;
        loop {
            if why.is_some() && asking.is_none() && !line.owes_id() {
                match (line.id(), why.take()) {
                    (Some(id), Some(reason)) => {
                        asking = Some(Box::pin(self.end_at(node, id, reason, stay.endless)));
                        told = Some(reason);
                    }
                    (_, Some(Why::Ended(_))) => return End::Lost,
                    _ => {}
                }
            }
            let adopted = worker.adopted.notified();
            tokio::select! {
                biased;
                frame = next(line, why.is_some()) => match frame {
                    Ok(None) => {}
                    Ok(Some(frame)) if before.len() < stay.before => before.push(frame),
                    Ok(Some(frame)) => return End::Reply(frame),
                    Err(LineLost) => return End::Lost,
                },
                ending = self.ending(), if !is_ended(told) && !is_ended(why) => {
                    let now = worker.clock.tick();
                    if ending == Ending::Gone && now - since >= YOUNG {
                        return End::Lost;
                    }
                    // A node that takes longer is a silent one: the line is closed instead.
                    let silence = micros(worker.limits.silence);
                    until = Some(until.unwrap_or(u64::MAX).min(now.saturating_add(silence)));
                    (why, asking) = (Some(Why::Ended(ending)), None);
                }
                done = answered(&mut asking) => {
                    asking = None;
                    if !done && is_ended(told) {
                        return End::Lost;
                    }
                }
                () = adopted => {
                    if self.is_given_up(node) {
                        return End::Lost;
                    }
                    let now = self.owner_by_table(stay.slot);
                    if now.is_some() && now != owner && now != Some(node) && told.is_none() {
                        why = why.or(Some(Why::Moved));
                    }
                }
                () = passed(worker.clock.now(), until) => {
                    worker.clock.tick();
                    return if is_ended(told) || is_ended(why) { End::Lost } else { End::Late };
                }
            }
        }
    }

    /// What comes of a `talk` with `node`; nothing once the node is given up: it may stand still for ever.
    pub(super) async fn while_it_lives<T>(&self, node: NodeId, talk: impl Future<Output = T>) -> Option<T> {
        let mut talk = pin!(talk);
        loop {
            let adopted = self.worker.adopted.notified();
            tokio::select! {
                biased;
                done = &mut talk => return Some(done),
                () = adopted => if self.is_given_up(node) { return None },
            }
        }
    }

    /// Has the node end the wait of connection `id`; false when it can't. True means that the reply comes.
    async fn end_at(&self, node: NodeId, id: u64, why: Why, endless: bool) -> bool {
        let error = match why {
            Why::Ended(Ending::Error) | Why::Moved => true,
            Why::Ended(Ending::Shutdown) => endless,
            Why::Ended(_) => false,
        };
        let mut request = Vec::new();
        let how = if error { "ERROR" } else { "TIMEOUT" };
        push_command(&mut request, &["CLIENT", "UNBLOCK", &id.to_string(), how]);
        loop {
            match self.inquire(node, &request).await {
                Ok(reply) if reply.as_ref() == b":1\r\n" => return true,
                Ok(reply) if reply.as_ref() == b":0\r\n" => tokio::time::sleep(PAUSE).await,
                _ => return false,
            }
        }
    }

    fn owner_by_table(&self, slot: u16) -> Option<NodeId> {
        if slot == NO_SLOT { None } else { self.worker.table.borrow().primary(slot) }
    }

    /// The node does not answer any more, or has left the cluster.
    fn is_given_up(&self, node: NodeId) -> bool {
        let table = self.worker.table.borrow();
        !table.is_member(node) || !table.node(node).is_some_and(|node| node.is_up())
    }
}

fn is_ended(why: Option<Why>) -> bool {
    matches!(why, Some(Why::Ended(_)))
}

/// The next reply; `None` once the connection's number was read, where that is what is needed first.
async fn next(line: &mut Line, id_first: bool) -> Result<Option<Bytes>, LineLost> {
    if id_first && line.owes_id() {
        line.introduction().await?;
        return Ok(None);
    }
    line.reply().await.map(Some)
}

async fn answered(asking: &mut Option<Asking<'_>>) -> bool {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

async fn passed(now: u64, until: Option<u64>) {
    match until {
        Some(until) => tokio::time::sleep(Duration::from_micros(until.saturating_sub(now))).await,
        None => std::future::pending().await,
    }
}
