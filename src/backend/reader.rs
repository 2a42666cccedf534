//! Reads one lane's replies and gives each to whom it is owed. A large reply whose turn it is passes
//! through while it is still coming in. Must never leave a reply unmatched: bytes that do not fit the
//! queue of tickets end the connection.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::call::Call;
use super::lane::Lane;
use super::ticket::{Beside, Errand, Turn};
use crate::protocol::reply::{BadReply, ReplyScanner};
use crate::pubsub::publish::recount;
use crate::reply::redirect;
use crate::session::script;
use crate::worker::WorkerContext;
use crate::worker::outgoing::{LARGE, is_small_part, unpinned};
use crate::worker::transport::ReadSide;

/// Most reads in one turn.
const READS_PER_TURN: usize = 8;
/// A reply passes through while still coming in, once this much of it is there.
const FLOW_MIN: usize = LARGE;
/// Room made for the rest of a reply that cannot pass through yet.
const ROOM: usize = 64 << 10;
/// Most room made at once.
const ROOM_MAX: usize = 8 << 20;

/// Reads until the connection ends; the output says why it did.
pub struct LaneReader {
    worker: Rc<WorkerContext>,
    lane: Rc<Lane>,
    reader: ReadSide,
    scanner: ReplyScanner,
    /// The beginning of a reply that is not whole.
    rest: BytesMut,
    /// Size of the buffer that `rest` is the end of.
    buffer: usize,
    flowing: bool,
    /// Bytes of it that went through.
    flowed: usize,
}

impl LaneReader {
    /// Reads for `lane`, which is ready.
    pub fn new(worker: Rc<WorkerContext>, lane: Rc<Lane>, reader: ReadSide) -> Self {
        Self {
            worker,
            lane,
            reader,
            scanner: ReplyScanner::new(),
            rest: BytesMut::new(),
            buffer: 0,
            flowing: false,
            flowed: 0,
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        let result = if self.rest.len() < LARGE { self.read_scratch(cx) } else { self.read_rest(cx) };
        match result {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Ok(0))) => Poll::Ready(Err("closed by the node")),
            Poll::Ready(Ok(Ok(_))) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(Err(BadReply))) => Poll::Ready(Err("not RESP, or a reply nobody asked for")),
            Poll::Ready(Err(_)) => Poll::Ready(Err("read failed")),
        }
    }

    /// Reads into the worker's buffer, behind what is left of the last read.
    fn read_scratch(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Result<usize, BadReply>>> {
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let left = self.rest.len();
        if let Some(front) = scratch.get_mut(..left) {
            front.copy_from_slice(&self.rest);
        }
        let mut buf = ReadBuf::new(&mut scratch);
        buf.set_filled(left);
        if Pin::new(&mut self.reader).poll_read(cx, &mut buf)?.is_pending() {
            return Poll::Pending;
        }
        let data = buf.filled();
        let read = data.len() - left;
        if read == 0 {
            return Poll::Ready(Ok(Ok(0)));
        }
        worker.clock.tick();
        let taken = match self.take(data) {
            Ok(taken) => taken,
            Err(bad) => return Poll::Ready(Ok(Err(bad))),
        };
        self.rest.clear();
        self.rest.extend_from_slice(data.get(taken..).unwrap_or(&[]));
        Poll::Ready(Ok(Ok(read)))
    }

    /// Reads behind a large beginning that cannot pass through yet.
    fn read_rest(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Result<usize, BadReply>>> {
        if self.rest.capacity() - self.rest.len() < ROOM / 4 {
            let before = self.rest.as_ptr();
            self.rest.reserve(self.rest.len().clamp(ROOM, ROOM_MAX));
            if before != self.rest.as_ptr() {
                self.buffer = 0;
            }
        }
        let read = pin!(self.reader.read_buf(&mut self.rest)).poll(cx)?;
        let Poll::Ready(read) = read else { return Poll::Pending };
        self.worker.clock.tick();
        self.buffer = self.buffer.max(self.rest.capacity());
        let taken = self.take_rest().map(|()| read);
        self.lane.receiving.set(self.rest.capacity());
        Poll::Ready(Ok(taken))
    }

    /// Handles every whole reply of `data`; how many bytes are done with.
    #[inline]
    fn take(&mut self, data: &[u8]) -> Result<usize, BadReply> {
        let mut pos = 0;
        while let Some(rest) = data.get(pos..)
            && !rest.is_empty()
        {
            match self.scanner.scan(rest)? {
                Some(len) => {
                    let frame = rest.get(..len).unwrap_or(&[]);
                    self.whole(frame, None)?;
                    pos += len;
                }
                None => return Ok(pos + self.pass(rest)),
            }
        }
        Ok(pos)
    }

    /// As `take`, for bytes that are ours: a large reply is not copied.
    fn take_rest(&mut self) -> Result<(), BadReply> {
        while !self.rest.is_empty() {
            match self.scanner.scan(&self.rest)? {
                Some(len) => {
                    let frame = self.rest.split_to(len).freeze();
                    let shared = (len >= LARGE).then(|| unpinned(frame.clone(), self.buffer));
                    self.whole(&frame, shared)?;
                }
                None => {
                    let rest = std::mem::take(&mut self.rest);
                    let passed = self.pass(&rest);
                    self.rest = rest;
                    let _ = self.rest.split_to(passed);
                    let len = self.rest.len();
                    if len < LARGE || is_small_part(len, self.buffer) {
                        (self.rest, self.buffer) = (self.rest.as_ref().into(), len);
                    }
                    return Ok(());
                }
            }
        }
        (self.rest, self.buffer) = (BytesMut::new(), 0);
        Ok(())
    }

    /// A reply is whole (or the last of it is here).
    #[inline]
    fn whole(&mut self, frame: &[u8], shared: Option<Bytes>) -> Result<(), BadReply> {
        self.scanner.reset();
        if self.flowing {
            self.flowing = false;
            let flowed = std::mem::take(&mut self.flowed) + frame.len();
            return self.lane.end_flow(&self.worker, frame, flowed);
        }
        self.lane.answer(&self.worker, frame, shared)
    }

    /// A reply is not whole: lets through what there is of it, if it may.
    fn pass(&mut self, rest: &[u8]) -> usize {
        let passable = self.scanner.passable(rest.len());
        if !self.flowing && passable >= FLOW_MIN {
            self.flowing = self.lane.begin_flow(rest);
        }
        if !self.flowing {
            return 0;
        }
        self.lane.flow(rest.get(..passable).unwrap_or(&[]));
        self.flowed += passable;
        self.scanner.rebase(passable);
        passable
    }

    /// The connection is given up: replies that have arrived are still good.
    fn read_last(&mut self, cx: &mut Context<'_>) {
        for _ in 0..READS_PER_TURN {
            if !matches!(self.read(cx), Poll::Ready(Ok(()))) {
                return;
            }
        }
    }

    fn poll_blocked_write(&mut self, cx: &mut Context<'_>) {
        let mut inner = self.lane.inner();
        if !inner.write_blocked {
            return;
        }
        let ready = inner.writer.as_ref().map(|writer| writer.poll_write_ready(cx));
        if let Some(Poll::Ready(_)) = ready {
            inner.write_blocked = false;
            drop(inner);
            self.lane.flush();
        }
    }
}

impl Future for LaneReader {
    /// Why the connection ended.
    type Output = &'static str;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<&'static str> {
        let this = &mut *self;
        {
            let mut inner = this.lane.inner();
            if inner.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                inner.waker = Some(cx.waker().clone());
            }
            if let Some(why) = inner.condemned {
                drop(inner);
                this.read_last(cx);
                return Poll::Ready(why);
            }
        }
        this.poll_blocked_write(cx);
        for _ in 0..READS_PER_TURN {
            match this.read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(why)) => return Poll::Ready(why),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Lane {
    /// A whole reply for the ticket at the front.
    #[inline]
    fn answer(
        self: &Rc<Self>,
        worker: &Rc<WorkerContext>,
        frame: &[u8],
        shared: Option<Bytes>,
    ) -> Result<(), BadReply> {
        let kind = frame.first().copied().unwrap_or(0);
        if kind == b'>' {
            // A push is nobody's reply; only the lanes of a client that tracks asked for any.
            if self.key.private > 0 {
                worker.pushed(self, frame);
            }
            return Ok(());
        }
        let mut inner = self.inner();
        let front = inner.tickets.front_mut().ok_or(BadReply)?;
        let mut receivers = false;
        if !front.plain {
            match front.count(frame) {
                Turn::Swallowed => return Ok(()),
                Turn::Between => {
                    let (call, errand) = (front.call().cloned(), front.errand().cloned());
                    drop(inner);
                    hand_over(call, errand, frame, shared);
                    return Ok(());
                }
                Turn::Last => {
                    receivers = front.errand().is_some_and(|errand| errand.beside == Beside::Receivers)
                }
            }
        }
        let Some(mut ticket) = inner.tickets.pop_front() else { return Err(BadReply) };
        if let Some(call) = ticket.call().cloned() {
            inner.send.release(ticket.start + ticket.len as u64);
            drop(inner);
            hand_over(Some(call), None, frame, shared);
            return Ok(());
        }
        let counted = match receivers {
            true => recount(worker, self.key.node, &inner.send.request(ticket.start, ticket.len), frame),
            false => None,
        };
        let frame = counted.as_deref().unwrap_or(frame);
        let ordering = || ticket.errand().is_some_and(|errand| errand.session.inner().order.is_some());
        let request = (kind == b'-' || (worker.sessions_in_order.get() > 0 && ordering()))
            .then(|| inner.send.request(ticket.start, ticket.len));
        inner.send.release(ticket.start + ticket.len as u64);
        drop(inner);
        let Some(errand) = ticket.take() else { return Ok(()) };
        worker.counters.backend_done(
            errand.command.class,
            self.key.node,
            worker.clock.now().saturating_sub(ticket.queued),
        );
        let Some(request) = request else {
            deliver(&errand, frame, shared);
            return Ok(());
        };
        // A queued command was refused by the node: what it said is why the transaction was given up.
        let trouble = ticket.take_trouble().filter(|_| frame.starts_with(b"-EXECABORT"));
        let said = trouble.as_deref().unwrap_or(frame);
        if kind == b'-' && redirect::follow(worker, self, &errand, &request, said) {
            return Ok(());
        }
        if frame.starts_with(b"-ERR Error compiling script") {
            script::forget(worker, &errand, &request);
        }
        if frame.starts_with(b"-NOSCRIPT ") && script::repair(worker, self, &errand, &request, frame) {
            return Ok(());
        }
        errand.session.inner().note_executed(&errand, &request);
        deliver(&errand, frame, shared);
        Ok(())
    }

    /// Whether the reply that begins with `beginning` may pass through while it is coming in.
    fn begin_flow(&self, beginning: &[u8]) -> bool {
        if matches!(beginning.first(), None | Some(b'-' | b'>' | b'|')) {
            return false;
        }
        let inner = self.inner();
        let Some(ticket) = inner.tickets.front() else { return false };
        match ticket.errand() {
            Some(errand) if ticket.skip == 0 && !errand.split => errand.session.begin_flow(errand),
            _ => false,
        }
    }

    fn flow(&self, bytes: &[u8]) {
        let inner = self.inner();
        if let Some(errand) = inner.tickets.front().and_then(|ticket| ticket.errand()) {
            errand.session.flow(bytes);
        }
    }

    fn end_flow(&self, worker: &WorkerContext, last: &[u8], flowed: usize) -> Result<(), BadReply> {
        self.flow(last);
        let mut inner = self.inner();
        let mut ticket = inner.tickets.pop_front().ok_or(BadReply)?;
        inner.send.release(ticket.start + ticket.len as u64);
        drop(inner);
        if let Some(errand) = ticket.take() {
            let took = worker.clock.now().saturating_sub(ticket.queued);
            worker.counters.backend_done(errand.command.class, self.key.node, took);
            errand.session.end_flow(&errand, flowed);
        }
        Ok(())
    }
}

fn hand_over(call: Option<Rc<Call>>, errand: Option<Errand>, frame: &[u8], shared: Option<Bytes>) {
    match (call, errand) {
        (Some(call), _) => call.push(frame, shared),
        (None, Some(errand)) => deliver(&errand, frame, shared),
        (None, None) => {}
    }
}

#[inline]
fn deliver(errand: &Errand, frame: &[u8], shared: Option<Bytes>) {
    if errand.split {
        errand.session.deliver_part(errand, frame, shared.as_ref());
    } else {
        errand.session.deliver(errand, frame, shared);
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
