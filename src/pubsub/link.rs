//! A worker's subscribing connection to one node. Owns the socket, what is to be written and what was asked and
//! not answered yet. RESP3, or RESP2 where the node speaks nothing else: then too nothing is asked on it but what
//! a subscriber may say. Reads as fast as the node sends: who is slow is settled per client.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;

use super::leaving::Leaving;
use super::reader::LinkReader;
pub use super::topic::Ask;
use super::topic::Topic;
use super::{Kind, hub};
use crate::backend::connect::{ConnectError, dial};
use crate::backend::handshake::HandshakeError;
use crate::protocol::encode;
use crate::session::state::Resp;
use crate::topology::Event;
use crate::topology::node::Node;
use crate::worker::WorkerContext;
use crate::worker::clock::micros;
use crate::worker::transport::{Transport, WriteSide};

/// First and longest pause after a failed attempt; doubled each time, with jitter.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_LAST: Duration = Duration::from_millis(1000);
/// PING as a request.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The connection.
#[derive(Debug)]
pub struct Link {
    /// The node.
    pub node: Arc<Node>,
    /// Connected: topics can be asked for.
    ready: Cell<bool>,
    /// Bytes of a message that is not whole.
    receiving: Cell<usize>,
    /// When a PING was sent that the node answered, and when the answer came; of the last one.
    answered: Cell<Option<(u64, u64)>>,
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    writer: Option<WriteSide>,
    out: BytesMut,
    asks: VecDeque<Ask>,
    waker: Option<Waker>,
    condemned: Option<&'static str>,
}

impl Link {
    /// A connection to `node`, being made.
    pub fn open(worker: &Rc<WorkerContext>, node: Arc<Node>) -> Rc<Self> {
        let link = Rc::new(Self {
            node,
            ready: Cell::new(false),
            receiving: Cell::new(0),
            answered: Cell::new(None),
            inner: RefCell::default(),
        });
        tokio::task::spawn_local(run(Rc::clone(worker), Rc::clone(&link)));
        link
    }

    /// True when topics can be asked for.
    pub fn is_ready(&self) -> bool {
        self.ready.get()
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.receiving.get() + self.inner.borrow().out.len()
    }

    /// Asks for a topic. One command each, so that an error is about one.
    pub fn join(&self, topic: &Rc<Topic>) {
        self.queue(topic.kind.join_word(), topic, Ask::Join(Rc::clone(topic)));
    }

    /// Ends the subscription of a topic.
    pub(super) fn leave(&self, topic: &Rc<Topic>, leaving: Leaving, now: u64) {
        let ask = Ask::Leave { topic: Rc::clone(topic), told: false, leaving };
        self.queue(topic.kind.leave_word(), topic, ask);
        if topic.kind == Kind::Shard {
            // The node may end it before it reads this, and then answers with a redirect: PONG tells.
            self.ping(now);
        }
    }

    /// Asks for a sign of life.
    pub fn ping(&self, now: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.out.extend_from_slice(PING);
        inner.asks.push_back(Ask::Ping(now));
        inner.wake();
    }

    /// A PING that was sent then was answered.
    pub(super) fn ponged(&self, sent: u64, now: u64) {
        self.answered.set(Some((sent, now)));
    }

    /// When a PING was sent that the node answered, and when the answer came; of the last one.
    pub(super) fn answered(&self) -> Option<(u64, u64)> {
        self.answered.get()
    }

    /// Asks for a sign of life, unless one is awaited that was asked for later than `since`.
    pub(super) fn prove(&self, since: u64, now: u64) {
        let awaited = |ask: &Ask| matches!(ask, Ask::Ping(sent) if *sent >= since);
        let owed = self.inner.borrow().asks.iter().any(awaited);
        if self.is_ready() && !owed {
            self.ping(now);
        }
    }

    fn queue(&self, word: &str, topic: &Topic, ask: Ask) {
        let mut request = Vec::with_capacity(topic.name.len() + 48);
        encode::array(&mut request, 2);
        encode::bulk(&mut request, word.to_ascii_uppercase());
        encode::bulk(&mut request, &topic.name);
        let mut inner = self.inner.borrow_mut();
        inner.out.extend_from_slice(&request);
        inner.asks.push_back(ask);
        inner.wake();
    }

    /// Gives the connection up.
    pub fn condemn(&self, why: &'static str) {
        let mut inner = self.inner.borrow_mut();
        if inner.writer.is_some() && inner.condemned.is_none() {
            inner.condemned = Some(why);
            inner.wake();
        }
    }

    /// What the node answers next.
    pub fn next_ask(&self) -> Option<Ask> {
        self.inner.borrow_mut().asks.pop_front()
    }

    /// The node said that a subscription ended. False when nobody asked for that. For a shard channel more
    /// may come about it, up to the PONG behind.
    pub fn note_left(&self, kind: Kind, name: &[u8]) -> bool {
        let mut inner = self.inner.borrow_mut();
        let asked = |ask: &&mut Ask| matches!(ask, Ask::Leave { topic, .. } if topic.kind == kind && topic.name == name);
        if kind != Kind::Shard {
            let front = inner.asks.front_mut();
            return front.filter(asked).is_some() && inner.asks.pop_front().is_some();
        }
        match inner.asks.iter_mut().find(asked) {
            Some(Ask::Leave { told, .. }) => {
                *told = true;
                true
            }
            _ => false,
        }
    }

    /// The reader is at work: how to wake it. Why it should end, if it should.
    pub(super) fn attend(&self, cx: &Context<'_>) -> Option<&'static str> {
        let mut inner = self.inner.borrow_mut();
        if inner.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            inner.waker = Some(cx.waker().clone());
        }
        inner.condemned
    }

    /// Bytes of a message that is not whole.
    pub(super) fn set_receiving(&self, bytes: usize) {
        self.receiving.set(bytes);
    }

    /// Writes what the socket takes.
    pub(super) fn write(&self, cx: &mut Context<'_>) -> Result<(), &'static str> {
        let mut inner = self.inner.borrow_mut();
        let Inner { writer: Some(writer), out, .. } = &mut *inner else { return Ok(()) };
        while !out.is_empty() {
            match writer.try_write(out) {
                Ok(written) => drop(out.split_to(written)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    match writer.poll_write_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Err("write failed"),
                        Poll::Pending => return Ok(()),
                    }
                }
                Err(_) => return Err("write failed"),
            }
        }
        *out = BytesMut::new();
        Ok(())
    }
}

impl Inner {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// The end of a link's task, also by a panic: another one may be opened.
struct End {
    worker: Rc<WorkerContext>,
    link: Rc<Link>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.link.ready.set(false);
        *self.link.inner.borrow_mut() = Inner::default();
        hub::link_ended(&self.worker, &self.link);
    }
}

async fn run(worker: Rc<WorkerContext>, link: Rc<Link>) {
    let _end = End { worker: Rc::clone(&worker), link: Rc::clone(&link) };
    let (mut failures, mut resp) = (0u32, Resp::V3);
    while link.node.is_up() && hub::uses(&worker, link.node.id) {
        let begun = worker.clock.tick();
        match dial(&worker, &link.node, resp, false).await {
            Ok(transport) => {
                serve(&worker, &link, transport).await;
                // A node that takes connections only to close them is not to be dialled in a loop.
                let lasted = worker.clock.tick() - begun >= micros(BACKOFF_LAST);
                failures = if lasted { 0 } else { failures + 1 };
            }
            Err(ConnectError::Handshake(HandshakeError::NoProto)) if resp == Resp::V3 => {
                resp = Resp::V2;
                continue;
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(node = %link.node.addr, %error, "cannot connect to node for subscriptions");
                }
                worker.topology.report(Event::ConnectFailed(link.node.id));
                failures += 1;
            }
        }
        if failures > 0 {
            let ceiling = BACKOFF_LAST.min(BACKOFF_FIRST * (1 << failures.min(8)));
            tokio::time::sleep(ceiling.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }
}

async fn serve(worker: &Rc<WorkerContext>, link: &Rc<Link>, transport: Transport) {
    let (reader, writer) = transport.split();
    *link.inner.borrow_mut() = Inner { writer: Some(writer), ..Inner::default() };
    link.ready.set(true);
    worker.counters.backend_connections(link.node.id, 1);
    worker.topology.report(Event::Connected(link.node.id));
    hub::link_ready(worker, link);
    let why = LinkReader::new(Rc::clone(worker), Rc::clone(link), reader).await;
    worker.counters.backend_connections(link.node.id, -1);
    link.ready.set(false);
    link.receiving.set(0);
    *link.inner.borrow_mut() = Inner::default();
    if why != UNUSED && worker.table.borrow().is_member(link.node.id) {
        tracing::warn!(node = %link.node.addr, why, "lost the connection for subscriptions to a node");
        worker.topology.report(Event::ConnectionLost(link.node.id));
    }
    hub::link_lost(worker, link.node.id);
}

/// Why a connection is closed that nobody needs.
pub(super) const UNUSED: &str = "unused";
