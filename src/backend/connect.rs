//! The life of a lane's connection: dial, shake hands, serve, and when it is lost give back what it
//! held: requests that were not executed for sure wait for the next connection (or owner), reads may be
//! repeated, and what may have been executed gets an error that says so.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use socket2::TcpKeepalive;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::call::CallError;
use super::handshake::{Handshake, HandshakeError};
use super::lane::{Lane, LaneState};
use super::reader::LaneReader;
use super::ticket::{Parcel, lost_error};
use crate::protocol::reply::ReplyScanner;
use crate::router::slot::KeySlots;
use crate::session::state::Resp;
use crate::telemetry::ReadRole;
use crate::topology::Event;
use crate::topology::node::{Node, NodeId};
use crate::tracking::side;
use crate::worker::WorkerContext;
use crate::worker::transport::Transport;

/// First pause after a failed attempt; doubled each time, with jitter.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
/// Longest pause.
const BACKOFF_LAST: Duration = Duration::from_millis(1000);

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Dialling or the socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// `connect-timeout` passed.
    #[error("no connection within connect-timeout")]
    Timeout,
    /// The node refused our handshake.
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    /// Nobody wants the connection any more, or what it needs beside it could not be had.
    #[error("the connection is of no use")]
    Unwanted,
    /// The node does not let the connection do what it is for.
    #[error("the node refuses CLIENT TRACKING")]
    Refused,
    /// The node did not speak RESP.
    #[error("the node sent bytes that are not RESP")]
    BadReply,
}

/// Has `lane` connect, unless it is at it already.
pub fn start(worker: &Rc<WorkerContext>, lane: &Rc<Lane>) {
    if lane.state.get() == LaneState::Idle {
        // Since when it was down before nobody tried says nothing about now.
        lane.down_since.set(0);
        lane.state.set(LaneState::Connecting);
        tokio::task::spawn_local(run(Rc::clone(worker), Rc::clone(lane)));
    }
}

async fn run(worker: Rc<WorkerContext>, lane: Rc<Lane>) {
    let _end = End(Rc::clone(&lane));
    let mut failures: u32 = 0;
    let of_some = lane.key.dedicated > 0 || lane.key.private > 0;
    while lane.node.is_up() && worker.wants_lane(&lane) {
        let turn = if of_some { Some(worker.process.turns.take(lane.key.node).await) } else { None };
        if of_some && !(lane.node.is_up() && worker.wants_lane(&lane)) {
            break;
        }
        let begun = Instant::now();
        // A node that takes connections only to close them is not to be dialled in a loop.
        let connected = connect(&worker, &lane).await;
        drop(turn);
        let lasted = match connected {
            Ok(transport) if worker.wants_lane(&lane) => {
                serve(&worker, &lane, transport).await;
                begun.elapsed() >= BACKOFF_LAST
            }
            Ok(_) => break,
            Err(error) => {
                note_failure(&worker, &lane, &error);
                false
            }
        };
        failures = if lasted { 0 } else { failures + 1 };
        if failures > 0 {
            let ceiling = BACKOFF_LAST.min(BACKOFF_FIRST * (1 << failures.min(8)));
            tokio::time::sleep(ceiling.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }
}

/// The end of a lane's task, also by a panic: the lane may be started again, and what it owes is answered.
struct End(Rc<Lane>);

impl Drop for End {
    fn drop(&mut self) {
        let tickets = {
            let mut inner = self.0.inner();
            inner.writer = None;
            inner.waker = None;
            inner.send = Default::default();
            std::mem::take(&mut inner.tickets)
        };
        self.0.receiving.set(0);
        self.0.state.set(LaneState::Idle);
        // Each that still has its errand answers it.
        drop(tickets);
    }
}

fn note_failure(worker: &WorkerContext, lane: &Lane, error: &ConnectError) {
    if lane.key.private > 0 && worker.tracker_of(lane).is_none() {
        return;
    }
    if lane.down_since.get() == 0 {
        lane.down_since.set(worker.clock.tick().max(1));
        tracing::warn!(node = %lane.node.addr, error = %error, "cannot connect to node");
    }
    // That the node does not let a client track, or us have one connection more, does not make it a bad node.
    if !matches!(error, ConnectError::Unwanted | ConnectError::Refused) {
        worker.topology.report(Event::ConnectFailed(lane.key.node));
    }
}

async fn connect(worker: &Rc<WorkerContext>, lane: &Rc<Lane>) -> Result<Transport, ConnectError> {
    let mut transport = dial(worker, &lane.node, lane.key.resp, lane.key.read_only).await?;
    if lane.key.private == 0 {
        return Ok(transport);
    }
    let tracking = async {
        let (request, listener) = side::prepare(worker, lane).await?;
        *lane.listener.borrow_mut() = listener;
        let Transport::Tcp(stream) = &mut transport else { return Err(ConnectError::Unwanted) };
        side::introduce(stream, &request).await
    };
    tokio::time::timeout(worker.limits.connect_timeout, tracking)
        .await
        .map_err(|_| ConnectError::Timeout)??;
    Ok(transport)
}

/// Dials a node and shakes hands, within `connect-timeout`.
///
/// # Errors
/// See [`ConnectError`].
pub(crate) async fn dial(
    worker: &WorkerContext,
    node: &Node,
    resp: Resp,
    read_only: bool,
) -> Result<Transport, ConnectError> {
    let attempt = async {
        let mut stream = TcpStream::connect((node.addr.host.as_str(), node.addr.port)).await?;
        crate::listener::socket::prepare(&stream)?;
        notice_silence(&stream, worker.limits.silence)?;
        shake_hands(&mut stream, &opening(worker, node, resp, read_only)).await?;
        Ok(Transport::Tcp(stream))
    };
    tokio::time::timeout(worker.limits.connect_timeout, attempt).await.map_err(|_| ConnectError::Timeout)?
}

/// Has the kernel give a connection up that something on the way forgot while the node itself answers others, within
/// about `silence`, also one on which nothing is said: invalidations would come on it.
fn notice_silence(stream: &TcpStream, silence: Duration) -> std::io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    let seconds = |time: Duration| time.max(Duration::from_secs(1));
    let probes = TcpKeepalive::new().with_time(seconds(silence / 2)).with_interval(seconds(silence / 4));
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(silence))
}

/// What is said first. A server that is no cluster node knows no READONLY and serves reads in either role, so
/// that it is asked for its role where it is to be the primary.
fn opening(worker: &WorkerContext, node: &Node, resp: Resp, read_only: bool) -> Handshake {
    let limits = &worker.limits;
    let is_cluster = limits.key_slots == KeySlots::Hashed;
    let handshake = Handshake::new(resp, &limits.credentials, &limits.client_name, read_only && is_cluster);
    let is_primary = || worker.table.borrow().shards().iter().any(|shard| shard.primary == node.id);
    if !is_cluster && !read_only && is_primary() { handshake.with_role() } else { handshake }
}

async fn shake_hands(stream: &mut TcpStream, handshake: &Handshake) -> Result<(), ConnectError> {
    stream.write_all(handshake.bytes()).await?;
    let mut buffer = BytesMut::with_capacity(1024);
    let mut scanner = ReplyScanner::new();
    let mut index = 0;
    while index < handshake.replies() {
        match scanner.scan(&buffer).map_err(|_| ConnectError::BadReply)? {
            Some(len) => {
                handshake.accept(index, &buffer.split_to(len))?;
                scanner.reset();
                index += 1;
            }
            None if stream.read_buf(&mut buffer).await? == 0 => {
                return Err(ConnectError::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            None => {}
        }
    }
    if buffer.is_empty() { Ok(()) } else { Err(ConnectError::BadReply) }
}

async fn serve(worker: &Rc<WorkerContext>, lane: &Rc<Lane>, transport: Transport) {
    let (reader, writer) = transport.split();
    {
        let mut inner = lane.inner();
        inner.writer = Some(writer);
        inner.write_blocked = false;
        inner.condemned = None;
        inner.waker = None;
    }
    *lane.loaded.borrow_mut() = Default::default();
    lane.down_since.set(0);
    lane.connection.set(lane.connection.get().wrapping_add(1));
    lane.run.set(0);
    lane.state.set(LaneState::Ready);
    let counted = Counted::new(worker, lane);
    worker.topology.report(Event::Connected(lane.key.node));
    if lane.key.private > 0 {
        worker.private_lane_opened(lane);
    }
    worker.clock.tick();
    worker.serve_waiting();
    let why = LaneReader::new(Rc::clone(worker), Rc::clone(lane), reader).await;
    drop(counted);
    lost(worker, lane, why);
}

/// Counts an open connection, also to its end by a panic.
struct Counted<'a>(&'a WorkerContext, NodeId);

impl<'a> Counted<'a> {
    fn new(worker: &'a WorkerContext, lane: &Lane) -> Self {
        worker.counters.backend_connections(lane.key.node, 1);
        Self(worker, lane.key.node)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.counters.backend_connections(self.1, -1);
    }
}

/// The connection is gone: every ticket is answered or waits again.
fn lost(worker: &Rc<WorkerContext>, lane: &Rc<Lane>, why: &'static str) {
    worker.clock.tick();
    lane.state.set(LaneState::Connecting);
    let (tickets, send) = {
        let mut inner = lane.inner();
        inner.writer = None;
        inner.waker = None;
        lane.receiving.set(0);
        (std::mem::take(&mut inner.tickets), std::mem::take(&mut inner.send))
    };
    *lane.listener.borrow_mut() = None;
    if let Some(tracker) = worker.tracker_of(lane) {
        worker.flush_tracking(&tracker);
    }
    let of_some = lane.key.dedicated > 0 || lane.key.private > 0 || lane.key.read_only;
    let unused = of_some && tickets.is_empty();
    let known = worker.table.borrow().is_member(lane.key.node);
    if known && !unused {
        lane.down_since.set(worker.clock.now().max(1));
        if !lane.key.read_only {
            worker.losses.connection_lost(lane.key.node);
        }
        tracing::warn!(node = %lane.node.addr, why, owed = tickets.len(), "lost the connection to a node");
        worker.topology.report(Event::ConnectionLost(lane.key.node));
    }
    // From the last to the first: a read may be repeated only if no write of its session that may have
    // been executed came after it, or it could see what it must not.
    let mut written: HashSet<(u64, u16)> = HashSet::new();
    let mut again = Vec::new();
    let mut failed = Vec::new();
    for mut ticket in tickets.into_iter().rev() {
        let (start, len) = (ticket.start, ticket.len);
        let sent = start + len as u64 <= send.written();
        if let Some(call) = ticket.call() {
            call.fail(if sent { CallError::Lost } else { CallError::Unsent });
        }
        let Some(mut errand) = ticket.take() else { continue };
        let place = (errand.session.id, errand.slot);
        // A read that makes nodes drop the connection must not go round for ever.
        let often = usize::from(errand.redirects) >= worker.limits.redirects;
        let repeatable = errand.command.is_read_only() && !written.contains(&place) && !often;
        if !sent || repeatable {
            errand.redirects = errand.redirects.saturating_add(u8::from(sent));
            let aim = worker.aim_again(lane, &errand);
            if lane.key.read_only {
                worker.counters.read_from(ReadRole::Again);
            }
            again.push(Parcel { bytes: send.request(start, len), errand, aim });
        } else {
            if !errand.command.is_read_only() {
                written.insert(place);
            }
            failed.push(errand);
        }
    }
    for errand in failed.into_iter().rev() {
        errand.session.fail(&errand, lost_error(&errand));
    }
    for parcel in again.into_iter().rev() {
        let repeat = parcel.errand.session.inner().pending.wants(&parcel.errand);
        if repeat {
            worker.send(parcel);
        } else {
            // Half of its reply went out already, or nobody waits any more.
            parcel.errand.session.fail(&parcel.errand, lost_error(&parcel.errand));
        }
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
