//! CLUSTER COUNTKEYSINSLOT and CLUSTER GETKEYSINSLOT. A node answers them for slots it does not own too, with 0 or
//! nothing, and knows no redirect for them: so the owner is asked by its own word, and while the slot is under way
//! its target as well, where keys that have left already are.

use std::collections::HashSet;

use bytes::Bytes;

use super::Operation;
use super::everyone::{Failure, error_text};
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::reply::{integer, list_elements};
use crate::topology::node::NodeId;
use crate::topology::table::SLOTS;

/// Either of them.
pub(super) async fn slot_keys(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let args = operation.request.args();
    let number = |at: usize| std::str::from_utf8(args.at(at)).ok().and_then(|text| text.parse::<u64>().ok());
    let Some(slot) = number(2).and_then(|slot| u16::try_from(slot).ok()).filter(|&s| usize::from(s) < SLOTS)
    else {
        // No slot: any node has the words for it.
        return ask(operation, operation.primaries().await?.first().copied())
            .await
            .map(|reply| reply.to_vec());
    };
    let until = operation.worker.clock.tick().saturating_add(operation.worker.limits.owner_wait);
    loop {
        let node = operation.owner(slot).await?;
        if let Some(replies) = at_owner(operation, node, slot).await? {
            return merge(&replies, number(3));
        }
        if operation.worker.clock.tick() >= until {
            return Err(ProxyError::ClusterDown.into());
        }
        operation.look_afresh().await;
    }
}

/// What `node` says, and the target of the slot's migration if there is one. `None`: it is not the owner.
async fn at_owner(operation: &Operation, node: NodeId, slot: u16) -> Result<Option<Vec<Bytes>>, Failure> {
    let push = [operation.own_word_request(), operation.request.bytes()].concat();
    let answer = operation.push_each(&[node], &push, 2).await.pop();
    let frames = answer.map_or(Ok(Vec::new()), |(_, answer)| answer).map_err(ProxyError::from)?;
    let [word, reply] = &frames[..] else { return Err(ProxyError::BadReply.into()) };
    let Some(word) = operation.own_word(node, word).filter(|word| word.owns(slot)) else { return Ok(None) };
    let mut replies = vec![reply.clone()];
    if let Some((_, to)) = word.leaving.iter().find(|(leaving, _)| *leaving == slot) {
        let target = operation.worker.topology.claims().members.get(to).copied();
        let Some(target) = target else { return Ok(None) };
        replies.push(ask(operation, Some(target)).await?);
    }
    Ok(Some(replies))
}

async fn ask(operation: &Operation, node: Option<NodeId>) -> Result<Bytes, Failure> {
    let node = node.ok_or(ProxyError::ClusterDown)?;
    let answer = operation.push_each(&[node], operation.request.bytes(), 1).await.pop();
    let mut frames = answer.map_or(Ok(Vec::new()), |(_, answer)| answer).map_err(ProxyError::from)?;
    Ok(frames.pop().ok_or(ProxyError::BadReply)?)
}

/// Numbers are added; lists put behind each other, each key once and `most` in all.
fn merge(replies: &[Bytes], most: Option<u64>) -> Result<Vec<u8>, Failure> {
    if let Some(error) = replies.iter().find(|reply| error_text(reply).is_some()) {
        return Ok(error.to_vec());
    }
    let mut out = Vec::new();
    if let Some(numbers) = replies.iter().map(|reply| integer(reply)).collect::<Option<Vec<i64>>>() {
        encode::integer(&mut out, numbers.iter().sum());
        return Ok(out);
    }
    let (mut seen, mut body) = (HashSet::new(), Vec::new());
    for reply in replies {
        let each = |_, start: usize, len: usize| {
            if most.is_none_or(|most| (seen.len() as u64) < most)
                && seen.insert(reply.slice(start..start + len))
            {
                body.extend_from_slice(reply.get(start..start + len).unwrap_or(&[]));
            }
        };
        list_elements(reply, each).ok_or(ProxyError::BadReply)?;
    }
    encode::array(&mut out, seen.len());
    out.extend_from_slice(&body);
    Ok(out)
}
