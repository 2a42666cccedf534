//! A connection to a node that one operation has for itself: it may wait there as long as it likes, watch
//! keys, or take pushes. Owns its socket; dropping it closes it, which ends whatever waits at the node.
//! Must never be given back to the pool unless every reply it owed has been read.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::connect::{ConnectError, dial};
use super::permit::Permit;
use super::turns::Turn;
use crate::protocol::reply::{ReplyScanner, integer};
use crate::session::state::Resp;
use crate::topology::Event;
use crate::topology::node::{Node, NodeId};
use crate::worker::WorkerContext;
use crate::worker::transport::{ReadSide, WriteSide};

/// How long an unused connection is kept, in microseconds.
const KEPT: u64 = 10_000_000;
/// How long a request waits for a place that an unused connection of another worker takes, in microseconds.
const PLACE: u64 = 250_000;
/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Asks the node for its number of the connection, by which the wait on it can be ended from another one.
const CLIENT_ID: &[u8] = b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n";

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
    id: ConnectionId,
    counted: Counted,
}

/// The node's number of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionId {
    /// Asked for when the line was opened; the reply comes before any other.
    Owed,
    /// Known.
    Known(u64),
    /// The node does not tell it.
    Unknown,
}

/// What has to be undone when a line is closed.
struct Counted {
    worker: Rc<WorkerContext>,
    node: NodeId,
    permit: Permit,
    /// Bytes of a reply that is coming in, as charged to the worker.
    bytes: usize,
}

impl Counted {
    fn charge(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.worker.budget.charge(self.bytes, bytes);
            self.bytes = bytes;
        }
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counted").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.charge(0);
        self.worker.counters.backend_connections(self.node, -1);
    }
}

impl Line {
    /// `waits` for its turn, unless the caller has one, or cannot wait.
    async fn open(
        worker: &Rc<WorkerContext>,
        node: &Arc<Node>,
        resp: Resp,
        permit: Option<Permit>,
        waits: bool,
    ) -> Result<Self, LineError> {
        let permit = permit.ok_or(LineError::Full)?;
        let _turn = match waits {
            true => Some(worker.turn_to_connect(node).await?),
            false => None,
        };
        let transport = dial(worker, node, resp, false).await.inspect_err(|_| {
            worker.topology.report(Event::ConnectFailed(node.id));
        })?;
        let (reader, writer) = transport.split();
        worker.counters.backend_connections(node.id, 1);
        let mut line = Self {
            node: node.id,
            resp,
            reader,
            writer,
            buffer: BytesMut::new(),
            scanner: ReplyScanner::new(),
            id: ConnectionId::Owed,
            counted: Counted { worker: Rc::clone(worker), node: node.id, permit, bytes: 0 },
        };
        // Nobody waits for the answer: it is read before the first reply.
        match line.send(CLIENT_ID).await {
            Ok(()) => Ok(line),
            Err(LineLost) => {
                Err(LineError::Connect(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()))
            }
        }
    }

    /// The node's number of this connection, once it was read and if the node tells it.
    pub fn id(&self) -> Option<u64> {
        match self.id {
            ConnectionId::Known(id) => Some(id),
            ConnectionId::Owed | ConnectionId::Unknown => None,
        }
    }

    /// True until the node's number of this connection was read.
    pub fn owes_id(&self) -> bool {
        self.id == ConnectionId::Owed
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
        if self.owes_id() {
            self.introduction().await?;
        }
        self.any_frame().await
    }

    /// Waits until the node has said its number of this connection, or that it does not tell. May be dropped
    /// and called again.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn introduction(&mut self) -> Result<(), LineLost> {
        if self.owes_id() {
            let id = integer(&self.any_frame().await?).and_then(|id| u64::try_from(id).ok());
            self.id = id.map_or(ConnectionId::Unknown, ConnectionId::Known);
        }
        Ok(())
    }

    async fn any_frame(&mut self) -> Result<Bytes, LineLost> {
        loop {
            if !self.buffer.is_empty()
                && let Some(len) = self.scanner.scan(&self.buffer).map_err(|_| LineLost)?
            {
                self.scanner.reset();
                let frame = self.buffer.split_to(len).freeze();
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::new();
                }
                self.counted.charge(self.buffer.len());
                return Ok(frame);
            }
            let read = self.reader.read_buf(&mut self.buffer).await.map_err(|_| LineLost)?;
            self.counted.charge(self.buffer.len());
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
    /// A connection to `node` of the caller's own: one from the pool, else a new one, which is made when it is its
    /// turn.
    ///
    /// # Errors
    /// See [`LineError`].
    pub async fn check_out(self: &Rc<Self>, node: NodeId, resp: Resp) -> Result<Line, LineError> {
        self.pooled_or_new(node, resp, true).await
    }

    /// The same for a caller whose turn it is already.
    ///
    /// # Errors
    /// See [`LineError`].
    pub async fn check_out_in_turn(self: &Rc<Self>, node: NodeId, resp: Resp) -> Result<Line, LineError> {
        self.pooled_or_new(node, resp, false).await
    }

    /// The turn to make a connection to `node`.
    ///
    /// # Errors
    /// It did not come within `owner-wait`, or the node cannot be reached any more.
    async fn turn_to_connect(&self, node: &Node) -> Result<Turn, ConnectError> {
        let limit = Duration::from_micros(self.limits.owner_wait);
        let turn = tokio::time::timeout(limit, self.process.turns.take(node.id)).await;
        let turn = turn.map_err(|_| ConnectError::Timeout)?;
        if node.is_up() { Ok(turn) } else { Err(ConnectError::Unwanted) }
    }

    async fn pooled_or_new(
        self: &Rc<Self>,
        node: NodeId,
        resp: Resp,
        waits: bool,
    ) -> Result<Line, LineError> {
        while let Some(mut line) = self.pooled_line(node, resp) {
            if line.is_quiet() {
                return Ok(line);
            }
        }
        let known = self.topology.node(node).ok_or(LineError::Gone)?;
        let until = self.clock.tick() + PLACE;
        loop {
            let permit = self.process.dedicated.take(node, self.limits.dedicated_connections);
            match Line::open(self, &known, resp, permit, waits).await {
                // One that nobody uses makes room; those of other workers are closed at their next tick.
                Err(LineError::Full) if self.drop_idle_line(node) => {}
                Err(LineError::Full)
                    if self.process.dedicated.make_room(node) && self.clock.tick() < until =>
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                other => return other,
            }
        }
    }

    /// A new line that `dedicated-max-per-node` does not refuse at once: for what ends the work that may have
    /// taken all others. To be closed after use, not given back.
    ///
    /// # Errors
    /// See [`LineError`].
    pub async fn spare_line(self: &Rc<Self>, node: NodeId, resp: Resp) -> Result<Line, LineError> {
        let known = self.topology.node(node).ok_or(LineError::Gone)?;
        let permit = self.process.dedicated.take_spare(node, self.limits.dedicated_connections);
        Line::open(self, &known, resp, permit, false).await
    }

    /// Closes a pooled line to `node`; false when there is none.
    pub(super) fn drop_idle_line(&self, node: NodeId) -> bool {
        let idle = &mut self.lines.borrow_mut().idle;
        let at = idle.iter().position(|(line, _)| line.node == node);
        at.map(|at| idle.swap_remove(at)).is_some()
    }

    fn pooled_line(&self, node: NodeId, resp: Resp) -> Option<Line> {
        let idle = &mut self.lines.borrow_mut().idle;
        let at = idle.iter().rposition(|(line, _)| line.node == node && line.resp == resp)?;
        let line = idle.swap_remove(at).0;
        line.counted.permit.set_idle(false);
        Some(line)
    }

    /// Takes a line back that owes nothing and remembers nothing: no watched key, no subscription.
    pub fn give_back(&self, mut line: Line) {
        if line.is_quiet() {
            line.counted.permit.set_idle(true);
            self.lines.borrow_mut().idle.push((line, self.clock.now()));
        }
    }

    /// Closes lines that nobody has used for a while, and those to nodes that are down. Once per tick.
    pub fn close_idle_lines(&self) {
        let now = self.clock.now();
        let up = |node: NodeId| self.topology.node(node).is_some_and(|node| node.is_up());
        let wanted = |node: NodeId| self.process.dedicated.wants_room(node);
        let keep =
            |line: &Line, since: u64| now.saturating_sub(since) < KEPT && up(line.node) && !wanted(line.node);
        self.lines.borrow_mut().idle.retain(|(line, since)| keep(line, *since));
    }
}
