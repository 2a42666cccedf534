//! Asking the whole keyspace: every node that has keys, by the nodes' own word. The table may be behind, so
//! each node is asked in the same push what it owns: only when the owners' own words cover all slots were all
//! of them asked. Keys of a slot under way are at its target, so that is asked, too.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::time::Instant;

use super::Operation;
use super::everyone::{Failure, Tally, error_text, is_passing};
use crate::backend::call::CallError;
use crate::error::ProxyError;
use crate::router::slot::KeySlots;
use crate::topology::node::NodeId;
use crate::topology::own::{CLUSTER_NODES, OwnWord, ROLE, all_covered};

/// What one node answered.
#[derive(Debug)]
pub(super) struct Heard {
    /// The node.
    pub node: NodeId,
    /// Its reply to the request (empty if there was none).
    pub reply: Bytes,
    /// Its own word, after it.
    pub word: OwnWord,
}

/// Why a try failed.
enum Trouble {
    /// Another may not.
    Passing(Failure),
    /// So would any other.
    Final(Failure),
}

/// What became of a request that all primaries get.
#[derive(Default)]
struct Wave {
    done: Vec<Heard>,
    lost: Vec<(NodeId, CallError)>,
    /// Did not get it; why.
    waits: Vec<(NodeId, String)>,
}

impl Wave {
    fn knows(&self, node: NodeId) -> bool {
        self.done.iter().any(|heard| heard.node == node) || self.lost.iter().any(|(lost, _)| *lost == node)
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.done.iter().for_each(|heard| tally.answered(heard.node, &heard.reply));
        self.lost.iter().for_each(|(node, error)| tally.failed(*node, *error));
        tally.not_done.extend(self.waits.iter().map(|(node, _)| *node));
        tally
    }

    fn take(&mut self, operation: &Operation, node: NodeId, answer: Result<Vec<Bytes>, CallError>) {
        match answer {
            Ok(frames) => match operation.heard(node, frames) {
                Ok(heard) => match error_text(&heard.reply).filter(|error| is_passing(error)) {
                    Some(error) => self.waits.push((node, error)),
                    None => self.done.push(heard),
                },
                Err(_) => self.lost.push((node, CallError::Lost)),
            },
            Err(error @ (CallError::Unsent | CallError::NoNode)) => {
                self.waits.push((node, ProxyError::from(error).text().to_owned()));
            }
            Err(error) => self.lost.push((node, error)),
        }
    }
}

impl Operation {
    /// The request by which a node is asked for its own word.
    pub(super) fn own_word_request(&self) -> &'static [u8] {
        match self.worker.limits.key_slots {
            KeySlots::Hashed => CLUSTER_NODES,
            KeySlots::One => ROLE,
        }
    }

    /// The own word of `node` in its reply to that; `None` if it is none.
    pub(super) fn own_word(&self, node: NodeId, reply: &[u8]) -> Option<OwnWord> {
        if self.worker.limits.key_slots == KeySlots::Hashed {
            return OwnWord::parse(reply);
        }
        let claims = self.worker.topology.claims();
        let known = claims.members.iter().find(|(_, member)| **member == node);
        let id = known.map(|(id, _)| id.clone()).unwrap_or_default();
        OwnWord::of_role(reply).map(|word| OwnWord { id, ..word })
    }

    /// The reply and the own word behind it.
    fn heard(&self, node: NodeId, mut frames: Vec<Bytes>) -> Result<Heard, Trouble> {
        let said = frames.pop().unwrap_or_default();
        if let Some(word) = self.own_word(node, &said) {
            return Ok(Heard { node, reply: frames.pop().unwrap_or_default(), word });
        }
        // A node that runs a script too long answers nothing else to anybody.
        Err(refusal(&said).unwrap_or(Trouble::Final(ProxyError::BadReply.into())))
    }

    /// Asks every node that has keys; `request` may be empty. Tried anew as a whole, for `owner-wait` at most,
    /// while a shard has no primary, a connection breaks, or the table turns out to be behind: for reads only.
    ///
    /// # Errors
    /// A node says no, or does not answer.
    pub(super) async fn hear(&self, request: &[u8]) -> Result<Vec<Heard>, Failure> {
        let until = self.worker.clock.tick().saturating_add(self.worker.limits.owner_wait);
        loop {
            let nodes = self.all_primaries().await?;
            let failure = match self.hear_once(nodes, request).await {
                Ok(heard) => return Ok(heard),
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::Passing(failure)) => failure,
            };
            if self.worker.clock.tick() >= until || Instant::now() >= self.deadline() {
                return Err(failure);
            }
            self.look_afresh().await;
        }
    }

    async fn hear_once(&self, nodes: Vec<NodeId>, request: &[u8]) -> Result<Vec<Heard>, Trouble> {
        let frames = 1 + u16::from(!request.is_empty());
        let push = [request, self.own_word_request()].concat();
        let mut all: Vec<Heard> = Vec::new();
        let mut open = nodes;
        while !open.is_empty() {
            let mut tally = Tally::default();
            let mut first: Option<CallError> = None;
            for (node, answer) in self.push_each(&open, &push, frames).await {
                match answer {
                    Ok(frames) => {
                        let heard = self.heard(node, frames)?;
                        tally.done.push(node);
                        all.push(heard);
                    }
                    Err(error) => {
                        tally.failed(node, error);
                        first.get_or_insert(error);
                    }
                }
            }
            if let Some(error) = first {
                let failure = self.partial_error(error.into(), &tally);
                return Err(match error {
                    CallError::Unsent | CallError::Lost | CallError::NoNode => Trouble::Passing(failure),
                    _ => Trouble::Final(failure),
                });
            }
            if let Some(refused) = all.iter().find_map(|heard| refusal(&heard.reply)) {
                return Err(refused);
            }
            open = self.targets(&all).ok_or(Trouble::Passing(ProxyError::ClusterDown.into()))?;
        }
        all.retain(|heard| heard.word.primary);
        if all_covered(all.iter().map(|heard| &heard.word)) {
            Ok(all)
        } else {
            Err(Trouble::Passing(ProxyError::ClusterDown.into()))
        }
    }

    /// Where keys of slots under way may be, as far as nobody asked there. `None`: at a node not known yet.
    fn targets(&self, all: &[Heard]) -> Option<Vec<NodeId>> {
        let claims = self.worker.topology.claims();
        let mut targets = Vec::new();
        for (_, to) in all.iter().flat_map(|heard| &heard.word.leaving) {
            let node = *claims.members.get(to)?;
            if !all.iter().any(|heard| heard.node == node) && !targets.contains(&node) {
                targets.push(node);
            }
        }
        Some(targets)
    }

    /// Does to every primary what `request` says, also to those that appear meanwhile; a shard that fails over
    /// is waited for, `owner-wait` at most. No node gets it twice. The replies may be errors, but none that says
    /// "not now".
    ///
    /// # Errors
    /// Some primary could not be reached, or nobody knows whether it did it.
    pub(super) async fn to_all_primaries(&self, request: &[u8]) -> Result<Vec<Heard>, Failure> {
        let until = self.worker.clock.tick().saturating_add(self.worker.limits.owner_wait);
        let push = [request, self.own_word_request()].concat();
        let mut wave = Wave::default();
        loop {
            wave.waits.clear();
            let nodes = self.all_primaries().await;
            let nodes = nodes.map_err(|error| self.partial_error(error, &wave.tally()))?;
            let open: Vec<NodeId> = nodes.iter().filter(|node| !wave.knows(**node)).copied().collect();
            for (node, answer) in self.push_each(&open, &push, 2).await {
                wave.take(self, node, answer);
            }
            // One that was replaced is no part of the cluster any more, whatever it did.
            wave.lost.retain(|(node, _)| nodes.contains(node));
            let is_over = self.worker.clock.tick() >= until || Instant::now() >= self.deadline();
            // One that can be reached again stays, and what it did nobody knows.
            let is_settled = |(node, error): &&(NodeId, CallError)| {
                is_over || *error != CallError::Lost || self.worker.usable_lane(*node, self.resp).is_some()
            };
            if let Some((_, error)) = wave.lost.iter().find(is_settled) {
                return Err(self.partial_error(ProxyError::from(*error), &wave.tally()));
            }
            let is_whole = wave.waits.is_empty() && wave.lost.is_empty();
            if is_whole && all_covered(wave.done.iter().map(|heard| &heard.word)) {
                return Ok(wave.done);
            }
            if is_over {
                return Err(match wave.waits.first() {
                    Some((_, error)) => self.partial(error, &wave.tally()),
                    None => self.partial_error(ProxyError::ClusterDown, &wave.tally()),
                });
            }
            self.look_afresh().await;
        }
    }

    /// The one reply of a command that every node has to do: the first one's, if none refused.
    pub(super) fn all_succeeded(&self, done: &[Heard]) -> Result<Vec<u8>, Failure> {
        let refused: Vec<&Heard> = done.iter().filter(|heard| error_text(&heard.reply).is_some()).collect();
        match (refused.first(), done.first()) {
            (Some(first), _) if refused.len() == done.len() => Ok(first.reply.to_vec()),
            (Some(first), _) => {
                let mut tally = Tally::default();
                done.iter().for_each(|heard| tally.answered(heard.node, &heard.reply));
                Err(self.partial(&error_text(&first.reply).unwrap_or_default(), &tally))
            }
            (None, Some(first)) => Ok(first.reply.to_vec()),
            (None, None) => Err(ProxyError::ClusterDown.into()),
        }
    }
}

/// An error reply, as an end.
fn refusal(reply: &[u8]) -> Option<Trouble> {
    let failure = Failure::Frame(reply.to_vec());
    Some(match error_text(reply)? {
        error if is_passing(&error) => Trouble::Passing(failure),
        _ => Trouble::Final(failure),
    })
}

/// What each node owned when it was heard.
pub(super) fn by_node(all: &[Heard]) -> HashMap<NodeId, &OwnWord> {
    all.iter().map(|heard| (heard.node, &heard.word)).collect()
}
