//! The end of a subscription at a node, from the word that ends it to the node's that it has ended. Until then the
//! node counts the connection among the receivers of a message, and so do we, so that it can be taken out again
//! ([`Counts`](super::counts::Counts)); and an UNSUBSCRIBE is answered when it is over, so that a PUBLISH after it
//! counts right.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::topic::Topic;
use crate::topology::node::NodeId;
use crate::worker::WorkerContext;
use crate::worker::mailbox::Process;

/// The ends that somebody waits for.
#[derive(Debug, Default)]
pub struct Ends {
    open: Cell<usize>,
    over: Notify,
}

impl Ends {
    /// Waits until all of them are over, or for `limit`: whatever the node does, the client gets no message of the
    /// topic any more.
    pub async fn over(&self, limit: Duration) {
        let over = async {
            loop {
                let over = self.over.notified();
                if self.open.get() == 0 {
                    return;
                }
                over.await;
            }
        };
        let _bounded = tokio::time::timeout(limit, over).await;
    }
}

/// One end; over when it is dropped: the node has said so, or the connection is lost.
#[derive(Debug)]
pub struct Leaving {
    process: Arc<Process>,
    topic: Rc<Topic>,
    node: NodeId,
    /// The subscription was confirmed, so that it is counted.
    stood: bool,
    ends: Rc<Ends>,
}

impl Leaving {
    /// The end of a topic's subscription at `node`; `stood`: it was confirmed.
    pub(super) fn new(
        worker: &WorkerContext,
        topic: &Rc<Topic>,
        (node, stood): (NodeId, bool),
        ends: &Rc<Ends>,
    ) -> Self {
        ends.open.set(ends.open.get() + 1);
        Self {
            process: Arc::clone(&worker.process),
            topic: Rc::clone(topic),
            node,
            stood,
            ends: Rc::clone(ends),
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.stood {
            self.process.pubsub.link(self.topic.kind, &self.topic.name, self.node, false);
        }
        let open = self.ends.open.get().saturating_sub(1);
        self.ends.open.set(open);
        if open == 0 {
            self.ends.over.notify_waiters();
        }
    }
}
