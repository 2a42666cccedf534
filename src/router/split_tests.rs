//! Splitting: every key lands in exactly one part, in order, and every part is a request of one slot.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::protocol::Limits;
use crate::protocol::scan::{RequestScanner, Scanned};

/// A request with its spans, as a session has it.
pub(crate) struct Request {
    frame: Vec<u8>,
    spans: Vec<Span>,
}

impl Request {
    pub(crate) fn new<T: AsRef<[u8]>>(args: &[T]) -> Self {
        let mut frame = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            let arg = arg.as_ref();
            frame.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            frame.extend_from_slice(arg);
            frame.extend_from_slice(b"\r\n");
        }
        Self::scan(frame)
    }

    /// Must be exactly one request.
    pub(crate) fn scan(frame: Vec<u8>) -> Self {
        let mut scanner = RequestScanner::new();
        let scanned = scanner.scan(&frame, &Limits::unlimited(), true);
        assert_eq!(scanned, Ok(Scanned::Request(frame.len())), "{:?}", String::from_utf8_lossy(&frame));
        Self { spans: scanner.spans().to_vec(), frame }
    }

    pub(crate) fn args(&self) -> Args<'_> {
        Args::new(&self.frame, &self.spans)
    }

    pub(crate) fn list(&self) -> Vec<Vec<u8>> {
        self.args().iter().map(<[u8]>::to_vec).collect()
    }
}

/// Part `part` as the node gets it.
pub(crate) fn part_request(request: &Request, plan: &SplitPlan, part: usize, step: usize) -> Request {
    written(&PartBytes::new(request.args(), name(&request.args()), plan, part, step))
}

fn written(part: &PartBytes<'_>) -> Request {
    let mut bytes = b"before".to_vec();
    part.write(&mut bytes);
    assert_eq!(bytes.len(), 6 + part.len(), "len says what write does");
    assert!(!part.is_empty());
    Request::scan(bytes.split_off(6))
}

/// Keys in few slots, so that slots and whole keys come up several times.
pub(crate) fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::sample::select(vec!["a", "b", "c", "{a}1", "{a}2", "{b}1", "", "{}x", "\r\n"])
            .prop_map(|key| key.as_bytes().to_vec()),
        vec(any::<u8>(), 0..6),
    ]
}

fn request(step: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let value = prop_oneof![Just(Vec::new()), Just(b"$1\r\na\r\n".to_vec()), vec(any::<u8>(), 0..40)];
    vec((key(), value), 1..40).prop_map(move |pairs| {
        let name = if step == 2 { b"MSET".to_vec() } else { b"mGet".to_vec() };
        let args = pairs.into_iter().flat_map(|(key, value)| [key, value].into_iter().take(step));
        [name].into_iter().chain(args).collect()
    })
}

fn check(args: &[Vec<u8>], step: usize) {
    let request = Request::new(args);
    let groups: Vec<&[Vec<u8>]> = args[1..].chunks(step).collect();
    let slots: BTreeSet<u16> = groups.iter().map(|group| slot_of(&group[0])).collect();
    let plan = match split(&request.args(), step) {
        Split::OneSlot(slot) => return assert_eq!(slots, BTreeSet::from([slot])),
        Split::Parts(plan) => plan,
    };
    let of_parts: Vec<u16> = plan.parts().iter().map(|part| part.slot).collect();
    assert_eq!(of_parts, slots.into_iter().collect::<Vec<_>>(), "one part per slot");
    assert_eq!(plan.keys(), groups.len());
    let mut seen = vec![0; groups.len()];
    for (number, part) in plan.parts().iter().enumerate() {
        let positions = plan.positions(number);
        assert!(positions.is_sorted_by(|a, b| a < b), "in the order of the request");
        let expected: Vec<Vec<u8>> = [args[0].clone()]
            .into_iter()
            .chain(positions.iter().flat_map(|&position| groups[position as usize].to_vec()))
            .collect();
        let part_request = part_request(&request, &plan, number, step);
        assert_eq!(part_request.list(), expected);
        assert_eq!(split(&part_request.args(), step), Split::OneSlot(part.slot));
        positions.iter().for_each(|&position| seen[position as usize] += 1);
    }
    assert!(seen.iter().all(|&times| times == 1), "{seen:?}");
}

proptest! {
    #![proptest_config(crate::worker::testkit::cases(256))]

    #[test]
    fn keys_alone(args in request(1)) {
        check(&args, 1);
    }

    #[test]
    fn keys_with_values(args in request(2)) {
        check(&args, 2);
    }

    #[test]
    fn key_by_key(args in request(2), pick in any::<proptest::sample::Index>()) {
        let request = Request::new(&args);
        for (position, group) in args[1..].chunks(2).enumerate() {
            let one = written(&PartBytes::one(request.args(), position as u32, 2));
            prop_assert_eq!(one.list(), [&args[..1], group].concat());
        }
        let Split::Parts(mut plan) = split(&request.args(), 2) else { return Ok(()) };
        let parts = plan.parts().len();
        let exploded = pick.index(parts);
        let positions = plan.positions(exploded).to_vec();
        prop_assert_eq!(plan.explode(exploded), parts);
        prop_assert_eq!(plan.parts().len(), parts + positions.len());
        for (added, position) in positions.into_iter().enumerate() {
            prop_assert_eq!(plan.positions(parts + added), [position]);
            prop_assert_eq!(plan.parts()[parts + added].slot, plan.parts()[exploded].slot);
        }
    }
}

#[test]
fn one_slot_key_by_key() {
    let mut plan = SplitPlan::key_by_key(7, 3);
    assert_eq!(plan.keys(), 3);
    let parts: Vec<_> = (0..3).map(|part| (plan.parts()[part].slot, plan.positions(part).to_vec())).collect();
    assert_eq!(parts, [(7, vec![0]), (7, vec![1]), (7, vec![2])]);
    assert_eq!(plan.explode(9), 3, "there is no such part");
    assert_eq!((plan.parts().len(), plan.positions(9)), (3, &[][..]));
}

#[test]
fn a_hundred_thousand_keys() {
    let args: Vec<Vec<u8>> =
        [b"MGET".to_vec()].into_iter().chain((0..100_000).map(|n| format!("key:{n}").into_bytes())).collect();
    check(&args, 1);
}
