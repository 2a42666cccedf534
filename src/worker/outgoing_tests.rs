//! Against a model: whatever is appended in whatever sizes and however little the socket takes, the same
//! bytes arrive in the same order.

use std::io::Read;
use std::os::unix::net::UnixStream as Peer;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::net::UnixStream;

use super::*;
use crate::worker::pool::BufferPool;
use crate::worker::testkit;
use crate::worker::transport::Transport;

impl Outgoing {
    /// How many pieces are slices of other buffers.
    pub(crate) fn slices(&self) -> usize {
        self.queue.iter().filter(|chunk| matches!(chunk, Chunk::Slice(_))).count()
    }

    /// Everything not yet written.
    pub(crate) fn unsent(&self) -> Vec<u8> {
        let all = self.queue.iter().map(Chunk::bytes).chain([&self.tail[..]]);
        let bytes: Vec<u8> = all.flatten().skip(self.written).copied().collect();
        assert_eq!(bytes.len(), self.len);
        bytes
    }
}

/// A socket that takes little, and its other end.
pub(crate) fn narrow() -> (WriteSide, Peer) {
    let (ours, theirs) = Peer::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    socket2::SockRef::from(&ours).set_send_buffer_size(8 << 10).unwrap();
    let (_, writer) = Transport::Unix(UnixStream::from_std(ours).unwrap()).split();
    (writer, theirs)
}

/// Reads at most `most` bytes.
pub(crate) fn read_some(peer: &mut Peer, most: usize, into: &mut Vec<u8>) {
    let mut buffer = vec![0; most];
    if let Ok(read) = peer.read(&mut buffer) {
        into.extend_from_slice(&buffer[..read]);
    }
}

/// Bytes that tell their place in the stream.
pub(crate) fn stream_bytes(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Push(usize),
    Write,
    Read(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let size =
        prop_oneof![6 => 0..300_usize, 2 => 0..30_000_usize, 1 => Just(CHUNK), 1 => 60_000..140_000_usize];
    prop_oneof![
        4 => size.clone().prop_map(Op::Append),
        2 => size.prop_map(Op::Push),
        2 => Just(Op::Write),
        1 => (1..60_000_usize).prop_map(Op::Read),
    ]
}

proptest! {
    #![proptest_config(crate::worker::testkit::cases(40))]

    #[test]
    fn bytes_arrive_in_order(ops in vec(op(), 1..60)) {
        testkit::block_on(async {
            let (writer, mut peer) = narrow();
            let (mut out, pool) = (Outgoing::default(), BufferPool::default());
            let (mut given, mut written, mut arrived) = (0, 0, Vec::new());
            for op in ops {
                match op {
                    Op::Append(len) => {
                        out.append(&stream_bytes(given, len), || pool.take());
                        given += len;
                    }
                    Op::Push(len) => {
                        out.push(stream_bytes(given, len).into());
                        given += len;
                    }
                    Op::Read(most) => read_some(&mut peer, most, &mut arrived),
                    Op::Write => {
                        tokio::task::yield_now().await;
                        let (flushed, taken) = out.write_to(&writer, |buffer| pool.give(buffer)).unwrap();
                        written += taken;
                        assert_eq!(flushed == Flushed::All, out.is_empty());
                    }
                }
                assert_eq!(out.len(), given - written);
            }
            assert_eq!(out.unsent(), stream_bytes(written, given - written));
            while arrived.len() < given {
                read_some(&mut peer, CHUNK, &mut arrived);
                tokio::task::yield_now().await;
                out.write_to(&writer, |buffer| pool.give(buffer)).unwrap();
            }
            assert!(out.is_empty());
            assert_eq!((out.queue.capacity().min(17), out.tail.capacity()), (out.queue.capacity(), 0));
            assert_eq!(arrived, stream_bytes(0, given));
        });
    }
}

#[test]
fn small_bytes_leave_in_one_piece() {
    let mut out = Outgoing::default();
    for _ in 0..1000 {
        out.append(b"+OK\r\n", Vec::new);
    }
    assert!(out.queue.is_empty());
    out.push(Bytes::new());
    assert!(out.queue.is_empty(), "nothing is no piece");
    out.push(Bytes::from_static(b"x"));
    assert_eq!(out.queue.len(), 2);
    assert_eq!(out.len(), 5001);
}

#[test]
fn a_closed_socket_is_an_error() {
    testkit::block_on(async {
        let (writer, peer) = narrow();
        drop(peer);
        let mut out = Outgoing::default();
        out.append(b"+OK\r\n", Vec::new);
        tokio::task::yield_now().await;
        assert!(out.write_to(&writer, drop).is_err());
        assert_eq!(out.len(), 5);
    });
}
