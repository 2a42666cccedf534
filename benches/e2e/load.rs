//! The load generator: a closed loop over many connections on one thread.
//!
//! Owns the client sockets. Each connection sends one batch of ready-made requests, waits until every reply of it has
//! arrived, and sends the next. Per batch it costs one `read`, one `write` and its share of an `epoll_wait`: it must
//! stay cheaper than what it measures.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::histogram::Histogram;
use crate::scan::{ReplyScanner, Seen};
use crate::workload::Pool;

/// Read buffer shared by all connections.
const READ_BYTES: usize = 256 * 1024;
/// A target that sends nothing at all for this long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Which requests are sent and until when.
pub enum Plan {
    /// Batches from random places of the pool until the time is over.
    For(Duration, Rng),
    /// Every request of the pool once, in order, over all connections.
    Once,
    /// One batch on every connection, in order, never more than this many connections at a time.
    InTurn(usize),
}

/// What a run found.
#[derive(Default)]
pub struct Outcome {
    /// Replies by kind.
    pub seen: Seen,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Time from sending a batch until its last reply.
    pub latency: Histogram,
}

struct Connection {
    stream: TcpStream,
    scanner: ReplyScanner,
    /// Replies missing from the batch under way; 0 when idle.
    owed: u64,
    /// Bytes of the batch not yet taken by the kernel.
    unsent: Range<usize>,
    sent_at: Instant,
}

/// Open connections to one target.
pub struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    pipeline: usize,
    buffer: Vec<u8>,
}

/// Draws the next batch.
struct Source<'a> {
    pool: &'a Pool,
    pipeline: usize,
    next: usize,
    until: Option<Instant>,
    rng: Rng,
}

impl Source<'_> {
    /// The next batch: its bytes and number of requests; None when the run is to end.
    fn batch(&mut self, now: Instant) -> Option<(Range<usize>, usize)> {
        match self.until {
            Some(until) if now >= until => return None,
            Some(_) => self.next = self.rng.usize(0..self.pool.len().saturating_sub(self.pipeline).max(1)),
            None if self.next >= self.pool.len() => return None,
            None => {}
        }
        let (bytes, count) = self.pool.batch(self.next, self.pipeline);
        self.next += count;
        Some((bytes, count))
    }
}

impl Load {
    /// Opens `connections` connections that will send `pipeline` requests at a time.
    ///
    /// # Errors
    /// When one cannot be opened (often the limit on open files).
    pub fn connect(addr: SocketAddr, connections: usize, pipeline: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut open = Vec::with_capacity(connections);
        for index in 0..connections {
            let stream = std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(5))
                .map_err(|error| format!("connection {index} to {addr}: {error}"))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            let scanner = ReplyScanner::default();
            open.push(Connection { stream, scanner, owed: 0, unsent: 0..0, sent_at: Instant::now() });
        }
        Ok(Self { poll, connections: open, pipeline, buffer: vec![0; READ_BYTES] })
    }

    /// Runs a plan to its end; every request sent has been answered when it returns.
    ///
    /// # Errors
    /// When the target closes a connection, falls silent or sends what is not RESP.
    pub fn run(&mut self, pool: &Pool, plan: Plan) -> Result<Outcome> {
        let started = Instant::now();
        let (until, rng) = match &plan {
            Plan::For(time, rng) => (Some(started + *time), rng.clone()),
            Plan::Once | Plan::InTurn(_) => (None, Rng::with_seed(0)),
        };
        let in_turn = matches!(plan, Plan::InTurn(_));
        let mut unused = if let Plan::InTurn(width) = plan { width } else { self.connections.len() };
        let mut source = Source { pool, pipeline: self.pipeline, next: 0, until, rng };
        let mut outcome = Outcome::default();
        let mut active = 0;
        for connection in self.connections.iter_mut().take(unused) {
            active += usize::from(connection.start(&mut source, Instant::now())?);
        }
        let mut events = Events::with_capacity(1_024);
        while active > 0 {
            self.poll.poll(&mut events, Some(SILENCE_MAX))?;
            if events.is_empty() {
                return Err(format!("no reply for {SILENCE_MAX:?}, {active} connections waiting").into());
            }
            for event in &events {
                let Some(connection) = self.connections.get_mut(event.token().0) else { continue };
                if event.is_writable() && !connection.unsent.is_empty() {
                    connection.write(pool)?;
                }
                if !event.is_readable() || !connection.read(&mut self.buffer, &mut outcome.seen)? {
                    continue;
                }
                let now = Instant::now();
                outcome.latency.record(now - connection.sent_at);
                let mut next = Some(connection);
                if in_turn {
                    next = self.connections.get_mut(unused);
                    unused += 1;
                }
                let goes_on = next.map_or(Ok(false), |connection| connection.start(&mut source, now))?;
                active -= usize::from(!goes_on);
            }
        }
        outcome.elapsed = started.elapsed();
        Ok(outcome)
    }
}

impl Connection {
    /// Sends the next batch; false when there is none.
    fn start(&mut self, source: &mut Source<'_>, now: Instant) -> Result<bool> {
        let Some((bytes, count)) = source.batch(now) else { return Ok(false) };
        self.owed = count as u64;
        self.unsent = bytes;
        self.sent_at = now;
        self.write(source.pool)?;
        Ok(true)
    }

    fn write(&mut self, pool: &Pool) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(pool.bytes(self.unsent.clone())) {
                Ok(written) => self.unsent.start += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("write: {error}").into()),
            }
        }
        Ok(())
    }

    /// Takes what has arrived; true when the batch under way got its last reply.
    fn read(&mut self, buffer: &mut [u8], seen: &mut Seen) -> Result<bool> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("the target closed a connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("read: {error}").into()),
            };
            let before = seen.replies;
            self.scanner.feed(buffer.get(..count).unwrap_or_default(), seen)?;
            let new = seen.replies - before;
            if new > self.owed {
                return Err("more replies than requests".into());
            }
            if new > 0 {
                self.owed -= new;
                if self.owed == 0 {
                    let clean = self.scanner.is_between_replies();
                    return if clean { Ok(true) } else { Err("bytes after the last reply owed".into()) };
                }
            }
            // The socket is empty after a short read; the next bytes raise a new event.
            if count < buffer.len() {
                return Ok(false);
            }
        }
    }
}
