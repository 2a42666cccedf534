//! WATCH, and EXEC behind it, at a node that stands still: on a connection of their own, which the silence of a shared
//! one does not end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::client::{Client, words};
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Seen};
use crate::support::proxy::Proxy;
use crate::support::{check, eventually};

/// Node 0 owns both, of three.
const SLOTS: [u16; 2] = [100, 101];

fn answer(seen: &Seen) -> Answer {
    match seen.name().as_str() {
        "SET" => Answer::text("+QUEUED"),
        "EXEC" => Answer::text("*1\r\n+OK"),
        _ => Answer::Standard,
    }
}

fn transaction(key: &str) -> Vec<u8> {
    [words("MULTI"), cmd!["SET", key, "v"], words("EXEC")].concat()
}

fn last_of_three(client: &mut Client) -> String {
    client.reply();
    client.reply();
    String::from_utf8_lossy(&client.reply()).into_owned()
}

#[test]
fn a_silent_node_is_not_waited_for_until_the_deadline() {
    let fake = FakeCluster::start(3);
    let frozen = Arc::new(AtomicBool::new(false));
    let stands_still = Arc::clone(&frozen);
    fake.script(move |seen| match seen.node == 0 && stands_still.load(Ordering::SeqCst) {
        true => Answer::Never,
        false => answer(seen),
    });
    // Longer than a client of these tests waits for a reply.
    let keys = [
        ("node-silence-timeout", "1s"),
        ("probe-interval", "200ms"),
        ("request-deadline", "60s"),
        ("workers", "1"),
    ];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let (moves, stays) = (key_in(SLOTS[0], "k"), key_in(SLOTS[1], "k"));
    let (mut sent, mut unsent, mut watches) = (proxy.client(), proxy.client(), proxy.client());
    sent.ok(&cmd!["WATCH", stays]);
    unsent.ok(&cmd!["WATCH", stays]);
    // Leaves a connection behind: a new one could not shake hands with a node that stands still.
    watches.ok(&cmd!["WATCH", moves]);
    watches.ok(&words("UNWATCH"));

    frozen.store(true, Ordering::SeqCst);
    watches.send(&cmd!["WATCH", moves]);
    sent.send(&transaction(&stays));
    eventually("both are at the node", || {
        check((fake.seen_named("WATCH").len(), fake.seen_named("EXEC").len()) == (4, 1), fake.seen())
    });
    fake.change_map(|map| map.assign(SLOTS[0], 1));
    assert_eq!(watches.reply(), b"+OK\r\n", "watched at the new owner");
    let last = fake.seen_named("WATCH").pop().expect("a WATCH");
    assert_eq!((last.node, last.arg(1)), (1, moves));
    let told = last_of_three(&mut sent);
    assert!(told.contains("may have been executed"), "{told}");

    let node = format!("node=\"{}\"", fake.addrs()[0]);
    assert_eq!(proxy.metrics().sum("slotway_backend_up", &[&node]), 0.0, "known to be silent");
    unsent.send(&transaction(&stays));
    assert_eq!(last_of_three(&mut unsent), "*-1\r\n", "nobody can say whether the key was changed");
    assert_eq!(fake.seen_named("EXEC").len(), 1, "it would execute that when it wakes up");
}
