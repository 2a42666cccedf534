//! A connection to a node that one operation has for itself: it may wait there as long as it likes, watch
//! keys, or take pushes. Owns its socket; dropping it closes it, which ends whatever waits at the node.
//! Must never be given back to the pool unless every reply it owed has been read.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::connect::{ConnectError, dial};
use crate::protocol::reply::ReplyScanner;
use crate::session::state::Resp;
use crate::topology::Event;
use crate::topology::node::{Node, NodeId};
use crate::worker::WorkerContext;
use crate::worker::transport::{ReadSide, WriteSide};

/// How long an unused connection is kept, in microseconds.
const KEPT: u64 = 10_000_000;

/// Why a line could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// `dedicated-max-per-node` are in use.
    #[error("dedicated-max-per-node connections are in use")]
    Full,
    /// The node could not be reached.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The topology does not know the node.
    #[error("the node is gone")]
    Gone,
}

/// The connection broke, or the node sent what is not RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was lost")]
pub struct LineLost;

/// Dedicated connections in use, by node; of the whole process.
#[derive(Debug, Default)]
pub struct DedicatedCount(DashMap<NodeId, usize>);

/// One of the places `dedicated-max-per-node` grants.
#[derive(Debug)]
pub struct Permit {
    counts: Arc<DedicatedCount>,
    node: NodeId,
}

impl DedicatedCount {
    /// A place at `node`, while fewer than `most` are taken.
    pub fn take(self: &Arc<Self>, node: NodeId, most: usize) -> Option<Permit> {
        let mut count = self.0.entry(node).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Permit { counts: Arc::clone(self), node })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(mut count) = self.counts.0.get_mut(&self.node) {
            *count = count.saturating_sub(1);
        }
    }
}

/// A connection of one operation.
#[derive(Debug)]
pub struct Line {
    /// The node at the other end.
    pub node: NodeId,
    /// Protocol version.
    pub resp: Resp,
    reader: ReadSide,
    writer: WriteSide,
    buffer: BytesMut,
    scanner: ReplyScanner,
    counted: Counted,
}

/// What has to be undone when a line is closed.
struct Counted {
    worker: Rc<WorkerContext>,
    node: NodeId,
    _permit: Permit,
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counted").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.worker.counters.backend_connections(self.node, -1);
    }
}

impl Line {
    async fn open(worker: &Rc<WorkerContext>, node: &Arc<Node>, resp: Resp) -> Result<Self, LineError> {
        let most = worker.limits.dedicated_connections;
        let permit = worker.process.dedicated.take(node.id, most).ok_or(LineError::Full)?;
        let transport = dial(worker, node, resp, false).await.inspect_err(|_| {
            worker.topology.report(Event::ConnectFailed(node.id));
        })?;
        let (reader, writer) = transport.split();
        worker.counters.backend_connections(node.id, 1);
        Ok(Self {
            node: node.id,
            resp,
            reader,
            writer,
            buffer: BytesMut::new(),
            scanner: ReplyScanner::new(),
            counted: Counted { worker: Rc::clone(worker), node: node.id, _permit: permit },
        })
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// The connection broke; how much of it was sent nobody knows.
    pub async fn send(&mut self, mut bytes: &[u8]) -> Result<(), LineLost> {
        self.counted.worker.counters.backend_request(self.node);
        while !bytes.is_empty() {
            match self.writer.try_write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or(&[]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let writer = &self.writer;
                    std::future::poll_fn(|cx| writer.poll_write_ready(cx)).await.map_err(|_| LineLost)?;
                }
                Err(_) => return Err(LineLost),
            }
        }
        Ok(())
    }

    /// The next frame, be it a reply or a push. May be dropped and called again.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn frame(&mut self) -> Result<Bytes, LineLost> {
        loop {
            if !self.buffer.is_empty()
                && let Some(len) = self.scanner.scan(&self.buffer).map_err(|_| LineLost)?
            {
                self.scanner.reset();
                let frame = self.buffer.split_to(len).freeze();
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::new();
                }
                return Ok(frame);
            }
            let read = self.reader.read_buf(&mut self.buffer).await.map_err(|_| LineLost)?;
            self.counted.worker.clock.tick();
            if read == 0 {
                return Err(LineLost);
            }
        }
    }

    /// The next frame that is not a push.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn reply(&mut self) -> Result<Bytes, LineLost> {
        loop {
            let frame = self.frame().await?;
            if frame.first() != Some(&b'>') {
                return Ok(frame);
            }
        }
    }

    /// One request and its reply.
    ///
    /// # Errors
    /// The connection broke; the request may have been executed.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Bytes, LineLost> {
        self.send(request).await?;
        self.reply().await
    }

    /// True when the connection broke, or the node said something nobody asked for.
    pub fn is_lost(&mut self) -> bool {
        !self.is_quiet()
    }

    /// True while the node has sent nothing that was not asked for, and has not closed its side.
    fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut buf = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        self.buffer.is_empty()
            && matches!(Pin::new(&mut self.reader).poll_read(&mut cx, &mut buf), Poll::Pending)
    }
}

/// Lines that nobody uses, for the next operation.
#[derive(Debug, Default)]
pub struct LinePool {
    idle: Vec<(Line, u64)>,
}

impl WorkerContext {
    /// A connection to `node` of the caller's own: one from the pool, else a new one.
    ///
    /// # Errors
    /// See [`LineError`].
    pub async fn check_out(self: &Rc<Self>, node: NodeId, resp: Resp) -> Result<Line, LineError> {
        while let Some(mut line) = self.pooled_line(node, resp) {
            if line.is_quiet() {
                return Ok(line);
            }
        }
        let known = self.topology.node(node).ok_or(LineError::Gone)?;
        match Line::open(self, &known, resp).await {
            // One that nobody uses and that speaks the other version makes room.
            Err(LineError::Full) if self.drop_idle_line(node) => Line::open(self, &known, resp).await,
            other => other,
        }
    }

    fn drop_idle_line(&self, node: NodeId) -> bool {
        let idle = &mut self.lines.borrow_mut().idle;
        let at = idle.iter().position(|(line, _)| line.node == node);
        at.map(|at| idle.swap_remove(at)).is_some()
    }

    fn pooled_line(&self, node: NodeId, resp: Resp) -> Option<Line> {
        let idle = &mut self.lines.borrow_mut().idle;
        let at = idle.iter().rposition(|(line, _)| line.node == node && line.resp == resp)?;
        Some(idle.swap_remove(at).0)
    }

    /// Takes a line back that owes nothing and remembers nothing: no watched key, no subscription.
    pub fn give_back(&self, mut line: Line) {
        if line.is_quiet() {
            self.lines.borrow_mut().idle.push((line, self.clock.now()));
        }
    }

    /// Closes lines that nobody has used for a while, and those to nodes that are down. Once per tick.
    pub fn close_idle_lines(&self) {
        let now = self.clock.now();
        let up = |node: NodeId| self.topology.node(node).is_some_and(|node| node.is_up());
        let keep = |line: &Line, since: u64| now.saturating_sub(since) < KEPT && up(line.node);
        self.lines.borrow_mut().idle.retain(|(line, since)| keep(line, *since));
    }
}
