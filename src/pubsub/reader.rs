//! Reads one subscribing connection: cuts it into frames, sees that the node lives and that somebody still needs
//! it. As fast as the node sends: who is slow is settled per client. Must never leave bytes unread that fit nothing
//! asked for: they end the connection.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::Sleep;

use super::link::{Link, UNUSED};
use super::{frames, hub};
use crate::protocol::reply::{BadReply, ReplyScanner};
use crate::worker::WorkerContext;
use crate::worker::clock::micros;
use crate::worker::outgoing::LARGE;
use crate::worker::transport::ReadSide;

/// Most reads in one turn.
const READS_PER_TURN: usize = 8;

/// Reads until the connection ends; the output says why it did.
pub(super) struct LinkReader {
    worker: Rc<WorkerContext>,
    link: Rc<Link>,
    reader: ReadSide,
    scanner: ReplyScanner,
    /// The beginning of a frame that is not whole.
    rest: BytesMut,
    /// When bytes last came.
    heard: u64,
    look: Pin<Box<Sleep>>,
}

impl LinkReader {
    pub(super) fn new(worker: Rc<WorkerContext>, link: Rc<Link>, reader: ReadSide) -> Self {
        let look = Box::pin(tokio::time::sleep(worker.limits.silence / 4));
        let heard = worker.clock.now();
        Self { worker, link, reader, scanner: ReplyScanner::new(), rest: BytesMut::new(), heard, look }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        let read = if self.rest.len() < LARGE { self.read_scratch(cx) } else { self.read_rest(cx) };
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Ok(0))) => Poll::Ready(Err("closed by the node")),
            Poll::Ready(Ok(Ok(_))) => {
                self.heard = self.worker.clock.now();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(Err(BadReply))) => Poll::Ready(Err("not RESP, or an answer nobody asked for")),
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
        self.link.set_receiving(self.rest.capacity());
        Poll::Ready(Ok(Ok(read)))
    }

    /// Reads behind the beginning of a large message.
    fn read_rest(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<Result<usize, BadReply>>> {
        if self.rest.capacity() - self.rest.len() < LARGE {
            self.rest.reserve(self.rest.len().clamp(4 * LARGE, 8 << 20));
        }
        let read = pin!(self.reader.read_buf(&mut self.rest)).poll(cx)?;
        let Poll::Ready(read) = read else { return Poll::Pending };
        self.worker.clock.tick();
        let taken = self.take_rest().map(|()| read);
        self.link.set_receiving(self.rest.capacity());
        Poll::Ready(Ok(taken))
    }

    /// Handles every whole frame of what is ours.
    fn take_rest(&mut self) -> Result<(), BadReply> {
        while let Some(len) = self.scanner.scan(&self.rest)? {
            self.scanner.reset();
            let frame = self.rest.split_to(len);
            frames::take(&self.worker, &self.link, &frame)?;
        }
        if self.rest.is_empty() {
            self.rest = BytesMut::new();
        }
        Ok(())
    }

    /// Handles every whole frame of `data`; how many bytes are done with.
    fn take(&mut self, data: &[u8]) -> Result<usize, BadReply> {
        let mut pos = 0;
        while let Some(rest) = data.get(pos..)
            && let Some(len) = self.scanner.scan(rest)?
        {
            self.scanner.reset();
            frames::take(&self.worker, &self.link, rest.get(..len).unwrap_or(&[]))?;
            pos += len;
        }
        Ok(pos)
    }

    /// Now and then: is the node still there, is the connection still needed?
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Result<(), &'static str> {
        while self.look.as_mut().poll(cx).is_ready() {
            let (now, silence) = (self.worker.clock.tick(), micros(self.worker.limits.silence));
            if now.saturating_sub(self.heard) >= silence {
                return Err("silent for node-silence-timeout");
            }
            if !hub::uses(&self.worker, self.link.node.id) {
                return Err(UNUSED);
            }
            if now.saturating_sub(self.heard) >= silence / 4 {
                self.link.ping(now);
            }
            self.look.as_mut().reset(tokio::time::Instant::now() + self.worker.limits.silence / 4);
        }
        Ok(())
    }
}

impl Future for LinkReader {
    /// Why the connection ended.
    type Output = &'static str;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<&'static str> {
        let this = &mut *self;
        if let Some(why) = this.link.attend(cx) {
            return Poll::Ready(why);
        }
        if let Err(why) = this.link.write(cx).and_then(|()| this.poll_look(cx)) {
            return Poll::Ready(why);
        }
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
