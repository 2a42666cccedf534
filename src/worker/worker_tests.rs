//! What a worker keeps beside the path: its list of clients, its account of memory, its spare buffers.

use std::rc::Rc;

use super::*;
use crate::config::Config;
use crate::session::pending::CellState;
use crate::telemetry::{CloseReason, CommandClass};

#[test]
fn places_are_used_again_but_not_mixed_up() {
    testkit::block_on(async {
        let worker = testkit::worker(Config::default());
        let sessions: Vec<_> = (0..3).map(|_| testkit::session(&worker).0).collect();
        let list = || worker.sessions.borrow();
        assert_eq!((list().len(), list().iter().count()), (3, 3));
        assert_eq!(sessions.iter().map(|session| session.index.get()).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(worker.sessions.borrow_mut().remove(&sessions[1]));
        assert!(!worker.sessions.borrow_mut().remove(&sessions[1]), "it had gone already");
        let (next, _peer) = testkit::session(&worker);
        assert_eq!((next.index.get(), list().len()), (1, 3));
        assert!(list().get(1, sessions[1].id).is_none(), "another client has its place");
        assert!(!worker.sessions.borrow_mut().remove(&sessions[1]), "and keeps it");
        assert!(list().get(1, next.id).is_some_and(|found| Rc::ptr_eq(&found, &next)));
        assert!(list().get(9, next.id).is_none());
        for session in [&sessions[0], &sessions[2], &next] {
            assert!(worker.sessions.borrow_mut().remove(session));
        }
        assert!(list().is_empty() && list().iter().next().is_none());
    });
}

#[test]
fn a_closed_session_holds_nothing_and_wants_nothing() {
    testkit::block_on(async {
        let worker = testkit::worker(Config::default());
        let (session, _peer) = testkit::session(&worker);
        let front = testkit::expect(&session, "get", 1, 0);
        let behind = testkit::expect(&session, "get", 1, 0);
        session.deliver(&behind, &[b'x'; 1000], None);
        let held = testkit::parcel(&front, &["k"]);
        let held_bytes = held.bytes.len();
        session.inner().hold(held, 0, &worker);
        session.flush();
        assert_eq!((session.inner().footprint(), worker.sessions_in_order.get()), (1000 + held_bytes, 1));
        worker.close_session(&session, CloseReason::Client);
        worker.close_session(&session, CloseReason::Client);
        assert_eq!((session.inner().footprint(), worker.sessions_in_order.get()), (0, 0));
        assert!(session.inner().writer.is_none() && worker.process.registry.is_empty());
        assert_eq!(worker.process.clients(), 0, "counted once");
        session.deliver(&front, b"+late\r\n", None);
        session.fail(&behind, crate::error::ProxyError::ConnectionLost);
        assert!(session.inner().is_settled(), "late replies are swallowed");
    });
}

#[test]
fn at_the_ceiling_the_largest_client_goes_and_no_work_is_taken() {
    testkit::block_on(async {
        let config = Config { max_memory: 10_000, client_pending_bytes: 2_000, ..Config::default() };
        let worker = testkit::worker(config);
        let (small, _small_peer) = testkit::session(&worker);
        let (large, _large_peer) = testkit::session(&worker);
        for (session, size) in [(&small, 1_000), (&large, 9_500)] {
            let mut inner = session.inner();
            inner.pending.push(CommandClass::Read, 0, 0, CellState::Waiting);
            inner.out.append(&vec![b'x'; size], Vec::new);
            inner.charge(&worker.budget);
            inner.charge(&worker.budget);
        }
        assert!(!worker.budget.is_full());
        worker.settle_budget();
        assert!(worker.budget.is_full(), "10,500 of 10,000");
        assert_eq!((small.inner().broken, large.inner().broken), (None, Some(CloseReason::Memory)));
        worker.close_session(&large, CloseReason::Memory);
        worker.settle_budget();
        assert!(!worker.budget.is_full());
        worker.close_session(&small, CloseReason::Client);
        worker.settle_budget();
        assert_eq!(worker.process.workers[0].memory.load(std::sync::atomic::Ordering::Relaxed), 0);
    });
}

#[test]
fn who_must_not_be_evicted_is_spared_at_the_ceiling() {
    testkit::block_on(async {
        let config = Config { max_memory: 100, client_pending_bytes: 10, ..Config::default() };
        let worker = testkit::worker(config);
        let (spared, _spared_peer) = testkit::session(&worker);
        let (other, _other_peer) = testkit::session(&worker);
        spared.inner().client.settings.no_evict = true;
        for (session, size) in [(&spared, 500), (&other, 50)] {
            session.inner().out.append(&vec![b'x'; size], Vec::new);
            session.inner().charge(&worker.budget);
        }
        worker.settle_budget();
        assert_eq!((spared.inner().broken, other.inner().broken), (None, Some(CloseReason::Memory)));
    });
}

/// A client within its bounds is not closed for what others hold.
#[test]
fn nobody_is_closed_who_keeps_to_his_bound() {
    testkit::block_on(async {
        let worker = testkit::worker(Config { max_memory: 100, ..Config::default() });
        let (session, _peer) = testkit::session(&worker);
        session.inner().out.append(&[b'x'; 200], Vec::new);
        session.inner().charge(&worker.budget);
        worker.settle_budget();
        assert!(worker.budget.is_full());
        assert_eq!(session.inner().broken, None);
    });
}

#[test]
fn spare_buffers_are_bounded() {
    let pool = BufferPool::default();
    let mut buffer = pool.take();
    let room = buffer.capacity();
    assert!(room > 0);
    buffer.extend_from_slice(b"bytes of a client");
    pool.give(buffer);
    let again = pool.take();
    assert_eq!((again.len(), again.capacity()), (0, room), "the same, but empty");
    pool.give(vec![0; 1 << 20]);
    pool.give(Vec::new());
    assert_eq!(pool.take().capacity(), room, "neither is worth keeping");
    (0..1000).for_each(|_| pool.give(Vec::with_capacity(room * 2)));
    let kept = (0..1000).filter(|_| pool.take().capacity() == room * 2).count();
    assert!((1..1000).contains(&kept), "{kept} buffers are kept");
}
