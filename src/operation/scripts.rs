//! SCRIPT and FUNCTION where they are more than "all shards do it": what is loaded, is it there everywhere, what
//! runs now, and stop it. A node that runs a script reads nothing behind it, so KILL and STATS go over
//! connections of their own.

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::everyone::{Failure, Tally, error_text};
use super::tree::Tree;
use super::{Operation, broadcast};
use crate::backend::call::CallError;
use crate::backend::line::LineError;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::reply::string;
use crate::script::parse_sha;
use crate::topology::node::NodeId;

/// SCRIPT LOAD: on every primary, or it is an error.
pub(super) async fn load(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let done = operation.to_all_primaries(operation.request.bytes()).await?;
    let reply = operation.all_succeeded(&done)?;
    let args = operation.request.args();
    if string(&reply).is_some() {
        if done.iter().any(|heard| heard.reply != reply) {
            return Err(ProxyError::BadReply.into());
        }
        operation.worker.note_script(args.at(2));
    }
    Ok(reply)
}

/// SCRIPT SHOW: known here, or at any primary.
pub(super) async fn show(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let args = operation.request.args();
    let known = parse_sha(args.at(2)).and_then(|sha| operation.worker.process.scripts.body(&sha));
    if let Some(body) = known {
        let mut out = Vec::new();
        encode::bulk(&mut out, &body);
        return Ok(out);
    }
    let heard = operation.hear(operation.request.bytes()).await?;
    let tells = heard.iter().find(|heard| error_text(&heard.reply).is_none()).or(heard.first());
    Ok(tells.map(|heard| heard.reply.to_vec()).ok_or(ProxyError::ClusterDown)?)
}

/// SCRIPT FLUSH: nowhere, and not here either.
pub(super) async fn flush(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let reply = broadcast::all_succeeded(operation, false).await?;
    if error_text(&reply).is_none() {
        operation.worker.process.scripts.clear();
    }
    Ok(reply)
}

/// SCRIPT EXISTS: per script, whether EVALSHA finds it: every primary has it, or we do.
pub(super) async fn exists(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let heard = operation.hear(operation.request.bytes()).await?;
    let mut everywhere = vec![true; operation.request.args().len().saturating_sub(2)];
    for heard in &heard {
        let reply = Tree::parse(&heard.reply).ok_or(ProxyError::BadReply)?;
        let here =
            reply.items().filter(|items| items.len() == everywhere.len()).ok_or(ProxyError::BadReply)?;
        for (everywhere, here) in everywhere.iter_mut().zip(here) {
            *everywhere &= here.number() == Some(1);
        }
    }
    let args = operation.request.args();
    for (there, sha) in everywhere.iter_mut().zip(args.iter().skip(2)) {
        *there |= parse_sha(sha).is_some_and(|sha| operation.worker.process.scripts.body(&sha).is_some());
    }
    let mut out = Vec::new();
    encode::array(&mut out, everywhere.len());
    everywhere.iter().for_each(|there| encode::integer(&mut out, i64::from(*there)));
    Ok(out)
}

/// SCRIPT KILL, FUNCTION KILL: done when one node had something to kill.
pub(super) async fn kill(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let answers = over_lines(operation).await?;
    let mut tally = Tally::default();
    let (mut refused, mut idle, mut lost) = (None, None, None);
    for (node, answer) in answers {
        match answer {
            Ok(reply) => match error_text(&reply) {
                None => return Ok(reply.to_vec()),
                Some(text) if text.starts_with("NOTBUSY") => {
                    tally.done.push(node);
                    idle = Some(reply);
                }
                Some(_) => {
                    tally.not_done.push(node);
                    refused = Some(reply);
                }
            },
            Err(error) => {
                tally.failed(node, error);
                lost = Some(error);
            }
        }
    }
    match (refused, lost, idle) {
        (Some(reply), _, _) | (None, None, Some(reply)) => Ok(reply.to_vec()),
        (None, Some(error), _) => Err(operation.partial(ProxyError::from(error).text(), &tally)),
        (None, None, None) => Err(ProxyError::ClusterDown.into()),
    }
}

/// FUNCTION STATS: of the node that runs a function, if one does.
pub(super) async fn stats(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let mut tally = Tally::default();
    let (mut replies, mut lost) = (Vec::new(), None);
    for (node, answer) in over_lines(operation).await? {
        match answer {
            Ok(reply) => {
                tally.done.push(node);
                replies.push(reply);
            }
            Err(error) => {
                tally.failed(node, error);
                lost = Some(error);
            }
        }
    }
    if let Some(error) = lost {
        return Err(operation.partial(ProxyError::from(error).text(), &tally));
    }
    let runs = replies.iter().find(|reply| is_running(reply)).or(replies.first());
    Ok(runs.map(|reply| reply.to_vec()).ok_or(ProxyError::ClusterDown)?)
}

fn is_running(reply: &[u8]) -> bool {
    let pairs = Tree::parse(reply).and_then(Tree::pairs).unwrap_or_default();
    pairs.iter().any(|(name, value)| {
        name.text() == Some(b"running_script") && matches!(value, Tree::List(_) | Tree::Map(_))
    })
}

/// Asks every primary of the table over a connection that nothing else is on, all at once.
async fn over_lines(operation: &Operation) -> Result<Vec<(NodeId, Result<Bytes, CallError>)>, Failure> {
    let nodes: Vec<NodeId> =
        operation.worker.table.borrow().shards().iter().map(|shard| shard.primary).collect();
    let deadline = operation.deadline();
    operation.mark_sent();
    let mut asked = JoinSet::new();
    for node in nodes {
        let (worker, resp, request) =
            (std::rc::Rc::clone(&operation.worker), operation.resp, operation.request.bytes().clone());
        asked.spawn_local(async move {
            let ask = async {
                let mut line = worker.spare_line(node, resp).await.map_err(|error| match error {
                    LineError::Full => CallError::QueueFull,
                    LineError::Connect(_) | LineError::Gone => CallError::NoNode,
                })?;
                line.ask(&request).await.map_err(|_| CallError::Lost)
            };
            (node, timeout_at(deadline, ask).await.unwrap_or(Err(CallError::Late)))
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asked.join_next().await {
        answers.push(answer.map_err(|_| ProxyError::BadReply)?);
    }
    answers.sort_by_key(|(node, _)| *node);
    Ok(answers)
}
