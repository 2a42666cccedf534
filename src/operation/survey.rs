//! Asks all primaries at once what they know, and waits for none that is away: for commands that tools send first
//! of all. Owns no reply; who asks decides what a silent primary means.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};

use super::Operation;
use super::wait::all;
use crate::backend::call::Room;
use crate::topology::node::NodeId;
use crate::topology::table::SLOTS;

/// How often a wait for a connection looks again, should no event tell.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Operation {
    /// What each primary says to `push`, which owes `frames` replies: within `connect-timeout` altogether, `None`
    /// for one that has not said it by then. One more `None` where a slot has no owner.
    pub(super) async fn survey(&self, push: &[u8], frames: u16) -> Vec<Option<Vec<Bytes>>> {
        let (primaries, complete) = {
            let table = self.worker.table.borrow();
            let primaries: Vec<NodeId> = table.shards().iter().map(|shard| shard.primary).collect();
            (primaries, usize::from(table.covered()) == SLOTS)
        };
        let until = self.deadline().min(Instant::now() + self.worker.limits.connect_timeout);
        let room = Room::new(self.worker.limits.merge_reply_bytes, &self.worker.budget);
        let asked = primaries.into_iter().map(|node| {
            let said = self.said_by(node, push, frames, &room);
            async move { timeout_at(until, said).await.ok().flatten() }
        });
        let mut answers = all(asked).await;
        if !complete {
            answers.push(None);
        }
        answers
    }

    async fn said_by(&self, node: NodeId, push: &[u8], frames: u16, room: &Rc<Room>) -> Option<Vec<Bytes>> {
        loop {
            let changed = self.worker.changed.notified();
            if !self.worker.topology.node(node)?.is_up() {
                return None;
            }
            if let Some(lane) = self.worker.usable_lane(node, self.resp) {
                let call = lane.call_sharing(&self.worker, push, frames, room)?;
                return call.frames().await.ok();
            }
            let _looked = timeout(LOOK_AGAIN, changed).await;
        }
    }
}
