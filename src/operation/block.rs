//! A command that waits for data (BLPOP and its kind, XREAD BLOCK, learned commands flagged `blocking`): it
//! waits at the owner of its slot, on a line of its own, and again elsewhere with the time left when the node
//! says "not here", "not now" or UNBLOCKED. After a lost connection only what reads is repeated: a write may
//! have been executed. The bound is the client's own timeout and `request-deadline` on top of it.

use std::time::Duration;

use super::ending::Ending;
use super::last_ids::LastIds;
use super::seek::{ASKING, PAUSE_MIN, Seek};
use super::timeout::{Patience, Timeout};
use super::visit::{End, Stay};
use super::{Operation, keys};
use crate::backend::line::Line;
use crate::command::Handling;
use crate::error::ProxyError;
use crate::reply::redirect;
use crate::session::learned::{Told, told};
use crate::session::route::slot_of_keys;
use crate::session::transaction::null_array;
use crate::topology::{Event, Trigger};

/// A try that lasted so long was accepted: trouble before it is over. In microseconds.
const SETTLED: u64 = 1_000_000;
/// How long a wait that is to end already may take to reach its node at all: a client that closes its side
/// behind its request still gets what is there.
const FIRST: Duration = Duration::from_secs(1);
/// A blocking command.
pub async fn block(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let args = operation.request.args();
    let slot = slot(operation).await?;
    operation.wait_for_ever();
    let wait = Wait {
        operation,
        slot,
        timeout: Timeout::of(operation.command, &args),
        last_ids: LastIds::of(operation.command, &args),
        ends: None,
        tries: 0,
        seek: Seek::new(operation, slot),
    };
    wait.run().await
}

/// The slot of its keys; a node is asked where a learned command's specifications do not tell them.
async fn slot(operation: &Operation) -> Result<u16, ProxyError> {
    let (session, command, args) = (&operation.session, operation.command, operation.request.args());
    let Handling::Learned { asks } = command.handling else {
        return slot_of_keys(session, command, &args).map_err(|_| ProxyError::CrossSlot);
    };
    match told(session, (command, asks), &args) {
        Told::Slot(slot) => Ok(slot),
        Told::CrossSlot => Err(ProxyError::CrossSlot),
        Told::NoKey => Err(ProxyError::KeysUnknown),
        Told::Nothing => keys::slot(operation).await,
    }
}

/// The node ended the wait for a reason of its own: its role changed, or somebody, perhaps we, said CLIENT
/// UNBLOCK there. Other words behind the same code are about the key, and the client's.
pub(super) fn is_unblocked(frame: &[u8]) -> bool {
    [&b"-UNBLOCKED force unblock"[..], b"-UNBLOCKED client unblocked"]
        .iter()
        .any(|text| frame.starts_with(text))
}

struct Wait<'a> {
    operation: &'a Operation,
    slot: u16,
    timeout: Timeout,
    last_ids: LastIds,
    /// When the client's time is over, on the worker's clock.
    ends: Option<u64>,
    tries: u32,
    seek: Seek<'a>,
}

/// What a try came to.
enum Try {
    /// The reply.
    Done(Vec<u8>),
    /// Another try, after a pause of so many microseconds.
    Again(u64),
}

impl Wait<'_> {
    async fn run(mut self) -> Result<Vec<u8>, ProxyError> {
        let operation = self.operation;
        let mut pause = 0;
        loop {
            let grace = if self.tries == 0 { FIRST } else { Duration::ZERO };
            let way = tokio::select! {
                biased;
                way = self.seek.line(pause) => Ok(way?),
                ending = operation.ending_and(grace) => Err(ending),
            };
            let (line, asking) = match way {
                Ok(way) => way,
                Err(ending) => return self.ended(ending).await,
            };
            match self.attempt(line, asking).await? {
                Try::Done(reply) => return Ok(reply),
                Try::Again(after) => pause = after,
            }
        }
    }

    /// One try.
    async fn attempt(&mut self, mut line: Line, asking: bool) -> Result<Try, ProxyError> {
        let (operation, worker) = (self.operation, &self.operation.worker);
        let began = worker.clock.tick();
        let (push, before) = self.push(asking, began);
        let until = self.ends.map(|ends| ends.max(began).saturating_add(worker.limits.deadline));
        let endless = self.timeout.patience == Patience::Forever;
        let visit =
            operation.visit(&mut line, &push, &Stay { before, until, slot: self.slot, endless }).await;
        if worker.clock.tick() - began >= SETTLED {
            self.seek.settled();
        }
        self.seek.arrived();
        self.last_ids.learn(visit.before.iter().map(|frame| frame.as_ref()), asking);
        match visit.end {
            End::Reply(frame) => self.judge(line, frame.into()).await,
            End::Late => Err(ProxyError::DeadlineSent),
            End::Lost => {
                drop(line);
                self.lost().await
            }
        }
    }

    /// What is sent, and how many frames come before the reply. The first try is the client's own request.
    fn push(&mut self, asking: bool, now: u64) -> (Vec<u8>, usize) {
        let request = &self.operation.request;
        let mut push = Vec::new();
        let mut before = self.last_ids.ask(&request.args(), asking, &mut push);
        if asking {
            push.extend_from_slice(ASKING);
            before += 1;
        }
        self.tries = self.tries.saturating_add(1);
        if self.tries == 1 {
            push.extend_from_slice(request.bytes());
            if let Patience::For(milliseconds) = self.timeout.patience {
                self.ends = Some(now.saturating_add(milliseconds.saturating_mul(1000)));
            }
        } else {
            let mut changes = self.last_ids.changes();
            let left = self.ends.map_or(0, |ends| ends.saturating_sub(now).div_ceil(1000));
            changes.extend(self.timeout.argument(left));
            push.extend_from_slice(&request.with(&changes));
        }
        (push, before)
    }

    /// What a reply means for us.
    async fn judge(&mut self, line: Line, frame: Vec<u8>) -> Result<Try, ProxyError> {
        let (ended, worker) = (self.operation.ended(), &self.operation.worker);
        let unblocked = is_unblocked(&frame);
        let redirect = redirect::parse(&frame);
        if let Some(ending) = ended.filter(|_| unblocked || redirect.is_some()) {
            return self.ended(ending).await.map(Try::Done);
        }
        if unblocked {
            // The node has another role now, and closes the connection behind these words.
            drop(line);
            worker.topology.report(Event::Refresh(Trigger::Redirect));
            self.seek.settled();
            return Ok(Try::Again(PAUSE_MIN));
        }
        let again = match redirect {
            None => {
                self.operation.note_write(self.slot, line.node);
                if self.operation.command.is_read_only() {
                    // Nobody keeps track of what is read on a line.
                    self.operation.distrust_reads();
                }
                None
            }
            Some(redirect) => self.seek.follow(&redirect, &line)?,
        };
        if ended.is_none() {
            worker.give_back(line);
        }
        Ok(again.map_or(Try::Done(frame), Try::Again))
    }

    /// The connection broke, or was given up.
    async fn lost(&mut self) -> Result<Try, ProxyError> {
        let operation = self.operation;
        match operation.ended() {
            Some(Ending::Gone) => return operation.give_up().await,
            _ if !operation.command.is_read_only() || !self.last_ids.are_known() => {}
            Some(ending) => return self.ended(ending).await.map(Try::Done),
            None if self.seek.hop().is_some() => {
                operation.worker.topology.report(Event::Refresh(Trigger::Redirect));
                return Ok(Try::Again(PAUSE_MIN));
            }
            None => {}
        }
        Err(ProxyError::ConnectionLost)
    }

    async fn ended(&self, ending: Ending) -> Result<Vec<u8>, ProxyError> {
        let mut null = Vec::new();
        null_array(&mut null, self.operation.resp);
        let endless = self.timeout.patience == Patience::Forever;
        self.operation.reply_to_ended(ending, null, endless).await
    }
}
