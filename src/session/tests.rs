//! What a session does between its socket and its lanes, without either.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::session::pending::Merged;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::task::SessionTask;
use super::{Session, input};
use crate::error::ProxyError;
use crate::telemetry::CloseReason;
use crate::worker::flush;
use crate::worker::testkit::{block_on as run, connection, session as client, worker_with as worker};

const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";

fn take(session: &Rc<Session>, bytes: &[u8]) {
    input::take_scratch(session, &mut session.inner(), bytes);
}

/// The first request in flight is answered.
fn answer_first(session: &Rc<Session>, frame: &[u8]) {
    let mut inner = session.inner();
    let seq = inner.pending.iter().next().unwrap().0;
    assert!(inner.pending.settle(seq, frame));
    inner.settled_one(session, session.worker());
}

#[test]
fn a_session_stopped_at_a_bound_is_woken_by_the_reply_that_makes_room() {
    run(async {
        let worker = worker(|config| config.client_pending_requests = 4);
        let (session, _peer) = client(&worker);
        // The runtime hears that the socket can be written to.
        tokio::task::yield_now().await;
        take(&session, &GET.repeat(10));
        assert_eq!(session.inner().pending.len(), 4);
        // The reply comes before the session's task looks again.
        answer_first(&session, b"$-1\r\n");
        session.flush();
        assert!(session.inner().wants_task(&worker), "six whole requests wait to be handled");
        input::take_partial(&session, &mut session.inner());
        assert_eq!(session.inner().pending.len(), 4);
        assert!(!session.inner().wants_task(&worker));
        // Nothing is paused that only waits for the rest of a request.
        let (session, _peer) = client(&worker);
        take(&session, &GET[..9]);
        assert!(!session.inner().paused && !session.inner().wants_task(&worker));
    });
}

#[test]
fn half_a_request_may_stand_still_as_long_as_the_stall_timeout() {
    run(async {
        let worker = worker(|config| config.client_stall_timeout = Duration::from_secs(5));
        let (session, _peer) = client(&worker);
        take(&session, &GET[..9]);
        assert!(session.timed.get(), "looked after although it never sent a whole request");
        assert_eq!(session.expire(4_900_000), Some(5_000_000));
        assert!(session.inner().broken.is_none());
        session.expire(5_000_000);
        assert_eq!(session.inner().broken, Some(CloseReason::Stalled));
    });
}

#[test]
fn a_client_that_waits_for_us_is_not_stalled() {
    run(async {
        let worker = worker(|config| {
            config.client_stall_timeout = Duration::from_secs(5);
            config.client_pending_requests = 1;
        });
        let (session, _peer) = client(&worker);
        tokio::task::yield_now().await;
        take(&session, &GET.repeat(2));
        session.expire(10_000_000);
        assert_eq!(session.inner().broken, None);
    });
}

#[test]
fn a_reply_that_stops_half_way_ends_the_connection_after_the_deadline() {
    run(async {
        let worker = worker(|config| config.request_deadline = Duration::from_secs(3));
        let (session, _peer) = client(&worker);
        tokio::task::yield_now().await;
        take(&session, &GET.repeat(2));
        let first = session.inner().pending.iter().next().unwrap().0;
        assert!(session.inner().pending.begin_flow(first));
        session.flow(b"$100000\r\nabc");
        session.expire(2_900_000);
        assert_eq!(session.inner().broken, None);
        session.expire(3_100_000);
        assert_eq!(session.inner().broken, Some(CloseReason::Error));
    });
}

#[test]
fn parts_of_a_merge_are_charged_as_they_come() {
    run(async {
        let worker = worker(|_| ());
        let (session, _peer) = client(&worker);
        take(&session, b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n");
        let reply = [&b"*1\r\n$1000\r\n"[..], &[b'x'; 1000], b"\r\n"].concat();
        assert_ne!(
            session.inner().pending.merge_part(0, |merge| merge.accept(0, &reply, None)),
            Merged::Unwanted
        );
        session.inner().settled_one(&session, &worker);
        assert!(session.inner().charged >= 1000);
    });
}

#[test]
fn what_was_sent_before_the_drain_is_answered() {
    run(async {
        let worker = worker(|_| ());
        tokio::task::spawn_local(flush::run(Rc::clone(&worker)));
        let (session, reader, peer) = connection(&worker);
        let mut peer = UnixStream::from_std(peer).unwrap();
        peer.write_all(&[GET, b"PING\r\n", GET].concat()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        session.drain();
        tokio::task::spawn_local(SessionTask::new(Rc::clone(&session), reader));
        while session.inner().pending.is_empty() {
            tokio::task::yield_now().await;
        }
        peer.write_all(b"PING\r\n").await.unwrap();
        answer_first(&session, b"$-1\r\n");
        tokio::task::yield_now().await;
        let last = session.inner().pending.iter().next().unwrap().0;
        assert!(session.inner().pending.settle(last, b"$-1\r\n"));
        session.inner().settled_one(&session, &worker);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.escape_ascii().to_string(), r"$-1\r\n+PONG\r\n$-1\r\n");
    });
}

/// What the client gets of the replies that are due.
async fn received(session: &Rc<Session>, peer: &mut UnixStream) -> String {
    // The runtime has to have seen the socket.
    tokio::time::sleep(Duration::from_millis(1)).await;
    session.flush();
    let mut got = vec![0; 4000];
    let len = peer.read(&mut got).await.unwrap();
    String::from_utf8_lossy(&got[..len]).into_owned()
}

const MGET: &[u8] = b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n";
const MSET: &[u8] = b"*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n";

#[test]
fn a_parked_request_ends_at_its_deadline_as_not_executed() {
    run(async {
        let worker = worker(|config| config.request_deadline = Duration::from_secs(3));
        let (session, peer) = client(&worker);
        let mut peer = UnixStream::from_std(peer).unwrap();
        take(&session, &[GET, MGET, MSET, GET].concat());
        assert_eq!(session.expire(2_900_000), Some(3_000_000));
        session.expire(3_000_000);
        let text = received(&session, &mut peer).await;
        assert_eq!(text.matches("it was not executed\r\n").count(), 4, "{text}");
        assert!(session.inner().pending.is_empty() && session.inner().pending.bytes() == 0);
        assert_eq!(session.inner().pending.open(), 0);
        // What still waits wants no reply any more.
        worker.serve_waiting();
        assert!(worker.waiting.borrow().is_empty());
    });
}

#[test]
fn a_split_write_is_executed_partly_only_if_a_part_can_have_been() {
    run(async {
        let unsent = ProxyError::DeadlineUnsent.text();
        let partly = ProxyError::PartlyFailed.text();
        // What becomes of the first part; the second still waits.
        for (reply, text) in [(&b"+OK\r\n"[..], partly), (b"-OOM refused\r\n", unsent)] {
            let worker = worker(|config| config.request_deadline = Duration::from_secs(3));
            let (session, peer) = client(&worker);
            let mut peer = UnixStream::from_std(peer).unwrap();
            take(&session, MSET);
            let second = worker.waiting.borrow_mut().take_all().pop_back().unwrap();
            assert_eq!(second.parcel.errand.part, 1);
            worker.waiting.borrow_mut().push(second);
            let merged = session.inner().pending.merge_part(0, |merge| merge.accept(0, reply, None));
            assert_eq!(merged, Merged::More);
            session.expire(3_000_000);
            assert_eq!(received(&session, &mut peer).await, format!("-{text}\r\n"));
        }
        let worker = worker(|config| config.request_deadline = Duration::from_secs(3));
        let (session, peer) = client(&worker);
        let mut peer = UnixStream::from_std(peer).unwrap();
        take(&session, MSET);
        worker.waiting.borrow_mut().take_all();
        session.expire(3_000_000);
        assert_eq!(received(&session, &mut peer).await, format!("-{partly}\r\n"), "both are at nodes");
    });
}

#[test]
fn half_a_request_keeps_no_much_larger_buffer() {
    run(async {
        let worker = worker(|_| ());
        let (session, _peer) = client(&worker);
        let large =
            [b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000\r\n", &vec![b'x'; 500_000][..], b"\r\n"].concat();
        take(&session, &large[..100]);
        {
            let mut inner = session.inner();
            let partial = inner.partial.as_mut().unwrap();
            partial.buffer.extend_from_slice(&large[100..]);
            partial.buffer.extend_from_slice(&GET[..9]);
            input::take_partial(&session, &mut inner);
            let partial = inner.partial.as_mut().unwrap();
            assert_eq!(&partial.buffer[..], &GET[..9]);
            // Room for more would mean that it still lies behind the large one, and keeps it.
            assert!(partial.buffer.capacity() < 100, "{}", partial.buffer.capacity());
            partial.buffer.extend_from_slice(&GET[9..]);
            input::take_partial(&session, &mut inner);
        }
        assert_eq!(session.inner().pending.len(), 2);
    });
}

#[test]
fn what_a_transaction_holds_is_charged() {
    run(async {
        let worker = worker(|_| {});
        let (session, _peer) = client(&worker);
        let echo = [&b"*2\r\n$4\r\nECHO\r\n$10000\r\n"[..], &[b'x'; 10_000], b"\r\n"].concat();
        take(&session, b"*1\r\n$5\r\nMULTI\r\n");
        for queued in 1..=3 {
            take(&session, &echo);
            assert!(session.inner().charged > queued * 10_000, "{}", session.inner().charged);
        }
        // No node is known: our replies wait with the push.
        take(&session, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
        take(&session, b"*1\r\n$4\r\nEXEC\r\n");
        assert!(session.inner().transaction.is_none());
        assert!(session.inner().footprint() > 30_000, "{}", session.inner().footprint());
        let seq = session.inner().pending.iter().last().unwrap().0;
        assert!(session.inner().pending.settle(seq, b"-ERR deadline\r\n"));
        assert!(session.inner().pending.bytes() < 1_000);
    });
}
