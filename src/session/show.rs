//! Scripts that this process never saw: another instance loaded them, or somebody at the nodes, before a node came
//! back empty or joined. Where the servers have SCRIPT SHOW (Valkey from 8 on) another node may tell the body. Must
//! never keep a request from its error for long, nor let anything of its session pass it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::SessionInner;
use super::script::could_say_so;
use crate::backend::ticket::{Aim, Beside, Errand, Parcel};
use crate::protocol::encode;
use crate::protocol::reply::string;
use crate::script::{Sha, sha_of};
use crate::session::state::Resp;
use crate::topology::node::NodeId;
use crate::worker::WorkerContext;

/// How long nodes may take to tell.
const PATIENCE: Duration = Duration::from_secs(1);
/// Servers that do not know SCRIPT SHOW are not asked again for so long, in microseconds.
const UNKNOWN: u64 = 60_000_000;

/// What a worker asks nodes for.
#[derive(Debug, Default)]
pub struct Shows {
    /// Before this time on the worker's clock the servers are taken not to know SCRIPT SHOW.
    not_before: Cell<u64>,
    /// Scripts asked for just now.
    asking: RefCell<HashMap<Sha, Rc<Notify>>>,
}

/// A script is asked for; whoever waits for it goes on when this is gone.
struct Asking<'a>(&'a Shows, Sha);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.asking.borrow_mut().remove(&self.1) {
            waiting.notify_waiters();
        }
    }
}

impl WorkerContext {
    /// True where asking nodes for a script may be of use.
    pub fn may_ask_for_scripts(&self) -> bool {
        !self.process.scripts.is_off() && self.shows.not_before.get() <= self.clock.now()
    }

    /// Asks for scripts that are not known here, as long as there is patience.
    pub async fn learn_scripts(self: &Rc<Self>, scripts: &[Sha]) {
        let all = async {
            for sha in scripts {
                if self.process.scripts.body(sha).is_none() && self.may_ask_for_scripts() {
                    self.learn_script(*sha).await;
                }
            }
        };
        // What nobody told by then is not known.
        let _late = timeout(PATIENCE, all).await;
    }

    async fn learn_script(self: &Rc<Self>, sha: Sha) {
        let asked = self.shows.asking.borrow().get(&sha).cloned();
        if let Some(asked) = asked {
            return asked.notified().await;
        }
        self.shows.asking.borrow_mut().insert(sha, Rc::default());
        let _asking = Asking(&self.shows, sha);
        if let Some(body) = find(self, sha).await {
            self.process.scripts.note(sha, &body);
        }
    }
}

/// Holds a request until the scripts it names were asked for. Then it goes, with those in front that are known;
/// one whose node did not have its script goes only if that is of use.
pub fn hold(worker: &Rc<WorkerContext>, inner: &mut SessionInner, parcel: Parcel, scripts: Vec<Sha>) {
    let (session, seq) = (Rc::clone(&parcel.errand.session), parcel.errand.seq);
    let (request, was_refused) = (parcel.bytes.clone(), matches!(parcel.aim, Aim::WithScript(_)));
    let ends = worker.clock.now() + 2 * PATIENCE.as_micros() as u64;
    inner.hold(parcel, ends, worker);
    worker.advance_later(&session);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        worker.learn_scripts(&scripts).await;
        let helps =
            |sha: &Sha| worker.process.scripts.body(sha).is_some_and(|body| !could_say_so(&body, &request));
        let useful = !was_refused || scripts.iter().all(helps);
        session.inner().hold_no_longer(seq, useful);
        worker.advance_later(&session);
    });
}

/// Holds a transaction with scripts that are not known here: one that its node lacks would fail with half of it
/// done. Gives it back if there is nothing to ask for.
pub fn unless_held(
    inner: &mut SessionInner,
    mut errand: Errand,
    (scripts, push): (bool, &Bytes),
) -> Option<Errand> {
    let worker = Rc::clone(errand.session.worker());
    let unknown = if scripts { worker.scripts_to_ask_for(push) } else { Vec::new() };
    if unknown.is_empty() {
        return Some(errand);
    }
    errand.beside = inner.caching.map_or(Beside::Nothing, Beside::Caching);
    inner.note_write(&errand);
    hold(&worker, inner, Parcel { errand, bytes: push.clone(), aim: Aim::Table }, unknown);
    None
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
