//! Commands over many keys: split per slot, merged in key order, errors never turned into data.

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys::{key_in, slot};
use crate::support::node::{Answer, FakeCluster, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, frame, show};
use crate::support::shared;

fn request(name: &str, args: &[String]) -> Vec<u8> {
    let mut all = vec![name.as_bytes()];
    all.extend(args.iter().map(String::as_bytes));
    frame(&all)
}

#[test]
fn a_thousand_keys_are_merged_as_a_single_redis_would_answer() {
    need_redis!();
    let name = shared::unique("thousand");
    let keys: Vec<String> = (0..1000).map(|n| format!("{name}:{n}")).collect();
    let pairs: Vec<String> =
        keys.iter().enumerate().flat_map(|(n, k)| [k.clone(), format!("{n}").repeat(n % 50)]).collect();
    // Keys that are missing, and the same key twice.
    let mut mixed = keys[500..].to_vec();
    mixed.extend((0..50).map(|n| format!("{name}:missing:{n}")));
    mixed.extend_from_slice(&keys[700..720]);
    let script = [
        request("MSET", &pairs),
        request("MGET", &keys),
        request("MGET", &mixed),
        request("EXISTS", &mixed),
        request("TOUCH", &mixed),
        request("DEL", &keys[..300]),
        request("UNLINK", &keys[200..400]),
        request("EXISTS", &keys),
        request("MGET", &keys),
        request("mget", &keys[..10]),
        request("DEL", &mixed),
        request("EXISTS", &keys),
    ];
    let resp3 = shared::standalone().addr();
    let real = [shared::standalone().client(), Client::connect_resp3(resp3)];
    let through = [shared::client(), shared::proxy().client_resp3()];
    for (mut real, mut through) in real.into_iter().zip(through) {
        for request in &script {
            let (want, got) = (real.raw(request), through.raw(request));
            assert!(got == want, "{}: {} instead of {}", show(request), show(&got), show(&want));
        }
    }
}

#[test]
fn a_hundred_thousand_keys_in_one_request_are_merged_in_order() {
    need_redis!();
    let name = shared::unique("many");
    let keys: Vec<String> = (0..100_000).map(|n| format!("{name}:{n}")).collect();
    let pairs: Vec<String> = keys.iter().flat_map(|k| [k.clone(), k.clone()]).collect();
    let mut client = shared::client();
    assert_eq!(client.call(&request("MSET", &pairs)), Value::Simple("OK".into()));
    let reply = client.call(&request("MGET", &keys));
    assert!(reply.items().iter().zip(&keys).all(|(v, k)| *v == Value::Bulk(k.clone().into_bytes())));
    assert_eq!(client.call(&request("UNLINK", &keys)), Value::Int(100_000));
}

#[test]
fn merged_nulls_and_wrong_types_are_in_the_clients_version() {
    need_redis!();
    let name = shared::unique("nulls");
    let (list, text) = (format!("{name}:list"), format!("{name}:text"));
    let mut client = shared::client();
    client.ok(&cmd!["RPUSH", list, "x"]);
    client.ok(&cmd!["SET", text, "t"]);
    let request = cmd!["MGET", format!("{name}:1"), text, list, format!("{name}:2")];
    assert_eq!(show(&client.raw(&request)), show(b"*4\r\n$-1\r\n$1\r\nt\r\n$-1\r\n$-1\r\n"));
    let mut client = shared::proxy().client_resp3();
    assert_eq!(show(&client.raw(&request)), show(b"*4\r\n_\r\n$1\r\nt\r\n_\r\n_\r\n"));
}

#[test]
fn commands_that_cannot_be_split_get_redis_crossslot() {
    need_redis!();
    let mut client = shared::client();
    for line in [
        "RENAME {a}x {b}x",
        "SINTER {a}x {b}x",
        "MSETNX {a}x 1 {b}x 2",
        "SUNIONSTORE {a}x {b}x {c}x",
        "ZUNIONSTORE {a}x 2 {a}y {b}x",
        "EVAL return{} 2 {a}x {b}x",
        "LMOVE {a}x {b}x LEFT LEFT",
        "PFCOUNT {a}x {b}x",
        "BITOP AND {a}x {b}x {c}x",
        "COPY {a}x {b}x",
        "XREAD STREAMS {a}x {b}x 0 0",
    ] {
        let want = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n";
        assert_eq!(show(&client.raw(&words(line))), show(want), "{line}");
    }
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
}

/// Data commands a fake cluster received, in order.
fn data(fake: &FakeCluster, name: &str) -> Vec<Seen> {
    fake.seen_named(name)
}

#[test]
fn keys_of_one_slot_are_forwarded_untouched_in_one_request() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[]);
    fake.script(|seen| match seen.name().as_str() {
        "MGET" => Answer::text("*3\r\n$1\r\na\r\n$-1\r\n$1\r\nc"),
        "DEL" => Answer::text(":2"),
        _ => Answer::Standard,
    });
    let mut client = proxy.client();
    for line in ["mGet {t}1 {t}2 {t}3", "DEL {t}1 {t}2", "MSET {t}1 a {t}2 b {t}1 c"] {
        let name = line.split(' ').next().unwrap_or_default().to_uppercase();
        client.ok(&words(line));
        let seen = data(&fake, &name);
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(show(&seen[0].bytes), show(&words(line)), "changed on the way");
        assert_eq!(seen[0].node, fake.owner(slot(b"t")));
    }
}

#[test]
fn parts_hold_the_keys_of_one_slot_each_in_key_order() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    fake.script(|seen| match seen.name().as_str() {
        "MGET" => {
            let values = seen.args[1..].iter().map(|k| bulk(&[b"v:", k.as_slice()].concat()));
            let mut reply = format!("*{}\r\n", seen.args.len() - 1).into_bytes();
            values.for_each(|v| reply.extend(v));
            Answer::Reply(reply)
        }
        _ => Answer::Standard,
    });
    let slots = [3, 9000, 3, 12000, 3, 9000, 16383, 0];
    let keys: Vec<String> = slots.iter().enumerate().map(|(n, s)| key_in(*s, &format!("k{n}"))).collect();
    let mut client = proxy.client();
    let reply = client.call(&request("MGET", &keys));
    let want: Vec<Value> = keys.iter().map(|k| Value::Bulk(format!("v:{k}").into_bytes())).collect();
    assert_eq!(reply, Value::Array(want));
    let parts = data(&fake, "MGET");
    assert_eq!(parts.len(), 5, "one part per slot: {parts:?}");
    for part in &parts {
        let slots: Vec<u16> = part.args[1..].iter().map(|k| slot(k)).collect();
        assert!(slots.iter().all(|s| *s == slots[0]), "{part:?}");
        assert_eq!(part.node, fake.owner(slots[0]));
        let places: Vec<_> =
            part.args[1..].iter().map(|k| keys.iter().position(|w| w.as_bytes() == k)).collect();
        assert!(places.is_sorted(), "{part:?}");
    }
}

#[test]
fn one_failing_part_makes_the_whole_reply_an_error_and_the_pipeline_goes_on() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[]);
    fake.script(|seen| match (seen.name().as_str(), seen.node) {
        ("MGET" | "MSET" | "DEL" | "EXISTS" | "UNLINK" | "TOUCH", 1) => Answer::text("-ERR boom"),
        ("MGET", _) => Answer::text("*1\r\n$1\r\nv"),
        ("DEL" | "EXISTS" | "UNLINK" | "TOUCH", _) => Answer::text(":1"),
        _ => Answer::Standard,
    });
    let keys: Vec<String> = (0..3).map(|n| key_in(n * 5500 + 50, "part")).collect();
    let mut client = proxy.client();
    for name in ["MGET", "MSET", "DEL", "EXISTS", "UNLINK", "TOUCH"] {
        let args: Vec<String> = match name {
            "MSET" => keys.iter().flat_map(|k| [k.clone(), "v".into()]).collect(),
            _ => keys.clone(),
        };
        client.send(&[request(name, &args), words("PING after")].concat());
        let error = client.value();
        assert!(error.is_error(), "{name}: {error:?}");
        assert_eq!(client.value(), Value::Bulk(b"after".to_vec()), "{name}");
    }
}

#[test]
fn wrong_part_replies_are_an_error_not_data() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let keys: Vec<String> = (0..3).map(|n| key_in(n * 5500 + 50, "wrong")).collect();
    for (name, reply) in
        [("MGET", "*2\r\n$1\r\na\r\n$1\r\nb"), ("MGET", ":1"), ("DEL", "+OK"), ("MGET", "*0")]
    {
        fake.script(move |seen| if seen.name() == name { Answer::text(reply) } else { Answer::Standard });
        let mut client = proxy.client();
        client.send(&[request(name, &keys), words("PING")].concat());
        let error = client.value();
        assert!(error.is_error(), "{name} with parts {reply:?}: {error:?}");
        assert_eq!(client.value(), Value::Simple("PONG".into()));
    }
}

#[test]
fn a_dead_shard_makes_mget_an_error_and_the_next_ping_is_answered() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("owner-wait", "1s"), ("request-deadline", "5s")]);
    let keys: Vec<String> = (0..3).map(|n| key_in(cluster.slot_of(n), "dead")).collect();
    let mut client = proxy.client();
    let pairs: Vec<String> = keys.iter().flat_map(|k| [k.clone(), "v".into()]).collect();
    client.ok(&request("MSET", &pairs));
    cluster.nodes[2].kill();
    for name in ["MGET", "EXISTS", "DEL"] {
        client.send(&[request(name, &keys), words("PING"), cmd!["ECHO", name]].concat());
        let error = client.value();
        assert!(error.is_error(), "{name}: {error:?}");
        assert_eq!(client.value(), Value::Simple("PONG".into()));
        assert_eq!(client.value().text(), name);
    }
}

#[test]
fn arity_is_checked_before_any_part_leaves() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let mut client = proxy.client();
    for line in ["MSET {a}1 v {b}2", "MSET {a}1 v {b}2 w {c}3", "MGET", "DEL"] {
        let text = client.call(&words(line));
        let name = line.split(' ').next().unwrap_or_default().to_lowercase();
        assert_eq!(text.error(), format!("ERR wrong number of arguments for '{name}' command"), "{line}");
    }
    assert!(data(&fake, "MSET").is_empty());
}

#[test]
fn multi_key_split_off_answers_crossslot() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[("multi-key-split", "off")]);
    let mut client = proxy.client();
    for line in ["MGET {a}1 {b}1", "MSET {a}1 v {b}1 v", "DEL {a}1 {b}1", "EXISTS {a}1 {b}1"] {
        assert!(client.call(&words(line)).error().starts_with("CROSSSLOT"), "{line}");
    }
    assert_eq!(client.call(&words("MSET {a}1 v {a}2 v")), Value::Simple("OK".into()));
}

#[test]
fn mset_is_seen_by_the_reads_that_follow_it_in_the_same_pipeline() {
    need_redis!();
    let name = shared::unique("mset");
    let keys: Vec<String> = (0..100).map(|n| format!("{name}:{n}")).collect();
    let mut client = shared::client();
    for round in 0..20 {
        let pairs: Vec<String> = keys.iter().flat_map(|k| [k.clone(), format!("r{round}")]).collect();
        client.send(&[request("MSET", &pairs), request("MGET", &keys), request("DEL", &keys)].concat());
        assert_eq!(client.value(), Value::Simple("OK".into()));
        let want = Value::Bulk(format!("r{round}").into_bytes());
        assert!(client.value().items().iter().all(|v| *v == want), "round {round}");
        assert_eq!(client.value(), Value::Int(100));
    }
}
