//! SCAN over all shards. A pass returns every key that was there from its first call to its last, whatever the
//! cluster does meanwhile; a key may come more than once. Nothing is kept between two calls: the cursor
//! (`cursor.rs`) says it all, and any slotway can take the next one.
//!
//! **Order.** Shards are scanned in the order of their config epochs, which is Redis Cluster's own order of
//! claims: whatever gives a shard keys it did not have, a promotion or a slot that arrives, also gives it an epoch
//! above all others, or finds it there already. So a key only ever moves to a shard that the pass has still to
//! come to: a shard that was done and has changed is behind the others, and is scanned again, and none else. The
//! cursor says "shards of lower epochs are done; this one is done so far".
//!
//! **In the middle of a shard** a node's cursor means something only to the same process, for another one, or the
//! same after a restart, has its hash table in another order: the cursor carries a fingerprint of its run id. One
//! that differs begins the shard again. Where the epoch a cursor was made from cannot be told any more, the pass
//! begins again.
//!
//! **Slots under way** (`[slot->-node]`) get their new epoch when they have arrived, keys move before. When a
//! shard is done, its node is asked which of its slots are leaving, and what of them is at their targets already
//! belongs to the reply.
//!
//! **The end.** Before 0 is returned, every primary is asked for its own word, which no table of ours is ahead
//! of: all slots have to be theirs, and no epoch above the last shard's. What a frozen or dead shard has cannot be
//! told: an error, never an end.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Operation;
use super::cursor::{self, Cursor, Mark};
use super::everyone::{Failure, Tally, error_text, is_passing};
use super::leaving;
use crate::backend::call::CallError;
use crate::backend::lane::Lane;
use crate::command::local::glob;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::reply::{list_elements, list_head, string};
use crate::protocol::request::Args;
use crate::topology::claims::ShardClaim;
use crate::topology::node::NodeId;

/// COUNT, where none is given (Redis' own default).
const COUNT: u64 = 10;
/// Most shards one call goes through, while it has found fewer keys than COUNT.
const SHARDS_PER_CALL: usize = 16;
/// INFO server as a request.
const INFO_SERVER: &[u8] = b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n";

/// Why a step failed.
pub(super) enum Trouble {
    /// Another look at the cluster may help; the place in the pass stands.
    Passing(Failure),
    /// It would not.
    Final(Failure),
}

impl From<ProxyError> for Trouble {
    fn from(error: ProxyError) -> Self {
        Self::Final(error.into())
    }
}

/// What a call has found.
#[derive(Debug, Default)]
struct Found {
    /// Keys as bulk strings.
    body: Vec<u8>,
    /// How many.
    count: usize,
}

/// What the request asks for, as far as we have to know.
pub(super) struct Wanted<'a> {
    pattern: Option<&'a [u8]>,
    /// TYPE.
    pub kind: Option<&'a [u8]>,
    count: u64,
}

/// How far a step came.
enum Step {
    /// In the middle of a shard.
    Within(Cursor),
    /// A shard is done, another is next.
    Next(Cursor),
    /// The pass is over.
    End,
}

impl<'a> Wanted<'a> {
    /// Options that no node accepts are the node's to refuse.
    fn of(args: &Args<'a>) -> Self {
        let mut wanted = Self { pattern: None, kind: None, count: COUNT };
        let mut index = 2;
        while let Some(value) = args.get(index + 1) {
            let is = |word: &str| args.at(index).eq_ignore_ascii_case(word.as_bytes());
            if is("MATCH") {
                wanted.pattern = Some(value);
            } else if is("TYPE") {
                wanted.kind = Some(value);
            } else if is("COUNT") {
                let count = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                wanted.count = count.unwrap_or(COUNT);
            }
            index += 2;
        }
        wanted
    }

    /// True for a key that MATCH lets through.
    pub(super) fn matches(&self, key: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches_exact(pattern, key))
    }
}

/// SCAN.
pub(super) async fn scan(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let args = operation.request.args();
    let Some(mut at) = Cursor::parse(args.at(1)) else {
        let mut frame = Vec::new();
        encode::error(&mut frame, "ERR invalid cursor");
        return Ok(frame);
    };
    let wanted = Wanted::of(&args);
    let until = operation.worker.clock.tick().saturating_add(operation.worker.limits.owner_wait);
    let pass = Pass { operation, wanted, found: RefCell::default() };
    let mut shards = 0;
    loop {
        match pass.step(at).await {
            Ok(Step::End) => return Ok(pass.reply(Cursor::Begin)),
            Ok(Step::Within(cursor)) => return Ok(pass.reply(cursor)),
            Ok(Step::Next(cursor)) => {
                shards += 1;
                at = cursor;
                if pass.found.borrow().count as u64 >= pass.wanted.count || shards >= SHARDS_PER_CALL {
                    return Ok(pass.reply(cursor));
                }
            }
            Err(Trouble::Final(failure)) => return Err(failure),
            Err(Trouble::Passing(failure)) => {
                if operation.worker.clock.tick() >= until || Instant::now() >= operation.deadline() {
                    return Err(failure);
                }
                operation.look_afresh().await;
            }
        }
    }
}

/// One call of a pass.
pub(super) struct Pass<'a> {
    pub operation: &'a Operation,
    pub wanted: Wanted<'a>,
    found: RefCell<Found>,
}

impl Pass<'_> {
    fn reply(&self, cursor: Cursor) -> Vec<u8> {
        let found = self.found.borrow();
        let mut out = Vec::with_capacity(found.body.len() + 64);
        encode::array(&mut out, 2);
        encode::bulk(&mut out, itoa::Buffer::new().format(cursor.value()));
        encode::array(&mut out, found.count);
        out.extend_from_slice(&found.body);
        out
    }

    /// Takes keys into the reply.
    pub(super) fn add(&self, keys: &[u8], count: usize) -> Result<(), Failure> {
        let mut found = self.found.borrow_mut();
        if (found.body.len() + keys.len()) as u64 > self.operation.worker.limits.merge_reply_bytes {
            return Err(ProxyError::MergeTooLarge.into());
        }
        found.body.extend_from_slice(keys);
        found.count += count;
        Ok(())
    }

    /// Goes on from `at` by one request to one node.
    async fn step(&self, at: Cursor) -> Result<Step, Trouble> {
        let claims = self.operation.worker.topology.claims();
        if !claims.complete {
            return Err(Trouble::Passing(ProxyError::ClusterDown.into()));
        }
        let place = match self.place(&claims.shards, at).await? {
            Some(place) => place,
            None => self.place_by_own_word(at).await?,
        };
        let Some(Place { shard, node_cursor }) = place else { return Ok(Step::End) };
        let (next, mark) = self.scan_node(shard.node, node_cursor).await?;
        if next != 0 {
            return match Cursor::within(shard.epoch, mark, next) {
                Ok(cursor) => Ok(Step::Within(cursor)),
                Err(_) => Err(ProxyError::ScanCursor.into()),
            };
        }
        if let Some(epoch) = leaving::keys_at_targets(self, &shard).await? {
            // It has another epoch by now: it comes once more, behind the others, as soon as we know.
            self.operation.look_afresh().await;
            let is_behind = |claim: &ShardClaim| claim.node == shard.node && claim.epoch < epoch;
            if self.operation.worker.topology.claims().shards.iter().any(is_behind) {
                return Err(Trouble::Passing(ProxyError::ClusterDown.into()));
            }
        }
        let claims = self.operation.worker.topology.claims();
        if let Some(next) = after(&claims.shards, &shard).filter(|_| claims.complete) {
            return Ok(Step::Next(Cursor::before(next.epoch, &next.id)));
        }
        let own = self.own_words().await?;
        Ok(match after_all(&own, &claims.shards, &shard) {
            Some(next) => Step::Next(Cursor::before(next.epoch, &next.id)),
            None => Step::End,
        })
    }

    /// Where the pass goes on. `None`: these claims know no such shard.
    async fn place(&self, shards: &[ShardClaim], at: Cursor) -> Result<Option<Option<Place>>, Trouble> {
        let Cursor::At { epoch, mark, node } = at else {
            return Ok(Some(first(shards, |_| true).map(Place::start)));
        };
        let mut candidates: Vec<&ShardClaim> =
            shards.iter().filter(|shard| cursor::low(shard.epoch) == epoch).collect();
        candidates.sort_by(|a, b| key(a).cmp(&key(b)));
        for shard in &candidates {
            let same = match node {
                0 => cursor::mark(shard.id.as_bytes()) == mark,
                _ => self.run_at(shard.node).await?.1 == mark,
            };
            if same {
                return Ok(Some(Some(Place { shard: (*shard).clone(), node_cursor: (node, mark) })));
            }
        }
        // The same shard after a restart: its cursor means nothing any more.
        Ok(candidates.first().map(|shard| Some(Place::start(shard))))
    }

    /// The same, when the table knows no shard of that epoch: it may be behind, or the shard has another by now.
    async fn place_by_own_word(&self, at: Cursor) -> Result<Option<Place>, Trouble> {
        self.operation.look_afresh().await;
        let own = self.own_words().await?;
        if let Some(place) = self.place(&own, at).await? {
            return Ok(place);
        }
        let Cursor::At { epoch, .. } = at else { return Ok(None) };
        let highest = own.iter().map(|shard| shard.epoch).max().unwrap_or(0);
        let from = cursor::whole(epoch, highest).unwrap_or(0);
        Ok(first(&own, |shard| shard.epoch >= from).map(Place::start))
    }

    /// All primaries with the epochs they say they have.
    async fn own_words(&self) -> Result<Vec<ShardClaim>, Trouble> {
        let heard = self.operation.hear(&[]).await.map_err(Trouble::Final)?;
        let owners = heard.into_iter().filter(|heard| !heard.word.slots.is_empty());
        let claim = |heard: super::census::Heard| ShardClaim {
            node: heard.node,
            id: heard.word.id,
            epoch: heard.word.epoch,
        };
        Ok(owners.map(claim).collect())
    }

    /// One SCAN at one node: its next cursor, and the fingerprint of its run id. `cursor` belongs to the run with
    /// that fingerprint; for any other it begins again.
    async fn scan_node(&self, node: NodeId, (cursor, of): (u64, Mark)) -> Result<(u64, Mark), Trouble> {
        let (lane, mark) = self.run_at(node).await?;
        let cursor = if mark == of { cursor } else { 0 };
        let mut request = Vec::new();
        let args = self.operation.request.args();
        encode::array(&mut request, args.len());
        for (index, arg) in args.iter().enumerate() {
            match index {
                1 => encode::bulk(&mut request, itoa::Buffer::new().format(cursor)),
                _ => encode::bulk(&mut request, arg),
            }
        }
        let reply = self.ask(node, &request, Some(lane)).await?;
        let mut parts = Vec::with_capacity(2);
        let is_pair = list_elements(&reply, |_, start, len| parts.push((start, len))) == Some(2);
        let part = |index: usize| {
            let (start, len) = *parts.get(index).filter(|_| is_pair)?;
            reply.get(start..start + len)
        };
        let bad = || Trouble::from(ProxyError::BadReply);
        let next = part(0).and_then(string).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        let keys = part(1).ok_or_else(bad)?;
        let (_, count, start) = list_head(keys).ok_or_else(bad)?;
        self.add(keys.get(start..).unwrap_or(&[]), count).map_err(Trouble::Final)?;
        Ok((next.ok_or_else(bad)?, mark))
    }

    /// The number of the connection to `node`, and the fingerprint of the run id at its other end.
    async fn run_at(&self, node: NodeId) -> Result<(u32, Mark), Trouble> {
        let lane = self.lane(node).await?;
        let connection = lane.connection.get();
        if lane.run.get() == 0 {
            let reply = self.ask(node, INFO_SERVER, Some(connection)).await?;
            let text = string(&reply).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("");
            let run = text.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::trim_end);
            let run = run.ok_or_else(|| Trouble::from(ProxyError::BadReply))?;
            if lane.connection.get() != connection {
                return Err(self.trouble(node, CallError::Unsent));
            }
            lane.run.set(cursor::mark(run.as_bytes()));
        }
        Ok((connection, lane.run.get()))
    }

    /// One request and its reply; on this connection only, if one is given.
    pub(super) async fn ask(
        &self,
        node: NodeId,
        request: &[u8],
        connection: Option<u32>,
    ) -> Result<Bytes, Trouble> {
        let frames = self.frames(node, request, 1, connection).await?;
        let reply = frames.into_iter().next().unwrap_or_default();
        match error_text(&reply) {
            Some(error) if is_passing(&error) => Err(Trouble::Passing(Failure::Frame(reply.to_vec()))),
            Some(_) => Err(Trouble::Final(Failure::Frame(reply.to_vec()))),
            None => Ok(reply),
        }
    }

    async fn lane(&self, node: NodeId) -> Result<Rc<Lane>, Trouble> {
        let lane = tokio::time::timeout_at(self.operation.deadline(), self.operation.ready_lane(node)).await;
        lane.unwrap_or(Err(CallError::NoNode)).map_err(|error| self.trouble(node, error))
    }

    /// The frames a push is answered with, errors among them.
    pub(super) async fn frames(
        &self,
        node: NodeId,
        push: &[u8],
        frames: u16,
        connection: Option<u32>,
    ) -> Result<Vec<Bytes>, Trouble> {
        let operation = self.operation;
        let lane = self.lane(node).await?;
        if connection.is_some_and(|number| lane.connection.get() != number) {
            return Err(self.trouble(node, CallError::Unsent));
        }
        let call = lane.call(&operation.worker, push, frames);
        let call = call.ok_or_else(|| self.trouble(node, CallError::QueueFull))?;
        let answer = tokio::time::timeout_at(operation.deadline(), call.frames()).await;
        answer.unwrap_or(Err(CallError::Late)).map_err(|error| self.trouble(node, error))
    }

    fn trouble(&self, node: NodeId, error: CallError) -> Trouble {
        let mut tally = Tally::default();
        tally.failed(node, error);
        let failure = self.operation.partial_error(error.into(), &tally);
        match error {
            CallError::Unsent | CallError::Lost | CallError::NoNode => Trouble::Passing(failure),
            CallError::Late | CallError::QueueFull | CallError::TooLarge => Trouble::Final(failure),
        }
    }
}

/// A shard, and where in it.
struct Place {
    shard: ShardClaim,
    /// The node's cursor, and the fingerprint of the run it is of.
    node_cursor: (u64, Mark),
}

impl Place {
    fn start(shard: &ShardClaim) -> Self {
        Self { shard: shard.clone(), node_cursor: (0, 0) }
    }
}

/// What shards are ordered by. Two have one config epoch only until the nodes have noticed.
fn key(shard: &ShardClaim) -> (u64, &str) {
    (shard.epoch, &shard.id)
}

fn first(shards: &[ShardClaim], wanted: impl Fn(&ShardClaim) -> bool) -> Option<&ShardClaim> {
    shards.iter().filter(|shard| wanted(shard)).min_by(|a, b| key(a).cmp(&key(b)))
}

/// The shard behind `done`.
fn after<'a>(shards: &'a [ShardClaim], done: &ShardClaim) -> Option<&'a ShardClaim> {
    first(shards, |shard| key(shard) > key(done))
}

/// The same by the nodes' own word. One that has come to the epoch of `done` unknown to `claims` was not done in
/// its turn.
fn after_all<'a>(own: &'a [ShardClaim], claims: &[ShardClaim], done: &ShardClaim) -> Option<&'a ShardClaim> {
    let known = |shard: &ShardClaim| claims.contains(shard);
    first(own, |shard| {
        key(shard) > key(done) || (shard.epoch == done.epoch && shard.id != done.id && !known(shard))
    })
}
