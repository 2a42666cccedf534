//! To a cluster-aware client the proxy is a cluster of one node that owns every slot: CLUSTER answers as such
//! a node does, and redis-cli works in both of its modes.

use std::process::Command;

use crate::support::client::{Client, words};
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, show};
use crate::support::server::Server;
use crate::support::shared;

/// A real cluster of one node.
fn one_node() -> Server {
    let options = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"];
    let server = Server::standalone(&options);
    server.client().ok(&words("CLUSTER ADDSLOTSRANGE 0 16383"));
    crate::support::eventually("the cluster is up", || {
        let info = server.client().call(&words("CLUSTER INFO")).text();
        crate::support::check(info.contains("cluster_state:ok"), info)
    });
    server
}

/// The reply with the node's id and port replaced; the cluster bus, which only one of them has, left out.
fn masked(client: &mut Client, line: &str) -> String {
    let id = client.call(&words("CLUSTER MYID")).text();
    let port = client.stream().peer_addr().unwrap().port();
    let reply = String::from_utf8(client.raw(&words(&line.replace("ME", &id)))).unwrap();
    let reply = reply.replace(&id, "ME").replace(&format!("@{}", u32::from(port) + 10_000), "@0");
    let reply = reply.replace(&port.to_string(), "PORT");
    // The length of a text with a longer bus port differs.
    match reply.split_once("\r\n") {
        Some((header, text)) if text.contains("myself") => format!("{}\n{text}", &header[..1]),
        _ => reply,
    }
}

#[test]
fn cluster_commands_describe_one_node_as_a_real_one_does() {
    need_redis!();
    let real = one_node();
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut direct, mut through) = (real.client(), shared::client());
        direct.ok(&words(hello));
        through.ok(&words(hello));
        for line in [
            "CLUSTER SLOTS",
            "CLUSTER SHARDS",
            "CLUSTER NODES",
            "CLUSTER INFO",
            "CLUSTER MYID",
            "CLUSTER LINKS",
            "CLUSTER REPLICAS ME",
            "CLUSTER SLAVES ME",
            "CLUSTER REPLICAS nobody",
            "CLUSTER SLAVES nobody",
            "CLUSTER COUNT-FAILURE-REPORTS ME",
            "CLUSTER COUNT-FAILURE-REPORTS nobody",
            "CLUSTER KEYSLOT {a}b",
            "CLUSTER COUNTKEYSINSLOT x",
            "CLUSTER COUNTKEYSINSLOT 16384",
            "CLUSTER COUNTKEYSINSLOT -1",
            "CLUSTER GETKEYSINSLOT 0 x",
            "CLUSTER GETKEYSINSLOT x 1",
            "CLUSTER GETKEYSINSLOT 16384 1",
            "CLUSTER GETKEYSINSLOT 1 -1",
            "READONLY",
            "READWRITE",
            "ASKING",
        ] {
            assert_eq!(masked(&mut through, line), masked(&mut direct, line), "{hello}: {line}");
        }
    }
    let shard = shared::client().call(&words("CLUSTER MYSHARDID")).text();
    assert_eq!(shard.len(), 40);
}

#[test]
fn keys_of_a_slot_are_asked_at_its_owner() {
    need_redis!();
    let mut client = shared::client();
    // One on each shard; hardly anybody else uses them.
    for slot in [5_432_u16, 10_901, 16_201] {
        let keys: Vec<String> = (0..3).map(|n| key_in(slot, &format!("inslot:{n}"))).collect();
        let count = words(&format!("CLUSTER COUNTKEYSINSLOT {slot}"));
        let before = client.call(&count).int();
        keys.iter().for_each(|key| drop(client.ok(&cmd!["SET", key, "v"])));
        assert_eq!(client.call(&count), Value::Int(before + 3));
        let reply = client.call(&words(&format!("CLUSTER GETKEYSINSLOT {slot} 10")));
        let mut found: Vec<String> = reply.items().iter().map(Value::text).collect();
        found.retain(|key| keys.contains(key));
        found.sort();
        assert_eq!(found, keys);
    }
}

#[test]
fn the_announced_address_is_told_and_names_the_node() {
    need_redis!();
    let seeds = shared::seeds(shared::cluster());
    let named = [("announce-address", "slotway.example:7000")];
    let proxies = [Proxy::start(&seeds, &named), Proxy::start(&seeds, &named)];
    let mut ids: Vec<String> =
        proxies.iter().map(|proxy| proxy.client().call(&words("CLUSTER MYID")).text()).collect();
    assert_eq!(ids[0], ids[1], "all instances behind one address are one node");
    let mut client = proxies[0].client();
    let slots = client.raw(&words("CLUSTER SLOTS"));
    let id = ids.remove(0);
    let expected =
        format!("*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$20\r\nslotway.example\r\n:7000\r\n$40\r\n{id}\r\n*0\r\n");
    assert_eq!(show(&slots), show(expected.replace("$20", "$15").as_bytes()));
    let nodes = client.call(&words("CLUSTER NODES")).text();
    assert_eq!(
        nodes,
        format!("{id} slotway.example:7000@0,slotway.example myself,master - 0 0 0 connected 0-16383\n")
    );
    let shards = client.call(&words("CLUSTER SHARDS"));
    let node = shards.items()[0].items()[3].items()[0].items().to_vec();
    let field = |name: &str| {
        let at = node.iter().position(|v| matches!(v, Value::Bulk(b) if b == name.as_bytes())).expect(name);
        node[at + 1].clone()
    };
    assert_eq!(
        (field("endpoint").text(), field("hostname").text()),
        ("slotway.example".into(), "slotway.example".into())
    );
    assert_eq!((field("ip").text(), field("port")), (String::new(), Value::Int(7000)));
    assert_ne!(shared::client().call(&words("CLUSTER MYID")).text(), id);
}

fn redis_cli(args: &[&str]) -> Option<String> {
    let port = shared::proxy().addr().port().to_string();
    let output = Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &port]).args(args).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[test]
fn redis_cli_works_in_both_modes() {
    need_redis!();
    if redis_cli(&["PING"]).is_none() {
        crate::support::leave_out("redis-cli is not on PATH");
        return;
    }
    for mode in [&[][..], &["-c"], &["-3"], &["-c", "-3"]] {
        let run = |line: &str| {
            let args: Vec<&str> = mode.iter().copied().chain(line.split(' ')).collect();
            redis_cli(&args).expect("redis-cli")
        };
        let key = shared::unique("cli");
        for n in 0..5 {
            assert_eq!(run(&format!("SET {key}:{n} v{n}")), "OK", "{mode:?}");
            assert_eq!(run(&format!("GET {key}:{n}")), format!("v{n}"), "{mode:?}");
        }
        assert_eq!(run(&format!("DEL {key}:0 {key}:1 {key}:2")), "3", "{mode:?}");
        assert!(run("CLUSTER NODES").contains("myself,master"), "{mode:?}");
        assert!(run("INFO server").contains("redis_mode:standalone"), "{mode:?}");
        assert!(run("CLIENT LIST").contains(" cmd=client|list "), "{mode:?}");
        assert!(run("CLUSTER HELP").contains("KEYSLOT"), "{mode:?}");
    }
}
