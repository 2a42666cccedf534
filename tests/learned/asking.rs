//! Commands whose keys a node has to tell: in order, bounded in time, and never sent by guess.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::announce::{Announced, announcing, arrived, questions, spec};
use crate::support::client::words;
use crate::support::keys::slot;
use crate::support::node::{Answer, FakeCluster, Gate, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, show};
use crate::support::{check, eventually};

const UNKNOWN: &str =
    "ERR slotway: the keys of this command cannot be told, so no shard can be chosen; it was not executed";

fn commands() -> Vec<Announced> {
    let unknown = || spec("index 1", "unknown", "RW");
    vec![
        Announced::new("ask.write", "write").key(unknown()),
        Announced::new("ask.read", "readonly").key(unknown()),
    ]
}

fn is_question(seen: &Seen) -> bool {
    seen.name() == "COMMAND" && seen.arg(1) == "GETKEYS"
}

fn keys(keys: &[&str]) -> Vec<u8> {
    let each: Vec<Vec<u8>> = keys.iter().map(|key| bulk(key.as_bytes())).collect();
    [format!("*{}\r\n", keys.len()).into_bytes(), each.concat()].concat()
}

fn started(
    answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    config: &[(&str, &str)],
) -> (FakeCluster, Proxy) {
    let (fake, _) =
        announcing(&commands(), move |seen| if is_question(seen) { answer(seen) } else { Answer::Standard });
    let proxy = Proxy::start(fake.addrs(), config);
    (fake, proxy)
}

#[test]
fn what_follows_waits_and_other_clients_do_not() {
    let gate = Gate::default();
    let held = gate.clone();
    let (fake, proxy) = started(move |_| Answer::Hold(held.clone(), keys(&["{a}k"])), &[]);
    let mut client = proxy.client();
    let pipeline = ["SET {a}k 1", "ask.write {a}k", "SET {a}k 2", "GET other", "ask.read {a}k", "SET {a}k 3"];
    client.send(&pipeline.map(words).concat());
    eventually("the question is asked", || check(questions(&fake).len() == 1, ()));
    assert_eq!(client.value(), Value::Simple("OK".into()), "what came before is answered");
    let free = (0..)
        .map(|n| format!("free{n}"))
        .find(|key| fake.owner(slot(key.as_bytes())) != questions(&fake)[0].node);
    let free = format!("SET {} v", free.expect("a key"));
    assert_eq!(proxy.client().call(&words(&free)), Value::Simple("OK".into()));
    assert_eq!(arrived(&fake).len(), 2, "nothing of the pipeline behind the question");
    gate.open();
    assert!(client.values(5).iter().all(|value| *value == Value::Simple("OK".into())));
    let seen: Vec<_> =
        arrived(&fake).into_iter().filter(|seen| seen.arg(1) == "{a}k").map(|s| show(&s.bytes)).collect();
    let expected = pipeline.into_iter().filter(|line| line.contains("{a}")).map(|line| show(&words(line)));
    assert_eq!(seen, expected.collect::<Vec<_>>(), "the order they were sent in");
}

#[test]
fn what_the_node_says_decides() {
    for (answer, write, read) in [
        (keys(&["{a}1", "{a}2"]), Ok(()), Ok(())),
        (
            keys(&["a", "b"]),
            Err("CROSSSLOT Keys in request don't hash to the same slot"),
            Err("CROSSSLOT Keys in request don't hash to the same slot"),
        ),
        (keys(&[]), Err(UNKNOWN), Ok(())),
        (b"-ERR The command has no key arguments\r\n".to_vec(), Err(UNKNOWN), Ok(())),
        (b"-ERR Invalid command specified\r\n".to_vec(), Err(UNKNOWN), Err(UNKNOWN)),
        (b"-NOPERM this user has no permissions\r\n".to_vec(), Err(UNKNOWN), Err(UNKNOWN)),
        (b"-MOVED 1 127.0.0.1:1\r\n".to_vec(), Err(UNKNOWN), Err(UNKNOWN)),
        (b"+OK\r\n".to_vec(), Err(UNKNOWN), Err(UNKNOWN)),
        (b"*1\r\n:5\r\n".to_vec(), Err(UNKNOWN), Err(UNKNOWN)),
        (b"$-1\r\n".to_vec(), Err(UNKNOWN), Err(UNKNOWN)),
        (b"*1\r\n".repeat(50).into_iter().chain(*b":1\r\n").collect(), Err(UNKNOWN), Err(UNKNOWN)),
    ] {
        let shown = show(&answer);
        let (fake, proxy) = started(move |_| Answer::Reply(answer.clone()), &[]);
        let mut client = proxy.client();
        for (line, expected) in [("ASK.WRITE x", write), ("ASK.READ x", read)] {
            let before = arrived(&fake).len();
            let reply = client.call(&words(line));
            match expected {
                Ok(()) => assert_eq!(reply, Value::Simple("OK".into()), "{shown}"),
                Err(text) => assert_eq!(reply.error(), text, "{shown}"),
            }
            assert_eq!(arrived(&fake).len() - before, usize::from(expected.is_ok()), "{line}: {shown}");
        }
        assert_eq!(client.call(&words("SET a b")), Value::Simple("OK".into()), "{shown}");
    }
}

#[test]
fn a_question_without_an_answer_ends_at_the_deadline_and_nothing_was_executed() {
    let (fake, proxy) =
        started(|_| Answer::Never, &[("request-deadline", "1s"), ("node-silence-timeout", "20s")]);
    let mut client = proxy.client();
    let text = "ERR slotway: request deadline passed before the request was sent; it was not executed";
    assert_eq!(client.call(&words("ask.write k")).error(), text);
    assert!(arrived(&fake).is_empty());
}

#[test]
fn a_question_whose_connection_breaks_is_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (fake, proxy) = started(
        move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Close(b"*1\r\n$2".to_vec()),
            _ => Answer::Reply(keys(&["k"])),
        },
        &[],
    );
    assert_eq!(proxy.client().call(&words("ask.write k")), Value::Simple("OK".into()));
    assert_eq!((questions(&fake).len(), arrived(&fake).len()), (2, 1));
    assert_eq!(arrived(&fake)[0].node, fake.owner(slot(b"k")));
}

#[test]
fn a_request_too_large_to_ask_for_is_refused() {
    let (fake, proxy) = started(|_| Answer::Reply(keys(&["k"])), &[("dedicated-request-bytes", "100KiB")]);
    let mut client = proxy.client();
    let value = vec![b'x'; 200 << 10];
    assert_eq!(client.call(&cmd!["ask.write", "k", value]).error(), UNKNOWN);
    assert_eq!(client.call(&cmd!["ask.write", "k", &value[..80 << 10]]), Value::Simple("OK".into()));
    assert_eq!((questions(&fake).len(), arrived(&fake).len()), (1, 1));
}

/// Flag `blocking`: a connection of its own, at the owner of the key, and nobody else waits.
#[test]
fn a_learned_command_that_waits_does_so_on_a_connection_of_its_own() {
    let gate = Gate::default();
    let held = gate.clone();
    let waits = [
        Announced::new("wait.key", "write blocking").key(spec("index 1", "range 0 1 0", "RW")),
        Announced::new("wait.cat", "write").acl("@blocking").key(spec("index 1", "range 0 1 0", "RW")),
        Announced::new("wait.ask", "write blocking").key(spec("index 1", "unknown", "RW")),
        Announced::new("wait.none", "readonly blocking"),
    ];
    let (fake, _told) = announcing(&waits, move |seen| match seen.name().as_str() {
        "COMMAND" if is_question(seen) => Answer::Reply(keys(&["{a}k"])),
        "WAIT.KEY" | "WAIT.CAT" | "WAIT.ASK" => Answer::Hold(held.clone(), b":1\r\n".to_vec()),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("request-deadline", "2s"), ("workers", "1")]);
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    let lines = ["wait.key {a}k", "WAIT.CAT {a}k 5", "Wait.Ask x {a}k"];
    for (client, line) in clients.iter_mut().zip(lines) {
        client.send(&words(line));
    }
    eventually("all wait at the node", || check(arrived(&fake).len() == 3, arrived(&fake)));
    let mut other = proxy.client();
    assert_eq!(other.call(&words("SET {a}k v")), Value::Simple("OK".into()), "nobody else waits");
    assert!(other.call(&words("wait.none")).error().contains("it may wait, and names no key"));
    let seen = arrived(&fake);
    let connections: std::collections::HashSet<_> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections.len(), 4, "each has its own, and one is shared: {seen:?}");
    assert!(seen.iter().all(|seen| seen.node == fake.owner(slot(b"a"))));
    gate.open();
    assert!(clients.iter_mut().all(|client| client.value() == Value::Int(1)));
}

#[test]
fn in_a_transaction_only_what_needs_no_question_is_queued() {
    let more = [
        commands(),
        vec![
            Announced::new("plain", "write").key(spec("index 1", "range 0 1 0", "RW")),
            Announced::new("bad", "admin"),
        ],
    ];
    let (fake, _told) = announcing(&more.concat(), |seen| match seen.name().as_str() {
        "MULTI" => Answer::text("+OK"),
        "EXEC" => Answer::Reply(b"*2\r\n+OK\r\n+OK\r\n".to_vec()),
        "SET" | "PLAIN" => Answer::text("+QUEUED"),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[]);
    let mut client = proxy.client();
    for line in ["MULTI", "SET {a}1 x", "PLAIN {a}2 y"] {
        client.ok(&words(line));
    }
    assert_eq!(client.call(&words("EXEC")).items().len(), 2);
    let sent: Vec<_> = arrived(&fake).iter().map(|seen| (seen.name(), seen.node)).collect();
    let node = fake.owner(slot(b"a"));
    assert_eq!(sent, ["MULTI", "SET", "PLAIN", "EXEC"].map(|name| (name.to_owned(), node)));
    for line in ["ask.write {a}2", "bad k", "plain {b}1"] {
        client.ok(&words("MULTI"));
        client.ok(&words("SET {a}1 x"));
        assert!(client.call(&words(line)).is_error(), "{line}");
        assert!(client.call(&words("EXEC")).error().starts_with("EXECABORT"), "{line}");
    }
    assert_eq!(arrived(&fake).len(), 4);
}
