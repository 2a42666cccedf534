//! The task of one client: reads while it may, hands requests on, and ends the session. It never
//! writes but to finish what a full socket left over; replies are written by the flusher.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::Sleep;

use super::{Session, SessionInner, input};
use crate::operation::ending::Ending;
use crate::telemetry::CloseReason;
use crate::worker::transport::ReadSide;

/// Most reads in one turn, so that one busy client does not keep the others waiting.
const READS_PER_TURN: usize = 8;
/// Least room made for the rest of a request that has not arrived.
const PARTIAL_ROOM: usize = 16 << 10;
/// Most room made at once: a length a client claims is believed only as far as bytes follow.
const PARTIAL_ROOM_MAX: usize = 4 << 20;

/// How long bytes that a client sends after we closed our side are read and thrown away: closing with
/// unread bytes would make the kernel drop the last reply on its way.
const LINGER: Duration = Duration::from_secs(1);

/// Runs until the client is gone.
pub struct SessionTask {
    session: Rc<Session>,
    reader: ReadSide,
    linger: Option<Pin<Box<Sleep>>>,
    /// Ready when the client hangs up; only while a command waits at a node, for nothing is read then.
    hang_up: Option<HangUp>,
}

type HangUp = Pin<Box<dyn Future<Output = ()>>>;

enum Step {
    Again,
    Wait,
    End(CloseReason),
}

impl SessionTask {
    /// Takes the read side; the session has the write side.
    pub fn new(session: Rc<Session>, reader: ReadSide) -> Self {
        Self { session, reader, linger: None, hang_up: None }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Step {
        let session = &self.session;
        let mut inner = session.inner();
        if let Some(end) = end_of(&inner) {
            return Step::End(end);
        }
        if inner.write_blocked {
            let ready = inner.writer.as_ref().map(|writer| writer.poll_write_ready(cx));
            if let Some(Poll::Ready(_)) = ready {
                inner.write_blocked = false;
                inner.flush(session.worker());
                return Step::Again;
            }
        }
        if !inner.may_take(session.worker()) {
            inner.paused = inner.closing.is_none();
            watch_for_end(&mut self.hang_up, &mut inner, cx);
            return Step::Wait;
        }
        self.hang_up = None;
        if inner.paused {
            inner.paused = false;
            if inner.partial.is_some() {
                input::take_partial(session, &mut inner);
                return Step::Again;
            }
        }
        if inner.read_closed {
            return Step::Wait;
        }
        let read = if inner.partial.is_some() {
            read_partial(&mut self.reader, session, &mut inner, cx)
        } else {
            read_scratch(&mut self.reader, session, &mut inner, cx)
        };
        inner.read_closed |= inner.draining;
        match read {
            Poll::Pending if inner.draining => Step::Again,
            Poll::Pending => Step::Wait,
            Poll::Ready(Ok(0)) => {
                inner.read_closed = true;
                inner.peer_closed = true;
                inner.partial = None;
                Step::Again
            }
            Poll::Ready(Ok(_)) => Step::Again,
            Poll::Ready(Err(_)) => Step::End(CloseReason::Client),
        }
    }
}

/// While a command waits: has it end when the client is gone. Its bytes stay unread meanwhile.
fn watch_for_end(hang_up: &mut Option<HangUp>, inner: &mut SessionInner, cx: &mut Context<'_>) {
    if !inner.is_waiting() {
        return;
    }
    let Some(writer) = &inner.writer else { return };
    let watching = hang_up.get_or_insert_with(|| {
        let writer = Rc::clone(writer);
        Box::pin(async move { writer.hung_up().await })
    });
    if watching.as_mut().poll(cx).is_ready() {
        *watching = Box::pin(std::future::pending());
        inner.end_wait(Ending::Gone);
    }
}

/// Why the session should end now, if it should.
fn end_of(inner: &SessionInner) -> Option<CloseReason> {
    if inner.broken.is_some() {
        return inner.broken;
    }
    if !inner.is_settled() || (inner.paused && inner.partial.is_some()) {
        return None;
    }
    let why = if inner.draining { CloseReason::Drain } else { CloseReason::Client };
    inner.closing.or(inner.read_closed.then_some(why))
}

fn read_scratch(
    reader: &mut ReadSide,
    session: &Rc<Session>,
    inner: &mut SessionInner,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let worker = session.worker();
    let mut scratch = worker.scratch.borrow_mut();
    let mut buf = ReadBuf::new(&mut scratch);
    if Pin::new(reader).poll_read(cx, &mut buf)?.is_pending() {
        return Poll::Pending;
    }
    let data = buf.filled();
    if !data.is_empty() {
        inner.progress = worker.clock.tick();
        worker.counters.bytes_in(data.len());
        input::take_scratch(session, inner, data);
    }
    Poll::Ready(Ok(data.len()))
}

fn read_partial(
    reader: &mut ReadSide,
    session: &Rc<Session>,
    inner: &mut SessionInner,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let worker = session.worker();
    let Some(partial) = &mut inner.partial else { return Poll::Pending };
    let missing = partial.wanted.saturating_sub(partial.buffer.len());
    let room = missing.min(partial.buffer.len().max(PARTIAL_ROOM)).clamp(PARTIAL_ROOM, PARTIAL_ROOM_MAX);
    if partial.buffer.capacity() - partial.buffer.len() < room.min(missing.max(1024)) {
        partial.buffer.reserve(room);
    }
    let read = pin!(reader.read_buf(&mut partial.buffer)).poll(cx)?;
    let Poll::Ready(read) = read else { return Poll::Pending };
    if read > 0 {
        inner.progress = worker.clock.tick();
        worker.counters.bytes_in(read);
        input::take_partial(session, inner);
        inner.charge(&worker.budget);
    }
    Poll::Ready(Ok(read))
}

impl Future for SessionTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.linger.is_some() {
            return self.poll_linger(cx);
        }
        {
            let mut inner = self.session.inner();
            if inner.waker.is_none() {
                inner.waker = Some(cx.waker().clone());
            }
        }
        for _ in 0..READS_PER_TURN {
            match self.step(cx) {
                Step::Again => {}
                Step::Wait => return Poll::Pending,
                Step::End(reason) => {
                    // A share of the socket: the client would not see its end.
                    self.hang_up = None;
                    let owes_linger = !self.session.inner().peer_closed && reason != CloseReason::Error;
                    self.session.worker().close_session(&self.session, reason);
                    if !owes_linger {
                        return Poll::Ready(());
                    }
                    self.start_linger();
                    return self.poll_linger(cx);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl SessionTask {
    fn start_linger(&mut self) {
        let lingering = &self.session.worker().lingering;
        lingering.set(lingering.get() + 1);
        self.linger = Some(Box::pin(tokio::time::sleep(LINGER)));
    }

    /// Reads and throws away until the client closes its side, or long enough.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..READS_PER_TURN {
            let mut scratch = self.session.worker().scratch.borrow_mut();
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.reader).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    return self.linger.as_mut().map_or(Poll::Ready(()), |linger| linger.as_mut().poll(cx));
                }
            }
        }
        cx.waker().wake_by_ref();
        self.linger.as_mut().map_or(Poll::Ready(()), |linger| linger.as_mut().poll(cx))
    }
}

impl Drop for SessionTask {
    fn drop(&mut self) {
        if self.linger.is_some() {
            let lingering = &self.session.worker().lingering;
            lingering.set(lingering.get().saturating_sub(1));
        }
        // Also reached when handling a request panicked: the session must not stay in the lists.
        self.session.worker().close_session(&self.session, CloseReason::Internal);
    }
}
