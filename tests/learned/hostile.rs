//! Announcements that lie, break or flood: what is known stays as it is, and the proxy goes on.

use super::announce::{Announced, announcing, arrived, first, learned, spec};
use crate::support::client::words;
use crate::support::keys::slot;
use crate::support::node::Answer;
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{check, eventually};

const OK: &str = "OK";

fn is_unknown(value: &Value) -> bool {
    matches!(value, Value::Error(text) if text.starts_with("ERR unknown command"))
}

#[test]
fn known_commands_stay_what_they_are() {
    let (fake, _told, proxy) = learned(&[
        Announced::new("get", "admin dangerous blocking"),
        Announced::new("SET", "readonly").arity(7).key(spec("index 2", "range 0 1 0", "RO")),
        Announced::new("Mget", "readonly").tips("request_policy:all_nodes"),
        Announced::new("ping", "write").key(first()),
        Announced::new("shutdown", "readonly fast"),
        Announced::new("debug", "readonly").sub(Announced::new("debug|sleep", "readonly")),
        Announced::new("config", "")
            .sub(Announced::new("config|get", "readonly"))
            .sub(Announced::new("config|peek", "readonly")),
        Announced::new("client", "").sub(Announced::new("client|peek", "readonly")),
        Announced::new("command", "").sub(Announced::new("command|peek", "readonly")),
        Announced::new("object", "").sub(Announced::new("object|peek", "readonly").key(spec(
            "index 2",
            "range 0 1 0",
            "RO",
        ))),
        Announced::new("get2", "").sub(Announced::new("get|peek", "readonly")),
        Announced::new("multi", "readonly"),
        Announced::new("late.auth", "readonly no_auth fast"),
    ]);
    let mut client = proxy.client();
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
    for line in ["SET {a}k x", "GET {a}k"] {
        assert_eq!(client.call(&words(line)), Value::Simple(OK.into()), "{line}");
    }
    let owner = fake.owner(slot(b"a"));
    assert_eq!(arrived(&fake).iter().map(|seen| seen.node).collect::<Vec<_>>(), [owner, owner]);
    client.ok(&words("SET k v x y z a"));
    assert_eq!(arrived(&fake).last().map(|seen| seen.node), Some(fake.owner(slot(b"k"))));
    let before = arrived(&fake).len();
    for line in ["shutdown", "config peek", "SHUTDOWN"] {
        assert!(client.call(&words(line)).error().contains("slotway"), "{line}");
    }
    for container in ["COMMAND", "CLIENT"] {
        let error = format!("ERR unknown subcommand 'peek'. Try {container} HELP.");
        assert_eq!(client.call(&words(&format!("{container} peek"))).error(), error);
    }
    assert_eq!(arrived(&fake).len(), before);
    assert_eq!(
        client.call(&words("object peek {b}k")),
        Value::Simple(OK.into()),
        "a new subcommand is a new name"
    );
    assert_eq!(arrived(&fake).last().map(|seen| seen.node), Some(fake.owner(slot(b"b"))));
}

#[test]
fn nobody_gets_in_before_auth_because_a_node_says_so() {
    let commands = [
        Announced::new("late.auth", "readonly no_auth fast"),
        Announced::new("w", "write no_auth").key(first()),
    ];
    let (fake, _told) = announcing(&commands, |_| Answer::Standard);
    let proxy = Proxy::start(fake.addrs(), &[("client-password", "secret")]);
    let mut client = proxy.client();
    for line in ["late.auth", "w k"] {
        assert_eq!(client.call(&words(line)).error(), "NOAUTH Authentication required.", "{line}");
    }
    assert!(arrived(&fake).is_empty());
    client.ok(&words("AUTH secret"));
    assert_eq!(client.call(&words("w k")), Value::Simple(OK.into()));
}

#[test]
#[allow(clippy::too_many_lines, reason = "one list of nonsense")]
fn entries_of_no_sense_are_left_out_and_the_others_learned() {
    let good = Announced::new("good", "write").key(first());
    let mut all: Vec<Announced> = vec![
        Announced::new("", "readonly"),
        Announced::new("a b", "readonly"),
        Announced::new("a\r\nb", "readonly"),
        Announced::new("nul\0", "readonly"),
        Announced::new("caf\u{e9}", "readonly"),
        Announced::new("top|level", "readonly"),
        Announced::new(&"x".repeat(65), "readonly"),
        Announced::new("huge.arity", "readonly").arity(i64::MAX),
        Announced::new("small.arity", "readonly").arity(i64::MIN),
        Announced::new("over.range", "write").range(i64::MAX, 1, 1),
        Announced::new("over.spec", "write").key(spec("index 99999999999", "range 0 1 0", "RW")),
        Announced::new("no.such", "write").key(b"*2\r\n+flags\r\n*0\r\n".to_vec()),
        Announced::new("not.a.spec", "write").key(b":1\r\n".to_vec()),
        Announced::new("twice", "readonly"),
        Announced::new("TWICE", "write").key(first()),
        Announced::new("con", "").sub(Announced::new("other|sub", "readonly")),
    ];
    all.push(good.clone());
    all.push(good.clone());
    all.push(Announced::new("max.arity", "readonly").arity(i64::from(i32::MAX)));
    all.push(Announced::new("min.arity", "readonly").arity(i64::from(i32::MIN)));
    all.push(Announced::new(&"y".repeat(64), "readonly"));
    all.push(Announced::new("far", "write").key(spec(
        "index 2147483647",
        "range 2147483647 2147483647 2147483647",
        "RW",
    )));
    all.push(Announced::new("far.num", "write movablekeys").key(spec(
        "index 1",
        "keynum 2147483647 2147483647 2147483647",
        "RW",
    )));
    all.push(Announced::new("far.back", "write movablekeys").key(spec(
        "keyword K -2147483648",
        "range -2147483648 1 2147483647",
        "RW",
    )));
    let (fake, _told, proxy) = learned(&all);
    let mut client = proxy.client();
    for name in [
        &b"a b"[..],
        b"",
        b"nul\0",
        "caf\u{e9}".as_bytes(),
        b"huge.arity",
        b"small.arity",
        b"over.range",
        b"over.spec",
        b"no.such",
        b"not.a.spec",
        b"twice",
        b"top|level",
        "x".repeat(65).as_bytes(),
    ] {
        let reply = client.call(&cmd![name, "k"]);
        assert!(is_unknown(&reply), "{}: {reply:?}", name.escape_ascii());
    }
    assert!(arrived(&fake).is_empty());
    assert_eq!(client.call(&words("good k")), Value::Simple(OK.into()));
    assert_eq!(client.call(&words(&"Y".repeat(64))), Value::Simple(OK.into()));
    assert_eq!(
        client.call(&words("min.arity")).error(),
        "ERR wrong number of arguments for 'min.arity' command"
    );
    assert_eq!(
        client.call(&words("max.arity")).error(),
        "ERR wrong number of arguments for 'max.arity' command"
    );
    assert_eq!(client.call(&words("far k")).error(), "ERR wrong number of arguments for 'far' command");
    for line in ["far.num 1 k", "far.num 99999999999999999999 k", "far.back K k"] {
        assert!(client.call(&words(line)).error().contains("keys of this command cannot be told"), "{line}");
    }
    let reply = client.call(&words("con sub"));
    assert!(reply.is_error(), "{reply:?}");
    assert!(client.call(&words("COMMAND")).items().len() > 200, "the table can be shown");
    assert!(proxy.log().contains("commands of no known form"), "{}", proxy.log());
}

#[test]
fn answers_that_cannot_be_read_cost_nothing_but_the_learning() {
    let deep = [b"*1\r\n".repeat(100_000), b":1\r\n".to_vec()].concat();
    let long = [b"*1\r\n$9000000\r\n".to_vec(), vec![b'x'; 9_000_000], b"\r\n".to_vec()].concat();
    let flood = [b"*3000000\r\n".to_vec(), b":1\r\n".repeat(3_000_000)].concat();
    for (what, reply) in [
        ("deep", deep),
        ("long", long),
        ("flood", flood),
        ("claimed", b"*60000000\r\n*10\r\n$3\r\nabc\r\n".to_vec()),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        ("error", b"-NOPERM this user has no permissions to run the 'command' command\r\n".to_vec()),
        ("null", b"*-1\r\n".to_vec()),
        ("number", b":5\r\n".to_vec()),
        ("numbers", b"*3\r\n:5\r\n:6\r\n$1\r\nx\r\n".to_vec()),
        ("nested", b"*1\r\n*1\r\n*1\r\n*0\r\n".to_vec()),
        ("empty", b"*0\r\n".to_vec()),
        ("silence", Vec::new()),
    ] {
        let (fake, told) = announcing(&[], |_| Answer::Standard);
        told.raw(reply);
        let proxy =
            Proxy::start(fake.addrs(), &[("refresh-interval", "200ms"), ("connect-timeout", "500ms")]);
        let mut client = proxy.client();
        assert_eq!(client.call(&words("SET k v")), Value::Simple(OK.into()), "{what}");
        assert!(is_unknown(&client.call(&words("new.one k"))), "{what}");
        proxy.wait_metric("slotway_backend_up", &[], |up| up == 3.0);
        assert!(
            proxy.metrics().sum("slotway_backend_ejections_total", &[]) == 0.0,
            "{what}: no node is taken out"
        );
        assert!(proxy.resident_bytes() < 400 << 20, "{what}: {} bytes", proxy.resident_bytes());
        // The next version of the nodes says something sensible.
        told.commands(&[Announced::new("new.one", "write").key(first())]);
        eventually("it is learned", || {
            let reply = client.call(&words("new.one k"));
            check(reply == Value::Simple(OK.into()), format!("{what}: {reply:?}; {}", proxy.log()))
        });
    }
}

#[test]
fn a_flood_of_commands_is_learned_up_to_the_bound_the_same_ones_everywhere() {
    let flood: Vec<Announced> = (0..30_000)
        .rev()
        .map(|n| Announced::new(&format!("f.{n:06}"), "readonly").tips("nondeterministic_output"))
        .collect();
    let (fake, told) = announcing(&flood, |_| Answer::Standard);
    let keys = [("learned-commands-max", "100"), ("refresh-interval", "200ms")];
    let proxies = [Proxy::start(fake.addrs(), &keys), Proxy::start(fake.addrs(), &keys)];
    for proxy in &proxies {
        let mut client = proxy.client();
        assert_eq!(client.call(&words("F.000099")), Value::Simple(OK.into()));
        assert!(is_unknown(&client.call(&words("F.000100"))));
        assert_eq!(proxy.metrics().sum("slotway_learned_commands", &[]), 100.0);
        assert!(proxy.log().contains("learned-commands-max"), "{}", proxy.log());
    }
    // Other definitions of the same names: nothing is left for them, for the old ones can't be forgotten.
    let other: Vec<Announced> =
        (0..100).map(|n| Announced::new(&format!("f.{n:06}"), "readonly fast")).collect();
    told.commands(&other);
    for proxy in &proxies {
        proxy.wait_metric("slotway_learned_commands", &[], |count| count == 0.0);
        assert_eq!(proxy.client().call(&words("SET k v")), Value::Simple(OK.into()));
    }
    told.commands(&flood);
    for proxy in &proxies {
        proxy.wait_metric("slotway_learned_commands", &[], |count| count == 100.0);
    }
}

#[test]
fn a_hundred_thousand_commands_and_endless_changes_do_not_grow_the_process() {
    let _alone = crate::support::heavy();
    let flood = |round: usize| -> Vec<Announced> {
        let name = |n: usize| format!("r{round}.{n}");
        (0..100_000).map(|n| Announced::new(&name(n), "readonly")).collect()
    };
    let (fake, told) = announcing(&flood(0), |_| Answer::Standard);
    let config =
        [("refresh-interval", "100ms"), ("learned-commands-bytes", "16MiB"), ("connect-timeout", "5s")];
    let proxy = Proxy::start(fake.addrs(), &config);
    let full = |what: &str| {
        proxy.wait_metric("slotway_learned_commands", &[], |count| count <= 2_000.0);
        assert!(proxy.resident_bytes() < 600 << 20, "{what}: {} bytes", proxy.resident_bytes());
    };
    full("at first");
    assert_eq!(proxy.client().call(&words("R0.0")), Value::Simple(OK.into()));
    for round in 1..4 {
        told.commands(&flood(round));
        proxy.wait_metric("slotway_learned_commands", &[], |count| count == 0.0);
        full("later");
    }
    assert_eq!(proxy.client().call(&words("SET k v")), Value::Simple(OK.into()));
}

#[test]
fn the_bytes_of_definitions_are_bounded() {
    let commands: Vec<Announced> =
        (0..100).map(|n| Announced::new(&format!("small.{n}"), "readonly")).collect();
    let (fake, _told) = announcing(&commands, |_| Answer::Standard);
    let proxy = Proxy::start(fake.addrs(), &[("learned-commands-bytes", "40KiB")]);
    let learned = proxy.metrics().sum("slotway_learned_commands", &[]);
    assert!((10.0..90.0).contains(&learned), "{learned}");
    assert!(proxy.log().contains("learned-commands-bytes"), "{}", proxy.log());
    let off = Proxy::start(fake.addrs(), &[("learned-commands-max", "0")]);
    assert!(is_unknown(&off.client().call(&words("small.0"))));
}
