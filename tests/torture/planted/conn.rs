//! A worker's connection against a scripted server: it must notice redirects, closed connections and unlike replies.

use std::io::{Read, Write};
use std::net::TcpListener;

use slotway::error::{Executed, ProxyError};

use crate::support::resp::Value;
use crate::torture::bench::Bench;
use crate::torture::check::{Excuse, Kind, Status, Suspicion};
use crate::torture::conn::{Ask, Conn, Meaning, meaning};

/// A server that answers every read with the next of these.
fn server(answers: Vec<&'static [u8]>) -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut chunk = [0; 4096];
            while stream.read(&mut chunk).is_ok_and(|n| n > 0) {
                match answers.next() {
                    Some(b"close") => break,
                    Some(answer) => stream.write_all(answer).expect("answer"),
                    None => return,
                }
            }
        }
    });
    Bench::new(1, vec![addr])
}

fn get() -> Ask {
    Ask::key(cmd!["GET", "k"], "k")
}

fn noticed(bench: &Bench) -> Vec<(Kind, Excuse)> {
    bench.take_suspicions().into_iter().map(|Suspicion { kind, excuse, .. }| (kind, excuse)).collect()
}

#[test]
fn redirects_are_never_fine() {
    let answers: Vec<&[u8]> = vec![
        b"-MOVED 1 127.0.0.1:7000\r\n",
        b"-ASK 1 127.0.0.1:7000\r\n",
        b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        b"*2\r\n:1\r\n-MOVED 1 127.0.0.1:7000\r\n",
        b"$1\r\nv\r\n",
    ];
    let bench = server(answers);
    let mut conn = Conn::new(&bench, "test", 0);
    for _ in 0..4 {
        conn.call(get());
        assert_eq!(noticed(&bench), [(Kind::Redirect, Excuse::None)]);
    }
    assert_eq!(conn.call(get()).reply, Ok(Value::Bulk(b"v".to_vec())));
    assert_eq!(noticed(&bench), []);
}

#[test]
fn errors_are_sorted_by_what_they_say_about_the_request() {
    let bench = server(vec![
        b"-ERR slotway: connection to the node was lost; the request may have been executed\r\n",
        b"-CLUSTERDOWN slotway: no reachable node owns the slot\r\n",
        b"close",
        b"$1\r\nv\r\n",
    ]);
    let mut conn = Conn::new(&bench, "test", 0);
    assert_eq!(conn.call(get()).reply, Err(Status::Maybe));
    assert_eq!(noticed(&bench), [(Kind::Error, Excuse::Broken)]);
    assert_eq!(conn.call(get()).reply, Err(Status::No));
    assert_eq!(noticed(&bench), [(Kind::Error, Excuse::None)]);
    assert_eq!(conn.call(get()).reply, Err(Status::Maybe), "no reply at all");
    assert_eq!(noticed(&bench), [(Kind::Error, Excuse::Broken)]);
    assert!(conn.call(get()).reply.is_ok(), "opened again");
    assert_eq!(bench.errors_within(crate::torture::check::Span::new(0, u64::MAX)).len(), 3);
}

#[test]
fn every_error_of_ours_is_known() {
    for error in ProxyError::ALL {
        let status = if error.executed() == Executed::No { Status::No } else { Status::Maybe };
        assert_eq!(meaning(error.text(), false, 0), Meaning::Failed(status), "{error:?}");
    }
    let tryagain = "TRYAGAIN Multiple keys request during rehashing of slot";
    assert_eq!(meaning(tryagain, true, 5_000_000), Meaning::Failed(Status::No), "after tryagain-wait");
    assert_eq!(meaning(tryagain, true, 1_000_000), Meaning::Redirect, "too early");
    assert_eq!(meaning(tryagain, false, 5_000_000), Meaning::Redirect, "a single key");
    assert_eq!(meaning("ASK 1 127.0.0.1:1", false, 0), Meaning::Redirect);
}
