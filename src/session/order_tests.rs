//! The order rule, rule by rule: what goes on when, what has to wait, what comes too late. How it holds
//! against real nodes is in tests/faults.

use super::*;
use crate::backend::ticket::Aim;
use crate::config::Config;
use crate::error::ProxyError;
use crate::topology::node::NodeId;
use crate::worker::testkit::{self, errand, expect, parcel};

struct Kit {
    worker: Rc<WorkerContext>,
    session: Rc<Session>,
}

/// A session; the first requests it gets are numbered from 0.
fn with_session(test: impl FnOnce(&Kit)) {
    testkit::block_on(async {
        let worker = testkit::worker(Config::default());
        let (session, _peer) = testkit::session(&worker);
        test(&Kit { worker, session });
    });
}

impl Kit {
    /// A request that is at a node.
    fn sent(&self, name: &str, slot: u16) -> Errand {
        expect(&self.session, name, slot, 0)
    }

    /// A request that was redirected.
    fn held(&self, name: &str, slot: u16, aim: Aim, not_before: u64) -> Errand {
        let errand = self.sent(name, slot);
        self.hold(&errand, aim, not_before);
        errand
    }

    fn hold(&self, errand: &Errand, aim: Aim, not_before: u64) {
        let parcel = Parcel { aim, ..parcel(errand, &["k", "v"]) };
        self.session.inner().hold(parcel, not_before, &self.worker);
    }

    fn answer(&self, errand: &Errand) {
        self.session.deliver(errand, b"+OK\r\n", None);
    }

    /// Which requests may go on at `now`; they are under way from then on.
    fn ready(&self, now: u64) -> (Vec<u32>, Option<u64>) {
        let mut inner = self.session.inner();
        let (ready, later) = inner.take_ready(now);
        let seqs = ready.iter().map(|held| held.parcel.errand.seq).collect();
        for held in ready {
            inner.pending.set_held(&held.parcel.errand, false);
        }
        (seqs, later)
    }

    fn overtaken(&self) -> Vec<u32> {
        let inner = self.session.inner();
        let held = inner.order.iter().flat_map(|order| &order.held);
        held.filter(|held| held.overtaken).map(|held| held.parcel.errand.seq).collect()
    }

    fn received(&self) -> String {
        String::from_utf8(self.session.inner().out.unsent()).unwrap()
    }
}

fn node(id: u16) -> Aim {
    Aim::Node { node: NodeId(id), asking: false }
}

#[test]
fn nothing_goes_on_while_its_slot_is_at_a_node() {
    with_session(|kit| {
        let first = kit.held("set", 5, Aim::Table, 0);
        let second = kit.sent("set", 5);
        let other = kit.held("set", 6, Aim::Table, 0);
        assert_eq!(kit.ready(0), (vec![other.seq], None), "another slot is not concerned");
        assert_eq!(kit.ready(0), (vec![], None));
        kit.answer(&second);
        assert_eq!(kit.ready(0), (vec![first.seq], None));
        assert_eq!(kit.ready(0), (vec![], None), "each goes on once");
    });
}

#[test]
fn requests_go_on_in_their_order() {
    with_session(|kit| {
        let all: Vec<Errand> = (0..5).map(|_| kit.sent("set", 5)).collect();
        for at in [3, 0, 4, 2, 1] {
            assert_eq!(kit.ready(0).0, [] as [u32; 0]);
            kit.hold(&all[at], Aim::Table, 0);
        }
        assert_eq!(kit.ready(0).0, [0, 1, 2, 3, 4]);
    });
}

#[test]
fn what_ended_meanwhile_makes_way() {
    with_session(|kit| {
        let gone: Vec<Errand> = (0..3).map(|_| kit.held("set", 5, Aim::Table, 0)).collect();
        let last = kit.held("set", 5, Aim::Table, 0);
        for errand in &gone {
            assert!(kit.session.inner().pending.settle(errand.seq, b"-ERR deadline\r\n"));
        }
        advance(&kit.worker, &kit.session);
        assert_eq!(kit.worker.waiting_parts(&kit.session, last.seq), 1, "it was sent on");
    });
}

#[test]
fn one_slot_goes_one_way_at_a_time() {
    with_session(|kit| {
        let aims = [node(1), node(1), Aim::Table, node(1)];
        let all: Vec<Errand> = aims.into_iter().map(|aim| kit.held("set", 5, aim, 0)).collect();
        let elsewhere = kit.held("set", 6, node(2), 0);
        assert_eq!(kit.ready(0).0, [0, 1, elsewhere.seq]);
        assert_eq!(kit.ready(0).0, [] as [u32; 0]);
        kit.answer(&all[0]);
        assert_eq!(kit.ready(0).0, [] as [u32; 0], "the second is still at its node");
        kit.answer(&all[1]);
        assert_eq!(kit.ready(0).0, [2]);
        kit.answer(&all[2]);
        assert_eq!(kit.ready(0).0, [3], "not before what came first, though it was free all the time");
    });
}

#[test]
fn a_delay_holds_up_its_own_slot_only() {
    with_session(|kit| {
        kit.held("set", 5, Aim::Table, 100);
        kit.held("set", 5, Aim::Table, 0);
        let other = kit.held("set", 6, Aim::Table, 0);
        kit.held("set", 7, Aim::Table, 70);
        assert_eq!(kit.ready(0), (vec![other.seq], Some(70)));
        assert_eq!(kit.ready(70), (vec![3], Some(100)));
        assert_eq!(kit.ready(99), (vec![], Some(100)));
        assert_eq!(kit.ready(100), (vec![0, 1], None));
    });
}

#[test]
fn requests_without_keys_wait_for_nobody() {
    with_session(|kit| {
        kit.sent("ping", NO_SLOT);
        let held = kit.held("ping", NO_SLOT, Aim::Table, 0);
        let also = kit.held("ping", NO_SLOT, node(1), 0);
        assert_eq!(kit.ready(0).0, [held.seq, also.seq]);
    });
}

#[test]
fn parts_go_on_in_their_order() {
    with_session(|kit| {
        let whole = kit.sent("mget", 5);
        let exploded =
            kit.session.inner().pending.explode(&whole, (crate::command::SplitKind::ByPosition, 3), 1 << 20);
        assert_eq!(exploded, Some(0));
        let part = |part| Errand { part, split: true, ..whole.clone() };
        for number in [2, 0, 1] {
            kit.hold(&part(number), Aim::Table, 0);
        }
        let mut inner = kit.session.inner();
        let (ready, _) = inner.take_ready(0);
        assert_eq!(ready.iter().map(|held| held.parcel.errand.part).collect::<Vec<_>>(), [0, 1, 2]);
    });
}

#[test]
fn what_counts_as_overtaken() {
    with_session(|kit| {
        let earlier = kit.sent("set", 5);
        let write = kit.held("set", 5, Aim::Table, 0);
        let read = kit.held("get", 5, Aim::Table, 0);
        let later = kit.sent("set", 5);
        let note = |name: &str, slot: u16, at: &Errand, words: &[&str]| {
            let executed = Errand { command: testkit::command(name), slot, ..at.clone() };
            let request = parcel(&executed, words).bytes;
            kit.session.inner().note_executed(&executed, &request);
            kit.overtaken()
        };
        let nobody: [u32; 0] = [];
        assert_eq!(note("set", 5, &earlier, &["k", "1"]), nobody, "executed before, as it should be");
        assert_eq!(note("set", 5, &later, &["other", "1"]), nobody, "no key in common");
        assert_eq!(note("set", 6, &later, &["k", "1"]), nobody, "another slot");
        assert_eq!(note("get", 5, &later, &["k"]), [write.seq], "reads may pass each other");
        assert_eq!(note("mset", 5, &later, &["other", "1", "k", "2"]), [write.seq, read.seq]);
    });
}

#[test]
fn numbers_of_requests_wrap_around() {
    with_session(|kit| {
        let at = |seq, part| Errand { part, ..errand(&kit.session, seq, "get", 5) };
        assert!(precedes(&at(u32::MAX, 0), (0, 0)) && !precedes(&at(0, 0), (u32::MAX, 0)));
        assert!(precedes(&at(7, 9), (8, 0)) && !precedes(&at(8, 0), (7, 9)));
        assert!(precedes(&at(7, 0), (7, 1)) && !precedes(&at(7, 1), (7, 1)) && !precedes(&at(7, 2), (7, 1)));
    });
}

#[test]
fn keys_of_requests() {
    let learned = LearnedTable::default();
    let are = |keys: &[&[u8]]| Keys::Are(keys.iter().map(|key| key.to_vec()).collect());
    let keys = |words: &[&str]| keys_of(&testkit::request(words), testkit::command(words[0]), &learned);
    assert_eq!(keys(&["get", "k"]), are(&[b"k"]));
    assert_eq!(keys(&["mset", "a", "1", "b", "2"]), are(&[b"a", b"b"]));
    let odd = ["xread", "a", "b", "c"];
    assert_eq!(keys(&odd), are(&[&testkit::request(&odd)]), "all of it, where keys can't be told");
    assert_eq!(keys_of(b"*1\r\n$3\r\nge", testkit::command("get"), &learned), are(&[]));
    let transaction = |queued: &[&[&str]]| {
        let all = [&[&["MULTI"][..]], queued, &[&["EXEC"]]].concat();
        let bytes: Vec<u8> = all.iter().flat_map(|words| testkit::request(words)).collect();
        keys_of(&bytes, testkit::command("exec"), &learned)
    };
    assert_eq!(transaction(&[&["set", "a", "1"], &["object", "help"], &["get", "b"]]), are(&[b"a", b"b"]));
    assert_eq!(
        transaction(&[&["set", "a", "1"], &["m.gone", "b"]]),
        Keys::Any,
        "learned, and not known any more"
    );
    assert!(Keys::Any.meet(&are(&[])) && are(&[b"a"]).meet(&Keys::Any));
    assert!(are(&[b"a", b"b"]).meet(&are(&[b"b"])) && !are(&[b"a"]).meet(&are(&[b"b"])));
}

#[test]
fn what_was_overtaken_is_answered_and_not_sent() {
    with_session(|kit| {
        let first = kit.held("set", 5, Aim::Table, 0);
        let second = kit.sent("set", 5);
        assert_eq!(kit.worker.sessions_in_order.get(), 1);
        assert!(!kit.session.inner().may_take(&kit.worker), "no new request while anything is held");
        let request = parcel(&second, &["k", "later"]).bytes;
        kit.session.inner().note_executed(&second, &request);
        kit.answer(&second);
        advance(&kit.worker, &kit.session);
        assert_eq!(kit.received(), format!("-{}\r\n+OK\r\n", ProxyError::OrderConflict.text()));
        assert!(kit.worker.waiting.borrow().is_empty(), "it was not sent");
        assert_eq!(kit.session.inner().pending.len(), 0);
        advance(&kit.worker, &kit.session);
        assert_eq!(kit.worker.sessions_in_order.get(), 0);
        assert!(kit.session.inner().may_take(&kit.worker));
        let _ = first;
    });
}

#[test]
fn holding_ends_with_the_last_reply() {
    with_session(|kit| {
        let held = kit.held("set", 5, Aim::Table, 0);
        let gone = kit.held("set", 5, Aim::Table, 0);
        assert!(kit.session.inner().pending.settle(gone.seq, b"-ERR deadline\r\n"));
        advance(&kit.worker, &kit.session);
        assert!(!kit.worker.waiting.borrow().is_empty(), "one was sent on; no node is known yet");
        assert_eq!(kit.worker.waiting_parts(&kit.session, held.seq), 1);
        advance(&kit.worker, &kit.session);
        assert!(kit.session.inner().order.is_some(), "it is under way");
        kit.answer(&held);
        advance(&kit.worker, &kit.session);
        assert!(kit.session.inner().order.is_none());
        assert_eq!(
            (kit.received().as_str(), kit.worker.sessions_in_order.get()),
            ("+OK\r\n-ERR deadline\r\n", 0)
        );
    });
}

#[test]
fn what_is_held_is_counted() {
    with_session(|kit| {
        let held = |kit: &Kit| {
            let inner = kit.session.inner();
            (inner.footprint(), inner.charged)
        };
        kit.held("set", 5, Aim::Table, 0);
        let one = parcel(&errand(&kit.session, 0, "set", 5), &["k", "v"]).bytes.len();
        assert_eq!(held(kit), (one, one));
        let later = kit.held("set", 6, Aim::Table, 100);
        assert_eq!(held(kit), (2 * one, 2 * one));
        advance(&kit.worker, &kit.session);
        assert_eq!(held(kit), (one, one), "the waiting room has the other");
        assert_eq!(kit.worker.waiting.borrow().bytes(), one as u64);
        assert!(kit.session.inner().pending.settle(later.seq, b"-ERR deadline\r\n"));
        kit.session.inner().take_ready(100);
        assert_eq!(kit.session.inner().footprint(), b"-ERR deadline\r\n".len());
    });
}
