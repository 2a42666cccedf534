//! Learned commands inside transactions: queued and sent like the built-in ones, also where the slot has moved, and
//! no later command on one of their keys overtakes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::announce::{Announced, announcing, first, questions, spec};
use crate::support::client::{Client, words};
use crate::support::keys::key_in;
use crate::support::node::Answer;
use crate::support::proxy::Proxy;
use crate::support::resp::bulk;

/// Node 0 owns it, of three.
const SLOT: u16 = 100;

fn commands() -> Vec<Announced> {
    vec![
        Announced::new("m.set", "write").key(first()),
        Announced::new("m.ask", "write").key(spec("index 1", "unknown", "RW")),
        Announced::new("m.read", "readonly"),
    ]
}

fn all_at_once(client: &mut Client, requests: &[Vec<u8>]) -> Vec<String> {
    client.send(&requests.concat());
    requests.iter().map(|_| String::from_utf8_lossy(&client.reply()).into_owned()).collect()
}

#[test]
fn they_follow_their_slot_with_the_whole_transaction() {
    for word in ["MOVED", "ASK"] {
        let target = Arc::new(std::sync::Mutex::new(String::new()));
        let to = Arc::clone(&target);
        let (fake, _told) = announcing(&commands(), move |seen| match (seen.name().as_str(), seen.node) {
            ("M.SET", 0) => Answer::text(&format!("-{word} {SLOT} {}", to.lock().expect("target"))),
            ("EXEC", 0) => Answer::text("-EXECABORT Transaction discarded because of previous errors."),
            ("M.SET" | "M.READ", _) => Answer::text("+QUEUED"),
            ("EXEC", _) => Answer::text("*2\r\n+done\r\n+read"),
            _ => Answer::Standard,
        });
        *target.lock().expect("target") = fake.addrs()[1].to_string();
        let proxy = Proxy::start(fake.addrs(), &[]);
        let key = key_in(SLOT, "k");
        let requests = [words("MULTI"), cmd!["m.set", key, "v"], cmd!["M.READ", "x"], words("EXEC")];
        let replies = all_at_once(&mut proxy.client(), &requests);
        assert_eq!(replies, ["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n", "*2\r\n+done\r\n+read\r\n"], "{word}");
        let connection = fake.seen_named("EXEC")[1].connection;
        let names: Vec<String> = fake
            .seen()
            .iter()
            .filter(|seen| seen.connection == connection)
            .map(|seen| seen.name())
            .filter(|name| !["HELLO", "CLIENT", "CLUSTER", "INFO", "COMMAND"].contains(&name.as_str()))
            .collect();
        let asking = ["ASKING"].iter().filter(|_| word == "ASK");
        let expected: Vec<&str> = asking.copied().chain(["MULTI", "M.SET", "M.READ", "EXEC"]).collect();
        assert_eq!(names, expected, "{word}");
    }
}

/// The node sends the transaction away and executes what comes behind it: the slot came back in between.
#[test]
fn a_transaction_is_not_sent_after_a_later_command_on_a_key_of_theirs() {
    let (fake, _told) = announcing(&commands(), move |seen| match seen.name().as_str() {
        "M.SET" if seen.node == 0 => Answer::text(&format!("-MOVED {SLOT} 127.0.0.1:1")),
        "EXEC" => Answer::text("-EXECABORT Transaction discarded because of previous errors."),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let key = key_in(SLOT, "k");
    let requests = [words("MULTI"), cmd!["M.SET", key, "1"], words("EXEC"), cmd!["SET", key, "2"]];
    let replies = all_at_once(&mut proxy.client(), &requests);
    let conflict =
        "-TRYAGAIN slotway: a later command on the same key was executed first; this one was not executed";
    assert_eq!(replies[2..], [format!("{conflict}\r\n"), "+OK\r\n".to_owned()]);
    assert_eq!(fake.seen_named("EXEC").len(), 1);
}

/// Only a node could tell, and a queue is no place to ask: refused when queued. Nobody guesses.
#[test]
fn one_whose_keys_cannot_be_told_is_refused_when_queued() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (fake, _told) = announcing(&commands(), move |seen| match seen.name().as_str() {
        "COMMAND" if seen.arg(1).eq_ignore_ascii_case("GETKEYS") => {
            count.fetch_add(1, Ordering::SeqCst);
            Answer::Reply([&b"*1\r\n"[..], &bulk(b"k")].concat())
        }
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[]);
    let mut client = proxy.client();
    let replies = all_at_once(&mut client, &[words("MULTI"), words("M.ASK any k"), words("EXEC")]);
    let refused = "-ERR slotway: the keys of this command cannot be told, so no shard can be chosen; it was not executed";
    assert_eq!(replies[1], format!("{refused}\r\n"));
    assert!(replies[2].starts_with("-EXECABORT "), "{}", replies[2]);
    assert!(questions(&fake).is_empty() && fake.seen_named("M.ASK").is_empty());
    // Outside, and where the question is the client's own, a node is asked.
    client.ok(&words("M.ASK any k"));
    assert_eq!(questions(&fake).len(), 1);
    let requests = [words("MULTI"), words("COMMAND GETKEYS M.ASK any k"), words("EXEC")];
    assert_eq!(all_at_once(&mut client, &requests)[1], "+QUEUED\r\n");
    assert_eq!(asked.load(Ordering::SeqCst), 2, "the node that executes the transaction");
}
