//! A frame from a node is whole: to whom it is news, and which messages count. Must never give a client a message
//! twice, nor one of a subscription that was not confirmed to it.

use std::rc::Rc;

use super::link::{Ask, Link};
use super::push::{self, Push};
use super::topic::{Topic, Trouble};
use super::{Kind, events, glob, hub};
use crate::protocol::reply::BadReply;
use crate::reply::redirect::{self, Redirect};
use crate::session::push::PushFrame;
use crate::topology::{Event, Trigger};
use crate::worker::WorkerContext;

/// Pause before a node is asked again that can't now, in microseconds.
const PAUSE: u64 = 50_000;
/// Pause before a node is asked again that refused, in microseconds: users' rights may change.
const REFUSED_PAUSE: u64 = 1_000_000;
/// Redirects of a topic that are followed at once.
const QUICK_HOPS: u8 = 4;

/// Handles a frame.
///
/// # Errors
/// It does not fit what was asked: the connection can't be used any more.
pub(super) fn take(worker: &Rc<WorkerContext>, link: &Rc<Link>, frame: &[u8]) -> Result<(), BadReply> {
    match push::parse(frame)? {
        Push::Message { kind, topic, channel, payload } => {
            worker.counters.pubsub_received();
            if let Some(topic) = worker.hub.topic(kind, topic) {
                message(worker, link, &topic, (channel, payload), frame);
            }
            Ok(())
        }
        Push::Joined(kind, name) => match link.next_ask() {
            Some(Ask::Join(topic)) if topic.kind == kind && topic.name == name => {
                if !topic.gone.get() {
                    hub::joined(worker, link.node.id, &topic);
                }
                Ok(())
            }
            _ => Err(BadReply),
        },
        Push::Left(kind, name) => left(worker, link, kind, name),
        Push::Pong => pong(worker, link),
        Push::Error(_) => match link.next_ask() {
            Some(Ask::Join(topic)) => {
                if !topic.gone.get() {
                    refused(worker, link, &topic, frame);
                }
                Ok(())
            }
            // The subscription had ended before, or the node is loading: it lives.
            Some(Ask::Leave { .. } | Ask::Ping(_)) => Ok(()),
            None => Err(BadReply),
        },
        Push::Other => Ok(()),
    }
}

fn left(worker: &Rc<WorkerContext>, link: &Link, kind: Kind, name: &[u8]) -> Result<(), BadReply> {
    if link.note_left(kind, name) {
        return Ok(());
    }
    if kind != Kind::Shard {
        return Err(BadReply);
    }
    worker.topology.report(Event::Refresh(Trigger::Redirect));
    if let Some(topic) = worker.hub.topic(kind, name) {
        hub::dropped(worker, link.node.id, &topic);
    }
    Ok(())
}

/// Everything asked before the PING was answered.
fn pong(worker: &WorkerContext, link: &Link) -> Result<(), BadReply> {
    loop {
        match link.next_ask() {
            Some(Ask::Ping(sent)) => {
                link.ponged(sent, worker.clock.now());
                return Ok(());
            }
            Some(Ask::Leave { told: true, .. }) => {}
            _ => return Err(BadReply),
        }
    }
}

fn refused(worker: &Rc<WorkerContext>, link: &Link, topic: &Rc<Topic>, frame: &[u8]) {
    let node = link.node.id;
    let Some(redirect) = redirect::parse(frame) else {
        if topic.clients() > 0 {
            tracing::warn!(node = %link.node.addr, "the node refuses a subscription that clients have");
        }
        let text = frame.get(1..frame.len().saturating_sub(2)).unwrap_or(&[]);
        return hub::refused(worker, (node, topic), Trouble::Refused(text.into()), REFUSED_PAUSE);
    };
    worker.topology.report(Event::Refresh(Trigger::Redirect));
    let mut pause = PAUSE;
    if let Redirect::Moved { target, .. } = redirect {
        let host = if matches!(target.host, "" | "?") { link.node.addr.host.as_str() } else { target.host };
        let target = worker.topology.node_by_addr(host, target.port).filter(|&target| target != node);
        let hops = topic.hops.get().saturating_add(1);
        topic.hops.set(hops);
        topic.detour.set(target.map(|target| (target, worker.epoch())));
        if target.is_some() && hops <= QUICK_HOPS {
            pause = 0;
        }
    }
    hub::refused(worker, (node, topic), Trouble::NotNow, pause);
}

/// A message: for the topic's clients, if it counts.
fn message(
    worker: &Rc<WorkerContext>,
    link: &Link,
    topic: &Rc<Topic>,
    (channel, payload): (&[u8], &[u8]),
    frame: &[u8],
) {
    let node = link.node.id;
    if topic.wide
        && let Some(key) = glob::event_key(channel, payload)
    {
        return events::take(worker, node, topic, key, frame);
    }
    let now = worker.clock.now();
    topic.heard.set(now);
    let counts = topic.places.borrow().home() == Some(node);
    if counts && topic.echoes.borrow_mut().is_new(node, (channel, payload), now) {
        deliver(worker, topic, frame);
    }
}

/// Gives a message to all clients of a topic.
pub(super) fn deliver(worker: &WorkerContext, topic: &Topic, frame: &[u8]) {
    let mut frame = PushFrame::new(frame, topic.clients());
    let (mut delivered, mut dropped) = (0, 0);
    topic.each_client(|session| match session.push(&mut frame) {
        true => delivered += 1,
        false => dropped += 1,
    });
    worker.counters.pubsub_delivered(delivered, dropped);
}
