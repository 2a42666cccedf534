//! WAIT and WAITAOF: how many replicas have what this client wrote. Asked of every primary it wrote to, on a
//! line each, and the smallest answer counts. What was sent over other connections is covered because the node
//! is first given any command: it then waits for all it has executed by now; without one it would vouch for
//! replicas that have nothing. Where a write may have been lost since (its slot has another owner, the
//! connection broke), the answer is 0, and stays 0 until the client writes again.

use std::future::{Future, poll_fn};
use std::task::Poll;

use bytes::Bytes;
use smallvec::SmallVec;

use super::Operation;
use super::block::is_unblocked;
use super::ending::Ending;
use super::timeout::{Patience, Timeout};
use super::visit::{End, Stay};
use crate::backend::line::LineError;
use crate::backend::ticket::NO_SLOT;
use crate::command::local;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::reply::integer;
use crate::reply::redirect;
use crate::topology::node::NodeId;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// One number for WAIT, two for WAITAOF: how many replicas, how many files.
type Counts = SmallVec<[i64; 2]>;

/// What one node says.
enum Said {
    Counts(Counts),
    /// An error that is the client's own doing.
    Error(Bytes),
}

/// WAIT or WAITAOF.
pub async fn wait(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let (args, worker) = (operation.request.args(), &operation.worker);
    let timeout = Timeout::of(operation.command, &args);
    let wanted: Counts =
        args.iter().skip(1).take(args.len().saturating_sub(2)).filter_map(local::integer).collect();
    let valid = wanted.len() + 2 == args.len() && timeout.patience != Patience::Unknown;
    let nothing: Counts = wanted.iter().map(|_| 0).collect();
    operation.wait_for_ever();
    let losses = worker.losses.count();
    if valid && operation.session.inner().written.is_lost(&worker.losses) {
        return Ok(reply(&nothing));
    }
    let (nodes, wrote) = nodes(operation).await?;
    let push =
        if wrote { [PING, operation.request.bytes()].concat() } else { operation.request.bytes().to_vec() };
    let until = match timeout.patience {
        Patience::For(milliseconds) => {
            let end = worker.clock.tick().saturating_add(milliseconds.saturating_mul(1000));
            Some(end.saturating_add(worker.limits.deadline))
        }
        _ => None,
    };
    let endless = timeout.patience == Patience::Forever;
    let stay = Stay { before: usize::from(wrote), until, slot: NO_SLOT, endless };
    let answers = all(nodes.iter().map(|&node| ask(operation, node, &push, &stay, &nothing))).await;
    let mut least: Option<Counts> = None;
    for answer in answers {
        match answer? {
            Said::Error(frame) => return Ok(frame.into()),
            Said::Counts(counts) => {
                least = Some(least.map_or_else(|| counts.clone(), |old| smaller(&old, &counts)))
            }
        }
    }
    match operation.ended() {
        Some(ending @ (Ending::Error | Ending::Gone)) => {
            return operation.reply_to_ended(ending, Vec::new(), endless).await;
        }
        Some(Ending::Shutdown) if endless => return Err(ProxyError::Unblocked),
        _ => {}
    }
    let mut inner = operation.session.inner();
    if inner.written.is_lost(&worker.losses) {
        return Ok(reply(&nothing));
    }
    let least = least.unwrap_or(nothing);
    if let (Some(&wanted), Some(&got)) = (wanted.last(), least.last())
        && wanted > 0
        && got >= wanted
    {
        inner.written.kept(losses);
    }
    Ok(reply(&least))
}

/// The primaries this client wrote to, and true; all of them if it wrote to none.
async fn nodes(operation: &Operation) -> Result<(Vec<NodeId>, bool), ProxyError> {
    let written: Vec<NodeId> = {
        let (inner, table) = (operation.session.inner(), operation.worker.table.borrow());
        let is_primary = |node: NodeId| table.shards().iter().any(|shard| shard.primary == node);
        inner.written.nodes().iter().copied().filter(|&node| is_primary(node)).collect()
    };
    if written.is_empty() { Ok((operation.primaries().await?, false)) } else { Ok((written, true)) }
}

/// One node's answer; nothing where it can't be reached or is no primary any more.
async fn ask(
    operation: &Operation,
    node: NodeId,
    push: &[u8],
    stay: &Stay,
    nothing: &Counts,
) -> Result<Said, ProxyError> {
    let worker = &operation.worker;
    let mut line = match worker.check_out(node, operation.resp).await {
        Ok(line) => line,
        Err(LineError::Full) => return Err(ProxyError::DedicatedFull),
        Err(LineError::Connect(_) | LineError::Gone) => return Ok(Said::Counts(nothing.clone())),
    };
    let frame = match operation.visit(&mut line, push, stay).await.end {
        End::Reply(frame) => frame,
        End::Late => return Err(ProxyError::DeadlineSent),
        End::Lost => return Ok(Said::Counts(nothing.clone())),
    };
    let unblocked = is_unblocked(&frame);
    if operation.ended().is_none() && !unblocked {
        worker.give_back(line);
    }
    let demoted = memchr::memmem::find(&frame, b"replica instances").is_some();
    if unblocked || demoted || redirect::parse(&frame).is_some() {
        return Ok(Said::Counts(nothing.clone()));
    }
    if frame.starts_with(b"-") {
        return Ok(Said::Error(frame));
    }
    counts(&frame).map(Said::Counts).ok_or(ProxyError::BadReply)
}

/// An integer, or an array of two.
fn counts(frame: &[u8]) -> Option<Counts> {
    match frame.strip_prefix(b"*2\r\n") {
        None => Some([integer(frame)?].into_iter().collect()),
        Some(rest) => rest.split_inclusive(|&byte| byte == b'\n').map(integer).collect(),
    }
}

fn smaller(a: &Counts, b: &Counts) -> Counts {
    a.iter().zip(b).map(|(&a, &b)| a.min(b)).collect()
}

fn reply(counts: &Counts) -> Vec<u8> {
    let mut out = Vec::new();
    if counts.len() == 2 {
        encode::array(&mut out, 2);
    }
    counts.iter().for_each(|&count| encode::integer(&mut out, count));
    out
}

/// All at once, in their order.
pub(super) async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut open: Vec<_> = futures.map(|future| (Box::pin(future), None::<F::Output>)).collect();
    poll_fn(|cx| {
        let mut done = true;
        for (future, output) in open.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => done = false,
            }
        }
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    open.into_iter().filter_map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::testkit::block_on;

    #[test]
    fn replies_of_both_kinds() {
        let both = counts(b"*2\r\n:1\r\n:3\r\n");
        assert_eq!(both.as_deref(), Some(&[1, 3][..]));
        assert_eq!(counts(b":2\r\n").as_deref(), Some(&[2][..]));
        for bad in [&b"+OK\r\n"[..], b"*2\r\n:1\r\n+x\r\n", b"*1\r\n:1\r\n"] {
            assert_eq!(counts(bad), None);
        }
        let (a, b): (Counts, Counts) = ([1, 3].into_iter().collect(), [2, 0].into_iter().collect());
        assert_eq!(reply(&smaller(&a, &b)), b"*2\r\n:1\r\n:0\r\n");
    }

    #[test]
    fn all_futures_in_their_order() {
        block_on(async {
            let (first, second) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
            second.notify_one();
            let wait = |index: usize| {
                let (first, second) = (&first, &second);
                async move {
                    if index == 0 {
                        first.notified().await;
                    } else {
                        second.notified().await;
                        first.notify_one();
                    }
                    index
                }
            };
            assert_eq!(all([0, 1].into_iter().map(wait)).await, [0, 1]);
        });
    }
}
