//! RESP2 and RESP3 clients side by side on one worker, each with true types; HELLO's rules.

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, show};
use crate::support::shared;

/// Pairs of a HELLO reply, whichever version it came in.
fn hello_fields(value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Map(pairs) => pairs.iter().map(|(k, v)| (k.text(), v.clone())).collect(),
        Value::Array(items) => items.chunks(2).map(|p| (p[0].text(), p[1].clone())).collect(),
        other => panic!("no HELLO reply: {other:?}"),
    }
}

#[test]
fn both_versions_on_one_worker_get_their_own_types() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "1")]);
    let real = shared::standalone();
    let mut pairs =
        [(real.client(), proxy.client()), (Client::connect_resp3(real.addr()), proxy.client_resp3())];
    let script = [
        "HSET {v}h f 1 g 2",
        "ZADD {v}z 1.5 a 2 b",
        "SADD {v}s 1 2 3",
        "SET {v}k x",
        "XADD {v}x 1-1 f v",
        "HGETALL {v}h",
        "HGETALL {v}none",
        "ZRANGE {v}z 0 -1 WITHSCORES",
        "ZSCORE {v}z a",
        "ZSCORE {v}z none",
        "SMEMBERS {v}s",
        "GET {v}none",
        "LPOP {v}none",
        "ZPOPMIN {v}none",
        "MGET {v}k {v}none other:none",
        "XREAD STREAMS {v}x 0",
        "XRANGE {v}x - +",
        "EVAL return{1,false,'x'} 1 {v}k",
        "ZRANDMEMBER {v}none",
        "EVAL redis.setresp(3);return{double=1.5} 1 {v}k",
        "EVAL redis.setresp(3);return(true) 1 {v}k",
        "EVAL redis.setresp(3);return{map={a=1}} 1 {v}k",
        "ZINCRBY {v}z 1 a",
        "GEOADD {v}g 13 38 m",
        "GEOPOS {v}g m none",
        "LPOS {v}none x",
        "ZADD {v}z INCR 1 a",
        "HRANDFIELD {v}none 2 WITHVALUES",
        "LMPOP 1 {v}none LEFT",
        "CONFIG-NOT-A-COMMAND",
        "PING",
        "PING x",
        "ECHO y",
    ];
    // Both connections of the proxy are used in turn, so that a mix-up shows.
    for line in script {
        for (real, through) in &mut pairs {
            let (want, got) = (real.raw(&words(line)), through.raw(&words(line)));
            assert_eq!(show(&got), show(&want), "{line}");
        }
    }
}

#[test]
fn hello_switches_the_version_and_refuses_what_redis_refuses() {
    need_redis!();
    let mut client = shared::client();
    for (request, proto) in
        [("HELLO", 2), ("HELLO 3", 3), ("HELLO", 3), ("HELLO 2", 2), ("HELLO 2 SETNAME me", 2)]
    {
        let reply = client.ok(&words(request));
        assert_eq!(matches!(reply, Value::Map(_)), proto == 3, "{request}: {reply:?}");
        let fields = hello_fields(&reply);
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        assert_eq!(field("proto"), Some(Value::Int(proto)), "{request}");
        assert_eq!(field("server").map(|v| v.text()), Some("redis".into()));
        assert_eq!(field("mode").map(|v| v.text()), Some("standalone".into()), "as if it were one Redis");
        assert!(field("id").is_some_and(|v| v.int() > 0));
    }
    assert_eq!(client.call(&words("CLIENT GETNAME")).text(), "me");
    let mut real = shared::standalone().client();
    for line in ["HELLO 4", "HELLO 1", "HELLO x", "HELLO 3 NOSUCH", "HELLO 3 AUTH", "HELLO 3 SETNAME"] {
        let (want, got) = (real.raw(&words(line)), client.raw(&words(line)));
        assert_eq!(show(&got), show(&want), "{line}");
    }
    let proto = hello_fields(&client.ok(&words("HELLO"))).into_iter().find(|(n, _)| n == "proto");
    assert_eq!(proto.map(|(_, v)| v), Some(Value::Int(2)), "a refused HELLO changes nothing");
}

#[test]
fn switching_the_version_in_the_middle_of_a_pipeline_keeps_order_and_types() {
    need_redis!();
    let key = shared::unique("switch");
    let mut client = shared::client();
    client.ok(&cmd!["HSET", key, "f", "v"]);
    let get = cmd!["HGETALL", key];
    let (two, three) = (words("HELLO 2"), words("HELLO 3"));
    for round in 0..50 {
        let pipeline =
            [&get, &get, &three, &get, &get, &two, &get, &words("PING")].map(Vec::as_slice).concat();
        client.send(&pipeline);
        let replies = client.values(8);
        let kinds: String = replies
            .iter()
            .map(|v| match v {
                Value::Array(items) if items.len() == 2 => 'a',
                Value::Map(pairs) if pairs.len() == 1 => 'm',
                Value::Array(_) | Value::Map(_) => 'h',
                _ => '+',
            })
            .collect();
        assert_eq!(kinds, "aahmmha+", "round {round}: {replies:?}");
    }
}

#[test]
fn local_commands_answer_as_redis_does() {
    need_redis!();
    let mut real = shared::standalone().client();
    let mut through = shared::client();
    for line in [
        "SELECT 0",
        "SELECT x",
        "CLIENT SETNAME abc",
        "CLIENT GETNAME",
        "CLIENT SETNAME a\nb",
        "CLIENT NOSUCH",
        "ECHO",
        "ECHO a b",
        "COMMAND COUNT x",
        "COMMAND INFO get",
        "COMMAND INFO nosuch mget",
        "RESET",
        "CLIENT GETNAME",
        "TIME x",
        "CLIENT SETNAME",
        "CLIENT ID x",
    ] {
        let request = if line.contains('\n') { cmd!["CLIENT", "SETNAME", "a\nb"] } else { words(line) };
        let (want, got) = (real.raw(&request), through.raw(&request));
        assert_eq!(show(&got), show(&want), "{line}");
    }
    assert_eq!(through.call(&words("TIME")).items().len(), 2);
    let id = through.call(&words("CLIENT ID")).int();
    assert!(id > 0 && id != shared::client().call(&words("CLIENT ID")).int(), "ids are unique");
    assert!(through.call(&words("CLIENT INFO")).text().starts_with(&format!("id={id} ")));
    let info = through.call(&words("INFO")).text();
    for want in ["redis_version:", "redis_mode:standalone", "cluster_enabled:0", "loading:0"] {
        assert!(info.contains(want), "INFO has no {want}: {info}");
    }
    assert!(through.call(&words("SELECT 1")).is_error(), "a cluster has one database");
}
