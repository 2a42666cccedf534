//! What the proxy answers itself, said to it and to a single Redis in one conversation each: the same bytes.

use crate::support::client::{Client, words};
use crate::support::resp::{Value, show};
use crate::support::shared;

/// One request per line.
const CONVERSATION: &str = "\
CLIENT KILL
CLIENT KILL 1.2.3.4:5
CLIENT KILL ID
CLIENT KILL ID 0
CLIENT KILL ID x
CLIENT KILL ID 99999999
CLIENT KILL ID 9999999999999999999999
CLIENT KILL TYPE foo
CLIENT KILL TYPE master
CLIENT KILL TYPE slave
CLIENT KILL USER nobody
CLIENT KILL ADDR x LADDR y
CLIENT KILL ADDR 1.2.3.4:5 ADDR 1.2.3.4:6
CLIENT KILL SKIPME maybe
CLIENT KILL SKIPME
CLIENT KILL FOO bar
CLIENT KILL ID 5 FOO
CLIENT KILL USER default ID 777
CLIENT PAUSE
CLIENT PAUSE x
CLIENT PAUSE -1
CLIENT PAUSE 1.5
CLIENT PAUSE 99999999999999999999
CLIENT PAUSE 1 FOO
CLIENT PAUSE 1 WRITE x
CLIENT UNPAUSE
CLIENT UNPAUSE x
CLIENT UNBLOCK
CLIENT UNBLOCK x
CLIENT UNBLOCK 1
CLIENT UNBLOCK -1
CLIENT UNBLOCK 1 FOO
CLIENT UNBLOCK x FOO
CLIENT UNBLOCK 1 TIMEOUT
CLIENT UNBLOCK 1 error
CLIENT UNBLOCK 1 error x
CLIENT NO-EVICT
CLIENT NO-EVICT x
CLIENT NO-EVICT on
CLIENT NO-EVICT OFF
CLIENT REPLY
CLIENT REPLY FOO
CLIENT REPLY ON
CLIENT LIST ID
CLIENT LIST TYPE
CLIENT LIST TYPE master
CLIENT LIST TYPE replica
CLIENT LIST ID 1 x
CLIENT LIST ID 0
CLIENT INFO x
CLIENT HELP x
ACL
ACL WHOAMI
ACL WHOAMI x
ACL CAT
ACL CAT foo
ACL CAT a b
ACL GENPASS 0
ACL GENPASS 4097
ACL GENPASS x
ACL GENPASS 1 2
ACL USERS
ACL USERS x
ACL NOSUCH
CONFIG
CONFIG GET
CONFIG GET nosuch
CONFIG GET nosuch* other
CONFIG GET timeout
CONFIG GET TimeOut timeout
CONFIG GET proto-max-bulk-len
CONFIG GET save
CONFIG GET appendonly
CONFIG GET maxmemory-policy
CONFIG NOSUCH
SLOWLOG
SLOWLOG HELP x
LATENCY
MEMORY HELP x
READONLY x
ASKING x
READWRITE x
CLUSTER
CLUSTER NOSUCH
CLUSTER SLOTS x
CLUSTER REPLICAS
CLUSTER KEYSLOT
CLUSTER COUNTKEYSINSLOT
CLUSTER GETKEYSINSLOT 1
INFO modules
INFO cluster modules
INFO nosuch
HELLO 2 SETNAME a
CLIENT GETNAME
HELLO 3
HELLO 3 AUTH
HELLO 2 FOO
RESET
CLIENT GETNAME
COMMAND COUNT x
COMMAND LIST FILTERBY
COMMAND LIST FILTERBY MODULE
COMMAND LIST FILTERBY ACLCAT
COMMAND GETKEYSANDFLAGS
COMMAND GETKEYSANDFLAGS nosuch
COMMAND GETKEYSANDFLAGS get
COMMAND GETKEYSANDFLAGS set a b GET
COMMAND GETKEYS eval return{} 2 a
COMMAND GETKEYS xread STREAMS
COMMAND INFO nosuch
COMMAND NOSUCH
SWAPDB 0
ROLE
ROLE x
QUIT x";

#[test]
fn own_replies_are_those_of_a_single_redis() {
    need_redis!();
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut real, mut through) = (shared::standalone().client(), shared::client());
        real.ok(&words(hello));
        through.ok(&words(hello));
        for line in CONVERSATION.lines() {
            let (mut want, mut got) = (real.raw(&words(line)), through.raw(&words(line)));
            if line.starts_with("HELLO") {
                want = without_id(want);
                got = without_id(got);
            }
            assert_eq!(show(&got), show(&want), "{hello}: {line}");
            assert_eq!(got, want, "{hello}: {line}");
        }
    }
}

/// A HELLO reply without the number behind `id`.
fn without_id(reply: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(reply).expect("text");
    let masked = match text.split_once("$2\r\nid\r\n:") {
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => text,
    };
    masked.into_bytes()
}

/// Sends everything in one write, and reads up to the reply of the last request, which is told by its text.
fn replies(client: &mut Client, lines: &[&str]) -> Vec<String> {
    let mut pipeline: Vec<u8> = lines.iter().flat_map(|line| words(line)).collect();
    pipeline.extend(words("ECHO the-end"));
    client.send(&pipeline);
    let mut all = Vec::new();
    while all.last().is_none_or(|last: &String| !last.contains("the-end")) {
        all.push(show(&client.reply()));
    }
    all
}

#[test]
fn client_reply_suppresses_what_redis_suppresses() {
    need_redis!();
    let key = shared::unique("reply");
    let conversations = [
        "CLIENT REPLY OFF|SET K 1|GET K|NOSUCH|GET|MGET K a b c|ECHO x|CLIENT REPLY FOO|PING|CLIENT REPLY ON|GET K",
        "CLIENT REPLY SKIP|SET K 2|GET K",
        "CLIENT REPLY SKIP|NOSUCH|GET K",
        "CLIENT REPLY SKIP|CLIENT REPLY SKIP|GET K|GET K|PING",
        "CLIENT REPLY SKIP|CLIENT REPLY ON|GET K",
        "CLIENT REPLY OFF|CLIENT REPLY SKIP|GET K|GET K|CLIENT REPLY ON|PING",
        "CLIENT REPLY OFF|CLIENT REPLY ON x|PING|CLIENT REPLY ON",
        "GET K|CLIENT REPLY OFF|INCR K|INCR K|CLIENT REPLY ON|GET K|CLIENT REPLY SKIP|MSET K 7 x:K 8|MGET K x:K",
        "CLIENT REPLY OFF|RESET|PING",
        "CLIENT REPLY SKIP|RESET|PING",
        "CLIENT REPLY OFF|HELLO 3|CLIENT REPLY ON|HGETALL nokey|HELLO 2",
        "CLIENT REPLY SKIP|CLIENT INFO|CLIENT REPLY SKIP|CLIENT KILL ID 1000000000|PING",
    ];
    let (mut real, mut through) = (shared::standalone().client(), shared::client());
    for conversation in conversations {
        let conversation =
            conversation.replace('K', &key).replace(&format!("CLIENT {key}ILL"), "CLIENT KILL");
        let conversation = conversation.replace(&format!("S{key}IP"), "SKIP");
        let lines: Vec<&str> = conversation.split('|').collect();
        let (want, got) = (replies(&mut real, &lines), replies(&mut through, &lines));
        assert_eq!(masked(got), masked(want), "{conversation}");
    }
}

/// HELLO's reply carries an id.
fn masked(replies: Vec<String>) -> Vec<String> {
    replies.into_iter().map(|r| if r.contains("server") { "HELLO".to_owned() } else { r }).collect()
}

#[test]
fn nothing_is_said_to_a_client_that_wants_nothing() {
    need_redis!();
    let key = shared::unique("silent");
    let value = "v".repeat(100_000);
    for server in [shared::standalone().addr(), shared::proxy().addr()] {
        let mut client = Client::connect(server);
        client.send(&words("CLIENT REPLY OFF"));
        // A large request, and a large reply, behind the front and at it.
        client.send(&cmd!["SET", key, value]);
        client.send(&[cmd!["GET", key], cmd!["GET", key], cmd!["MGET", key, "none"]].concat());
        client.send(&words("CLIENT REPLY ON"));
        assert_eq!(client.call(&cmd!["STRLEN", key]), Value::Simple("OK".into()));
        assert_eq!(client.value(), Value::Int(100_000));
    }
    // Redis forgets to close such a connection; being told nothing is the same.
    let mut client = shared::client();
    client.send(&[words("CLIENT REPLY OFF"), b"*1\r\n$-5\r\n".to_vec()].concat());
    assert_eq!(show(&client.rest()), show(b""), "not even the protocol error");
}

#[test]
fn acl_categories_are_the_servers() {
    need_redis!();
    let (mut real, mut through) = (shared::standalone().client(), shared::client());
    let later = ["client|setinfo", "client|no-touch", "cluster|myshardid", "script|show", "waitaof"];
    let names = |client: &mut Client, line: &str| -> Vec<String> {
        let all = client.call(&words(line));
        let mut names: Vec<String> = all.items().iter().map(Value::text).collect();
        names.retain(|name| !later.contains(&name.as_str()));
        names.sort();
        names
    };
    let categories = names(&mut real, "ACL CAT");
    for category in categories {
        let line = format!("ACL CAT {}", category.to_uppercase());
        assert_eq!(names(&mut through, &line), names(&mut real, &line), "{line}");
    }
    for (line, digits) in
        [("ACL GENPASS", 64), ("ACL GENPASS 4", 1), ("ACL GENPASS 5", 2), ("ACL GENPASS 4096", 1024)]
    {
        let (one, other) = (through.call(&words(line)).text(), real.call(&words(line)).text());
        assert_eq!((one.len(), other.len()), (digits, digits), "{line}");
        assert!(one.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    }
    assert_ne!(through.call(&words("ACL GENPASS")), through.call(&words("ACL GENPASS")));
}

#[test]
fn errors_of_our_own_say_so_and_are_counted() {
    let (long, names) = ("n".repeat(5000), " get".repeat(5000));
    let not_kept = "ERR slotway: names longer than 4096 bytes are not kept";
    let too_many = "ERR slotway: at most 4096 command names in one request";
    let mut client = shared::client();
    for (line, expected) in [
        (format!("CLIENT SETNAME {long}"), not_kept),
        (format!("CLIENT SETINFO LIB-VER {long}"), not_kept),
        (format!("HELLO 2 SETNAME {long}"), not_kept),
        (format!("COMMAND INFO{names}"), too_many),
        (format!("COMMAND DOCS{names}"), too_many),
    ] {
        assert_eq!(client.call(&words(&line)).error(), expected);
        if !line.starts_with("HELLO") {
            client.send(&[words("MULTI"), words(&line), words("EXEC")].concat());
            let replies = client.values(3);
            assert_eq!(replies[2], Value::Array(vec![Value::Error(expected.to_owned())]), "in its place");
        }
    }
    for (kind, least) in [("name_too_long", 5.0), ("too_many_names", 4.0)] {
        shared::proxy()
            .wait_metric("slotway_errors_total", &[&format!("kind=\"{kind}\"")], |count| count >= least);
    }
}

#[test]
fn help_lists_what_works() {
    need_redis!();
    let mut client = shared::client();
    for container in ["CLIENT", "CLUSTER", "COMMAND", "CONFIG", "ACL", "LATENCY", "MEMORY", "SLOWLOG"] {
        let help = client.ok(&words(&format!("{container} HELP")));
        let lines: Vec<String> = help.items().iter().map(Value::text).collect();
        assert!(lines[0].starts_with(container) && lines[lines.len() - 2] == "HELP", "{lines:?}");
        for line in lines.iter().filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase())).skip(1) {
            let name = line.split(' ').next().unwrap();
            let reply = client.call(&words(&format!("{container} {name}")));
            let refused =
                matches!(&reply, Value::Error(text) if text.contains("slotway:") || text.contains("unknown"));
            assert!(!refused, "{container} {name}: {reply:?}");
        }
    }
}
