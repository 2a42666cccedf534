//! Learned commands that may wait: on a connection of their own, as the built-in ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::announce::{Announced, announcing, first, questions, spec};
use crate::support::client::words;
use crate::support::node::{Answer, Gate, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, show};
use crate::support::{check, eventually};

fn commands() -> Vec<Announced> {
    vec![
        Announced::new("m.bpop", "write blocking").key(first()),
        Announced::new("m.bread", "readonly").acl("@read @blocking").key(first()),
        Announced::new("m.bask", "write blocking").key(spec("index 1", "unknown", "RW")),
        Announced::new("m.bnone", "readonly blocking"),
        Announced::new("m.pop", "write").key(first()),
    ]
}

#[test]
fn they_hold_up_nobody_and_are_repeated_as_the_built_in_ones() {
    let (gate, asked) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let held = gate.clone();
    let (fake, _told) = announcing(&commands(), move |seen| match seen.name().as_str() {
        "M.BPOP" | "M.BASK" => match asked.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::text("-UNBLOCKED force unblock from blocking operation, instance state changed"),
            _ => Answer::Hold(held.clone(), b"+popped\r\n".to_vec()),
        },
        "M.BREAD" if asked.fetch_add(1, Ordering::SeqCst) < 4 => Answer::Close(Vec::new()),
        "M.BREAD" => Answer::text("+read"),
        "COMMAND" if seen.arg(1) == "GETKEYS" => Answer::Reply([&b"*1\r\n"[..], &bulk(b"{w}k")].concat()),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let (mut one, mut two, mut other) = (proxy.client(), proxy.client(), proxy.client());
    one.send(&words("M.BPOP {w}k 7"));
    two.send(&words("M.BASK {w}k any {w}other"));
    eventually("both wait", || {
        let seen = fake.seen_named("M.BPOP").len() + fake.seen_named("M.BASK").len();
        check(seen == 3, seen)
    });
    assert_eq!(questions(&fake).len(), 1);
    for line in ["SET {w}k v", "M.POP {w}k", "GET {w}x"] {
        assert_eq!(other.call(&words(line)), Value::Simple("OK".into()), "{line}");
    }
    gate.open();
    assert_eq!((show(&one.reply()), show(&two.reply())), (show(b"+popped\r\n"), show(b"+popped\r\n")));
    assert_eq!(other.raw(&words("M.BREAD {w}k")), b"+read\r\n");
    let shared = fake.seen_named("SET")[0].connection;
    let waits: Vec<Seen> = fake.seen().into_iter().filter(|seen| seen.name().starts_with("M.B")).collect();
    assert!(waits.iter().all(|seen| seen.connection != shared), "{waits:?}");
    assert!(fake.seen_named("M.BPOP").iter().all(|seen| seen.bytes == words("M.BPOP {w}k 7")), "as it came");
}

#[test]
fn without_a_key_nobody_knows_where_they_would_wait() {
    let (fake, _told) = announcing(&commands(), |_| Answer::Standard);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let mut client = proxy.client();
    let refused = client.call(&words("M.BNONE 1"));
    let expected =
        "ERR slotway: 'm.bnone', learned from the cluster, is refused: it may wait, and names no key";
    assert_eq!(refused.error(), expected);
    assert!(fake.seen_named("M.BNONE").is_empty());
}
