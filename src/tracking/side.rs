//! Switches tracking on for a fresh connection of a tracking session. In RESP2 a node sends invalidations to
//! another connection only: then a second one, in RESP3, listens beside it. Owns that listener as long as the
//! connection lasts; when the listener is lost the connection is given up with it.

use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::backend::connect::ConnectError;
use crate::backend::lane::Lane;
use crate::backend::line::{Line, LineError};
use crate::error::ProxyError;
use crate::operation::Operation;
use crate::protocol::encode;
use crate::protocol::reply::{ReplyScanner, integer};
use crate::session::state::Resp;
use crate::topology::node::NodeId;
use crate::worker::WorkerContext;

const ON: &[u8] = b"*3\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n";
const OFF: &[u8] = b"*3\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$3\r\nOFF\r\n";

/// A listener beside a lane; gone with it.
#[derive(Debug)]
pub struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a private lane says first, and the listener it needs.
///
/// # Errors
/// Its session tracks no more, or the listener could not be had.
pub async fn prepare(
    worker: &Rc<WorkerContext>,
    lane: &Rc<Lane>,
) -> Result<(Vec<u8>, Option<Listener>), ConnectError> {
    let options = worker
        .tracker_of(lane)
        .and_then(|session| session.inner().client.tracking.as_ref().map(|state| state.options.clone()))
        .ok_or(ConnectError::Unwanted)?;
    if lane.key.resp == Resp::V3 {
        return Ok((options.request(None), None));
    }
    let mut line =
        worker.check_out_in_turn(lane.key.node, Resp::V3).await.map_err(|_| ConnectError::Unwanted)?;
    let mut request = Vec::new();
    encode::array(&mut request, 2);
    ["CLIENT", "ID"].iter().for_each(|word| encode::bulk(&mut request, word));
    let reply = line.ask(&request).await.map_err(|_| ConnectError::BadReply)?;
    let id = integer(&reply).and_then(|id| u64::try_from(id).ok()).ok_or(ConnectError::BadReply)?;
    let task = tokio::task::spawn_local(listen(Rc::clone(worker), Rc::clone(lane), line));
    Ok((options.request(Some(id)), Some(Listener(task.abort_handle()))))
}

/// Whether nodes let us track: tried on a line to one of them, before the client is told that they do. `Some` is
/// the node's refusal. A node that does not answer now refuses nothing.
///
/// # Errors
/// No dedicated connection is left, which in RESP2 is what listens.
pub async fn refusal(operation: &Operation) -> Result<Option<Vec<u8>>, ProxyError> {
    let worker = &operation.worker;
    let table = Arc::clone(&worker.table.borrow());
    let up = |node: &NodeId| table.node(*node).is_some_and(|node| node.is_up());
    let Some(node) = table.shards().iter().map(|shard| shard.primary).find(up) else { return Ok(None) };
    let try_it = async {
        let mut line = match worker.check_out(node, Resp::V3).await {
            Err(LineError::Full) if operation.resp == Resp::V2 => return Err(ProxyError::DedicatedFull),
            line => line.map_err(|_| ProxyError::ConnectionLost)?,
        };
        let reply = line.ask(ON).await.map_err(|_| ProxyError::ConnectionLost)?;
        if reply.starts_with(b"-") {
            return Ok(Some(reply.to_vec()));
        }
        if line.ask(OFF).await.is_ok_and(|reply| reply.starts_with(b"+")) {
            worker.give_back(line);
        }
        Ok(None)
    };
    match tokio::time::timeout(worker.limits.connect_timeout, try_it).await {
        Err(_) | Ok(Err(ProxyError::ConnectionLost)) => Ok(None),
        Ok(result) => result,
    }
}

async fn listen(worker: Rc<WorkerContext>, lane: Rc<Lane>, mut line: Line) {
    while let Ok(frame) = line.frame().await {
        worker.pushed(&lane, &frame);
    }
    lane.condemn("the connection for its invalidations was lost");
}

/// Says `request` on a fresh connection; pushes that come before its answer are of no use to anybody.
///
/// # Errors
/// The node refuses, or the connection broke.
pub async fn introduce(stream: &mut TcpStream, request: &[u8]) -> Result<(), ConnectError> {
    stream.write_all(request).await?;
    let mut buffer = bytes::BytesMut::with_capacity(256);
    let mut scanner = ReplyScanner::new();
    let mut answered = false;
    while !answered || !buffer.is_empty() {
        match scanner.scan(&buffer).map_err(|_| ConnectError::BadReply)? {
            Some(len) => {
                let frame = buffer.split_to(len);
                scanner.reset();
                match frame.first() {
                    Some(b'>') => {}
                    Some(b'+') => answered = true,
                    Some(b'-') => return Err(ConnectError::Refused),
                    _ => return Err(ConnectError::BadReply),
                }
            }
            None if stream.read_buf(&mut buffer).await? == 0 => {
                return Err(ConnectError::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            None => {}
        }
    }
    Ok(())
}
