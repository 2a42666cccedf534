//! Tests of the admin port over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::admin::Check;

struct Fake {
    live: Cell<bool>,
    ready: Cell<bool>,
}

impl AdminState for Fake {
    fn live(&self) -> Result<(), String> {
        if self.live.get() { Ok(()) } else { Err("worker 1 has not turned for 9 s".to_owned()) }
    }
    fn ready(&self) -> Vec<Check> {
        let table = if self.ready.get() { Ok(()) } else { Err("no node answered yet".to_owned()) };
        vec![Check { name: "listening", result: Ok(()) }, Check { name: "topology", result: table }]
    }
    fn topology_json(&self) -> String {
        "{}".to_owned()
    }
    fn metrics_text(&self) -> String {
        "slotway_workers 1\n".to_owned()
    }
    fn config_text(&self) -> String {
        "workers = 1\n".to_owned()
    }
}

/// Runs `body` with an admin port in a runtime of its own.
fn with_admin<F: Future<Output = ()>>(body: impl FnOnce(SocketAddr, Rc<Fake>) -> F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async {
        let state = Rc::new(Fake { live: Cell::new(true), ready: Cell::new(true) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(serve(listener, Rc::clone(&state) as Rc<dyn AdminState>));
        body(address, state).await;
    });
}

async fn get(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn every_path_answers() {
    with_admin(|address, _| async move {
        for (request, status, part) in [
            ("GET /", "200 OK", "/metrics "),
            ("GET /metrics", "200 OK", "version=0.0.4"),
            ("GET /metrics", "200 OK", "slotway_workers 1\n"),
            ("GET /topology", "200 OK", "application/json"),
            ("GET /config", "200 OK", "workers = 1"),
            ("GET /livez", "200 OK", "ok\n"),
            ("HEAD /livez", "200 OK", "content-length: 3"),
            ("GET /nothing", "404 Not Found", "not found"),
            ("POST /metrics", "405 Method Not Allowed", "allow: GET, HEAD"),
        ] {
            let answer = get(address, request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
            assert!(answer.contains(part), "{request}: {answer}");
        }
    });
}

#[test]
fn probes_say_why_not() {
    with_admin(|address, state| async move {
        let verbose = get(address, "GET /readyz?verbose").await;
        assert!(verbose.contains("[+] listening\n[+] topology\nok\n"), "{verbose}");
        assert!(!get(address, "GET /readyz").await.contains("[+]"));
        state.ready.set(false);
        state.live.set(false);
        let answer = get(address, "GET /readyz").await;
        assert!(answer.contains("503") && answer.contains("[-] topology: no node answered yet"), "{answer}");
        let answer = get(address, "GET /livez").await;
        assert!(answer.contains("503") && answer.contains("worker 1"), "{answer}");
    });
}

#[test]
fn connections_are_bounded_and_places_come_back() {
    with_admin(|address, _| async move {
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut refused = TcpStream::connect(address).await.unwrap();
        assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0);
        drop(idle);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(get(address, "GET /livez").await.contains("200 OK"));
    });
}
