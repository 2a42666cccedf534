//! A node connection's socket, and what is left when a task panics: everybody else goes on. The panic is
//! had by holding the worker's read buffer, which every read borrows.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;
use crate::config::Config;
use crate::error::ProxyError;
use crate::session::Session;
use crate::session::task::SessionTask;
use crate::topology::node::NodeAddr;
use crate::topology::table::{Shard, SlotTable};
use crate::worker::testkit::{self, request};
use crate::worker::transport::WriteSide;

/// A worker with its flusher, and the one node of its table.
async fn worker() -> (Rc<WorkerContext>, Arc<Node>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let node = Arc::new(Node::new(NodeId(0), NodeAddr { host: "127.0.0.1".to_owned(), port }));
    let config = Config { node_silence_timeout: Duration::from_millis(4_321), ..Config::default() };
    let worker = testkit::worker(config);
    let shard = Shard { primary: NodeId(0), replicas: Vec::new() };
    let table = SlotTable::new(1, vec![shard], &[(0, 16383, 0)], vec![Arc::clone(&node)]);
    *worker.table.borrow_mut() = Arc::new(table);
    tokio::task::spawn_local(crate::worker::flush::run(Rc::clone(&worker)));
    (worker, node, listener)
}

/// The node's end of a new connection, after the handshake.
async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(received(&mut stream).await.contains("SETNAME"));
    stream.write_all(b"+OK\r\n").await.unwrap();
    stream
}

async fn received(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut bytes)).await;
    String::from_utf8_lossy(&bytes[..read.unwrap().unwrap()]).into_owned()
}

/// A client with its task.
fn client(worker: &Rc<WorkerContext>) -> (Rc<Session>, UnixStream) {
    let (session, reader, peer) = testkit::connection(worker);
    tokio::task::spawn_local(SessionTask::new(Rc::clone(&session), reader));
    (session, UnixStream::from_std(peer).unwrap())
}

/// Whatever is read meanwhile panics.
#[allow(clippy::await_holding_refcell_ref, reason = "that is what makes it panic")]
async fn panic_at_the_next_read(worker: &WorkerContext, mut until: impl FnMut() -> bool) {
    let held = worker.scratch.borrow_mut();
    while !until() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(held);
}

#[test]
fn the_kernel_gives_a_connection_up_that_nobody_acknowledges() {
    testkit::block_on(async {
        let (worker, node, listener) = worker().await;
        let (transport, _peer) = tokio::join!(dial(&worker, &node, Resp::V2, false), accept(&listener));
        let (_reader, writer) = transport.unwrap().split();
        let WriteSide::Tcp(side) = &writer else { panic!("{writer:?}") };
        let stream: &TcpStream = side.as_ref();
        let socket = socket2::SockRef::from(stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(4_321)));
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        let probes = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
        assert_eq!(probes, (Duration::from_secs(2), Duration::from_secs(1)), "when nothing is said, either");
    });
}

#[test]
fn a_panic_in_one_clients_task_ends_that_client_alone() {
    testkit::block_on(async {
        let (worker, _node, listener) = worker().await;
        let (_, mut broken) = client(&worker);
        let (other, mut going_on) = client(&worker);
        // Both have a request at the node.
        for peer in [&mut broken, &mut going_on] {
            peer.write_all(&request(&["get", "k"])).await.unwrap();
        }
        let mut node = accept(&listener).await;
        assert_eq!(received(&mut node).await.matches("get").count(), 2);
        broken.write_all(&request(&["get", "k"])).await.unwrap();
        panic_at_the_next_read(&worker, || worker.sessions.borrow().len() == 1).await;
        assert!(matches!(broken.read(&mut [0; 9]).await, Ok(0) | Err(_)), "closed");
        assert_eq!((worker.process.clients(), worker.process.registry.len()), (1, 1));
        node.write_all(b"$4\r\nhers\r\n$3\r\nhis\r\n").await.unwrap();
        assert_eq!(received(&mut going_on).await, "$3\r\nhis\r\n", "not what the other asked for");
        assert!(other.inner().pending.is_empty() && other.inner().broken.is_none());
        going_on.write_all(&request(&["ping"])).await.unwrap();
        assert_eq!(received(&mut going_on).await, "+PONG\r\n");
    });
}

#[test]
fn a_panic_in_a_nodes_task_costs_its_requests_an_error_and_no_client() {
    testkit::block_on(async {
        let (worker, _node, listener) = worker().await;
        let (_, mut one) = client(&worker);
        let (_, mut two) = client(&worker);
        for peer in [&mut one, &mut two] {
            peer.write_all(&request(&["mset", "{k}1", "v", "other", "w"])).await.unwrap();
            peer.write_all(&request(&["set", "k", "v"])).await.unwrap();
        }
        let mut node = accept(&listener).await;
        let mut seen = String::new();
        while seen.matches("mset").count() < 4 || seen.matches("$3\r\nset").count() < 2 {
            seen += &received(&mut node).await;
        }
        node.write_all(b"+OK\r\n").await.unwrap();
        let lane = worker.lanes.borrow().get(NodeId(0), Resp::V2).map(Rc::clone).unwrap();
        panic_at_the_next_read(&worker, || lane.state.get() == LaneState::Idle).await;
        for peer in [&mut one, &mut two] {
            let mut text = String::new();
            while text.matches("\r\n").count() < 2 {
                text += &received(peer).await;
            }
            let errors = [lost_text(ProxyError::PartlyFailed), lost_text(ProxyError::ConnectionLost)];
            assert_eq!(text, errors.concat());
        }
        assert_eq!(worker.sessions.borrow().len(), 2);
        assert!(lane.inner().tickets.is_empty() && lane.receiving.get() == 0);
        assert_eq!(worker.counters.open_connections(NodeId(0)), 0);
        // The next request has it connected again.
        one.write_all(&request(&["get", "k"])).await.unwrap();
        let mut node = accept(&listener).await;
        assert!(received(&mut node).await.contains("get"));
        node.write_all(b"$1\r\nv\r\n").await.unwrap();
        assert_eq!(received(&mut one).await, "$1\r\nv\r\n");
    });
}

fn lost_text(error: ProxyError) -> String {
    format!("-{}\r\n", error.text())
}
