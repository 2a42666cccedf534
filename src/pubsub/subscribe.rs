//! SUBSCRIBE, PSUBSCRIBE and SSUBSCRIBE where nodes have to be asked: an operation that makes the hub want the
//! topics, waits until all of them stand, and subscribes the client then. Dropped, it wants nothing any more.
//! UNSUBSCRIBE and its like where nobody else of the worker wants a topic: the client is told when nodes know.

use std::rc::Rc;

use super::client::{has_room, join, leave};
use super::leaving::Ends;
use super::topic::{Topic, Trouble};
use super::{Act, Kind, hub};
use crate::command::Handling;
use crate::error::ProxyError;
use crate::operation::Operation;
use crate::protocol::encode;
use crate::worker::WorkerContext;

/// Somebody wants a topic without being subscribed yet; ends when dropped.
struct Interest {
    worker: Rc<WorkerContext>,
    topic: Rc<Topic>,
}

impl Interest {
    fn new(worker: &Rc<WorkerContext>, kind: Kind, name: &[u8]) -> Self {
        let topic = hub::make(worker, kind, name);
        topic.begin_interest();
        worker.hub.hold(1);
        Self { worker: Rc::clone(worker), topic }
    }

    /// Waits until it stands.
    async fn stands(&self, until: u64) -> Result<(), Failed> {
        loop {
            let changed = self.topic.changed.notified();
            if hub::stands(&self.worker, &self.topic) {
                return Ok(());
            }
            if let Some(Trouble::Refused(text)) = &*self.topic.trouble.borrow() {
                return Err(Failed::Refused(text.clone()));
            }
            let now = self.worker.clock.tick();
            let rest = std::time::Duration::from_micros(until.saturating_sub(now));
            if rest.is_zero() || tokio::time::timeout(rest, changed).await.is_err() {
                return Err(Failed::NoNode);
            }
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.topic.end_interest();
        self.worker.hub.hold(-1);
        hub::release(&self.worker, &self.topic, &Rc::default());
    }
}

enum Failed {
    /// No node took it for `owner-wait`.
    NoNode,
    /// A node's error.
    Refused(Box<[u8]>),
}

/// SUBSCRIBE, PSUBSCRIBE and SSUBSCRIBE, where nodes have to be asked. All of it or nothing.
///
/// # Errors
/// Too many subscriptions, or no reachable node.
pub async fn subscribe(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let Handling::PubSub(what) = operation.command.handling else { return Err(ProxyError::BadReply) };
    let Act::Join(kind) = what.act() else { return Err(ProxyError::BadReply) };
    operation.wait_for_ever();
    let (worker, session, args) = (&operation.worker, &operation.session, operation.request.args());
    if !has_room(worker, &session.inner(), kind, &args) {
        return Err(ProxyError::SubscriptionsFull);
    }
    let until = worker.clock.now() + worker.limits.owner_wait;
    let wanted: Vec<Interest> = args.iter().skip(1).map(|name| Interest::new(worker, kind, name)).collect();
    for interest in &wanted {
        match interest.stands(until).await {
            Ok(()) => {}
            Err(Failed::Refused(text)) => {
                let mut frame = Vec::new();
                encode::error(&mut frame, text);
                return Ok(frame);
            }
            Err(Failed::NoNode) if worker.table.borrow().epoch() == 0 => return Err(ProxyError::NotReady),
            Err(Failed::NoNode) => return Err(ProxyError::ClusterDown),
        }
    }
    operation.is_heard();
    let topics: Vec<Rc<Topic>> = wanted.iter().map(|interest| Rc::clone(&interest.topic)).collect();
    Ok(join(session, &mut session.inner(), kind, &topics))
}

/// UNSUBSCRIBE, PUNSUBSCRIBE and SUNSUBSCRIBE, where nodes have to be told. A node that does not answer within
/// `connect-timeout` may still count the client among the receivers of a message.
///
/// # Errors
/// None but for a command of another kind.
pub async fn unsubscribe(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let Handling::PubSub(what) = operation.command.handling else { return Err(ProxyError::BadReply) };
    let Act::Leave(kind) = what.act() else { return Err(ProxyError::BadReply) };
    let (session, args) = (&operation.session, operation.request.args());
    let ends: Rc<Ends> = Rc::default();
    let frames = leave(session, &mut session.inner(), kind, &args, &ends);
    operation.is_heard();
    ends.over(operation.worker.limits.connect_timeout).await;
    Ok(frames)
}
