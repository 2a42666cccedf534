//! What a session does between its socket and its lanes, without either.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::rc::Rc;
use std::time::Duration;

use super::{Session, input};
use crate::telemetry::CloseReason;
use crate::worker::testkit::{client, run, worker};

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
        assert!(session.inner().pending.merge_part(0, |merge| merge.accept(0, &reply, None)));
        session.inner().settled_one(&session, &worker);
        assert!(session.inner().charged >= 1000);
    });
}
