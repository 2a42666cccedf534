//! Transactions give the bytes of a single Redis: queued, executed, given up, watched; in RESP2 and RESP3, in
//! one packet and call by call. And they are one contiguous push on a shared connection.

use std::time::{Duration, Instant};

use slotway::command::{CommandTable, Handling};

use crate::support::client::Client;
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, frame, show};
use crate::support::shared;

/// What two clients send in turn; `2>` marks the second one. Keys of one slot by their tag.
const SCRIPTS: &[&str] = &[
    "MULTI|SET {t}a 1|GET {t}a|INCR {t}a|EXEC",
    "MULTI|EXEC",
    "MULTI|DISCARD|EXEC|DISCARD",
    "MULTI|SET {t}a 1|DISCARD|GET {t}a",
    "EXEC|DISCARD|UNWATCH",
    "MULTI|MULTI|SET {t}b x|EXEC",
    "MULTI|WATCH {t}a|SET {t}b x|EXEC",
    "MULTI|NOSUCH|SET {t}c x|EXEC|GET {t}c",
    "MULTI|SET {t}c|SET {t}c x|EXEC|GET {t}c",
    "MULTI|GET|EXEC extra|EXEC",
    "MULTI|SET {t}s v|LPUSH {t}s x|INCR {t}s|GET {t}s|EXEC",
    "MULTI|PING|PING hi|ECHO x|SET {t}a 5|SELECT 0|INCR {t}a|UNWATCH|EXEC",
    "MULTI|PING|EXEC",
    "MULTI|EVAL return{KEYS[1],ARGV[1],1} 1 {t}e arg|EVAL return(redis.call('set',KEYS[1],ARGV[1])) 1 {t}e v|GET {t}e|EXEC",
    "MULTI|EVAL return(redis.error_reply('MY')) 0|HSET {t}h f v|HGETALL {t}h|EXEC",
    "MULTI|SUBSCRIBE|SET {t}a 1|EXEC",
    "WATCH {t}w|GET {t}w|MULTI|SET {t}w 1|EXEC|GET {t}w",
    "WATCH {t}w|2> SET {t}w other|MULTI|SET {t}w mine|EXEC|GET {t}w",
    "WATCH {t}w|SET {t}w own|MULTI|SET {t}w mine|EXEC|GET {t}w",
    "WATCH {t}w {t}x|2> SET {t}x other|UNWATCH|MULTI|SET {t}w mine|EXEC",
    "WATCH {t}w|WATCH {t}x|2> SET {t}w other|MULTI|PING|EXEC",
    "WATCH {t}w|2> SET {t}w other|MULTI|SET {t}w mine|DISCARD|MULTI|SET {t}w again|EXEC",
    "WATCH {t}w|MULTI|NOSUCH|EXEC|2> SET {t}w other|MULTI|GET {t}w|EXEC",
    "WATCH {t}w|2> SET {t}w other|RESET|MULTI|SET {t}w mine|EXEC",
    "WATCH {t}w|MULTI|PING|EXEC",
    "WATCH {t}w|MULTI|EXEC",
    "WATCH {t}w|2> DEL {t}w|MULTI|EXEC|MULTI|EXEC",
    "MULTI|RESET|GET {t}a|EXEC",
    "MULTI|DEL {t}a {t}b|MGET {t}a {t}b|MSET {t}a 1 {t}b 2|EXISTS {t}a {t}b {t}c|EXEC",
    "WATCH|MULTI extra|DISCARD extra|UNWATCH extra",
    "WATCH {t}w|2> SET {t}w other|CLIENT SETNAME before|MULTI|CLIENT SETNAME me|CLIENT GETNAME|SET {t}w mine|EXEC|CLIENT GETNAME",
    "WATCH {t}w|MULTI|CLIENT SETNAME me|CLIENT GETNAME|EXEC|CLIENT GETNAME",
    "MULTI|CLIENT GETNAME|CLIENT SETNAME me|SET {t}a 1|CLIENT GETNAME|EXEC|CLIENT GETNAME",
    "MULTI|CLIENT SETNAME me|NOSUCH|EXEC|CLIENT GETNAME|MULTI|CLIENT SETNAME me|DISCARD|CLIENT GETNAME",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn inline(line: &str) -> Vec<u8> {
    frame(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

/// Plays a script to two clients of one server; all replies, each behind its request.
fn play(clients: &mut [Client; 2], script: &str, tag: &str) -> Vec<String> {
    let mut heard = Vec::new();
    for step in script.split('|') {
        let (client, line) = match step.strip_prefix("2> ") {
            Some(line) => (1, line),
            None => (0, step),
        };
        let reply = clients[client].raw(&inline(&line.replace("{t}", tag)));
        heard.push(format!("{line} -> {}", show(&reply)));
    }
    heard
}

fn both(resp3: bool) -> [[Client; 2]; 2] {
    let connect = |addr| if resp3 { Client::connect_resp3(addr) } else { Client::connect(addr) };
    [shared::proxy().addr(), shared::standalone().addr()].map(|addr| [connect(addr), connect(addr)])
}

#[test]
fn scripts_give_the_bytes_of_a_single_redis() {
    for resp3 in [false, true] {
        for script in SCRIPTS {
            // RESET turns the version back: each script has clients of its own.
            let [mut ours, mut theirs] = both(resp3);
            let tag = format!("{{{}}}", shared::unique("tx"));
            let (got, expected) = (play(&mut ours, script, &tag), play(&mut theirs, script, &tag));
            assert_eq!(got, expected, "{script} in RESP{}", if resp3 { 3 } else { 2 });
        }
    }
}

#[test]
fn the_same_in_one_packet() {
    for script in SCRIPTS.iter().filter(|script| !script.contains("2>")) {
        let [[mut ours, _], [mut theirs, _]] = both(false);
        let tag = format!("{{{}}}", shared::unique("tx"));
        let steps: Vec<Vec<u8>> = script.split('|').map(|step| inline(&step.replace("{t}", &tag))).collect();
        for client in [&mut ours, &mut theirs] {
            client.send(&steps.concat());
        }
        for step in &steps {
            assert_eq!(show(&ours.reply()), show(&theirs.reply()), "{script}: {}", show(step));
        }
    }
}

#[test]
fn keys_of_two_slots_are_refused_when_queued() {
    let mut client = shared::client();
    let (a, b) = (key_in(1, "tx"), key_in(2, "tx"));
    assert_eq!(client.raw(b"MULTI\r\n"), b"+OK\r\n");
    assert_eq!(client.raw(&inline(&format!("SET {a} 1"))), b"+QUEUED\r\n");
    let refused = client.raw(&inline(&format!("SET {b} 1")));
    assert_eq!(text(&refused), "-CROSSSLOT Keys in request don't hash to the same slot\r\n");
    let aborted = client.raw(b"EXEC\r\n");
    assert_eq!(text(&aborted), "-EXECABORT Transaction discarded because of previous errors.\r\n");
    assert_eq!(client.raw(&inline(&format!("EXISTS {a}"))), b":0\r\n");
    assert_eq!(client.raw(&inline(&format!("WATCH {a} {b}"))), refused);
}

#[test]
fn what_concerns_all_shards_is_refused_when_queued_with_the_reason() {
    let mut client = shared::client();
    client.raw(b"MULTI\r\n");
    let refused = text(&client.raw(b"DBSIZE\r\n"));
    let why = "'dbsize' asks other nodes than that of the transaction";
    assert_eq!(refused, format!("-ERR slotway: not inside a transaction: {why}\r\n"));
    assert!(text(&client.raw(b"EXEC\r\n")).starts_with("-EXECABORT"));
    assert_eq!(client.raw(b"PING\r\n"), b"+PONG\r\n");
    shared::proxy()
        .wait_metric("slotway_errors_total", &["kind=\"not_in_transaction\""], |count| count > 0.0);
}

#[test]
fn large_transactions_pass_and_too_large_ones_are_refused() {
    let proxy = Proxy::start(
        &shared::seeds(shared::cluster()),
        &[("transaction-commands", "1000"), ("transaction-bytes", "1MiB")],
    );
    let mut client = proxy.client();
    let key = shared::unique("{tx}counter");
    let incr = inline(&format!("INCR {key}"));
    let queue = |count: usize| [b"MULTI\r\n".to_vec(), incr.repeat(count), b"EXEC\r\n".to_vec()].concat();
    client.send(&queue(1000));
    (0..1001).for_each(|_| drop(client.reply()));
    assert!(client.reply().starts_with(b"*1000\r\n:1\r\n:2\r\n"));
    client.send(&queue(1001));
    (0..1001).for_each(|_| drop(client.reply()));
    let refused = text(&client.reply());
    assert!(refused.starts_with("-ERR slotway: the transaction is larger"), "{refused}");
    assert!(client.reply().starts_with(b"-EXECABORT"));
    let value = "x".repeat(1 << 20);
    client.raw(b"MULTI\r\n");
    let refused = text(&client.raw(&inline(&format!("SET {key} {value}"))));
    assert!(refused.starts_with("-ERR slotway: the transaction is larger"), "{refused}");
    assert!(client.raw(b"EXEC\r\n").starts_with(b"-EXECABORT"));
    assert_eq!(client.raw(&inline(&format!("GET {key}"))), b"$4\r\n1000\r\n");
}

/// What slotway answers itself counts as what nodes do: the bytes queued, and those of the replies.
#[test]
fn commands_answered_locally_are_bounded_in_bytes_too() {
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &[("transaction-bytes", "1MiB")]);
    let mut client = proxy.client();
    let echo = frame(&[b"ECHO", "x".repeat(300 << 10).as_bytes()]);
    client.raw(b"MULTI\r\n");
    for _ in 0..3 {
        assert_eq!(client.raw(&echo), b"+QUEUED\r\n");
    }
    let refused = text(&client.raw(&echo));
    assert!(refused.starts_with("-ERR slotway: the transaction is larger"), "{refused}");
    assert!(client.raw(b"EXEC\r\n").starts_with(b"-EXECABORT"));
    // Small requests, large replies: refused before anything of it is sent, or takes effect.
    let key = shared::unique("{tx}replies");
    for watched in [false, true] {
        if watched {
            client.ok(&inline(&format!("WATCH {key}")));
        }
        let set = inline(&format!("SET {key} 1"));
        client.send(
            &[&b"MULTI\r\n"[..], &set, &inline("CLIENT SETNAME me"), &b"COMMAND\r\n".repeat(50)].concat(),
        );
        (0..53).for_each(|_| drop(client.reply()));
        let refused = text(&client.raw(b"EXEC\r\n"));
        assert!(refused.starts_with("-ERR slotway: the transaction is larger"), "{refused}");
        assert_eq!(client.raw(&inline(&format!("EXISTS {key}"))), b":0\r\n");
        assert_eq!(client.raw(&inline("CLIENT GETNAME")), b"$-1\r\n");
        assert_eq!(text(&client.raw(b"EXEC\r\n")), "-ERR EXEC without MULTI\r\n");
    }
    client.send(&[&b"MULTI\r\n"[..], &inline(&format!("SET {key} 1")), b"COMMAND\r\n", b"EXEC\r\n"].concat());
    (0..3).for_each(|_| drop(client.reply()));
    assert!(client.reply().starts_with(b"*2\r\n+OK\r\n*"), "one is not too much");
}

/// A slot half moved: what is there is executed there, what is not is executed at the target, as a whole.
#[test]
fn a_transaction_follows_its_slot() {
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let mut client = proxy.client();
    let slot = 7000;
    let (here, gone) = (key_in(slot, "here"), key_in(slot, "gone"));
    client.ok(&inline(&format!("SET {here} 1")));
    let mut watcher = proxy.client();
    watcher.ok(&inline(&format!("WATCH {gone}")));
    let from = cluster.initial_owner(slot);
    cluster.open_slot(slot, from, (from + 1) % 3);
    let transaction = |key: &str| {
        [&b"MULTI\r\n"[..], &inline(&format!("INCR {key}")), &inline(&format!("INCR {key}")), b"EXEC\r\n"]
            .concat()
    };
    for (key, expected) in [(&here, "*2\r\n:2\r\n:3\r\n"), (&gone, "*2\r\n:1\r\n:2\r\n")] {
        client.send(&transaction(key));
        let replies: Vec<String> = (0..4).map(|_| text(&client.reply())).collect();
        assert_eq!(replies, ["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n", expected], "{key}");
    }
    watcher.send(&transaction(&gone));
    let replies: Vec<String> = (0..4).map(|_| text(&watcher.reply())).collect();
    assert_eq!(replies[3], "*-1\r\n", "a watched slot moves: null");
    watcher.send(&transaction(&here));
    assert_eq!((0..4).map(|_| text(&watcher.reply())).nth(3).as_deref(), Some("*2\r\n:4\r\n:5\r\n"));
    // Watched now: where the key is, or would be made. Another's change is seen there, also after the move.
    let new = key_in(slot, "new");
    for (key, changed, moved, expected) in [
        (&here, false, false, "*2\r\n:6\r\n:7\r\n"),
        (&here, true, false, "*-1\r\n"),
        (&new, false, false, "*2\r\n:1\r\n:2\r\n"),
        (&new, true, false, "*-1\r\n"),
        (&gone, false, true, "*2\r\n:3\r\n:4\r\n"),
    ] {
        let began = Instant::now();
        assert_eq!(text(&watcher.raw(&inline(&format!("WATCH {key}")))), "+OK\r\n");
        assert!(began.elapsed() < Duration::from_secs(5), "WATCH {key} took {:?}", began.elapsed());
        if changed {
            client.ok(&inline(&format!("APPEND {key} 0")));
        }
        if moved {
            cluster.move_keys(from, (from + 1) % 3, &[here.clone().into_bytes()]);
            cluster.close_slot(slot, from, (from + 1) % 3);
        }
        watcher.send(&transaction(key));
        let last = (0..4).map(|_| text(&watcher.reply())).nth(3);
        assert_eq!(last.as_deref(), Some(expected), "{key}, changed: {changed}, moved: {moved}");
    }
}

/// The command table is the only one that says what is refused between MULTI and EXEC, and the README tells all of it:
/// whatever the table does not name is queued, and has its place in EXEC's reply.
#[test]
fn the_table_says_what_is_refused_inside_a_transaction() {
    let readme = slotway::command::readme::transactions_table();
    let mut client = shared::client();
    let all =
        CommandTable::builtin().iter().filter(|command| command.subcommands.is_empty() && !command.added);
    for command in
        all.filter(|command| !matches!(command.handling, Handling::Refuse(_) | Handling::Transaction(_)))
    {
        let name = command.name.to_ascii_uppercase().replace('|', " ");
        let told = readme.lines().any(|line| {
            line.split(" | ")
                .next()
                .is_some_and(|names| names.trim_start_matches("| ").split(", ").any(|n| n == name))
        });
        assert_eq!(told, command.not_in_multi.is_some(), "{name}\n{readme}");
        // QUIT and RESET are answered at once, as Redis does; SAVE is refused by Redis, too.
        if ["quit", "reset", "save"].contains(&command.name) {
            continue;
        }
        let mut request: Vec<String> = name.split(' ').map(str::to_owned).collect();
        let missing = command.entry.arity.unsigned_abs() as usize - request.len();
        // All keys in one slot, numbers of keys right, pairs complete.
        request.extend((0..missing).map(|_| "1".to_owned()));
        if command.decision.pairs && request.len().is_multiple_of(2) {
            request.push("1".to_owned());
        }
        client.raw(b"MULTI\r\n");
        let queued = text(&client.raw(&inline(&request.join(" "))));
        match command.not_in_multi {
            None => assert_eq!(queued, "+QUEUED\r\n", "{request:?}"),
            Some(why) => {
                let refused =
                    format!("-ERR slotway: not inside a transaction: '{}' {}\r\n", command.name, why.words());
                assert_eq!(queued, refused, "{request:?}");
            }
        }
        // Not executed: some of them would be felt by others.
        client.raw(b"DISCARD\r\n");
    }
}

/// Every command that slotway answers itself and lets in has a whole reply in EXEC's array.
#[test]
fn local_commands_have_their_place_in_exec() {
    let local = CommandTable::builtin().iter().filter(|command| {
        let ours = matches!(command.handling, Handling::Local(_)) && command.not_in_multi.is_none();
        ours && command.subcommands.is_empty() && !["quit", "reset"].contains(&command.name)
    });
    for command in local {
        let name = command.name.to_ascii_uppercase().replace('|', " ");
        let mut request: Vec<String> = name.split(' ').map(str::to_owned).collect();
        let missing = command.entry.arity.unsigned_abs() as usize - request.len();
        request.extend((0..missing).map(|_| "1".to_owned()));
        let mut client = shared::client();
        client.raw(b"MULTI\r\n");
        assert_eq!(client.raw(&inline(&request.join(" "))), b"+QUEUED\r\n", "{request:?}");
        assert_eq!(client.raw(b"ECHO end\r\n"), b"+QUEUED\r\n");
        let Value::Array(replies) = client.call(b"EXEC\r\n") else { panic!("{request:?}: no array") };
        assert_eq!(replies.len(), 2, "{request:?}: {replies:?}");
        assert_eq!(replies[1], Value::Bulk(b"end".to_vec()), "{request:?}: {replies:?}");
        let ours = matches!(&replies[0], Value::Error(text) if text.contains("slotway"));
        assert!(!ours, "{request:?}: {replies:?}");
    }
}
