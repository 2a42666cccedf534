//! FLUSHALL and FLUSHDB: every key that was there when the command came is gone when it is answered, or the
//! answer is an error. All primaries are flushed at once, and then asked what they own: one that got slots
//! from another since its own flush, or is the target of a slot under way, may have got keys that were not
//! flushed yet; it is flushed once more. Whatever is written meanwhile may be gone or not, as in Redis.

use super::Operation;
use super::census::by_node;
use super::everyone::{Failure, Tally, error_text};
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::topology::node::NodeId;
use crate::topology::own::OwnWord;

/// Redis' words for options it does not know.
const SYNTAX_ERROR: &str = "ERR syntax error";

/// FLUSHALL, FLUSHDB.
pub(super) async fn flush(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let args = operation.request.args();
    let is = |word: &str| args.at(1).eq_ignore_ascii_case(word.as_bytes());
    if args.len() > 2 || (args.len() == 2 && !is("ASYNC") && !is("SYNC")) {
        let mut frame = Vec::new();
        encode::error(&mut frame, SYNTAX_ERROR);
        return Ok(frame);
    }
    let request = operation.request.bytes();
    let first = operation.to_all_primaries(request).await?;
    let reply = operation.all_succeeded(&first)?;
    if error_text(&reply).is_some() {
        return Ok(reply);
    }
    let now = operation.hear(&[]).await?;
    let before = by_node(&first);
    let gained = |word: &OwnWord, node: NodeId| {
        before.get(&node).is_none_or(|then| word.slots.iter().any(|range| !holds(then, *range)))
    };
    let claims = operation.worker.topology.claims();
    let words = || now.iter().chain(&first).map(|heard| &heard.word);
    let targets: Vec<NodeId> = words()
        .flat_map(|word| &word.leaving)
        .filter_map(|(_, to)| claims.members.get(to))
        .copied()
        .collect();
    let again: Vec<NodeId> = now
        .iter()
        .filter(|heard| gained(&heard.word, heard.node) || targets.contains(&heard.node))
        .map(|heard| heard.node)
        .collect();
    once_more(operation, &again, first.iter().map(|heard| heard.node)).await?;
    Ok(reply)
}

async fn once_more(
    operation: &Operation,
    nodes: &[NodeId],
    flushed: impl Iterator<Item = NodeId>,
) -> Result<(), Failure> {
    if nodes.is_empty() {
        return Ok(());
    }
    let mut tally =
        Tally { done: flushed.filter(|node| !nodes.contains(node)).collect(), ..Tally::default() };
    let mut first: Option<String> = None;
    for (node, answer) in operation.push_each(nodes, operation.request.bytes(), 1).await {
        match answer {
            Ok(frames) => {
                let frame = frames.first().map_or(&[][..], |frame| frame);
                tally.answered(node, frame);
                first = first.or(error_text(frame));
            }
            Err(error) => {
                tally.failed(node, error);
                first.get_or_insert_with(|| ProxyError::from(error).text().to_owned());
            }
        }
    }
    first.map_or(Ok(()), |error| Err(operation.partial(&error, &tally)))
}

/// True when all slots of `range` were owned then.
fn holds(then: &OwnWord, (first, last): (u16, u16)) -> bool {
    (first..=last).all(|slot| then.owns(slot))
}
