//! Administration of all nodes at once: each does what the request says, and one reply is made of theirs by the
//! response policy of the command. `request_policy:all_nodes` in the command table adds the replicas, which may be
//! primaries tomorrow. What some nodes did and others did not is an error that names them.

use super::Operation;
use super::everyone::{Failure, Tally, error_text};
use super::tree::Tree;
use super::{latency, memory};
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::reply::{integer, string};
use crate::topology::node::NodeId;

/// Entries of SLOWLOG GET without a number (Redis' own default).
const SLOWLOG_ENTRIES: usize = 10;
/// The tip of commands that concern replicas, too.
const ALL_NODES: &str = "request_policy:all_nodes";

/// A node and its reply.
type Said = (NodeId, bytes::Bytes);

impl Operation {
    /// Does to every primary what the request says; where the command concerns all nodes, then to the replicas.
    /// The replies, errors of the nodes included.
    async fn to_everyone(&self, replicas: bool) -> Result<Vec<Said>, Failure> {
        let primaries = self.to_all_primaries(self.request.bytes()).await?;
        let mut said: Vec<Said> = primaries.into_iter().map(|heard| (heard.node, heard.reply)).collect();
        if !replicas {
            return Ok(said);
        }
        let nodes: Vec<NodeId> = {
            let table = self.worker.table.borrow();
            let nodes = table.shards().iter().flat_map(|shard| &shard.replicas).copied();
            nodes.filter(|node| !said.iter().any(|(known, _)| known == node)).collect()
        };
        let mut lost = Vec::new();
        for (node, answer) in self.push_each(&nodes, self.request.bytes(), 1).await {
            match answer {
                Ok(mut frames) => said.push((node, frames.pop().unwrap_or_default())),
                Err(error) => lost.push((node, error)),
            }
        }
        let Some((_, first)) = lost.first().copied() else { return Ok(said) };
        let mut tally = tally(&said);
        lost.into_iter().for_each(|(node, error)| tally.failed(node, error));
        Err(self.partial_error(first.into(), &tally))
    }

    /// The same, by the command's request policy; an error if any of them refuses.
    async fn all_say(&self) -> Result<Vec<Said>, Failure> {
        let replicas = self.command.entry.tips.iter().any(|tip| tip == ALL_NODES);
        let said = self.to_everyone(replicas).await?;
        self.none_refused(&said)?;
        Ok(said)
    }

    /// An error if any refuses: if all do, what the first says.
    fn none_refused(&self, said: &[Said]) -> Result<(), Failure> {
        let mut refused = said.iter().filter_map(|(_, reply)| Some((reply, error_text(reply)?)));
        let Some((reply, text)) = refused.next() else { return Ok(()) };
        if refused.count() + 1 == said.len() {
            return Err(Failure::Frame(reply.to_vec()));
        }
        Err(self.partial(&text, &tally(said)))
    }

    /// One reply made of trees.
    fn merged(
        &self,
        said: &[Said],
        merge: impl FnOnce(Vec<Tree>) -> Option<Tree>,
    ) -> Result<Vec<u8>, Failure> {
        let trees = said.iter().map(|(_, reply)| Tree::parse(reply)).collect::<Option<Vec<_>>>();
        let tree = trees.and_then(merge).ok_or(ProxyError::BadReply)?;
        let mut out = Vec::new();
        tree.write(&mut out, self.resp);
        Ok(out)
    }
}

fn tally(said: &[Said]) -> Tally {
    let mut tally = Tally::default();
    said.iter().for_each(|(node, reply)| tally.answered(*node, reply));
    tally
}

/// `all_succeeded`: the first reply, if none is an error. `replicas`: they, too.
pub(super) async fn all_succeeded(operation: &Operation, replicas: bool) -> Result<Vec<u8>, Failure> {
    let said = operation.to_everyone(replicas).await?;
    operation.none_refused(&said)?;
    Ok(said.first().map(|(_, reply)| reply.to_vec()).ok_or(ProxyError::ClusterDown)?)
}

/// Integers joined: added (`agg_sum`), or the lowest (`agg_min`).
pub(super) async fn joined(operation: &Operation, join: fn(i64, i64) -> i64) -> Result<Vec<u8>, Failure> {
    let said = operation.all_say().await?;
    let numbers = said.iter().map(|(_, reply)| integer(reply)).collect::<Option<Vec<i64>>>();
    let number = numbers.and_then(|numbers| numbers.into_iter().reduce(join)).ok_or(ProxyError::BadReply)?;
    let mut out = Vec::new();
    encode::integer(&mut out, number);
    Ok(out)
}

/// Texts for people: one if all say the same, else each under the name of its node. A node that has nothing to
/// say, and says so by an error, is left out.
pub(super) async fn texts(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let replicas = operation.command.entry.tips.iter().any(|tip| tip == ALL_NODES);
    let said = operation.to_everyone(replicas).await?;
    let texts: Vec<(NodeId, &[u8])> =
        said.iter().filter_map(|(node, reply)| Some((*node, string(reply)?))).collect();
    let Some(((_, first), others)) = texts.split_first() else {
        operation.none_refused(&said)?;
        return Err(ProxyError::BadReply.into());
    };
    if others.iter().all(|(_, text)| text == first) {
        let reply = said.iter().find(|(_, reply)| string(reply).is_some());
        return Ok(reply.map(|(_, reply)| reply.to_vec()).unwrap_or_default());
    }
    let mut all = String::new();
    for (node, text) in texts {
        let name = operation.worker.topology.node(node).map(|node| node.addr.to_string()).unwrap_or_default();
        all.push_str(&format!("# {name}\n{}\n", String::from_utf8_lossy(text).trim_end()));
    }
    let mut out = Vec::new();
    encode::verbatim(&mut out, operation.resp, &all);
    Ok(out)
}

/// SLOWLOG GET.
pub(super) async fn slowlog(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let said = operation.all_say().await?;
    let args = operation.request.args();
    let wanted = args.get(2).and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    // A negative number, which the nodes have let pass, is "all".
    let most = match args.get(2) {
        None => SLOWLOG_ENTRIES,
        Some(_) => wanted.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX),
    };
    operation.merged(&said, |replies| latency::slowlog(replies, most))
}

/// LATENCY LATEST, HISTORY and HISTOGRAM.
pub(super) async fn latency(
    operation: &Operation,
    merge: fn(Vec<Tree>) -> Option<Tree>,
) -> Result<Vec<u8>, Failure> {
    let said = operation.all_say().await?;
    operation.merged(&said, merge)
}

/// MEMORY STATS.
pub(super) async fn memory_stats(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let said = operation.all_say().await?;
    operation.merged(&said, |replies| memory::stats(replies, operation.resp))
}
