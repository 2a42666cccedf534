//! `node-connects-max`: how many connections of single requests and clients the process makes to one node at a
//! time. Hundreds of clients that lose their connections with a node all want new ones when it is back, or when
//! its replica has taken over: they get them one after another, as fast as the node shakes hands. Owns the turns,
//! of all workers together. The few connections that a worker's clients share must never wait here.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::topology::node::NodeId;

/// The turns of every node.
#[derive(Debug)]
pub struct Turns {
    most: usize,
    nodes: DashMap<NodeId, Arc<Semaphore>>,
}

/// The right to make one connection, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// So many at a time for each node.
    pub fn new(most: usize) -> Self {
        Self { most: most.min(Semaphore::MAX_PERMITS), nodes: DashMap::new() }
    }

    /// Waits for a turn at `node`; first come, first served. What made the connection worth having may be gone by
    /// then.
    pub async fn take(&self, node: NodeId) -> Turn {
        let turns =
            Arc::clone(&*self.nodes.entry(node).or_insert_with(|| Arc::new(Semaphore::new(self.most))));
        // An error would mean that the turns were closed, which nobody does.
        Turn { _permit: turns.acquire_owned().await.ok() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::worker::testkit;
    use tokio::time::{Duration, timeout};

    #[test]
    fn so_many_at_a_time_per_node_and_in_order() {
        testkit::block_on(async {
            let turns = Arc::new(Turns::new(2));
            let (here, there) = (NodeId(1), NodeId(2));
            let first = turns.take(here).await;
            let _second = turns.take(here).await;
            let _other = turns.take(there).await;
            assert!(timeout(Duration::ZERO, turns.take(here)).await.is_err());
            let (third, fourth) = (turns.take(here), turns.take(here));
            let mut third = Box::pin(third);
            let mut fourth = Box::pin(fourth);
            assert!(waits(&mut third).await && waits(&mut fourth).await, "both wait");
            drop(first);
            assert!(waits(&mut fourth).await, "it came later");
            assert!(!waits(&mut third).await);
        });
    }

    /// True while it is not ready.
    async fn waits<F: Future + Unpin>(future: &mut F) -> bool {
        timeout(Duration::ZERO, future).await.is_err()
    }
}
