//! Merging against a model: a server without slots answers the request in whole, one for each part
//! answers the parts, in any order. Both must say the same and hold the same in the end.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::protocol::encode;
use crate::router::split::tests::{Request, key, part_request};
use crate::router::split::{Split, split};
use crate::session::state::Resp;

/// A server with one map.
#[derive(Clone, Debug, Default, PartialEq)]
struct Server(HashMap<Vec<u8>, Vec<u8>>);

impl Server {
    fn execute(&mut self, args: &[Vec<u8>], resp: Resp) -> Vec<u8> {
        let mut out = Vec::new();
        let keys = &args[1..];
        match &args[0][..] {
            b"MGET" => {
                encode::array(&mut out, keys.len());
                for key in keys {
                    match self.0.get(key) {
                        Some(value) => encode::bulk(&mut out, value),
                        None => encode::null(&mut out, resp),
                    }
                }
            }
            b"MSET" => {
                for pair in keys.chunks(2) {
                    self.0.insert(pair[0].clone(), pair[1].clone());
                }
                encode::simple(&mut out, "OK");
            }
            b"DEL" => {
                encode::integer(&mut out, keys.iter().filter_map(|key| self.0.remove(key)).count() as i64)
            }
            _ => {
                encode::integer(&mut out, keys.iter().filter(|key| self.0.contains_key(*key)).count() as i64)
            }
        }
        out
    }
}

fn kind_of(name: &str) -> (SplitKind, usize, bool) {
    match name {
        "MGET" => (SplitKind::ByPosition, 1, false),
        "MSET" => (SplitKind::AllOk, 2, true),
        "DEL" => (SplitKind::Sum, 1, true),
        _ => (SplitKind::Sum, 1, false),
    }
}

fn merged(merge: &Merge) -> Vec<u8> {
    assert!(merge.is_complete());
    let mut out = Outgoing::default();
    merge.write(&mut out, &BufferPool::default());
    out.unsent()
}

fn plan_of(args: &[Vec<u8>], step: usize) -> Option<SplitPlan> {
    match split(&Request::new(args).args(), step) {
        Split::Parts(plan) => Some(plan),
        Split::OneSlot(_) => None,
    }
}

fn command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let names = proptest::sample::select(vec!["MGET", "MSET", "DEL", "EXISTS"]);
    let value =
        prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => any::<u8>().prop_map(|byte| vec![byte; LARGE + 5])];
    (names, vec((key(), value), 2..16)).prop_map(|(name, pairs)| {
        let step = kind_of(name).1;
        let args = pairs.into_iter().flat_map(|(key, value)| [key, value].into_iter().take(step));
        [name.as_bytes().to_vec()].into_iter().chain(args).collect()
    })
}

fn shuffled(parts: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..parts).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    order
}

proptest! {
    #![proptest_config(crate::worker::testkit::cases(150))]

    #[test]
    fn parts_say_what_the_whole_says(
        before in vec(command(), 0..3),
        args in command(),
        resp3 in any::<bool>(),
        seed in any::<u64>(),
        by_key in any::<bool>(),
    ) {
        let resp = if resp3 { Resp::V3 } else { Resp::V2 };
        let (kind, step, write) = kind_of(std::str::from_utf8(&args[0]).unwrap());
        let Some(plan) = plan_of(&args, step) else { return Ok(()) };
        let mut whole = Server::default();
        for args in before {
            whole.execute(&args, resp);
        }
        let mut parts = whole.clone();
        let expected = whole.execute(&args, resp);

        let request = Request::new(&args);
        let mut merge = Merge::new(kind, Rc::new(plan), write, u64::MAX);
        let mut numbers: Vec<usize> = shuffled(merge.plan.parts().len(), seed);
        if by_key {
            let first = merge.explode(numbers[0] as u16).unwrap();
            prop_assert!(!merge.wants(numbers[0] as u16));
            numbers.remove(0);
            numbers.extend(usize::from(first)..merge.plan.parts().len());
        }
        for (done, &number) in numbers.iter().enumerate() {
            prop_assert!(merge.wants(number as u16) && !merge.is_complete(), "{done} of {}", numbers.len());
            let reply = parts.execute(&part_request(&request, &merge.plan, number, step).list(), resp);
            let shared = (reply.len() >= LARGE).then(|| Bytes::from(reply.clone()));
            merge.accept(number as u16, &reply, shared.as_ref());
            merge.accept(number as u16, b"-ERR a late reply\r\n", None);
            prop_assert!(!merge.wants(number as u16));
        }
        prop_assert_eq!(merged(&merge), expected);
        prop_assert_eq!(parts, whole);
    }

    /// Any failed part makes the whole reply an error: the first in key order, whatever came first.
    #[test]
    fn errors(args in command(), failing in vec(any::<bool>(), 16), own in any::<bool>(), seed in any::<u64>()) {
        let (kind, step, write) = kind_of(std::str::from_utf8(&args[0]).unwrap());
        let Some(plan) = plan_of(&args, step) else { return Ok(()) };
        let request = Request::new(&args);
        let mut server = Server::default();
        let mut merge = Merge::new(kind, Rc::new(plan.clone()), write, u64::MAX);
        let fails = |number: usize| failing[number % failing.len()];
        for number in shuffled(plan.parts().len(), seed) {
            if !fails(number) {
                let reply = server.execute(&part_request(&request, &plan, number, step).list(), Resp::V2);
                merge.accept(number as u16, &reply, None);
            } else if own {
                merge.fail_part(number as u16, ProxyError::OrderConflict);
            } else {
                merge.accept(number as u16, format!("-ERR of key {}\r\n", plan.positions(number)[0]).as_bytes(), None);
            }
        }
        let failed = (0..plan.parts().len()).filter(|&number| fails(number));
        let Some(first) = failed.clone().map(|number| plan.positions(number)[0]).min() else {
            prop_assert_ne!(merged(&merge)[0], b'-');
            return Ok(());
        };
        let text = if own { ProxyError::OrderConflict.text().to_owned() } else { format!("ERR of key {first}") };
        let others = if write && failed.count() < plan.parts().len() {
            " (slotway: other parts of this command were executed)"
        } else {
            ""
        };
        prop_assert_eq!(String::from_utf8(merged(&merge)).unwrap(), format!("-{text}{others}\r\n"));
    }
}

/// Three parts: slots 0, 1, 2 with one key each.
fn three(kind: SplitKind, write: bool, limit: u64) -> Merge {
    let keys = ["fHh", "Qi", "aVD"];
    assert_eq!(keys.map(|key| crate::router::slot::slot_of(key.as_bytes())), [0, 1, 2]);
    let args: Vec<Vec<u8>> = ["X", keys[0], keys[1], keys[2]].map(|arg| arg.as_bytes().to_vec()).to_vec();
    Merge::new(kind, Rc::new(plan_of(&args, 1).unwrap()), write, limit)
}

#[test]
fn replies_that_do_not_fit() {
    let bad = String::from_utf8(error_line(ProxyError::BadReply)).unwrap();
    for (kind, good, odd) in [
        (
            SplitKind::ByPosition,
            "*1\r\n$1\r\na\r\n",
            vec!["*2\r\n+a\r\n+b\r\n", "*0\r\n", "*-1\r\n", "_\r\n", "$1\r\na\r\n", ":1\r\n"],
        ),
        (SplitKind::Sum, ":1\r\n", vec!["$1\r\n1\r\n", "+OK\r\n", "_\r\n", "*1\r\n:1\r\n"]),
        (SplitKind::AllOk, "+OK\r\n", vec!["+QUEUED\r\n", ":1\r\n", "$2\r\nOK\r\n", "_\r\n"]),
    ] {
        for odd in odd {
            let mut merge = three(kind, false, u64::MAX);
            merge.accept(0, good.as_bytes(), None);
            merge.accept(1, odd.as_bytes(), None);
            merge.accept(2, good.as_bytes(), None);
            assert_eq!(String::from_utf8(merged(&merge)).unwrap(), bad, "{odd:?}");
        }
    }
}

#[test]
fn a_reply_that_gets_too_large() {
    let mut merge = three(SplitKind::ByPosition, false, 30);
    let part = b"*1\r\n$8\r\n12345678\r\n";
    merge.accept(0, part, None);
    assert_eq!(merge.bytes(), part.len());
    merge.accept(1, part, Some(&Bytes::from_static(part)));
    assert_eq!(merge.bytes(), 0, "what can't be used is not held");
    merge.accept(2, part, None);
    assert_eq!(merged(&merge), error_line(ProxyError::MergeTooLarge));
}

#[test]
fn sums_do_not_overflow() {
    let mut merge = three(SplitKind::Sum, false, u64::MAX);
    for (part, text) in [":9223372036854775807\r\n", ":1\r\n", ":1\r\n"].iter().enumerate() {
        merge.accept(part as u16, text.as_bytes(), None);
    }
    assert_eq!(merged(&merge), b":9223372036854775807\r\n");
}

#[test]
fn a_lost_write_may_have_been_executed() {
    let mut merge = three(SplitKind::AllOk, true, u64::MAX);
    assert!(merge.is_write());
    merge.fail_part(2, ProxyError::PartlyFailed);
    merge.fail_part(1, ProxyError::ClusterDown);
    merge.fail_part(0, ProxyError::ClusterDown);
    let text = String::from_utf8(merged(&merge)).unwrap();
    assert!(
        text.starts_with("-CLUSTERDOWN")
            && text.contains("other parts of this command may have been executed"),
        "{text}"
    );
    // An error that says so itself does not say it twice, and never more than is known.
    let mut merge = three(SplitKind::Sum, true, u64::MAX);
    (0..3).for_each(|part| merge.fail_part(part, ProxyError::PartlyFailed));
    assert_eq!(merged(&merge), error_line(ProxyError::PartlyFailed));
}

#[test]
fn what_nothing_was_sent_of_was_not_executed() {
    let mut merge = three(SplitKind::AllOk, true, u64::MAX);
    merge.set_held(1, true);
    assert_eq!(merge.only_under_way(), Some(2));
    merge.fail_part(0, ProxyError::ClusterDown);
    merge.accept(1, b"-OOM of the node\r\n", None);
    assert_eq!(merge.only_under_way(), Some(1), "refused parts did nothing");
    merge.fail_part(2, ProxyError::ClusterDown);
    assert_eq!(merged(&merge), error_line(ProxyError::ClusterDown));
    for done in [0, 1] {
        let mut merge = three(SplitKind::AllOk, true, u64::MAX);
        match done {
            0 => merge.accept(0, b"+OK\r\n", None),
            _ => merge.fail_part(0, ProxyError::PartlyFailed),
        }
        assert_eq!(merge.only_under_way(), None);
    }
}

#[test]
fn held_parts_wait_for_no_slot() {
    let mut merge = three(SplitKind::Sum, false, u64::MAX);
    assert!(waits_for_slot(&merge, 1) && !waits_for_slot(&merge, 3));
    merge.set_held(1, true);
    assert!(!waits_for_slot(&merge, 1) && merge.wants(1) && !merge.is_complete());
    merge.set_held(1, false);
    assert!(waits_for_slot(&merge, 1));
    merge.accept(1, b":1\r\n", None);
    merge.set_held(1, false);
    assert!(!waits_for_slot(&merge, 1) && !merge.wants(1), "a part that is done stays so");
    merge.set_held(9, true);
    merge.accept(9, b":1\r\n", None);
    assert!(!merge.wants(9) && merge.explode(1).is_none() && merge.explode(9).is_none());
}

/// The numbers of parts have 16 bits; what can't be numbered is refused and changes nothing.
#[test]
fn more_parts_than_numbers() {
    let most = usize::from(u16::MAX);
    let mut merge = Merge::new(SplitKind::Sum, Rc::new(SplitPlan::key_by_key(5, most)), false, u64::MAX);
    assert_eq!(merge.explode(0), None);
    assert_eq!(merge.plan.parts().len(), most);
    for part in 0..most {
        assert!(merge.wants(part as u16));
        merge.accept(part as u16, b":1\r\n", None);
    }
    assert!(!waits_for_slot(&merge, 5));
    assert_eq!(merged(&merge), format!(":{most}\r\n").into_bytes());
}

/// Whether a part for `slot` is at a node.
fn waits_for_slot(merge: &Merge, slot: u16) -> bool {
    merge.slots_at_node().any(|at| at == slot)
}

/// What goes out keeps a part's reply only if it is a good part of it.
#[test]
fn values_keep_no_much_larger_reply() {
    let args: Vec<Vec<u8>> =
        ["MGET", "{a}0", "{a}1", "{a}2", "{a}3", "{a}4", "b"].map(|arg| arg.as_bytes().to_vec()).to_vec();
    for (large, slices) in [(1, 0), (2, 2), (5, 5)] {
        let plan = Rc::new(plan_of(&args, 1).unwrap());
        let mut merge = Merge::new(SplitKind::ByPosition, Rc::clone(&plan), false, u64::MAX);
        for part in 0..plan.parts().len() {
            let keys = plan.positions(part).len();
            let mut reply = Vec::new();
            encode::array(&mut reply, keys);
            for key in 0..keys {
                let value = if key < large { LARGE } else { LARGE - 100 };
                encode::bulk(&mut reply, vec![b'x'; if keys == 1 { 1 } else { value }]);
            }
            let shared = (reply.len() >= LARGE).then(|| Bytes::from(reply.clone()));
            merge.accept(part as u16, &reply, shared.as_ref());
        }
        let mut out = Outgoing::default();
        merge.write(&mut out, &BufferPool::default());
        assert_eq!(out.slices(), slices, "{large} of 5");
    }
}
