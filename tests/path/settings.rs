//! CONFIG GET through the proxy: what the nodes say where they agree, what is the proxy's own, and what tools get
//! whose nodes are away or let nobody ask. CONFIG SET is in `administration`.

use std::collections::{BTreeMap, HashSet};

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, show};
use crate::support::server::Server;
use crate::support::{check, eventually, shared};

/// Names and values, sorted; in RESP3 it has to be a map.
#[track_caller]
fn pairs(reply: &Value) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = match reply {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (name.text(), value.text())).collect(),
        list => list.items().chunks(2).map(|pair| (pair[0].text(), pair[1].text())).collect(),
    };
    pairs.sort();
    pairs
}

#[track_caller]
fn get(client: &mut Client, line: &str) -> Vec<(String, String)> {
    pairs(&client.ok(&words(&format!("CONFIG GET {line}"))))
}

#[track_caller]
fn one(client: &mut Client, name: &str) -> String {
    let found = get(client, name);
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found[0].1.clone()
}

/// Names and patterns of settings that are the nodes'.
const LINES: &[&str] = &[
    "maxmemory",
    "MaxMemory",
    "maxmemory-policy maxmemory",
    "hash-max-*",
    "HASH-MAX-*",
    "hash-max-* HASH-MAX-LISTPACK-VALUE",
    "Hash-Max-Listpack-Value hash-max-*",
    "slowlog-max-len slowlog-max-len SLOWLOG-MAX-LEN",
    "[m]axmemory*",
    "lfu-?og-factor",
    "*listpack* *ziplist*",
    "nosuch nosuch* save",
    "nosuch",
    "rdb-key-save-delay",
    "rdb-key-save-de*",
    "slave-priority replica-priority *-priority",
    "\\maxmemory",
    "a\\*",
    "appendonly save",
    "notify-keyspace-events",
    "client-output-buffer-limit",
    "active-defrag-*",
    "*-max-*-entries",
];

#[test]
fn patterns_get_what_a_single_redis_tells() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&cluster.addrs(), &[]);
    let single = Server::standalone(&[]);
    for resp3 in [false, true] {
        let connect = if resp3 { Client::connect_resp3 } else { Client::connect };
        let (mut ours, mut theirs) = (connect(proxy.addr()), connect(single.addr()));
        for line in LINES {
            let request = words(&format!("CONFIG GET {line}"));
            let (got, want) = (ours.call(&request), theirs.call(&request));
            assert_eq!(matches!(got, Value::Map(_)), resp3, "{line}");
            assert_eq!(pairs(&got), pairs(&want), "resp3 {resp3}: {line}");
        }
        let set = |pairs: Vec<(String, String)>| pairs.into_iter().map(|(name, _)| name).collect();
        let (all, known): (HashSet<String>, HashSet<String>) =
            (set(get(&mut ours, "*")), set(get(&mut theirs, "*")));
        assert!(all.is_subset(&known), "{:?}", all.difference(&known));
        let mut missing: Vec<&String> = known.difference(&all).collect();
        missing.sort();
        // Passwords; and of these each node has its own.
        assert_eq!(
            missing,
            ["dir", "masterauth", "requirepass", "tls-client-key-file-pass", "tls-key-file-pass"]
        );
    }
}

#[test]
fn what_is_set_is_told_and_what_is_slotways_is_slotways() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&cluster.addrs(), &[("max-clients", "321")]);
    let mut client = proxy.client();
    for (name, value) in
        [("maxmemory", "104857600"), ("slowlog-max-len", "77"), ("hz", "20"), ("save", "60 9")]
    {
        client.ok(&cmd!["CONFIG", "SET", name, value]);
        assert_eq!(one(&mut client, name), value);
    }
    assert_eq!(one(&mut client, "MAXMEMORY-POLICY"), "noeviction");
    let ours =
        get(&mut client, "port databases cluster-enabled maxclients timeout requirepass masterauth bind");
    let expected: BTreeMap<&str, String> = [
        ("bind", "127.0.0.1".to_owned()),
        ("cluster-enabled", "no".to_owned()),
        ("databases", "1".to_owned()),
        ("maxclients", "321".to_owned()),
        ("port", proxy.addr().port().to_string()),
        ("timeout", "0".to_owned()),
    ]
    .into();
    assert_eq!(ours, expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Vec<_>>());
    // With a pattern the proxy's values stand among those of the nodes.
    let all: BTreeMap<String, String> = get(&mut client, "*").into_iter().collect();
    assert_eq!((all["maxclients"].as_str(), all["maxmemory"].as_str()), ("321", "104857600"));
    assert_eq!(all["port"], proxy.addr().port().to_string());
}

#[test]
fn what_the_primaries_do_not_agree_on_is_no_single_value() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&cluster.addrs(), &[]);
    let mut client = proxy.client();
    cluster.client(2).ok(&words("CONFIG SET slowlog-max-len 5 hz 33"));
    let refused = client.call(&words("CONFIG GET maxmemory hz SlowLog-Max-Len"));
    assert_eq!(
        refused.error(),
        "ERR slotway: the primaries do not have the same value of this setting (hz, SlowLog-Max-Len)"
    );
    proxy.wait_metric("slotway_errors_total", &["kind=\"settings_differ\""], |count| count == 1.0);
    let names: Vec<String> = get(&mut client, "slowlog-* h[z]").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["slowlog-log-slower-than"]);
    // A replica's value is no primary's, and to set it everywhere is the way out.
    client.ok(&words("CONFIG SET slowlog-max-len 9 hz 10"));
    assert_eq!(one(&mut client, "slowlog-max-len"), "9");
    assert_eq!(get(&mut client, "slowlog-* h[z]").len(), 3);
}

#[test]
fn inside_a_transaction_only_slotways_own() {
    need_redis!();
    let mut client = shared::client();
    client.ok(&words("MULTI"));
    client.ok(&words("CONFIG GET databases"));
    let replies = client.ok(&words("EXEC"));
    assert_eq!(pairs(&replies.items()[0]), [("databases".to_owned(), "1".to_owned())]);
    client.ok(&words("MULTI"));
    let refused = client.call(&words("CONFIG GET maxmemory"));
    assert!(refused.error().contains("cannot be part of a transaction"), "{refused:?}");
    assert!(client.call(&words("EXEC")).error().starts_with("EXECABORT"));
}

#[test]
fn primaries_that_are_away_are_not_waited_for() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 0);
    let keys = [("connect-timeout", "300ms"), ("node-silence-timeout", "60s"), ("request-deadline", "20s")];
    let proxy = Proxy::start(&cluster.addrs(), &keys);
    let mut client = proxy.client();
    assert_eq!(one(&mut client, "maxmemory"), "0");
    cluster.client(0).ok(&words("CONFIG SET maxmemory 1mb"));
    assert!(client.call(&words("CONFIG GET maxmemory")).is_error());
    // It says nothing for as long as it likes: the others agree.
    cluster.nodes[0].freeze();
    assert_eq!(one(&mut client, "maxmemory"), "0");
    assert!(get(&mut client, "*").len() > 100);
    cluster.nodes[0].thaw();
    cluster.nodes[0].kill();
    eventually("the dead one is out", || {
        let reply = client.call(&words("CONFIG GET maxmemory"));
        check(!reply.is_error() && pairs(&reply)[0].1 == "0", reply)
    });
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    eventually("nobody is left to ask", || {
        let reply = client.call(&words("CONFIG GET maxmemory"));
        check(reply == Value::Error("CLUSTERDOWN slotway: no reachable node owns the slot".into()), reply)
    });
    assert_eq!(one(&mut client, "databases"), "1");
}

#[test]
fn nodes_that_let_nobody_ask_are_no_error() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[]);
    for error in [
        "-ERR unknown command 'CONFIG', with args beginning with: 'GET' 'maxmemory' ",
        "-NOPERM this user has no permissions to run the 'config|get' command",
        "-ERR unknown subcommand 'GET'. Try CONFIG HELP.",
    ] {
        fake.script(move |seen| match (seen.name().as_str(), seen.arg(1).as_str()) {
            ("CONFIG", _) if seen.node == 1 => Answer::text(error),
            ("CONFIG", "GET") => Answer::Reply(b"*0\r\n".to_vec()),
            ("INFO", "") => Answer::Reply(bulk(
                b"# Memory\r\nmaxmemory:1024\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n",
            )),
            _ => Answer::Standard,
        });
        let mut client = proxy.client();
        assert_eq!(one(&mut client, "maxmemory"), "1024");
        assert_eq!(one(&mut client, "maxmemory-policy"), "allkeys-lru");
        assert_eq!(one(&mut client, "SAVE"), "");
        assert_eq!(one(&mut client, "appendonly"), "yes");
        assert_eq!(one(&mut client, "databases"), "1");
        assert_eq!(get(&mut client, "notify-keyspace-events"), []);
        let names: Vec<String> = get(&mut client, "max*").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["maxclients", "maxmemory", "maxmemory-policy"]);
        assert!(get(&mut client, "*").len() > 10);
    }
    // Not even INFO: what a server without data on disk says.
    fake.script(|seen| match (seen.name().as_str(), seen.arg(1).as_str()) {
        ("CONFIG", _) | ("INFO", "") => Answer::text("-NOPERM no"),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    assert_eq!((one(&mut client, "maxmemory"), one(&mut client, "appendonly")), ("0".into(), "no".into()));
}

#[test]
fn nodes_are_asked_one_name_at_a_time_and_not_too_many() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    fake.script(|seen| match (seen.name().as_str(), seen.args.len()) {
        ("CONFIG", 3) => Answer::Reply([b"*2\r\n".to_vec(), bulk(&seen.args[2]), bulk(b"x")].concat()),
        ("CONFIG", _) => Answer::text("-ERR Unknown subcommand or wrong number of arguments for 'GET'"),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    let told = get(&mut client, "one TWO port one");
    let port = proxy.addr().port().to_string();
    let expected = [("TWO", "x"), ("one", "x"), ("port", &port)].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(told, expected);
    let many = |count: usize| (0..count).map(|n| format!("s{n}")).collect::<Vec<_>>().join(" ");
    assert_eq!(get(&mut client, &many(512)).len(), 512);
    let refused = client.call(&words(&format!("CONFIG GET {}", many(513))));
    assert_eq!(refused.error(), "ERR slotway: at most 512 names and patterns in one CONFIG GET");
    // What is not of that form is an error, not a setting.
    fake.script(|seen| match seen.name().as_str() {
        "CONFIG" => Answer::Reply(b"*3\r\n:1\r\n:2\r\n:3\r\n".to_vec()),
        _ => Answer::Standard,
    });
    let reply = client.raw(&words("CONFIG GET maxmemory"));
    assert!(show(&reply).contains("the node sent a reply that does not fit"), "{}", show(&reply));
}
