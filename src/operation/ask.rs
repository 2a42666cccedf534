//! How an operation asks nodes: one node, the owner of a slot, all primaries. What "not here" and "not now"
//! mean is settled here, so that an operation sees replies only.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::Operation;
use crate::backend::call::{Call, CallError};
use crate::backend::lane::Lane;
use crate::backend::ticket::NO_SLOT;
use crate::command::{CommandClass, Flags};
use crate::error::ProxyError;
use crate::topology::node::NodeId;
use crate::topology::{Event, Trigger};

/// How often a wait for a node looks again, should no event tell.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Operation {
    /// A request that writes goes to `node`: WAIT has to know.
    pub fn note_write(&self, slot: u16, node: NodeId) {
        if self.command.flags.has(Flags::WRITE) || self.command.class == CommandClass::Script {
            self.session.inner().written.add(slot, node, &self.worker.losses);
        }
    }

    /// The primaries of all shards, once every slot has one.
    ///
    /// # Errors
    /// None for longer than `owner-wait`.
    pub async fn primaries(&self) -> Result<Vec<NodeId>, ProxyError> {
        let until = self.worker.clock.now() + self.worker.limits.owner_wait;
        loop {
            let changed = self.worker.changed.notified();
            {
                let table = self.worker.table.borrow();
                if usize::from(table.covered()) == crate::topology::table::SLOTS {
                    return Ok(table.shards().iter().map(|shard| shard.primary).collect());
                }
            }
            self.worker.topology.report(Event::Refresh(Trigger::Uncovered));
            if self.worker.clock.tick() >= until {
                return Err(ProxyError::ClusterDown);
            }
            let _looked = tokio::time::timeout(LOOK_AGAIN, changed).await;
        }
    }

    /// The primary of `slot` (of any shard, for [`NO_SLOT`]), once there is one.
    ///
    /// # Errors
    /// None for longer than `owner-wait`.
    pub async fn owner(&self, slot: u16) -> Result<NodeId, ProxyError> {
        let until = self.worker.clock.now() + self.worker.limits.owner_wait;
        loop {
            let changed = self.worker.changed.notified();
            if let Some(node) = self.worker.owner(slot, self.session.id)
                && self.worker.topology.node(node).is_some_and(|node| node.is_up())
            {
                return Ok(node);
            }
            self.worker.topology.report(Event::Refresh(Trigger::Uncovered));
            if self.worker.clock.tick() >= until {
                return Err(ProxyError::ClusterDown);
            }
            let _looked = tokio::time::timeout(LOOK_AGAIN, changed).await;
        }
    }

    /// The shared lane to `node`, once it is connected.
    pub(super) async fn ready_lane(&self, node: NodeId) -> Result<Rc<Lane>, CallError> {
        let until = self.worker.clock.now() + self.worker.limits.owner_wait;
        loop {
            let changed = self.worker.changed.notified();
            if let Some(lane) = self.worker.usable_lane(node, self.resp) {
                return Ok(lane);
            }
            if self.worker.clock.tick() >= until || !self.worker.table.borrow().is_member(node) {
                return Err(CallError::NoNode);
            }
            let _looked = tokio::time::timeout(LOOK_AGAIN, changed).await;
        }
    }

    /// The session's own lane to `node`, once it is connected.
    ///
    /// # Errors
    /// It is not within `owner-wait`.
    pub async fn private_lane(&self, node: NodeId) -> Result<Rc<Lane>, CallError> {
        let until = self.worker.clock.now() + self.worker.limits.owner_wait;
        loop {
            let changed = self.worker.changed.notified();
            if let Some(lane) = self.worker.open_private_lane(&self.session, node, self.resp) {
                return Ok(lane);
            }
            if self.worker.clock.tick() >= until || !self.worker.table.borrow().is_member(node) {
                return Err(CallError::NoNode);
            }
            let _looked = tokio::time::timeout(LOOK_AGAIN, changed).await;
        }
    }

    /// Queues a request of `frames` replies at `node`, without waiting for them. It counts as sent.
    ///
    /// # Errors
    /// The node can't be reached within `owner-wait`, or its queue is full.
    pub async fn call(&self, node: NodeId, request: &[u8], frames: u16) -> Result<Rc<Call>, CallError> {
        let lane = self.ready_lane(node).await?;
        self.mark_sent();
        self.note_write(NO_SLOT, node);
        lane.call(&self.worker, request, frames).ok_or(CallError::QueueFull)
    }

    /// One request that changes nothing, whatever becomes of it, and its reply.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn inquire(&self, node: NodeId, request: &[u8]) -> Result<Bytes, CallError> {
        let lane = self.ready_lane(node).await?;
        lane.call(&self.worker, request, 1).ok_or(CallError::QueueFull)?.frame().await
    }

    /// One request and its reply, errors of the node included.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn ask(&self, node: NodeId, request: &[u8]) -> Result<Bytes, CallError> {
        self.call(node, request, 1).await?.frame().await
    }

    /// The same request to each of `nodes`, all at once; replies in the order of `nodes`.
    pub async fn ask_each(
        &self,
        nodes: &[NodeId],
        request: &[u8],
    ) -> Vec<(NodeId, Result<Bytes, CallError>)> {
        let mut calls = Vec::with_capacity(nodes.len());
        for &node in nodes {
            calls.push((node, self.call(node, request, 1).await));
        }
        let mut replies = Vec::with_capacity(nodes.len());
        for (node, call) in calls {
            let reply = match call {
                Ok(call) => call.frame().await,
                Err(error) => Err(error),
            };
            replies.push((node, reply));
        }
        replies
    }
}
