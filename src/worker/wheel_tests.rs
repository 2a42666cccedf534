//! Nobody is looked at before its time (but for those farther off than a turn), nobody more than a step
//! after it.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::error::ProxyError;
use crate::worker::testkit;

const TURN: u64 = STEPS as u64 * STEP_MICROS;

proptest! {
    #![proptest_config(crate::worker::testkit::cases(40))]

    #[test]
    fn everyone_in_time(
        start in 0..3 * TURN,
        delays in proptest::collection::vec(prop_oneof![0..STEP_MICROS * 3, 0..TURN, 0..3 * TURN], 1..12),
        tick in (1..=STEP_MICROS * 2),
    ) {
        testkit::block_on(async {
            let worker = testkit::worker(Config::default());
            let wheel = Wheel::default();
            let mut now = start;
            wheel.turn(now, |_, _| panic!("nobody is in it"));
            let mut peers = Vec::new();
            let times = RefCell::new(HashMap::new());
            for delay in delays {
                let (session, peer) = testkit::session(&worker);
                wheel.add(&session, now + delay);
                times.borrow_mut().insert(session.id, now + delay);
                peers.push(peer);
            }
            let last = now + TURN + 2 * tick;
            while now < last {
                now += tick;
                wheel.turn(now, |index, id| {
                    assert_eq!(worker.sessions.borrow().get(index, id).unwrap().id, id);
                    let time = times.borrow_mut().remove(&id).expect("looked at once");
                    assert!(now > time || now + 2 * STEP_MICROS > start + TURN, "{} too early", time - now);
                    let latest = time.max(start) + STEP_MICROS + tick;
                    assert!(now <= latest, "{} too late", now - latest);
                    None
                });
            }
            assert!(times.borrow().is_empty(), "{times:?} were forgotten");
        });
    }
}

/// A time that is past is looked at with the next step.
#[test]
fn times_gone_by() {
    testkit::block_on(async {
        let worker = testkit::worker(Config::default());
        let (session, _peer) = testkit::session(&worker);
        let wheel = Wheel::default();
        wheel.turn(10 * STEP_MICROS, |_, _| None);
        wheel.add(&session, 0);
        let seen = Cell::new(0);
        let look = |_, _| {
            seen.set(seen.get() + 1);
            None
        };
        wheel.turn(11 * STEP_MICROS - 1, look);
        assert_eq!(seen.get(), 0);
        wheel.turn(11 * STEP_MICROS, look);
        wheel.turn(5 * TURN, look);
        assert_eq!(seen.get(), 1);
    });
}

/// The whole way: a deadline is met by the step after it, the session stays in the wheel until nothing is
/// owed, and a session that is gone is forgotten.
#[test]
fn deadlines() {
    testkit::block_on(async {
        let worker = testkit::worker(Config::default());
        let (session, _peer) = testkit::session(&worker);
        let (gone, _its_peer) = testkit::session(&worker);
        let deadline = worker.limits.deadline;
        let early = testkit::expect(&session, "get", 1, 1_000_000);
        let late = testkit::expect(&session, "get", 1, 3_000_000);
        session.watch();
        gone.watch();
        worker.close_session(&gone, crate::telemetry::CloseReason::Client);
        let turn = |now: u64| {
            worker.wheel.turn(now, |index, id| worker.sessions.borrow().get(index, id));
            session.inner().pending.open()
        };
        assert_eq!(turn(deadline + 999_999), 2);
        assert_eq!(turn(deadline + 1_000_000 + STEP_MICROS), 1, "the first is answered, and it alone");
        assert!(!session.inner().pending.wants(&early) && session.inner().pending.wants(&late));
        assert_eq!(turn(deadline + 2_999_999), 1);
        assert_eq!(turn(deadline + 3_000_000 + STEP_MICROS), 0);
        let error = format!("-{}\r\n", ProxyError::DeadlineSent.text()).repeat(2);
        assert_eq!(session.inner().out.unsent(), error.into_bytes());
        session.inner().out = Default::default();
        turn(3 * deadline);
        let entries = || worker.wheel.steps.borrow().iter().map(Vec::len).sum::<usize>();
        assert_eq!(entries(), 0, "nothing is owed any more");
        session.watch();
        assert_eq!(entries(), 1, "it can be watched again");
        session.watch();
        assert_eq!(entries(), 1, "but is in the wheel only once");
    });
}
