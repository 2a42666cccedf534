//! What a lane's reader keeps of what it read.

use super::*;
use crate::backend::lane::LaneKey;
use crate::backend::ticket::Ticket;
use crate::config::Config;
use crate::session::Session;
use crate::session::pending::CellState;
use crate::session::state::Resp;
use crate::topology::node::{Node, NodeAddr, NodeId};
use crate::worker::testkit;
use std::sync::Arc;

fn reply(len: usize) -> Vec<u8> {
    [format!("${len}\r\n").as_bytes(), &vec![b'x'; len], b"\r\n"].concat()
}

/// A reader whose lane owes `session` so many replies, which wait behind one of another lane.
fn reader(session: &Rc<Session>, reader: ReadSide, owed: usize) -> LaneReader {
    let worker = session.worker();
    let node = Node::new(NodeId(0), NodeAddr { host: "h".to_owned(), port: 1 });
    let lane = Lane::new(LaneKey::shared(NodeId(0), Resp::V2), Arc::new(node));
    testkit::expect(session, "get", 1, 0);
    for _ in 0..owed {
        let errand = testkit::expect(session, "get", 0, 0);
        lane.inner().send.append(b"request");
        let end = lane.inner().send.end();
        lane.inner().tickets.push_back(Ticket::new(errand, end - 7, 7, 0));
    }
    LaneReader::new(Rc::clone(worker), lane, reader)
}

fn kept(session: &Rc<Session>) -> Vec<Bytes> {
    let inner = session.inner();
    let large = inner.pending.iter().filter_map(|(_, cell)| match &cell.state {
        CellState::Large(bytes) => Some(bytes.clone()),
        _ => None,
    });
    large.collect()
}

#[test]
fn a_reply_that_waits_keeps_no_much_larger_buffer() {
    testkit::block_on(async {
        let worker = testkit::worker(Config::default());
        let (session, side, _peer) = testkit::connection(&worker);
        let mut reader = reader(&session, side, 4);
        let (large, small) = (reply(1 << 20), reply(LARGE));
        reader.rest = BytesMut::with_capacity(3 << 19);
        let start = reader.rest.as_ptr() as usize;
        let all = start..start + reader.rest.capacity();
        reader.buffer = all.len();
        for bytes in [&small, &large, &small, &large[..LARGE / 2].to_vec()] {
            reader.rest.extend_from_slice(bytes);
        }
        assert_eq!(reader.rest.as_ptr() as usize, start, "all of it in one buffer");
        reader.take_rest().unwrap();
        let kept = kept(&session);
        assert_eq!(kept.iter().map(Bytes::len).collect::<Vec<_>>(), [&small, &large, &small].map(Vec::len));
        let inside = kept.iter().map(|bytes| all.contains(&(bytes.as_ptr() as usize)));
        assert_eq!(inside.collect::<Vec<_>>(), [false, true, false]);
        assert!(!all.contains(&(reader.rest.as_ptr() as usize)), "nor does the beginning of the next");
        assert_eq!(reader.rest.len(), LARGE / 2);
    });
}
