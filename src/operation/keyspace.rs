//! Commands about all keys: every node that has keys is asked, and one reply made of what they say. A shard that
//! does not answer makes the whole reply an error: never a count too small, never a key left out.

use std::collections::HashSet;

use bytes::Bytes;

use super::Operation;
use super::census::{Heard, by_node};
use super::everyone::Failure;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::reply::{integer, list_elements, list_head};
use crate::topology::node::NodeId;

/// DBSIZE: the keys of all shards, counted.
pub(super) async fn dbsize(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let heard = operation.hear(operation.request.bytes()).await?;
    let sum = counts(&heard)?.iter().map(|(_, count)| count).fold(0, |sum: i64, n| sum.saturating_add(*n));
    let mut out = Vec::new();
    encode::integer(&mut out, sum);
    Ok(out)
}

/// KEYS: the keys of all shards, each once.
pub(super) async fn keys(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let request = operation.request.bytes();
    let mut heard = operation.hear(request).await?;
    let held = operation.worker.budget.hold(size(&heard));
    let moving = |heard: &[Heard]| heard.iter().any(|heard| !heard.word.leaving.is_empty());
    let mut moved = moving(&heard);
    // A key on its way may have come to a node that had answered, from one that had not: those that own more
    // now, or receive, are asked again.
    let now = operation.hear(&[]).await?;
    let gained = {
        let before = by_node(&heard);
        now.iter().any(|now| before.get(&now.node).is_none_or(|then| then.slots != now.word.slots))
    };
    moved |= gained || moving(&now);
    if moved {
        let again = operation.hear(request).await?;
        held.add(size(&again));
        heard.extend(again);
    }
    merge(operation, heard.into_iter().map(|heard| heard.reply), moved)
}

fn size(heard: &[Heard]) -> usize {
    heard.iter().map(|heard| heard.reply.len()).sum()
}

/// One array of several; each element once if `distinct`.
fn merge(
    operation: &Operation,
    replies: impl Iterator<Item = Bytes>,
    distinct: bool,
) -> Result<Vec<u8>, Failure> {
    let limit = operation.worker.limits.merge_reply_bytes;
    let (mut seen, mut body, mut count, mut kind) = (HashSet::new(), Vec::new(), 0, b'*');
    for reply in replies {
        let (list, elements, start) = list_head(&reply).ok_or(ProxyError::BadReply)?;
        kind = list;
        if distinct {
            let each = |_, start: usize, len: usize| {
                if seen.insert(reply.slice(start..start + len)) {
                    body.extend_from_slice(reply.get(start..start + len).unwrap_or(&[]));
                }
            };
            list_elements(&reply, each).ok_or(ProxyError::BadReply)?;
            count = seen.len();
        } else {
            body.extend_from_slice(reply.get(start..).unwrap_or(&[]));
            count += elements;
        }
        if body.len() as u64 > limit {
            return Err(ProxyError::MergeTooLarge.into());
        }
    }
    let mut out = Vec::with_capacity(body.len() + 16);
    encode::header(&mut out, kind, count);
    out.append(&mut body);
    Ok(out)
}

/// RANDOMKEY: of a shard drawn by the number of its keys, so that every key is as likely as any other.
pub(super) async fn randomkey(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let heard = operation.hear(b"*1\r\n$6\r\nDBSIZE\r\n").await?;
    let mut open: Vec<(NodeId, i64)> = counts(&heard)?.into_iter().filter(|(_, count)| *count > 0).collect();
    while !open.is_empty() {
        let at = draw(&open);
        let (node, _) = open.swap_remove(at.min(open.len() - 1));
        let answer = operation.push_each(&[node], operation.request.bytes(), 1).await.pop();
        let Some((node, answer)) = answer else { break };
        let frames = answer.map_err(|error| {
            let mut tally = super::everyone::Tally::default();
            tally.failed(node, error);
            operation.partial_error(error.into(), &tally)
        })?;
        let frame = frames.first().ok_or(ProxyError::BadReply)?;
        // All its keys may have expired since.
        if frame.as_ref() != b"$-1\r\n" && frame.as_ref() != b"_\r\n" {
            return Ok(frame.to_vec());
        }
    }
    let mut out = Vec::new();
    encode::null(&mut out, operation.resp);
    Ok(out)
}

/// An index, as likely as its weight. The sum of weights is above zero.
fn draw(weighted: &[(NodeId, i64)]) -> usize {
    let sum = weighted.iter().fold(0i64, |sum, (_, weight)| sum.saturating_add(*weight));
    let mut left = fastrand::i64(0..sum.max(1));
    let at = weighted.iter().position(|(_, weight)| {
        left -= weight;
        left < 0
    });
    at.unwrap_or(0)
}

fn counts(heard: &[Heard]) -> Result<Vec<(NodeId, i64)>, Failure> {
    let count = |heard: &Heard| Some((heard.node, integer(&heard.reply)?));
    Ok(heard.iter().map(count).collect::<Option<_>>().ok_or(ProxyError::BadReply)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_by_weight() {
        let weighted = [(NodeId(0), 1), (NodeId(1), 0), (NodeId(2), 9)];
        let mut drawn = [0; 3];
        (0..10_000).for_each(|_| drawn[draw(&weighted)] += 1);
        assert_eq!(drawn[1], 0);
        assert!((700..1300).contains(&drawn[0]), "{drawn:?}");
        assert_eq!(draw(&[(NodeId(0), i64::MAX), (NodeId(1), i64::MAX)]), 0, "no overflow");
    }
}
