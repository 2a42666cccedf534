//! Transactions at scripted nodes: what exactly is sent, where, how often, and on which connection; what a client
//! gets when a slot moves, a node fails or a node gives the transaction up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::{Client, words};
use crate::support::keys::{key_in, slot};
use crate::support::node::{Answer, FakeCluster, Gate, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::show;
use crate::support::{check, eventually};

/// Node 0 owns it, of three.
const SLOT: u16 = 100;
const MAYBE: &str = "ERR slotway: connection to the node was lost; the request may have been executed";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Everything in one packet; all replies.
fn all_at_once(client: &mut Client, requests: &[Vec<u8>]) -> Vec<String> {
    client.send(&requests.concat());
    requests.iter().map(|_| text(&client.reply())).collect()
}

/// What arrived on one connection, by name, without handshakes.
fn on_connection(fake: &FakeCluster, of: &Seen) -> Vec<String> {
    let own = ["HELLO", "CLIENT", "CLUSTER", "INFO", "COMMAND"];
    let seen = fake.seen().into_iter().filter(|seen| seen.connection == of.connection);
    seen.map(|seen| seen.name()).filter(|name| !own.contains(&name.as_str())).collect()
}

/// A node's word inside a transaction: queued, and one element each.
fn queues(seen: &Seen, elements: &str) -> Answer {
    match seen.name().as_str() {
        "SET" | "INCR" | "PUBLISH" | "EVAL" => Answer::text("+QUEUED"),
        "EXEC" => Answer::Reply(elements.as_bytes().to_vec()),
        _ => Answer::Standard,
    }
}

fn multi(commands: &[Vec<u8>]) -> Vec<Vec<u8>> {
    [&[words("MULTI")][..], commands, &[words("EXEC")]].concat()
}

/// A slot half moved: a key that the owner has no more, or never had, is watched where ASK points.
#[test]
fn watch_follows_an_ask_and_exec_goes_the_same_way() {
    let fake = FakeCluster::start(3);
    let target = fake.addrs()[1].to_string();
    fake.script(move |seen| match (seen.name().as_str(), seen.node) {
        ("WATCH", 0) => Answer::text(&format!("-ASK {SLOT} {target}")),
        _ => queues(seen, "*1\r\n+OK\r\n"),
    });
    let proxy = Proxy::start(fake.addrs(), &[]);
    let (mut client, key, other) = (proxy.client(), key_in(SLOT, "k"), key_in(SLOT, "l"));
    let began = Instant::now();
    assert_eq!(text(&client.raw(&cmd!["WATCH", key])), "+OK\r\n");
    assert_eq!(text(&client.raw(&cmd!["WATCH", other])), "+OK\r\n");
    let replies = all_at_once(&mut client, &multi(&[cmd!["SET", key, "v"]]));
    assert_eq!(replies, ["+OK\r\n", "+QUEUED\r\n", "*1\r\n+OK\r\n"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let watched = fake.seen_named("WATCH");
    assert_eq!(watched.iter().map(|seen| seen.node).collect::<Vec<_>>(), [0, 1, 1]);
    let line = ["ASKING", "WATCH", "ASKING", "WATCH", "ASKING", "MULTI", "SET", "EXEC"];
    assert_eq!(on_connection(&fake, &watched[2]), line);
    // The line has forgotten everything: the next transaction begins as any other.
    assert_eq!(text(&client.raw(&cmd!["UNWATCH"])), "+OK\r\n");
}

/// What is not answered yet is asked again on the same connection, for `tryagain-wait`.
#[test]
fn watch_waits_for_tryagain_without_new_connections() {
    let fake = FakeCluster::start(3);
    let (asked, many) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(5)));
    let most = Arc::clone(&many);
    fake.script(move |seen| match seen.name().as_str() {
        "WATCH" if asked.fetch_add(1, Ordering::SeqCst) < most.load(Ordering::SeqCst) => {
            Answer::text("-TRYAGAIN Multiple keys request during rehashing of slot")
        }
        _ => queues(seen, "*1\r\n+OK\r\n"),
    });
    let proxy = Proxy::start(fake.addrs(), &[("tryagain-wait", "300ms")]);
    let (mut client, a, b) = (proxy.client(), key_in(SLOT, "a"), key_in(SLOT, "b"));
    assert_eq!(text(&client.raw(&cmd!["WATCH", a, b])), "+OK\r\n");
    assert_eq!(fake.seen_named("WATCH").len(), 6);
    many.store(usize::MAX, Ordering::SeqCst);
    let refused = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n";
    // What is watched stays so.
    assert_eq!(text(&client.raw(&cmd!["WATCH", a, b])), refused);
    let replies = all_at_once(&mut client, &multi(&[cmd!["SET", a, "v"]]));
    assert_eq!(replies[2], "*1\r\n+OK\r\n");
    let began = Instant::now();
    assert_eq!(text(&client.raw(&cmd!["WATCH", a, b])), refused);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    let seen = fake.seen_named("WATCH");
    assert!(seen.iter().all(|at| at.connection == seen[0].connection), "{seen:?}");
    // An ASK and a TRYAGAIN in turns are no endless redirecting, but end the same way.
    let target = fake.addrs()[1].to_string();
    fake.script(move |seen| match (seen.name().as_str(), seen.node) {
        ("WATCH" | "SUNIONSTORE", 0) => Answer::text(&format!("-ASK {SLOT} {target}")),
        ("WATCH" | "SUNIONSTORE", _) => Answer::text(refused.trim_end()),
        _ => Answer::Standard,
    });
    assert_eq!(text(&client.raw(&cmd!["WATCH", a, b])), refused);
    assert_eq!(text(&client.raw(&cmd!["SUNIONSTORE", a, b])), refused);
}

#[test]
fn watch_follows_a_slot_that_has_moved_and_endless_redirects_end() {
    let fake = FakeCluster::start(3);
    let addrs = fake.addrs().to_vec();
    let ends = Arc::new(AtomicUsize::new(1));
    let last = Arc::clone(&ends);
    fake.script(move |seen| match seen.name().as_str() {
        "WATCH" if seen.node != last.load(Ordering::SeqCst) => {
            Answer::text(&format!("-MOVED {SLOT} {}", addrs[1 - seen.node]))
        }
        _ => queues(seen, "*1\r\n+OK\r\n"),
    });
    let proxy = Proxy::start(fake.addrs(), &[("redirects-max", "4")]);
    let (mut client, key) = (proxy.client(), key_in(SLOT, "k"));
    assert_eq!(text(&client.raw(&cmd!["WATCH", key])), "+OK\r\n");
    let replies = all_at_once(&mut client, &multi(&[cmd!["SET", key, "v"]]));
    assert_eq!(replies[2], "*1\r\n+OK\r\n");
    assert_eq!(fake.seen_named("EXEC")[0].node, 1);
    ends.store(usize::MAX, Ordering::SeqCst);
    let refused = text(&client.raw(&cmd!["WATCH", key]));
    assert_eq!(refused, "-CLUSTERDOWN slotway: the nodes keep redirecting this request\r\n");
    let mut connections: Vec<usize> = fake.seen_named("WATCH").iter().map(|seen| seen.connection).collect();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), 2, "one per node, however often it is asked");
}

/// What was watched at a node that is not the owner any more: nobody can say whether it was changed.
#[test]
fn exec_is_null_when_the_watched_slot_went_to_another_node() {
    let fake = FakeCluster::start(3);
    fake.script(|seen| queues(seen, "*1\r\n+OK\r\n"));
    let proxy = Proxy::start(fake.addrs(), &[("refresh-interval", "200ms")]);
    let key = key_in(SLOT, "k");
    for (mut client, null) in [(proxy.client(), "*-1\r\n"), (proxy.client_resp3(), "_\r\n")] {
        assert_eq!(text(&client.raw(&cmd!["WATCH", key])), "+OK\r\n");
        // A replica takes over, of whatever the watching node had; the old node still answers.
        let next = (fake.owner(SLOT) + 1) % 3;
        fake.change_map(|map| map.assign(SLOT, next));
        eventually("the new owner is known", || {
            let mut other = proxy.client();
            other.ok(&cmd!["GET", key]);
            let last = fake.seen_named("GET").last().map(|seen| seen.node);
            check(last == Some(next), last)
        });
        let replies = all_at_once(&mut client, &multi(&[cmd!["SET", key, "v"]]));
        assert_eq!(replies, ["+OK\r\n", "+QUEUED\r\n", null]);
    }
    assert!(fake.seen_named("EXEC").is_empty());
    // The connection that watched is gone, and what it would have noticed with it.
    let mut client = proxy.client();
    assert_eq!(text(&client.raw(&cmd!["WATCH", key])), "+OK\r\n");
    let owner = fake.owner(SLOT);
    fake.disconnect(owner);
    // The end of the connection has arrived when the same worker has been elsewhere and back.
    let elsewhere = key_in(fake_slot_of(&fake, (owner + 1) % 3), "k");
    (0..2).for_each(|_| drop(client.ok(&cmd!["GET", elsewhere])));
    let replies = all_at_once(&mut client, &multi(&[cmd!["SET", key, "v"]]));
    assert_eq!(replies, ["+OK\r\n", "+QUEUED\r\n", "*-1\r\n"]);
    assert!(fake.seen_named("EXEC").is_empty());
}

/// Between MULTI and EXEC the slot has moved: the node says so when a command is queued, or at EXEC.
#[test]
fn the_whole_transaction_goes_again_where_its_slot_went() {
    for at in ["SET", "EXEC"] {
        let fake = FakeCluster::start(3);
        let target = fake.addrs()[2].to_string();
        fake.script(move |seen| match (seen.name().as_str(), seen.node) {
            (name, 0) if name == at => Answer::text(&format!("-MOVED {SLOT} {target}")),
            ("EXEC", 0) => Answer::text("-EXECABORT Transaction discarded because of previous errors."),
            _ => queues(seen, "*2\r\n+OK\r\n:1\r\n"),
        });
        let proxy = Proxy::start(fake.addrs(), &[]);
        let (mut client, key) = (proxy.client(), key_in(SLOT, "k"));
        let requests = multi(&[cmd!["SET", key, "v"], cmd!["CLIENT", "SETNAME", "me"], cmd!["INCR", key]]);
        let replies = all_at_once(&mut client, &requests);
        assert_eq!(replies[4], "*3\r\n+OK\r\n+OK\r\n:1\r\n", "moved at {at}");
        let transaction = ["MULTI", "SET", "INCR", "EXEC"];
        for (node, seen) in [(0, &fake.seen_named("MULTI")[0]), (2, &fake.seen_named("MULTI")[1])] {
            assert_eq!(seen.node, node);
            assert_eq!(on_connection(&fake, seen), transaction, "moved at {at}, node {node}");
        }
        assert_eq!(text(&client.raw(&cmd!["CLIENT", "GETNAME"])), "$2\r\nme\r\n");
    }
}

/// It may have been executed: it is not sent twice, and nothing of ours takes effect.
#[test]
fn a_connection_lost_at_exec_ends_in_maybe() {
    let fake = FakeCluster::start(3);
    fake.script(|seen| match seen.name().as_str() {
        "EXEC" => Answer::Close(Vec::new()),
        _ => queues(seen, ""),
    });
    let proxy = Proxy::start(fake.addrs(), &[]);
    let (mut client, key) = (proxy.client(), key_in(SLOT, "k"));
    for watched in [false, true] {
        if watched {
            assert_eq!(text(&client.raw(&cmd!["WATCH", key])), "+OK\r\n");
        }
        let requests = multi(&[cmd!["SET", key, "v"], cmd!["CLIENT", "SETNAME", "me"]]);
        let replies = all_at_once(&mut client, &requests);
        assert_eq!(replies[3], format!("-{MAYBE}\r\n"));
        assert_eq!(fake.seen_named("EXEC").len(), 1 + usize::from(watched));
        assert_eq!(text(&client.raw(&cmd!["CLIENT", "GETNAME"])), "$-1\r\n");
    }
    assert_eq!(text(&client.raw(&cmd!["GET", key])), "+OK\r\n");
    assert_eq!(fake.seen_named("SET").len(), 2);
}

/// What only the node can refuse: EXEC says so, and nothing has taken effect.
#[test]
fn a_transaction_that_the_node_gives_up_changes_nothing() {
    let fake = FakeCluster::start(3);
    fake.script(|seen| match seen.name().as_str() {
        "SET" => Answer::text("-OOM command not allowed when used memory > 'maxmemory'."),
        "EXEC" => Answer::text("-EXECABORT Transaction discarded because of previous errors."),
        _ => queues(seen, ""),
    });
    let proxy = Proxy::start(fake.addrs(), &[]);
    let (mut client, key) = (proxy.client(), key_in(SLOT, "k"));
    let requests =
        multi(&[cmd!["CLIENT", "SETNAME", "me"], cmd!["SET", key, "v"], cmd!["CLIENT", "NO-EVICT", "on"]]);
    let replies = all_at_once(&mut client, &requests);
    assert_eq!(replies[4], "-EXECABORT Transaction discarded because of previous errors.\r\n");
    assert_eq!(text(&client.raw(&cmd!["CLIENT", "GETNAME"])), "$-1\r\n");
    let info = text(&client.raw(&cmd!["CLIENT", "INFO"]));
    assert!(info.contains(" flags=N "), "{info}");
}

/// Ours among the node's, in a pipeline that looks at what EXEC changed.
#[test]
fn what_follows_finds_the_client_as_exec_left_it() {
    let (fake, gate) = (FakeCluster::start(3), Gate::default());
    let held = gate.clone();
    fake.script(move |seen| match seen.name().as_str() {
        "EXEC" => Answer::Hold(held.clone(), b"*1\r\n+OK\r\n".to_vec()),
        _ => queues(seen, ""),
    });
    let proxy = Proxy::start(fake.addrs(), &[]);
    let (mut client, key) = (proxy.client(), key_in(SLOT, "k"));
    let requests = multi(&[cmd!["CLIENT", "SETNAME", "me"], cmd!["SET", key, "v"]]);
    client.send(&[requests.concat(), cmd!["CLIENT", "GETNAME"]].concat());
    assert_eq!((0..3).map(|_| text(&client.reply())).collect::<Vec<_>>()[2], "+QUEUED\r\n");
    eventually("EXEC arrived", || check(fake.seen_named("EXEC").len() == 1, fake.seen()));
    gate.open();
    assert_eq!(text(&client.reply()), "*2\r\n+OK\r\n+OK\r\n");
    assert_eq!(text(&client.reply()), "$2\r\nme\r\n");
}

/// No connection of its own, and nothing of anybody else's in between.
#[test]
fn a_transaction_is_one_push_on_the_shared_connection() {
    let fake = FakeCluster::start(3);
    fake.script(|seen| queues(seen, "*2\r\n+OK\r\n:1\r\n"));
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let key = key_in(SLOT, "k");
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (proxy, key) = (&proxy, &key);
            scope.spawn(move || {
                let mut client = proxy.client();
                for round in 0..50 {
                    let queued = [cmd!["SET", key, format!("{number}.{round}")], cmd!["INCR", key]];
                    let between = [cmd!["GET", key], multi(&queued).concat(), cmd!["GET", key]].concat();
                    client.send(&between);
                    let replies: Vec<String> = (0..6).map(|_| text(&client.reply())).collect();
                    assert_eq!(replies[4], "*2\r\n+OK\r\n:1\r\n");
                }
            });
        }
    });
    let first = fake.seen_named("GET")[0].clone();
    let names = on_connection(&fake, &first);
    let mut transactions = 0;
    for (at, _) in names.iter().enumerate().filter(|(_, name)| *name == "MULTI") {
        assert_eq!(names[at..at + 4], ["MULTI", "SET", "INCR", "EXEC"]);
        transactions += 1;
    }
    assert_eq!(
        (transactions, fake.seen_named("MULTI").len()),
        (200, 200),
        "all on the connection of the GETs"
    );
}

/// Published inside a transaction, it comes to the channel's node over the bus, which only a message that takes
/// the same way cannot overtake; before it, everything is answered.
#[test]
fn messages_around_a_transaction_take_its_way() {
    let (fake, gate) = (FakeCluster::start(3), Gate::default());
    let held = gate.clone();
    fake.script(move |seen| match (seen.name().as_str(), seen.arg(2).as_str()) {
        ("PUBLISH", "m0") => Answer::Hold(held.clone(), b":0\r\n".to_vec()),
        ("PUBLISH", "m1" | "inside") => Answer::text("+QUEUED"),
        ("PUBLISH", _) => Answer::text(":0"),
        _ => queues(seen, "*2\r\n:0\r\n+OK\r\n"),
    });
    let proxy = Proxy::start(fake.addrs(), &[]);
    let (mut client, key) = (proxy.client(), key_in(SLOT, "k"));
    let home = (0..).map(|n| format!("channel{n}")).find(|name| fake.owner(slot(name.as_bytes())) == 2);
    let channel = home.expect("a channel of node 2");
    let requests = [
        vec![cmd!["PUBLISH", channel, "m0"]],
        multi(&[cmd!["PUBLISH", channel, "m1"], cmd!["SET", key, "v"]]),
        vec![cmd!["PUBLISH", channel, "m2"], cmd!["PUBLISH", "another", "m3"]],
    ]
    .concat();
    client.send(&requests.concat());
    eventually("the first message arrived", || check(fake.seen_named("PUBLISH").len() == 1, fake.seen()));
    assert!(fake.seen_named("MULTI").is_empty(), "what was published before is answered first");
    gate.open();
    let replies: Vec<String> = requests.iter().map(|_| text(&client.reply())).collect();
    assert_eq!(replies[4..], ["*2\r\n:0\r\n+OK\r\n", ":0\r\n", ":0\r\n"], "{replies:?}");
    let mut published: Vec<(String, usize)> =
        fake.seen_named("PUBLISH").iter().map(|seen| (seen.arg(2), seen.node)).collect();
    // The last two go to different nodes: which arrives first is open.
    published.sort();
    let another = fake.owner(slot(b"another"));
    let expected = [("m0", 2), ("m1", 0), ("m2", 0), ("m3", another)];
    assert_eq!(published, expected.map(|(message, node)| (message.to_owned(), node)));
    // Without keys a transaction goes where its messages belong.
    let replies = all_at_once(&mut client, &multi(&[cmd!["PUBLISH", channel, "inside"]]));
    assert_eq!(replies.len(), 3);
    assert_eq!(fake.seen_named("EXEC").iter().map(|seen| seen.node).collect::<Vec<_>>(), [0, 2]);
}

/// After a WATCH, and where the transaction was redirected, messages follow it.
#[test]
fn messages_follow_the_transaction_to_where_it_was_executed() {
    let fake = FakeCluster::start(3);
    let target = fake.addrs()[1].to_string();
    fake.script(move |seen| match (seen.name().as_str(), seen.node, seen.arg(2).as_str()) {
        ("EXEC", 0, _) => Answer::text(&format!("-MOVED {SLOT} {target}")),
        ("PUBLISH", _, "after") => Answer::text(":0"),
        _ => queues(seen, "*2\r\n:0\r\n+OK\r\n"),
    });
    let proxy = Proxy::start(fake.addrs(), &[]);
    let channel = (0..).map(|n| format!("channel{n}")).find(|name| fake.owner(slot(name.as_bytes())) == 2);
    let channel = channel.expect("a channel of node 2");
    let redirected = multi(&[cmd!["PUBLISH", channel, "in"], cmd!["SET", key_in(SLOT, "k"), "v"]]);
    let key = key_in(fake_slot_of(&fake, 1), "k");
    let watched =
        [vec![cmd!["WATCH", key]], multi(&[cmd!["PUBLISH", channel, "in"], cmd!["SET", key, "v"]])].concat();
    for requests in [redirected, watched] {
        let mut client = proxy.client();
        let replies = all_at_once(&mut client, &requests);
        assert_eq!(replies.last().map(String::as_str), Some("*2\r\n:0\r\n+OK\r\n"));
        assert_eq!(text(&client.raw(&cmd!["PUBLISH", channel, "after"])), ":0\r\n");
        let last = fake.seen_named("PUBLISH").last().cloned().expect("a message");
        assert_eq!((last.node, last.arg(2)), (1, "after".to_owned()), "{}", show(&last.bytes));
    }
}

/// A slot of `node`.
fn fake_slot_of(fake: &FakeCluster, node: usize) -> u16 {
    (0..16384).find(|&slot| fake.owner(slot) == node).expect("a slot")
}
