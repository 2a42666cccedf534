//! Against a model: bytes arrive in order, a request can be had back until it is answered, and little
//! more is kept than is owed.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::worker::outgoing::tests::{narrow, read_some, stream_bytes};
use crate::worker::testkit;

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Push(usize),
    /// So many of the oldest requests are answered, if they were written.
    Release(usize),
    Write,
    Read(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let small = prop_oneof![4 => 1..200_usize, 1 => 1..LARGE];
    prop_oneof![
        4 => small.prop_map(Op::Append),
        1 => (LARGE..3 * LARGE).prop_map(Op::Push),
        2 => (1..20_usize).prop_map(Op::Release),
        2 => Just(Op::Write),
        1 => (1..40_000_usize).prop_map(Op::Read),
    ]
}

/// What should be in a buffer: where each request that is not answered starts, and how long it is.
#[derive(Default)]
struct Model {
    end: usize,
    owed: VecDeque<(usize, usize)>,
}

impl Model {
    fn next(&mut self, len: usize) -> Vec<u8> {
        let bytes = stream_bytes(self.end, len);
        self.owed.push_back((self.end, len));
        self.end += len;
        bytes
    }

    fn check(&self, buffer: &SendBuffer) {
        assert_eq!(buffer.end(), self.end as u64);
        let some = self.owed.iter().step_by(7).chain(self.owed.back());
        for &(start, len) in some {
            assert_eq!(buffer.request(start as u64, len), stream_bytes(start, len));
        }
        let oldest = self.owed.front().map_or(self.end, |(start, _)| *start) as u64;
        let owed = buffer.end() - oldest.min(buffer.written());
        assert!(buffer.kept() >= buffer.end() - oldest);
        assert!(buffer.kept() <= owed + RUN as u64, "{} kept for {owed}", buffer.kept());
        assert!(buffer.writing == 0 || buffer.writing < buffer.runs.len());
    }
}

async fn follow(ops: Vec<Op>) {
    let (writer, mut peer) = narrow();
    let (mut buffer, mut model, mut arrived) = (SendBuffer::default(), Model::default(), Vec::new());
    for op in ops {
        match op {
            Op::Append(len) => buffer.append(&model.next(len)),
            Op::Push(len) => buffer.push(model.next(len).into()),
            Op::Release(count) => {
                for _ in 0..count {
                    let Some(&(start, len)) = model.owed.front() else { break };
                    if (start + len) as u64 > buffer.written() {
                        break;
                    }
                    buffer.release((start + len) as u64);
                    model.owed.pop_front();
                }
            }
            Op::Read(most) => read_some(&mut peer, most, &mut arrived),
            Op::Write => {
                tokio::task::yield_now().await;
                let flushed = buffer.write_to(&writer).unwrap();
                assert_eq!(flushed == Flushed::All, buffer.written() == buffer.end());
            }
        }
        model.check(&buffer);
    }
    while arrived.len() < model.end {
        read_some(&mut peer, 64 << 10, &mut arrived);
        tokio::task::yield_now().await;
        buffer.write_to(&writer).unwrap();
    }
    assert_eq!(arrived, stream_bytes(0, model.end));
    buffer.release(buffer.end());
    assert_eq!(buffer.kept(), 0, "all is answered");
}

proptest! {
    #![proptest_config(crate::worker::testkit::cases(40))]

    #[test]
    fn requests_arrive_and_are_kept(ops in vec(op(), 1..80)) {
        testkit::block_on(follow(ops));
    }
}

/// A reply cannot come before its request is written; if one did, no byte may be lost.
#[test]
fn nothing_unwritten_is_released() {
    testkit::block_on(async {
        let (writer, mut peer) = narrow();
        let (mut buffer, mut arrived) = (SendBuffer::default(), Vec::new());
        buffer.append(b"first");
        buffer.push(Bytes::from(vec![b'x'; LARGE]));
        buffer.append(b"last");
        buffer.release(buffer.end());
        assert_eq!(buffer.request(0, 5), "first");
        tokio::task::yield_now().await;
        while buffer.written() != buffer.end() {
            buffer.write_to(&writer).unwrap();
            read_some(&mut peer, 64 << 10, &mut arrived);
            tokio::task::yield_now().await;
        }
        read_some(&mut peer, 64 << 10, &mut arrived);
        assert_eq!(arrived, [&b"first"[..], &[b'x'; LARGE], b"last"].concat());
    });
}

#[test]
fn large_requests_are_shared() {
    let mut buffer = SendBuffer::default();
    let request = Bytes::from(vec![1; LARGE]);
    assert!(is_large(request.len()) && !is_large(LARGE - 1));
    buffer.append(b"small");
    buffer.push(request.clone());
    assert_eq!(buffer.request(5, LARGE).as_ptr(), request.as_ptr());
    assert_eq!(buffer.request(0, 5), "small");
    assert_eq!(buffer.request(buffer.end(), 1), "", "there is no such request");
}
