//! What a client gets without having asked just now: messages of its subscriptions. They go out between replies,
//! never inside one that is passing through, and in the version the client reads by then. A client that does not
//! take them is closed at `subscriber-pending-bytes`: they can neither be refused nor be kept for ever.

use std::rc::Rc;

use bytes::Bytes;

use super::{Session, SessionInner};
use crate::session::state::Resp;
use crate::telemetry::CloseReason;
use crate::worker::WorkerContext;
use crate::worker::outgoing::LARGE;

/// From this size on a message for many is shared, below it a copy costs less.
const SHARED_MIN: usize = 2048;
/// How many clients are many.
const MANY: usize = 4;

/// A push as its node sent it, and how it is given to several clients.
#[derive(Debug)]
pub struct PushFrame<'a> {
    raw: &'a [u8],
    /// It looks the same in both versions.
    line: bool,
    shares: bool,
    shared: [Option<Bytes>; 2],
}

/// Pushes that may not go out yet.
#[derive(Debug, Default)]
pub struct HeldPushes {
    frames: Vec<Bytes>,
    bytes: usize,
    /// Not before this request is answered: it changes the version.
    until: Option<u32>,
}

impl<'a> PushFrame<'a> {
    /// For `clients` clients. `raw` is a whole frame; only its first byte depends on the version.
    pub fn new(raw: &'a [u8], clients: usize) -> Self {
        let shares = raw.len() >= LARGE || (raw.len() >= SHARED_MIN && clients > MANY);
        Self { raw, line: false, shares, shared: [None, None] }
    }

    /// A line that looks the same in both versions, as MONITOR sends them.
    pub fn line(raw: &'a [u8]) -> Self {
        Self { line: true, ..Self::new(raw, 1) }
    }

    /// A slice in the form of `resp`.
    fn shared(&mut self, resp: Resp) -> Bytes {
        let (raw, line) = (self.raw, self.line);
        let form = || {
            let mut bytes = raw.to_vec();
            if let Some(first) = bytes.first_mut()
                && !line
            {
                *first = kind(resp);
            }
            bytes.into()
        };
        match self.shared.get_mut(resp as usize) {
            Some(place) => place.get_or_insert_with(form).clone(),
            None => form(),
        }
    }
}

/// First byte of a push.
fn kind(resp: Resp) -> u8 {
    match resp {
        Resp::V2 => b'*',
        Resp::V3 => b'>',
    }
}

impl Session {
    /// Gives the client a push. False when it does not get it: it is being closed.
    pub fn push(self: &Rc<Self>, frame: &mut PushFrame<'_>) -> bool {
        let worker = &self.worker;
        let mut inner = self.inner();
        if inner.writer.is_none() || inner.broken.is_some() || inner.closing.is_some() {
            return false;
        }
        // Of what is to be written, replies may be the larger part; of pushes it is no more than this.
        let unread = inner.pushed.min(inner.out.len()) + inner.held_push_bytes() + frame.raw.len();
        if unread > worker.limits.subscriber_bytes {
            tracing::warn!(client = self.id, unread, "closing a subscriber that does not keep up");
            inner.broken = Some(CloseReason::Subscriber);
            inner.wake();
            return false;
        }
        if inner.held_pushes.is_some() || inner.pending.is_flowing() {
            let held = inner.held_pushes.get_or_insert_default();
            held.bytes += frame.raw.len();
            held.frames.push(frame.shared(Resp::V3));
        } else {
            inner.put(worker, frame);
            self.touch();
        }
        self.watch();
        true
    }
}

impl SessionInner {
    fn put(&mut self, worker: &WorkerContext, frame: &mut PushFrame<'_>) {
        let resp = self.client.resp;
        self.pushed = frame.raw.len() + if self.out.is_empty() { 0 } else { self.pushed };
        if frame.shares {
            return self.out.push(frame.shared(resp));
        }
        let first = if frame.line { frame.raw.first().copied().unwrap_or(b'+') } else { kind(resp) };
        self.out.append(&[first], || worker.pool.take());
        self.out.append(frame.raw.get(1..).unwrap_or(&[]), || worker.pool.take());
    }

    /// The client's version has just been changed by the last request: pushes wait for the reply that tells the
    /// client so.
    pub fn hold_pushes(&mut self) {
        let last = self.pending.iter().last().map(|(seq, _)| seq);
        if last.is_some() {
            self.held_pushes.get_or_insert_default().until = last;
        }
    }

    /// Lets pushes go that waited for the end of a reply.
    #[cold]
    pub fn release_pushes(&mut self, worker: &WorkerContext) {
        let until = self.held_pushes.as_ref().and_then(|held| held.until);
        let waits = until.is_some_and(|seq| self.pending.cell(seq).is_some());
        if waits || self.pending.is_flowing() {
            return;
        }
        let Some(held) = self.held_pushes.take() else { return };
        for frame in &held.frames {
            let line = frame.first() == Some(&b'+');
            self.put(worker, &mut if line { PushFrame::line(frame) } else { PushFrame::new(frame, 1) });
        }
    }

    /// Bytes of pushes that may not go out yet.
    pub fn held_push_bytes(&self) -> usize {
        self.held_pushes.as_ref().map_or(0, |held| held.bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::Read;

    use super::*;
    use crate::worker::testkit::{block_on, expect, session, worker_with};

    const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n";

    fn push(session: &Rc<Session>, frame: &[u8]) -> bool {
        session.push(&mut PushFrame::new(frame, 1))
    }

    /// What the client has got.
    fn got(session: &Rc<Session>, peer: &mut std::os::unix::net::UnixStream) -> String {
        session.flush();
        let mut all = Vec::new();
        // Ends where there is no more for now.
        let _ = peer.read_to_end(&mut all);
        String::from_utf8_lossy(&all).replace("\r\n", " ")
    }

    #[test]
    fn a_push_waits_for_the_end_of_a_reply_that_passes_through() {
        block_on(async {
            let worker = worker_with(|_| {});
            let (session, mut peer) = session(&worker);
            tokio::task::yield_now().await;
            session.inner().client.resp = Resp::V3;
            let errand = expect(&session, "get", 0, 0);
            let behind = expect(&session, "get", 0, 0);
            assert!(session.begin_flow(&errand));
            session.flow(b"$4\r\nab");
            assert!(push(&session, MESSAGE));
            session.deliver(&behind, b"+behind\r\n", None);
            session.flow(b"cd\r\n");
            assert_eq!(got(&session, &mut peer), "$4 abcd ");
            session.end_flow(&errand, 10);
            assert_eq!(got(&session, &mut peer), ">3 $7 message $1 c $1 m +behind ");
        });
    }

    #[test]
    fn a_push_comes_in_the_version_the_client_reads_by_then() {
        block_on(async {
            let worker = worker_with(|_| {});
            let (session, mut peer) = session(&worker);
            tokio::task::yield_now().await;
            session.inner().client.resp = Resp::V3;
            let before = expect(&session, "get", 0, 0);
            let hello = expect(&session, "hello", 0, 0);
            session.deliver(&hello, b"+hello\r\n", None);
            session.inner().client.resp = Resp::V2;
            session.inner().hold_pushes();
            assert!(push(&session, MESSAGE));
            assert_eq!(got(&session, &mut peer), "");
            session.deliver(&before, b"_\r\n", None);
            assert_eq!(got(&session, &mut peer), "_ +hello *3 $7 message $1 c $1 m ");
            assert!(session.inner().held_pushes.is_none());
        });
    }

    #[test]
    fn unread_pushes_are_bounded_and_replies_are_not_counted() {
        block_on(async {
            let worker = worker_with(|config| config.subscriber_pending_bytes = 3 * MESSAGE.len() as u64);
            let (session, _peer) = session(&worker);
            let reply = expect(&session, "get", 0, 0);
            session.deliver(&reply, &[b'x'; 5000], None);
            for _ in 0..3 {
                assert!(push(&session, MESSAGE));
            }
            assert!(!push(&session, MESSAGE));
            assert_eq!(session.inner().broken, Some(CloseReason::Subscriber));
            assert!(!push(&session, MESSAGE), "it is being closed");
        });
    }
}
