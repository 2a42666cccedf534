//! Against a model: whatever order replies come in, each goes out once, whole, in request order, and the
//! numbers that bound a client are true.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::router::split::tests::Request;
use crate::router::split::{Split, split};
use crate::worker::testkit;

#[derive(Clone, Debug)]
enum Op {
    /// A request for one node.
    Push,
    /// A split one of so many keys in several slots.
    PushSplit,
    /// One that is answered by the proxy at once.
    PushLocal(usize),
    /// A reply of this size, copied or not, for one of the requests (or for one that is gone).
    Answer(usize, usize),
    AnswerLarge(usize, usize),
    /// An error of the proxy's own.
    Settle(usize),
    /// One part of a split request's reply, with values of this size.
    Part(usize, usize, usize),
    /// The reply of one of the requests begins to pass through, in two pieces; another comes in between.
    Flow(usize, usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (at, size) = (0..24_usize, prop_oneof![3 => 0..100_usize, 1 => 0..9_000_usize]);
    let (large, part) = (LARGE..2 * LARGE, 0..3_usize);
    prop_oneof![
        6 => Just(Op::Push),
        2 => Just(Op::PushSplit),
        1 => size.clone().prop_map(Op::PushLocal),
        6 => (at.clone(), size.clone()).prop_map(|(at, size)| Op::Answer(at, size)),
        1 => (at.clone(), large).prop_map(|(at, size)| Op::AnswerLarge(at, size)),
        1 => at.clone().prop_map(Op::Settle),
        5 => (at.clone(), part, size.clone()).prop_map(|(at, part, size)| Op::Part(at, part, size)),
        1 => (at.clone(), at, size).prop_map(|(at, other, size)| Op::Flow(at, other, size)),
    ]
}

/// What a request should be waiting for.
#[derive(Clone, Debug)]
enum Model {
    Waiting,
    /// The values of three keys, as far as they came in, and the bytes of their replies.
    Merging([Option<Vec<u8>>; 3], usize),
    Done(Vec<u8>),
}

struct Both {
    pending: Pending,
    out: Outgoing,
    pool: BufferPool,
    model: VecDeque<Model>,
    first: u32,
    expected: Vec<u8>,
    finished: u64,
    pushed: u64,
}

impl Both {
    /// Numbers of requests wrap around soon.
    fn new() -> Self {
        let first = u32::MAX - 5;
        Self {
            pending: Pending { first, ..Pending::default() },
            out: Outgoing::default(),
            pool: BufferPool::default(),
            model: VecDeque::new(),
            first,
            expected: Vec::new(),
            finished: 0,
            pushed: 0,
        }
    }

    fn push(&mut self, state: CellState, model: Model) -> u32 {
        let seq = self.pending.push(CommandClass::Other, 0, self.pushed, state);
        assert_eq!(seq, self.first.wrapping_add(self.model.len() as u32));
        self.pushed += 1;
        self.model.push_back(model);
        seq
    }

    fn seq(&self, at: usize) -> u32 {
        // A few before the first: they were answered.
        self.first.wrapping_add(at as u32).wrapping_sub(3)
    }

    fn model(&mut self, seq: u32) -> Option<&mut Model> {
        self.model.get_mut(seq.wrapping_sub(self.first) as usize)
    }

    fn done(&mut self, seq: u32, reply: Vec<u8>) {
        *self.model(seq).unwrap() = Model::Done(reply);
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Push => drop(self.push(CellState::Waiting, Model::Waiting)),
            Op::PushSplit => {
                let merge = Merge::new(SplitKind::ByPosition, Rc::new(three_slots()), false, u64::MAX);
                let state = CellState::Merging(Box::new(merge));
                self.push(state, Model::Merging([const { None }; 3], 0));
            }
            Op::PushLocal(size) => {
                let seq = self.push(CellState::Waiting, Model::Waiting);
                let reply = self.reply(seq, size);
                assert!(self.pending.answer(seq, &reply, &mut self.out, &self.pool));
                self.done(seq, reply);
            }
            Op::Answer(at, size) => self.answer(self.seq(at), size, false),
            Op::AnswerLarge(at, size) => self.answer(self.seq(at), size, true),
            Op::Settle(at) => {
                let seq = self.seq(at);
                let wanted = matches!(self.model(seq), Some(Model::Waiting | Model::Merging(..)));
                assert_eq!(self.pending.settle(seq, b"-ERR late\r\n"), wanted);
                if wanted {
                    self.done(seq, b"-ERR late\r\n".to_vec());
                }
            }
            Op::Part(at, part, size) => self.part(self.seq(at), part, size),
            Op::Flow(at, other, size) => self.flow(self.seq(at), self.seq(other), size),
        }
        self.check();
    }

    fn reply(&self, seq: u32, size: usize) -> Vec<u8> {
        format!("${}\r\n{}{}\r\n", size + 10, format_args!("{seq:010}"), "v".repeat(size)).into_bytes()
    }

    fn answer(&mut self, seq: u32, size: usize, large: bool) {
        let wanted = matches!(self.model(seq), Some(Model::Waiting));
        let reply = self.reply(seq, size);
        let taken = if large {
            self.pending.answer_large(seq, reply.clone().into(), &mut self.out)
        } else {
            self.pending.answer(seq, &reply, &mut self.out, &self.pool)
        };
        assert_eq!(taken, wanted);
        if wanted {
            self.done(seq, reply);
        }
    }

    fn part(&mut self, seq: u32, part: usize, size: usize) {
        let value = self.reply(seq, size);
        let frame = [b"*1\r\n", &value[..]].concat();
        let wanted = matches!(self.model(seq), Some(Model::Merging(..)));
        let merged = self.pending.merge_part(seq, |merge| merge.accept(part as u16, &frame, None));
        assert_eq!(merged != Merged::Unwanted, wanted);
        let Some(Model::Merging(values, bytes)) = self.model(seq) else { return };
        if values[part].is_none() {
            values[part] = Some(value);
            *bytes += frame.len();
        }
        if let [Some(a), Some(b), Some(c)] = values {
            let reply = [b"*3\r\n", &a[..], b, c].concat();
            self.done(seq, reply);
        }
    }

    /// A reply passes through only at the front; nobody else can answer the request meanwhile.
    fn flow(&mut self, seq: u32, other: u32, size: usize) {
        let may = seq == self.first && matches!(self.model.front(), Some(Model::Waiting));
        assert_eq!(self.pending.begin_flow(seq), may);
        if !may {
            return;
        }
        let reply = self.reply(seq, size);
        self.out.append(&reply[..5], || self.pool.take());
        assert!(!self.pending.settle(seq, b"-ERR\r\n") && !self.pending.begin_flow(seq));
        assert!(!self.pending.answer(seq, b"+OK\r\n", &mut self.out, &self.pool));
        if other != seq {
            self.answer(other, size, false);
            self.pending.drain(&mut self.out, &self.pool, |_| panic!("the flowing reply is at the front"));
        }
        assert!(self.pending.iter().next().unwrap().1.is_open());
        self.out.append(&reply[5..], || self.pool.take());
        self.pending.end_flow(seq);
        self.done(seq, reply);
    }

    fn check(&mut self) {
        let mut finished = self.finished;
        self.pending.drain(&mut self.out, &self.pool, |(_, arrived)| {
            assert_eq!(arrived, finished);
            finished += 1;
        });
        while let Some(Model::Done(reply)) = self.model.front() {
            self.expected.extend_from_slice(reply);
            self.model.pop_front();
            self.first = self.first.wrapping_add(1);
            self.finished += 1;
        }
        assert_eq!(finished, self.finished, "each request is finished once");
        assert_eq!((self.pending.len(), self.pending.is_empty()), (self.model.len(), self.model.is_empty()));
        let open = self.model.iter().filter(|model| !matches!(model, Model::Done(_))).count();
        assert_eq!(self.pending.open() as usize, open);
        assert_eq!(self.pending.iter().filter(|(_, cell)| cell.is_open()).count(), open);
        assert!(self.pending.iter().next().is_none_or(|(seq, _)| self.pending.is_front(seq)));
        let held: usize = self.model.iter().map(Model::bytes).sum();
        let (bytes, most) = (self.pending.bytes(), 2 * held + STASH_COMPACT);
        assert!((held..=most).contains(&bytes), "{bytes} for {held}");
        assert!(open > 0 || bytes == 0, "{bytes} held and nothing open");
    }
}

impl Model {
    /// What it must hold. A whole merge keeps the headers of its parts: a few bytes more.
    fn bytes(&self) -> usize {
        match self {
            Self::Waiting => 0,
            Self::Merging(_, bytes) => *bytes,
            Self::Done(reply) => reply.len(),
        }
    }
}

fn three_slots() -> SplitPlan {
    match split(&Request::new(&["MGET", "fHh", "Qi", "aVD"]).args(), 1) {
        Split::Parts(plan) => plan,
        Split::OneSlot(slot) => panic!("all in {slot}"),
    }
}

proptest! {
    #![proptest_config(crate::worker::testkit::cases(200))]

    #[test]
    fn replies_go_out_once_and_in_order(ops in vec(op(), 1..120)) {
        let mut both = Both::new();
        ops.into_iter().for_each(|op| both.act(op));
        while let Some(front) = both.model.front() {
            let seq = both.first;
            match front {
                Model::Merging(..) => (0..3).for_each(|part| both.part(seq, part, 5)),
                _ => both.answer(seq, 5, false),
            }
            both.check();
        }
        prop_assert_eq!(both.out.unsent(), both.expected);
        prop_assert_eq!(both.pending.bytes(), 0);
    }
}

/// The front stays open while much behind it comes and goes: what is dead of the stash is given back.
#[test]
fn the_stash_is_compacted() {
    let (mut pending, mut out, pool) = (Pending::default(), Outgoing::default(), BufferPool::default());
    let value = vec![b'v'; 8 << 10];
    for seq in 0..22 {
        assert_eq!(pending.push(CommandClass::Read, 0, 0, CellState::Waiting), seq);
    }
    for seq in (1..=20).chain([21]) {
        if seq != 20 {
            assert!(pending.answer(seq, &value, &mut out, &pool));
        }
    }
    assert_eq!(pending.bytes(), 20 * value.len());
    assert!(pending.answer(0, b"+first\r\n", &mut out, &pool));
    pending.drain(&mut out, &pool, |_| ());
    assert_eq!((pending.len(), pending.bytes()), (2, value.len()), "only what waits is kept");
    assert!(pending.answer(20, b"+last\r\n", &mut out, &pool));
    pending.drain(&mut out, &pool, |_| ());
    assert_eq!(pending.bytes(), 0);
    assert!(pending.stash.capacity() <= LARGE);
    let sent = [b"+first\r\n", &value.repeat(19)[..], b"+last\r\n", &value].concat();
    assert_eq!(out.unsent(), sent);
}

#[test]
fn late_replies_are_swallowed() {
    let (mut pending, mut out, pool) = (Pending::default(), Outgoing::default(), BufferPool::default());
    let seq = pending.push(CommandClass::Read, 0, 0, CellState::Waiting);
    pending.clear();
    let next = pending.push(CommandClass::Read, 0, 0, CellState::Waiting);
    assert_ne!(seq, next);
    assert!(!pending.answer(seq, b"+old\r\n", &mut out, &pool) && !pending.settle(seq, b"-ERR\r\n"));
    assert!(!pending.answer_large(seq, Bytes::from_static(b"+old\r\n"), &mut out));
    let unwanted = pending.merge_part(seq, |_| panic!("nobody wants it"));
    assert!(unwanted == Merged::Unwanted && !pending.begin_flow(seq));
    pending.end_flow(seq);
    assert!(pending.answer(next, b"+new\r\n", &mut out, &pool));
    assert!(!pending.answer(next, b"+twice\r\n", &mut out, &pool));
    pending.drain(&mut out, &pool, |_| ());
    assert!(!pending.answer(next, b"+thrice\r\n", &mut out, &pool));
    assert_eq!(out.unsent(), b"+new\r\n");
    pending.shrink();
    assert_eq!(pending.cells.capacity(), 0);
}

#[test]
fn a_muted_request_is_waited_for_and_leaves_nothing() {
    let mut both = Both::new();
    let Both { pending, out, pool, .. } = &mut both;
    let push = |pending: &mut Pending, replies: Replies| {
        pending.set_replies(replies);
        pending.push(CommandClass::Read, 1, 0, CellState::Waiting)
    };
    let muted: Vec<u32> = (0..4).map(|_| push(pending, Replies::Off)).collect();
    let heard = push(pending, Replies::On);
    assert!(pending.answer(heard, b"+heard\r\n", out, pool));
    assert!(pending.answer(muted[1], b"+behind\r\n", out, pool));
    assert!(pending.answer_large(muted[2], vec![b'x'; LARGE].into(), out));
    assert!(pending.settle(muted[3], b"-an error\r\n"));
    assert!(!pending.begin_flow(muted[0]), "what passes through would be heard");
    pending.drain(out, pool, |_| {});
    assert_eq!((pending.len(), pending.open(), out.len()), (5, 1, 0), "the first is still owed");
    assert!(pending.answer(muted[0], b"+front\r\n", out, pool));
    pending.drain(out, pool, |_| {});
    assert_eq!((pending.len(), pending.bytes(), out.len()), (0, 0, 8));
    // SKIP is for itself and one more.
    let frames: Vec<u16> = [Some(Replies::SkipTwo), None, None]
        .into_iter()
        .map(|replies| {
            replies.into_iter().for_each(|replies| pending.set_replies(replies));
            let seq = pending.push(CommandClass::Read, 1, 0, CellState::Waiting);
            pending.cell(seq).unwrap().frames
        })
        .collect();
    assert_eq!(frames, [0, 0, 1]);
}

#[test]
fn held_requests_are_at_no_node() {
    testkit::block_on(async {
        let worker = testkit::worker(crate::config::Config::default());
        let (session, _peer) = testkit::session(&worker);
        let errand = testkit::expect(&session, "get", 5, 0);
        let mut inner = session.inner();
        let pending = &mut inner.pending;
        assert!(is_at_node(pending, 5) && !is_at_node(pending, 6) && pending.wants(&errand));
        assert!(pending.set_held(&errand, true) && !is_at_node(pending, 5));
        assert!(pending.set_held(&errand, false) && is_at_node(pending, 5));
        assert!(pending.settle(errand.seq, b"-ERR\r\n"));
        assert!(!pending.set_held(&errand, true) && !pending.wants(&errand) && !is_at_node(pending, 5));
    });
}

#[test]
fn key_by_key() {
    testkit::block_on(async {
        let worker = testkit::worker(crate::config::Config::default());
        let (session, _peer) = testkit::session(&worker);
        let whole = testkit::expect(&session, "mget", 5, 0);
        let mut inner = session.inner();
        let pending = &mut inner.pending;
        let too_many = usize::from(u16::MAX) + 1;
        assert_eq!(pending.explode(&whole, (SplitKind::ByPosition, too_many), 1 << 20), None);
        assert!(pending.wants(&whole), "what can't be split keeps its place");
        assert_eq!(pending.explode(&whole, (SplitKind::ByPosition, 2), 1 << 20), Some(0));
        assert!(!pending.wants(&whole) && is_at_node(pending, 5));
        let part = |part| Errand { part, split: true, ..whole.clone() };
        assert!(
            pending.set_held(&part(0), true) && pending.set_held(&part(1), true) && !is_at_node(pending, 5)
        );
        assert_eq!(
            pending.merge_part(whole.seq, |merge| merge.accept(1, b"*1\r\n$1\r\nb\r\n", None)),
            Merged::More
        );
        assert_eq!((pending.open(), pending.bytes()), (1, 11));
        assert!(
            !pending.set_held(&part(1), false)
                && pending.set_held(&part(0), false)
                && pending.wants(&part(0))
        );
        assert_eq!(
            pending.merge_part(whole.seq, |merge| merge.accept(0, b"*1\r\n$-1\r\n", None)),
            Merged::Complete
        );
        assert_eq!(pending.open(), 0);
        let mut out = Outgoing::default();
        pending.drain(&mut out, &worker.pool, |_| ());
        assert_eq!(out.unsent(), b"*2\r\n$-1\r\n$1\r\nb\r\n");
        assert_eq!(pending.explode(&whole, (SplitKind::ByPosition, 2), 1 << 20), None, "it is answered");
    });
}

/// Whether a request for `slot` is at a node.
fn is_at_node(pending: &Pending, slot: u16) -> bool {
    let mut found = false;
    pending.each_slot_at_node(|at| found |= at == slot);
    found
}
