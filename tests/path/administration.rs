//! Administration through the proxy: what a single Redis does at itself is done at every node, and one reply made
//! of theirs. On a cluster of their own, beside a single server with the same options.

use std::time::{Duration, Instant};

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, frame, show};
use crate::support::server::Server;
use crate::support::{check, eventually, shared};

const OPTIONS: &[&str] =
    &["--enable-debug-command", "yes", "--latency-monitor-threshold", "10", "--busy-reply-threshold", "100"];

fn cluster(replicas_per: usize) -> (RedisCluster, Proxy) {
    let node_timeout = Duration::from_secs(20);
    let cluster =
        RedisCluster::shaped(&Shape { replicas_per, node_timeout, options: OPTIONS, ..Shape::default() });
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    (cluster, proxy)
}

/// Words parted by `|`, for arguments with blanks in them.
fn request(line: &str) -> Vec<u8> {
    frame(&line.split('|').map(str::as_bytes).collect::<Vec<_>>())
}

fn on_every_shard(cluster: &RedisCluster, line: &str) -> Vec<Value> {
    (0..cluster.primaries()).map(|node| cluster.client(node).call(&request(line))).collect()
}

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('f', function() return 'x' end)";

#[test]
fn scripts_and_functions_give_the_bytes_of_a_single_redis_and_are_everywhere() {
    need_redis!();
    let (cluster, proxy) = cluster(0);
    let single = Server::standalone(OPTIONS);
    let other = "#!lua name=other\nredis.register_function('g', function() return 'y' end)";
    let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    let load = format!("FUNCTION|LOAD|{LIBRARY}");
    let script = [
        &format!("SCRIPT|EXISTS|{sha}"),
        "SCRIPT|LOAD|return 1",
        &format!("SCRIPT|EXISTS|{sha}|0000000000000000000000000000000000000000|{}", sha.to_uppercase()),
        "SCRIPT|LOAD|this is no script",
        "SCRIPT|FLUSH|LATER",
        "SCRIPT|FLUSH|ASYNC",
        &format!("SCRIPT|EXISTS|{sha}"),
        "SCRIPT|FLUSH",
        "SCRIPT|KILL",
        "SCRIPT|EXISTS",
        "SCRIPT|NOSUCH",
        "FUNCTION|KILL",
        "FUNCTION|STATS",
        &load,
        &load,
        &format!("FUNCTION|LOAD|REPLACE|{LIBRARY}"),
        "FUNCTION|LOAD|nonsense",
        "FUNCTION|LIST",
        "FUNCTION|LIST|WITHCODE|LIBRARYNAME|li*",
        "FUNCTION|STATS",
        "FCALL|f|0",
        "FUNCTION|DELETE|nosuch",
        "FUNCTION|DELETE|lib",
        "FUNCTION|LIST",
        &format!("FUNCTION|LOAD|{other}"),
        "FUNCTION|FLUSH|LATER",
        "FUNCTION|FLUSH|SYNC",
        "FUNCTION|LIST",
        "FUNCTION|RESTORE|nonsense",
    ];
    for resp3 in [false, true] {
        let connect = if resp3 { Client::connect_resp3 } else { Client::connect };
        let (mut ours, mut theirs) = (connect(proxy.addr()), connect(single.addr()));
        for line in &script {
            let (ours, theirs) = (ours.raw(&request(line)), theirs.raw(&request(line)));
            assert_eq!(show(&ours), show(&theirs), "{line}");
        }
    }
    let mut client = proxy.client();
    client.ok(&request("SCRIPT|LOAD|return 1"));
    client.ok(&request(&load));
    for reply in on_every_shard(&cluster, &format!("SCRIPT|EXISTS|{sha}")) {
        assert_eq!(reply, Value::Array(vec![Value::Int(1)]));
    }
    let dump = client.ok(&request("FUNCTION|DUMP")).bytes().to_vec();
    client.ok(&request("FUNCTION|FLUSH"));
    assert_eq!(on_every_shard(&cluster, "FUNCTION|LIST"), vec![Value::Array(vec![]); 3]);
    client.ok(&cmd!["FUNCTION", "RESTORE", dump]);
    assert!(on_every_shard(&cluster, "FUNCTION|LIST").iter().all(|list| list.items().len() == 1));
}

#[test]
fn what_some_nodes_refuse_is_an_error_that_names_all() {
    need_redis!();
    let (cluster, proxy) = cluster(0);
    cluster.client(1).ok(&request(&format!("FUNCTION|LOAD|{LIBRARY}")));
    let refused = proxy.client().call(&request(&format!("FUNCTION|LOAD|{LIBRARY}")));
    let at = |node: usize| cluster.nodes[node].addr();
    let expected =
        format!("ERR Library 'lib' already exists (done at {}, {}; not done at {})", at(0), at(2), at(1));
    assert_eq!(refused.error(), expected);
    let again = proxy.client().call(&request(&format!("FUNCTION|LOAD|{LIBRARY}")));
    assert_eq!(
        again.error(),
        "ERR Library 'lib' already exists",
        "where all say the same, that is the reply"
    );
}

#[test]
fn config_set_reaches_every_node_and_refuses_what_belongs_to_one() {
    need_redis!();
    let (cluster, proxy) = cluster(1);
    let single = Server::standalone(OPTIONS);
    let mut client = proxy.client();
    client.ok(&request("CONFIG|SET|maxmemory-policy|allkeys-lru|slowlog-max-len|77"));
    for node in 0..6 {
        let set = cluster.client(node).ok(&request("CONFIG|GET|slowlog-max-len"));
        assert_eq!(set.items()[1].text(), "77", "node {node}");
    }
    for line in [
        "CONFIG|SET|nosuch|1",
        "CONFIG|SET|maxmemory|x",
        "CONFIG|SET|maxmemory",
        "CONFIG|REWRITE",
        "CONFIG|RESETSTAT",
    ] {
        let [ours, theirs] =
            [&mut proxy.client(), &mut single.client()].map(|client| client.raw(&request(line)));
        assert_eq!(show(&ours), show(&theirs), "{line}");
    }
    for name in [
        "requirepass",
        "PORT",
        "dir",
        "timeout",
        "maxclients",
        "maxmemory-clients",
        "Client-Output-Buffer-Limit",
    ] {
        let refused = client.call(&request(&format!("CONFIG|SET|hz|20|{name}|1")));
        let expected =
            format!("ERR slotway: 'config set {}' is a node's administration", name.to_lowercase());
        assert!(refused.error().starts_with(&expected), "{refused:?}");
    }
    assert_eq!(cluster.client(0).ok(&request("CONFIG|GET|hz")).items()[1].text(), "10");
}

#[test]
fn slow_logs_of_all_nodes_are_one() {
    need_redis!();
    let (cluster, proxy) = cluster(0);
    let single = Server::standalone(OPTIONS);
    let mut client = proxy.client();
    client.ok(&request("CONFIG|SET|slowlog-log-slower-than|10000"));
    client.ok(&request("SLOWLOG|RESET"));
    assert_eq!(client.call(&request("SLOWLOG|LEN")), Value::Int(0));
    assert_eq!(client.call(&request("SLOWLOG|GET")), Value::Array(vec![]));
    for round in 0..5 {
        for node in 0..3 {
            let key = key_in(cluster.slot_of(node), &format!("slow{round}"));
            let slow = "local t=redis.call('time') local e=t[1]*1000000+t[2]+15000 repeat t=redis.call('time') \
                        until t[1]*1000000+t[2]>e return 1";
            client.ok(&cmd!["EVAL", slow, "1", key]);
        }
    }
    assert_eq!(client.call(&request("SLOWLOG|LEN")), Value::Int(15));
    for (line, count) in
        [("SLOWLOG|GET", 10), ("SLOWLOG|GET|3", 3), ("slowlog|get|-1", 15), ("SLOWLOG|GET|0", 0)]
    {
        let entries = client.ok(&request(line));
        assert_eq!(entries.items().len(), count, "{line}");
        let times: Vec<i64> = entries.items().iter().map(|entry| entry.items()[1].int()).collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    }
    for line in ["SLOWLOG|GET|-2", "SLOWLOG|GET|x", "SLOWLOG|GET|1|2", "SLOWLOG|RESET"] {
        let [ours, theirs] =
            [&mut proxy.client(), &mut single.client()].map(|client| client.raw(&request(line)));
        assert_eq!(show(&ours), show(&theirs), "{line}");
    }
    assert_eq!(client.call(&request("SLOWLOG|LEN")), Value::Int(0));
}

#[test]
fn latency_of_all_nodes_is_one() {
    need_redis!();
    let (cluster, proxy) = cluster(0);
    let single = Server::standalone(OPTIONS);
    for resp3 in [false, true] {
        let connect = if resp3 { Client::connect_resp3 } else { Client::connect };
        let (mut client, mut theirs) = (connect(proxy.addr()), connect(single.addr()));
        client.ok(&request("LATENCY|RESET"));
        theirs.ok(&request("LATENCY|RESET"));
        for line in ["LATENCY|LATEST", "LATENCY|HISTORY|command", "LATENCY|GRAPH|command", "LATENCY|DOCTOR"] {
            let (ours, theirs) = (client.raw(&request(line)), theirs.raw(&request(line)));
            assert_eq!(show(&ours), show(&theirs), "{line}");
        }
        for client in [&mut client, &mut theirs] {
            client.ok(&request("DEBUG|SLEEP|0.02"));
        }
        let shape = |value: &Value| (value.items().len(), value.items()[0].items()[0].clone());
        let (ours, theirs_latest) =
            (client.ok(&request("LATENCY|LATEST")), theirs.ok(&request("LATENCY|LATEST")));
        assert_eq!(shape(&ours), shape(&theirs_latest), "one row per event");
        assert!(ours.items()[0].items()[3].int() >= 20);
        assert!(!client.ok(&request("LATENCY|HISTORY|command")).items().is_empty());
        for line in ["LATENCY|GRAPH|command", "LATENCY|DOCTOR"] {
            let text = client.ok(&request(line)).text();
            let said: Vec<String> =
                cluster.nodes.iter().map(|node| node.client().ok(&request(line)).text()).collect();
            if said.iter().all(|one| *one == said[0]) {
                assert!(text.ends_with(&said[0]), "{line}: {text}");
                continue;
            }
            for node in &cluster.nodes {
                assert!(text.contains(&format!("# {}\n", node.addr())), "{line}: {text}");
            }
        }
        assert_eq!(
            client.call(&request("LATENCY|RESET|command")),
            Value::Int(3),
            "one event at each of three nodes"
        );
        client.ok(&request("CONFIG|RESETSTAT"));
        let keys: Vec<String> = (0..30).map(|n| key_in(n * 546, "h")).collect();
        keys.iter().for_each(|key| drop(client.ok(&cmd!["SET", key, "v"])));
        let reply = client.raw(&request("LATENCY|HISTOGRAM|set|nosuch"));
        let head = if resp3 {
            "%1\r\n$3\r\nset\r\n%2\r\n$5\r\ncalls\r\n:30\r\n"
        } else {
            "*2\r\n$3\r\nset\r\n*4\r\n$5\r\ncalls\r\n:30\r\n"
        };
        assert!(reply.starts_with(head.as_bytes()), "{}", show(&reply));
        assert!(reply.ends_with(b":30\r\n"), "the last bucket holds all: {}", show(&reply));
    }
}

#[test]
fn memory_of_all_shards_is_one() {
    need_redis!();
    let (cluster, proxy) = cluster(0);
    let single = Server::standalone(OPTIONS);
    let keys: Vec<String> = (0..30).map(|n| key_in(n * 546, "m")).collect();
    for resp3 in [false, true] {
        let connect = if resp3 { Client::connect_resp3 } else { Client::connect };
        let (mut client, mut theirs) = (connect(proxy.addr()), connect(single.addr()));
        for client in [&mut client, &mut theirs] {
            keys.iter().for_each(|key| drop(client.ok(&cmd!["SET", key, "v"])));
        }
        for line in ["MEMORY|PURGE", "MEMORY|DOCTOR", "MEMORY|STATS|x", "MEMORY|NOSUCH"] {
            let (ours, theirs) = (client.raw(&request(line)), theirs.raw(&request(line)));
            assert_eq!(show(&ours), show(&theirs), "{line}");
        }
        let (ours, theirs) = (client.ok(&request("MEMORY|STATS")), theirs.ok(&request("MEMORY|STATS")));
        let fields = |value: &Value| -> Vec<(String, std::mem::Discriminant<Value>)> {
            match value {
                Value::Map(pairs) => {
                    pairs.iter().map(|(k, v)| (k.text(), std::mem::discriminant(v))).collect()
                }
                list => {
                    list.items().chunks(2).map(|p| (p[0].text(), std::mem::discriminant(&p[1]))).collect()
                }
            }
        };
        assert_eq!(fields(&ours), fields(&theirs), "names and types");
        let count = match &ours {
            Value::Map(pairs) => pairs.iter().find(|(k, _)| k.text() == "keys.count").map(|(_, v)| v.int()),
            list => list.items().chunks(2).find(|p| p[0].text() == "keys.count").map(|p| p[1].int()),
        };
        assert_eq!(count, Some(30));
        let text = client.ok(&request("MEMORY|MALLOC-STATS")).text();
        assert!(cluster.nodes.iter().all(|node| text.contains(&node.addr().to_string())));
    }
}

#[test]
fn debug_does_everywhere_what_makes_sense_everywhere() {
    need_redis!();
    let (cluster, proxy) = cluster(0);
    let single = Server::standalone(OPTIONS);
    let mut client = proxy.client();
    let start = Instant::now();
    client.ok(&request("DEBUG|SLEEP|0.3"));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    client.ok(&request("DEBUG|SET-ACTIVE-EXPIRE|0"));
    for node in 0..3 {
        let key = key_in(cluster.slot_of(node), "d");
        client.ok(&cmd!["SET", key, "value"]);
        let object = client.call(&cmd!["DEBUG", "OBJECT", key]);
        assert!(object.text().contains("encoding:embstr"), "{object:?}");
    }
    for line in [
        "DEBUG|OBJECT|nosuch",
        "DEBUG|SLEEP",
        "DEBUG",
        "DEBUG|SET-ACTIVE-EXPIRE|1",
        "DEBUG|STRINGMATCH-LEN|3|a*",
    ] {
        let [ours, theirs] =
            [&mut proxy.client(), &mut single.client()].map(|client| client.raw(&request(line)));
        assert_eq!(show(&ours), show(&theirs), "{line}");
    }
    for line in ["DEBUG|SEGFAULT", "DEBUG|POPULATE|100", "DEBUG|CHANGE-REPL-ID", "DEBUG|nosuch"] {
        let refused = client.call(&request(line));
        assert!(
            refused.error().starts_with("ERR slotway: 'debug' is a node's administration"),
            "{refused:?}"
        );
    }
    assert_eq!(
        client.call(&request("DBSIZE")),
        Value::Int(3),
        "every node lives, and has no key it should not"
    );
}

#[test]
fn saves_are_done_by_every_shard() {
    need_redis!();
    let (cluster, proxy) = cluster(0);
    let single = Server::standalone(OPTIONS);
    let mut client = proxy.client();
    let before = client.call(&request("LASTSAVE")).int();
    let direct: Vec<i64> = on_every_shard(&cluster, "LASTSAVE").iter().map(Value::int).collect();
    assert_eq!(Some(&before), direct.iter().min());
    for line in ["SAVE", "BGREWRITEAOF", "BGSAVE|SCHEDULE", "BGSAVE|x", "SAVE|x"] {
        let [ours, theirs] =
            [&mut proxy.client(), &mut single.client()].map(|client| client.raw(&request(line)));
        assert_eq!(show(&ours), show(&theirs), "{line}");
        // What the next one is answered depends on whether this one is at work.
        for client in [&mut proxy.client(), &mut single.client()] {
            eventually("nothing is at work", || {
                let info = client.call(&request("INFO|persistence")).text();
                let idle =
                    ["rdb_bgsave_in_progress:0", "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"];
                check(idle.iter().all(|field| info.contains(field)), info)
            });
        }
    }
    eventually("every shard was saved", || {
        let saved = on_every_shard(&cluster, "INFO|persistence");
        check(saved.iter().all(|info| info.text().contains("rdb_last_bgsave_status:ok")), saved)
    });
    assert!(client.call(&request("LASTSAVE")).int() >= before);
}

#[test]
fn what_a_proxy_cannot_do_for_many_nodes_says_why() {
    need_redis!();
    let mut client = shared::client();
    for (line, why) in [
        ("SCRIPT DEBUG YES", "cannot work on a cluster"),
        ("SWAPDB 0 1", "cannot work on a cluster"),
        ("MOVE k 1", "cannot work on a cluster"),
        ("SHUTDOWN", "is a node's administration"),
        ("REPLICAOF NO ONE", "is a node's administration"),
        ("FAILOVER", "is a node's administration"),
        ("MODULE LOAD x", "is a node's administration"),
        ("ACL SETUSER x", "is a node's administration"),
    ] {
        let refused = client.call(&words(line));
        assert!(
            refused.error().starts_with("ERR slotway: '") && refused.error().contains(why),
            "{refused:?}"
        );
    }
    assert_eq!(client.call(&words("MODULE LIST")), Value::Array(vec![]));
}
