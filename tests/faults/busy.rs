//! A script or function that does not end is stopped through the proxy, while other shards go on. PING says busy as
//! a single Redis does, while one runs that names no keys.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, frame};
use crate::support::server::Server;
use crate::support::{check, eventually, shared};

fn cluster() -> (RedisCluster, Proxy) {
    let options = &["--busy-reply-threshold", "100"][..];
    let node_timeout = Duration::from_secs(20);
    let cluster = RedisCluster::shaped(&Shape { replicas_per: 0, node_timeout, options, ..Shape::default() });
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    (cluster, proxy)
}

/// Words parted by `|`, for arguments with blanks in them.
fn request(line: &str) -> Vec<u8> {
    frame(&line.split('|').map(str::as_bytes).collect::<Vec<_>>())
}

/// A script that does not end by itself, at the node of `key`.
fn spin(client: &mut Client, key: &str, writes: bool) {
    let write = if writes { "redis.call('set', KEYS[1], 1) " } else { "" };
    client.send(&cmd!["EVAL", format!("{write}while true do end"), "1", key]);
}

#[test]
fn a_busy_script_is_killed_through_the_proxy_while_others_go_on() {
    need_redis!();
    let (cluster, proxy) = cluster();
    let (busy, free) = (key_in(cluster.slot_of(1), "busy"), key_in(cluster.slot_of(0), "free"));
    for name in ["SCRIPT", "FUNCTION"] {
        let mut runs = proxy.client();
        if name == "SCRIPT" {
            spin(&mut runs, &busy, false);
        } else {
            let library =
                "#!lua name=spin\nredis.register_function('spin', function() while true do end end)";
            proxy.client().ok(&request(&format!("FUNCTION|LOAD|{library}")));
            runs.send(&cmd!["FCALL", "spin", "1", busy]);
        }
        let mut client = proxy.client();
        eventually("the node is busy", || {
            let reply = cluster.client(1).call(&cmd!["GET", busy]);
            check(reply.is_error() && reply.error().starts_with("BUSY"), reply)
        });
        client.ok(&cmd!["SET", free, "v"]);
        if name == "FUNCTION" {
            let stats = text(&client.raw(&request("FUNCTION|STATS")));
            assert!(stats.contains("duration_ms"), "{stats}");
        }
        assert_eq!(client.call(&request(&format!("{name}|KILL"))), Value::Simple("OK".into()));
        assert!(runs.value().error().contains("killed"), "{name}");
        assert!(client.call(&request(&format!("{name}|KILL"))).error().starts_with("NOTBUSY"));
    }
}

#[test]
fn all_keys_cannot_be_told_while_a_node_is_busy() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    fake.script(|seen| match (seen.node, seen.name().as_str()) {
        (1, "SCAN" | "DBSIZE" | "CLUSTER" | "INFO") => Answer::text("-BUSY Redis is busy running a script."),
        (_, "SCAN") => Answer::text("*2\r\n$1\r\n0\r\n*0"),
        (_, "DBSIZE") => Answer::text(":1"),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    let mut cursor = "0".to_owned();
    let refused = eventually("SCAN comes to that node", || {
        let reply = client.call(&cmd!["SCAN", cursor]);
        if let Value::Array(items) = &reply {
            cursor = items[0].text();
        }
        if reply.is_error() { Ok(reply) } else { Err(reply) }
    });
    for reply in [refused, client.call(&words("DBSIZE"))] {
        assert_eq!(reply.error(), "BUSY Redis is busy running a script.");
    }
}

#[test]
fn a_script_that_has_written_is_not_killed_and_says_so() {
    need_redis!();
    let (cluster, proxy) = cluster();
    let busy = key_in(cluster.slot_of(2), "busy");
    let mut runs = proxy.client();
    spin(&mut runs, &busy, true);
    let mut client = proxy.client();
    eventually("it cannot be killed", || {
        let reply = client.call(&request("SCRIPT|KILL"));
        check(reply.is_error() && reply.error().starts_with("UNKILLABLE"), reply)
    });
}

#[test]
fn kill_reaches_a_node_whose_dedicated_connections_are_all_taken() {
    need_redis!();
    let (cluster, _) = cluster();
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("dedicated-max-per-node", "1")]);
    let (mut waits, mut refused, mut runs) = (proxy.client(), proxy.client(), proxy.client());
    let busy = key_in(cluster.slot_of(1), "busy");
    waits.send(&cmd!["BLPOP", key_in(cluster.slot_of(1), "list"), "0"]);
    // Awaited at the node: a second BLPOP sent earlier might take the place first.
    eventually("the place is taken", || {
        let info = text(&cluster.client(1).raw(&words("INFO clients")));
        check(info.contains("blocked_clients:1"), info)
    });
    let reply = refused.call(&cmd!["BLPOP", key_in(cluster.slot_of(1), "list"), "0.01"]);
    assert!(reply.error().contains("dedicated-max-per-node"), "{reply:?}");
    spin(&mut runs, &busy, false);
    eventually("the script is killed", || {
        let reply = proxy.client().call(&request("SCRIPT|KILL"));
        check(reply == Value::Simple("OK".into()), reply)
    });
    assert!(runs.value().error().contains("killed"));
}

/// A frame as text.
fn text(frame: &[u8]) -> String {
    String::from_utf8_lossy(frame).into_owned()
}

/// Frames as they came, each behind what was asked.
fn said(client: &mut Client, lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| format!("{line} -> {}", text(&client.raw(&words(line))))).collect()
}

/// What clients are told while a script or function without keys runs too long, and after it was killed.
fn told_of_a_busy_script(connect: &dyn Fn() -> Client, name: &str, run: &str) -> Vec<String> {
    let (mut runs, mut client) = (connect(), connect());
    runs.send(&request(run));
    let mut all = eventually("it runs too long", || {
        let said = text(&client.raw(&words("PING")));
        if said.starts_with("-BUSY") { Ok(vec![said]) } else { Err(said) }
    });
    all.extend(said(&mut client, &["PING", "PING text", "PING a b"]));
    // Behind each other, in one write.
    client.send(&[words("PING"), words("COMMAND NOSUCH"), words("PING text")].concat());
    client.reply();
    client.reply();
    all.push(text(&client.reply()));
    let other = if name == "SCRIPT" { "FUNCTION" } else { "SCRIPT" };
    all.extend(said(&mut client, &[&format!("{other} KILL"), &format!("{name} KILL")]));
    all.push(text(&runs.reply()));
    all.extend(said(&mut runs, &["PING", "PING text"]));
    all.extend(said(&mut client, &["PING", "PING text", &format!("{name} KILL")]));
    all
}

#[test]
fn ping_is_busy_as_in_a_single_redis_while_a_script_without_keys_runs_too_long() {
    need_redis!();
    let (_cluster, proxy) = cluster();
    let single = Server::standalone(&["--busy-reply-threshold", "100"]);
    let library = "#!lua name=spin\nredis.register_function{function_name='spin', flags={'no-writes'}, \
                   callback=function() while true do end end}";
    for mut client in [proxy.client(), single.client()] {
        client.ok(&request(&format!("FUNCTION|LOAD|{library}")));
        client.ok(&request("SCRIPT|LOAD|while true do end"));
    }
    let sha = single.client().call(&request("SCRIPT|LOAD|while true do end")).text();
    let runs = [
        ("SCRIPT", "EVAL|while true do end|0"),
        ("SCRIPT", "EVAL_RO|while true do end|0"),
        ("SCRIPT", &format!("EVALSHA|{sha}|0")),
        ("FUNCTION", "FCALL|spin|0"),
        ("FUNCTION", "FCALL_RO|spin|0"),
    ];
    for (name, run) in runs {
        let want = told_of_a_busy_script(&|| single.client(), name, run);
        let got = told_of_a_busy_script(&|| proxy.client(), name, run);
        assert_eq!(got, want, "{run}");
        let want = told_of_a_busy_script(&|| Client::connect_resp3(single.addr()), name, run);
        let got = told_of_a_busy_script(&|| proxy.client_resp3(), name, run);
        assert_eq!(got, want, "{run}");
    }
}

#[test]
fn a_script_with_keys_keeps_only_its_own_shard_busy() {
    need_redis!();
    let (cluster, proxy) = cluster();
    let busy = key_in(cluster.slot_of(1), "busy");
    let mut runs = proxy.client();
    spin(&mut runs, &busy, false);
    eventually("the node is busy", || {
        let reply = cluster.client(1).call(&words("PING"));
        check(reply.is_error() && reply.error().starts_with("BUSY"), reply)
    });
    assert_eq!(proxy.client().raw(&words("PING")), b"+PONG\r\n");
    proxy.client().ok(&request("SCRIPT|KILL"));
    assert!(runs.value().is_error());
}

/// A proxy before one scripted node that answers PINGs of connections made for one request by what `says` holds,
/// and holds back what `gate` is for.
struct Asked {
    nodes: FakeCluster,
    proxy: Proxy,
    says: Arc<Mutex<&'static str>>,
    /// How often it was asked.
    asked: Arc<AtomicUsize>,
}

impl Asked {
    fn start(gate: &Gate) -> Self {
        let nodes = FakeCluster::start(1);
        let says = Arc::new(Mutex::new("+PONG"));
        let (gate, lines, answer) = (gate.clone(), Arc::new(Mutex::new(Vec::new())), Arc::clone(&says));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        nodes.script(move |seen| match (seen.name().as_str(), seen.arg(1).as_str()) {
            ("CLIENT", "ID") => {
                lines.lock().expect("lines").push(seen.connection);
                Answer::text(":7")
            }
            ("PING", _) if lines.lock().expect("lines").contains(&seen.connection) => {
                count.fetch_add(1, Ordering::SeqCst);
                match *answer.lock().expect("answer") {
                    "" => Answer::Never,
                    text => Answer::text(text),
                }
            }
            ("EVAL" | "FCALL" | "EXEC", "fails") => Answer::text("-ERR script failed"),
            ("EVAL", "queued") => Answer::text("+QUEUED"),
            ("EVAL" | "FCALL" | "EXEC", "breaks") => Answer::Close(Vec::new()),
            ("EVAL" | "FCALL" | "EXEC", _) => Answer::Hold(gate.clone(), b"*0\r\n".to_vec()),
            _ => Answer::Standard,
        });
        let proxy = Proxy::start(nodes.addrs(), &[("workers", "2")]);
        Self { nodes, proxy, says, asked }
    }

    /// A client whose script is at the node.
    fn runs(&self, script: &[u8], name: &str) -> Client {
        let mut client = self.proxy.client();
        let before = self.nodes.seen_named(name).len();
        client.send(script);
        eventually("the script is at the node", || {
            check(self.nodes.seen_named(name).len() > before, self.nodes.seen())
        });
        client
    }

    fn ping(&self) -> String {
        text(&self.proxy.client().raw(&words("PING")))
    }

    /// PING does not ask the node: whatever it would say.
    fn asks_nobody(&self) -> Result<(), String> {
        *self.says.lock().expect("answer") = "-BUSY nobody should have asked";
        let got = self.ping();
        check(got.starts_with("+PONG"), got)
    }
}

#[test]
fn ping_asks_the_node_only_while_it_owes_the_reply_of_a_script_without_keys() {
    let gates: Vec<Gate> = (0..4).map(|_| Gate::default()).collect();
    let scripts = [
        (request("EVAL|waits|0"), "EVAL"),
        (request("FCALL|waits|0|argument"), "FCALL"),
        ([words("MULTI"), request("EVAL|queued|0"), words("EXEC")].concat(), "EXEC"),
    ];
    for ((script, name), gate) in scripts.iter().zip(&gates) {
        let asked = Asked::start(gate);
        assert_eq!(asked.asks_nobody(), Ok(()));
        let mut runs = asked.runs(script, name);
        for says in ["-BUSY Redis is busy running a script.", "+PONG", "-ERR else", "-BUSY again"] {
            *asked.says.lock().expect("answer") = says;
            let want = if says.starts_with("-BUSY") { says } else { "+PONG" };
            assert_eq!(asked.ping(), format!("{want}\r\n"), "{name}");
        }
        gate.open();
        let queued = if *name == "EXEC" { 2 } else { 0 };
        assert_eq!(runs.values(queued + 1).last(), Some(&Value::Array(Vec::new())));
        assert_eq!(asked.asks_nobody(), Ok(()), "{name}");
        // Other ways in which a script ends.
        let failed = asked.proxy.client().call(&request("EVAL|fails|0"));
        assert_eq!(failed.error(), "ERR script failed");
        assert_eq!(asked.asks_nobody(), Ok(()), "{name}");
        assert!(asked.proxy.client().call(&request("EVAL|breaks|0")).error().contains("was lost"));
        assert_eq!(asked.asks_nobody(), Ok(()), "{name}");
    }
}

#[test]
fn a_script_without_keys_counts_until_the_node_answers_though_its_client_is_gone() {
    let gate = Gate::default();
    let asked = Asked::start(&gate);
    drop(asked.runs(&request("EVAL|waits|0"), "EVAL"));
    asked.proxy.wait_metric("slotway_client_connections", &[], |open| open == 0.0);
    *asked.says.lock().expect("answer") = "-BUSY still";
    assert_eq!(asked.ping(), "-BUSY still\r\n");
    gate.open();
    eventually("it has ended", || asked.asks_nobody());
}

#[test]
fn ping_does_not_ask_for_scripts_with_keys_nor_wait_for_a_silent_node() {
    let gate = Gate::default();
    let asked = Asked::start(&gate);
    let _keyed = asked.runs(&request("EVAL|waits|1|key"), "EVAL");
    assert_eq!(asked.asks_nobody(), Ok(()));
    let asked = Asked::start(&gate);
    let _keyless = asked.runs(&request("EVAL|waits|0"), "EVAL");
    *asked.says.lock().expect("answer") = "";
    let mut client = asked.proxy.client();
    client.send(&[words("PING"), words("PING text"), words("ECHO x")].concat());
    let values = client.values(3);
    let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
    assert_eq!(values, [Value::Simple("PONG".into()), bulk("text"), bulk("x")]);
    // In subscribed mode it is the subscriber's own, as ever.
    let mut subscriber = asked.proxy.client();
    subscriber.send(&words("UNSUBSCRIBE"));
    subscriber.reply();
    assert_eq!(subscriber.raw(&words("PING")), b"+PONG\r\n");
    let questions = asked.asked.load(Ordering::SeqCst);
    assert!((1..=2).contains(&questions), "{questions}: one of each worker, for all who ask");
    gate.open();
}
