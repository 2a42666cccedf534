//! Asks all primaries at once what they know, and waits for none that is away: for commands that tools send first
//! of all. Owns no reply; who asks decides what a silent primary means.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};

use super::Operation;
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
        let mut answers = together(asked.collect()).await;
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

/// All futures at once; results in their order.
async fn together<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let open = futures.iter_mut().zip(&mut results).filter(|(_, result)| result.is_none());
        let mut left = false;
        for (future, result) in open {
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => *result = Some(value),
                Poll::Pending => left = true,
            }
        }
        if left { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    results.into_iter().flatten().collect()
}
