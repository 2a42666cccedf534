//! Waits at scripted nodes: what exactly is sent again, with which time left, and what is not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, show};
use crate::support::{check, eventually};

const MAYBE: &str = "ERR slotway: connection to the node was lost; the request may have been executed";
const ELEMENT: &[u8] = b"*2\r\n$1\r\nk\r\n$1\r\ne\r\n";
/// Node 0 owns it, of three.
const SLOT: u16 = 100;

fn count(counter: &Arc<AtomicUsize>) -> usize {
    counter.fetch_add(1, Ordering::SeqCst)
}

/// Starts a proxy before nodes that answer `name` by `script`, which is told how often it was asked before.
fn scripted(
    name: &'static str,
    keys: &[(&str, &str)],
    script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
) -> (FakeCluster, Proxy) {
    let nodes = FakeCluster::start(3);
    let asked = Arc::new(AtomicUsize::new(0));
    nodes
        .script(move |seen| if seen.name() == name { script(seen, count(&asked)) } else { Answer::Standard });
    let proxy = Proxy::start(nodes.addrs(), keys);
    (nodes, proxy)
}

#[test]
fn what_was_not_executed_is_sent_again_with_the_time_left() {
    let refusals = [
        "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "-UNBLOCKED client unblocked via CLIENT UNBLOCK",
        "-LOADING Redis is loading the dataset in memory",
        "-CLUSTERDOWN The cluster is down",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "-READONLY You can't write against a read only replica.",
        "-TRYAGAIN Multiple keys request during rehashing of slot",
    ];
    let (nodes, proxy) = scripted("BLPOP", &[], move |_, before| match refusals.get(before % 8) {
        Some(refusal) => Answer::text(refusal),
        None => Answer::Reply(ELEMENT.to_vec()),
    });
    let mut client = proxy.client();
    let key = key_in(SLOT, "k");
    for timeout in ["5", "0", "7.25"] {
        assert_eq!(client.raw(&cmd!["BLPOP", key, timeout]), ELEMENT);
    }
    let seen = nodes.seen_named("BLPOP");
    assert_eq!(seen.len(), 24);
    for (tries, timeout) in seen.chunks(8).zip([5.0, 0.0, 7.25]) {
        let times: Vec<f64> = tries.iter().map(|seen| seen.arg(2).parse().expect("a number")).collect();
        assert_eq!(times[0], timeout);
        let fits = |left: f64| if timeout == 0.0 { left == 0.0 } else { left > 0.0 && left <= timeout };
        assert!(times.iter().all(|&left| fits(left)), "{times:?}");
        assert!(times.windows(2).all(|pair| pair[1] <= pair[0]), "{times:?}");
        assert!(timeout == 0.0 || times[7] < timeout, "the pauses count: {times:?}");
    }
    assert!(nodes.seen_named("BLPOP").iter().all(|seen| seen.node == 0));
}

#[test]
fn redirects_are_followed_and_asking_stands_next_to_its_command() {
    let nodes = FakeCluster::start(3);
    let target = nodes.addrs()[2].to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    nodes.script(move |seen| {
        if seen.name() != "XREADGROUP" {
            return Answer::Standard;
        }
        match count(&asked) {
            0 => Answer::text(&format!("-MOVED {SLOT} {target}")),
            1 => Answer::text(&format!("-ASK {SLOT} {target}")),
            _ => Answer::text("*0"),
        }
    });
    let proxy = Proxy::start(nodes.addrs(), &[]);
    let mut client = proxy.client();
    let key = key_in(SLOT, "s");
    let request = cmd!["XREADGROUP", "GROUP", "g", "c", "BLOCK", "4000", "STREAMS", key, ">"];
    assert_eq!(client.raw(&request), b"*0\r\n");
    let tries = nodes.seen_named("XREADGROUP");
    assert_eq!(tries.iter().map(|seen| seen.node).collect::<Vec<_>>(), [0, 2, 2]);
    assert_eq!(tries[0].bytes, request);
    let all = nodes.seen();
    let on_line: Vec<String> =
        all.iter().filter(|s| s.connection == tries[2].connection && s.node == 2).map(Seen::name).collect();
    let at = on_line.iter().rposition(|name| name == "XREADGROUP").expect("the last try");
    assert_eq!(on_line[at - 1], "ASKING");
    assert_eq!(on_line.iter().filter(|name| *name == "ASKING").count(), 1);
}

#[test]
fn endless_redirects_are_given_up_on() {
    let nodes = FakeCluster::start(3);
    let (one, two) = (nodes.addrs()[0].to_string(), nodes.addrs()[1].to_string());
    nodes.script(move |seen| match (seen.name().as_str(), seen.node) {
        ("BLPOP", 0) => Answer::text(&format!("-MOVED {SLOT} {two}")),
        ("BLPOP", _) => Answer::text(&format!("-MOVED {SLOT} {one}")),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(nodes.addrs(), &[("redirects-max", "4")]);
    let refused = proxy.client().call(&cmd!["BLPOP", key_in(SLOT, "k"), "0"]);
    assert_eq!(refused.error(), "CLUSTERDOWN slotway: the nodes keep redirecting this request");
    assert_eq!(nodes.seen_named("BLPOP").len(), 5);
}

/// A connection that breaks while it waits: a write may have been executed, a read goes on from the ids it began with.
#[test]
fn after_a_lost_connection_only_reads_go_on() {
    let nodes = FakeCluster::start(3);
    let asked = Arc::new(AtomicUsize::new(0));
    nodes.script(move |seen| match seen.name().as_str() {
        "BLPOP" | "XREADGROUP" => Answer::Close(Vec::new()),
        "XINFO" => Answer::Reply([&b"*2\r\n"[..], &bulk(b"last-generated-id"), &bulk(b"77-7")].concat()),
        "XREAD" if count(&asked) < 2 => Answer::Close(Vec::new()),
        "XREAD" => Answer::text("*0"),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(nodes.addrs(), &[]);
    let mut client = proxy.client();
    let (key, other) = (key_in(SLOT, "a"), key_in(SLOT, "b"));
    assert_eq!(client.call(&cmd!["BLPOP", key, "0"]).error(), MAYBE);
    let group = cmd!["XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", key, ">"];
    assert_eq!(client.call(&group).error(), MAYBE);
    let read = cmd!["XREAD", "bLOCK", "0", "STREAMS", key, other, "5-5", "$"];
    assert_eq!(client.raw(&read), b"*0\r\n");
    assert_eq!((nodes.seen_named("BLPOP").len(), nodes.seen_named("XREADGROUP").len()), (1, 1));
    let tries = nodes.seen_named("XREAD");
    assert_eq!(tries.len(), 3);
    assert_eq!(tries[0].bytes, read);
    assert_eq!((tries[1].arg(6), tries[1].arg(7)), ("5-5".into(), "77-7".into()));
    assert_eq!(tries[2].args, tries[1].args);
    assert_eq!(nodes.seen_named("XINFO").len(), 1, "asked for once, of the one key");
    assert_eq!(nodes.seen_named("XINFO")[0].connection, tries[0].connection);
}

/// An ACL that does not let us ask for the last id: then nobody could say what was missed.
#[test]
fn a_read_from_now_on_ends_when_now_is_not_known() {
    let nodes = FakeCluster::start(3);
    nodes.script(|seen| match seen.name().as_str() {
        "XINFO" => Answer::text("-NOPERM this user has no permissions to run the 'xinfo|stream' command"),
        "XREAD" => Answer::Close(Vec::new()),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(nodes.addrs(), &[]);
    let mut client = proxy.client();
    let reply = client.call(&cmd!["XREAD", "BLOCK", "0", "STREAMS", key_in(SLOT, "s"), "$"]);
    assert_eq!(reply.error(), MAYBE);
    assert_eq!(nodes.seen_named("XREAD").len(), 1);
}

/// CLIENT UNBLOCK meets an element: whoever ends a wait gets what was taken in that moment.
#[test]
fn an_element_taken_while_the_wait_is_ended_is_delivered() {
    let nodes = FakeCluster::start(3);
    let (gate, asked) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let ids = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ids);
    nodes.script(move |seen| match (seen.name().as_str(), seen.arg(1).as_str()) {
        ("BLPOP", _) => {
            noted.lock().expect("ids").push((seen.connection + 1).to_string());
            Answer::Hold(gate.clone(), ELEMENT.to_vec())
        }
        // The node does not know of a wait at first; then it was over in that moment.
        ("CLIENT", "UNBLOCK") if count(&asked) == 0 => Answer::text(":0"),
        ("CLIENT", "UNBLOCK") => {
            gate.open();
            Answer::text(":0")
        }
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(nodes.addrs(), &[]);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let id = client.call(&cmd!["CLIENT", "ID"]).int().to_string();
    client.send(&cmd!["BLPOP", key_in(SLOT, "k"), "0"]);
    eventually("it waits", || check(nodes.seen_named("BLPOP").len() == 1, ()));
    assert_eq!(other.raw(&cmd!["CLIENT", "UNBLOCK", id, "ERROR"]), b":1\r\n");
    assert_eq!(client.reply(), ELEMENT);
    let asked: Vec<Seen> =
        nodes.seen_named("CLIENT").into_iter().filter(|seen| seen.arg(1) == "UNBLOCK").collect();
    let wanted = ids.lock().expect("ids")[0].clone();
    assert!(asked.len() >= 2 && asked.iter().all(|s| s.arg(2) == wanted && s.arg(3) == "ERROR"), "{asked:?}");
}

/// A node that does not let us end waits: the connection is closed instead, and the client is told what that means.
#[test]
fn where_the_node_does_not_end_waits_their_connection_is_closed() {
    let nodes = FakeCluster::start(3);
    nodes.script(|seen| match (seen.name().as_str(), seen.arg(1).as_str()) {
        ("BLPOP" | "XREAD", _) => Answer::Never,
        ("CLIENT", "UNBLOCK") => Answer::text("-NOPERM this user has no permissions"),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(nodes.addrs(), &[]);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let id = client.call(&cmd!["CLIENT", "ID"]).int().to_string();
    let key = key_in(SLOT, "k");
    client.send(&cmd!["BLPOP", key, "0"]);
    eventually("it waits", || check(nodes.seen_named("BLPOP").len() == 1, ()));
    assert_eq!(other.raw(&cmd!["CLIENT", "UNBLOCK", id]), b":1\r\n");
    assert_eq!(client.value().error(), MAYBE);
    client.send(&cmd!["XREAD", "BLOCK", "0", "STREAMS", key, "0"]);
    eventually("it waits", || check(nodes.seen_named("XREAD").len() == 1, ()));
    assert_eq!(other.raw(&cmd!["CLIENT", "UNBLOCK", id, "ERROR"]), b":1\r\n");
    assert_eq!(show(&client.reply()), show(b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"));
    let lines = |name| nodes.seen_named(name)[0].connection;
    assert_ne!(lines("BLPOP"), lines("XREAD"), "a connection on which something waits is never used again");
    proxy.wait_metric("slotway_backend_dedicated_connections", &[], |count| count == 0.0);
}

/// The node lets the client's time pass without a word: its time and `request-deadline` on top of it.
#[test]
fn a_wait_has_its_own_time_and_the_deadline() {
    let gate = Gate::default();
    let held = gate.clone();
    let (nodes, proxy) = scripted("BLPOP", &[("request-deadline", "300ms")], move |_, before| match before {
        0 => Answer::Hold(held.clone(), ELEMENT.to_vec()),
        _ => Answer::Reply(ELEMENT.to_vec()),
    });
    let mut client = proxy.client();
    let key = key_in(SLOT, "k");
    let late = client.call(&cmd!["BLPOP", key, "0.7"]);
    assert_eq!(
        late.error(),
        "ERR slotway: request deadline passed without a reply; the request may have been executed"
    );
    gate.open();
    // What the node says too late is nobody's reply.
    assert_eq!(client.call(&cmd!["GET", key]), Value::Simple("OK".into()));
    assert_eq!(client.raw(&cmd!["BLPOP", key, "0.7"]), ELEMENT);
    let seen = nodes.seen_named("BLPOP");
    assert_ne!(seen[0].connection, seen[1].connection);
    let lanes: Vec<usize> = nodes.seen_named("GET").iter().map(|seen| seen.connection).collect();
    assert!(seen.iter().all(|seen| !lanes.contains(&seen.connection)), "never on the shared connection");
}

/// A reply that is no longer waited for must not be the next one's: the line is not used again.
#[test]
fn no_line_is_used_again_before_its_reply_came() {
    let gate = Gate::default();
    let held = gate.clone();
    let (nodes, proxy) = scripted("BRPOP", &[], move |seen, _| {
        if seen.arg(2) == "0" { Answer::Hold(held.clone(), ELEMENT.to_vec()) } else { Answer::text("*-1") }
    });
    let key = key_in(SLOT, "k");
    for left in 1..=10 {
        let mut client = proxy.client();
        client.send(&cmd!["BRPOP", key, "0"]);
        eventually("it waits", || {
            let seen = nodes.seen_named("BRPOP").iter().filter(|seen| seen.arg(2) == "0").count();
            check(seen == left, seen)
        });
        drop(client);
        let mut next = proxy.client();
        assert_eq!(next.raw(&cmd!["BRPOP", key, "0.5"]), b"*-1\r\n");
        assert_eq!(next.raw(&cmd!["BRPOP", key, "0.25"]), b"*-1\r\n");
    }
    gate.open();
    let mut lines: Vec<usize> = nodes
        .seen_named("BRPOP")
        .iter()
        .filter(|seen| seen.arg(2) == "0")
        .map(|seen| seen.connection)
        .collect();
    lines.dedup();
    assert_eq!(lines.len(), 10, "each wait that was left took its line with it");
}
