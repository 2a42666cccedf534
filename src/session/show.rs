//! A node says NOSCRIPT and this process never saw the script: another instance, or somebody at the nodes, loaded it
//! before this node was there. Where the servers have SCRIPT SHOW (Valkey from 8 on), another node may tell its body. Must never
//! keep the request from its error for long, nor let anything of its session pass it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::backend::ticket::{Aim, Errand, Parcel};
use crate::protocol::encode;
use crate::protocol::reply::string;
use crate::script::{Sha, sha_of};
use crate::session::state::Resp;
use crate::topology::node::NodeId;
use crate::worker::WorkerContext;

/// How long nodes may take to tell. Then the request goes again as it is, and NOSCRIPT is its reply.
const PATIENCE: Duration = Duration::from_secs(1);
/// Servers that do not know SCRIPT SHOW are not asked again for so long, in microseconds.
const UNKNOWN: u64 = 60_000_000;

/// Whether the servers know SCRIPT SHOW, as far as the worker knows.
#[derive(Debug, Default)]
pub struct Shows {
    not_before: Cell<u64>,
}

/// Asks for the script and sends the request again. False where it is of no use to ask.
pub fn fetch(worker: &Rc<WorkerContext>, errand: Errand, request: &Bytes, sha: Sha) -> bool {
    let now = worker.clock.now();
    if worker.shows.not_before.get() > now {
        return false;
    }
    let (session, seq) = (Rc::clone(&errand.session), errand.seq);
    let parcel = Parcel { errand, bytes: request.clone(), aim: Aim::Table };
    session.inner().hold(parcel, now + PATIENCE.as_micros() as u64, worker);
    worker.advance_later(&session);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let found = tokio::time::timeout(PATIENCE, find(&worker, sha)).await.ok().flatten();
        if let Some(body) = found {
            worker.process.scripts.note(sha, &body);
        }
        session.inner().hold_no_longer(seq);
        worker.advance_later(&session);
    });
    true
}

/// The body of a script, from the first primary that tells it.
async fn find(worker: &Rc<WorkerContext>, sha: Sha) -> Option<Bytes> {
    let mut request = Vec::new();
    encode::array(&mut request, 3);
    let name: String = sha.iter().map(|byte| format!("{byte:02x}")).collect();
    ["SCRIPT", "SHOW", &name].iter().for_each(|word| encode::bulk(&mut request, word));
    let request: Rc<[u8]> = request.into();
    let nodes: Vec<_> = worker.table.borrow().shards().iter().map(|shard| shard.primary).collect();
    let mut asked = JoinSet::new();
    for node in nodes {
        let (worker, request) = (Rc::clone(worker), Rc::clone(&request));
        asked.spawn_local(async move { ask(&worker, node, &request).await });
    }
    let (nodes, mut unknown) = (asked.len(), 0);
    while let Some(reply) = asked.join_next().await {
        let Ok(Some(reply)) = reply else { continue };
        match string(&reply) {
            // A name is not to be trusted to stand for any other body than its own.
            Some(body) if sha_of(body) == sha => return Some(Bytes::copy_from_slice(body)),
            _ => unknown += usize::from(!reply.starts_with(b"-NOSCRIPT")),
        }
    }
    if nodes > 0 && unknown == nodes {
        worker.shows.not_before.set(worker.clock.now() + UNKNOWN);
    }
    None
}

/// The node's reply, once it is connected; none where it cannot be.
async fn ask(worker: &Rc<WorkerContext>, node: NodeId, request: &[u8]) -> Option<Bytes> {
    loop {
        let changed = worker.changed.notified();
        if let Some(lane) = worker.usable_lane(node, Resp::V2) {
            return lane.call(worker, request, 1)?.frame().await.ok();
        }
        if !worker.topology.node(node).is_some_and(|node| node.is_up()) {
            return None;
        }
        changed.await;
    }
}
