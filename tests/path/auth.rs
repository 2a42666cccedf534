//! Passwords on both sides: what a client must say, and what a wrong upstream password leads to.

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::node::FakeCluster;
use crate::support::process::scratch_dir;
use crate::support::proxy::{Proxy, Setup};
use crate::support::resp::{Value, show};
use crate::support::server::Server;
use crate::support::{check, eventually, shared};

#[test]
fn clients_must_give_the_configured_password_first() {
    need_redis!();
    let real = Server::standalone(&["--requirepass", "secret"]);
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("client-password", "secret")]);
    let conversation = [
        "GET k",
        "SET k v",
        "PING",
        "ECHO x",
        "CLIENT ID",
        "COMMAND COUNT",
        "HELLO 3",
        "NOSUCH",
        "GET",
        "AUTH wrong",
        "AUTH default wrong",
        "AUTH nobody secret",
        "AUTH a b c",
        "AUTH",
        "HELLO 3 AUTH default wrong",
        "GET k",
        "AUTH default secret",
        "CLIENT SETNAME x",
        "RESET",
        "GET k",
        "AUTH secret",
        "PING",
    ];
    let mut through = proxy.client();
    let mut direct = Client::connect(real.addr());
    for line in conversation {
        let (want, got) = (direct.raw(&words(line)), through.raw(&words(line)));
        assert_eq!(show(&got), show(&want), "{line}");
    }
    assert_eq!(through.call(&words("SET k v")), Value::Simple("OK".into()));
    let before: Vec<_> = fake.seen_named("GET");
    assert!(before.is_empty(), "nothing reaches a node before AUTH: {before:?}");
    let mut at_once = proxy.client();
    at_once.send(&[words("HELLO 3 AUTH default secret SETNAME me"), words("CLIENT GETNAME")].concat());
    assert!(matches!(at_once.value(), Value::Map(_)));
    assert_eq!(at_once.value().text(), "me");
}

#[test]
fn unauthenticated_clients_may_not_announce_large_requests() {
    need_redis!();
    let real = Server::standalone(&["--requirepass", "secret"]);
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("client-password", "secret")]);
    for case in [&b"*11\r\n"[..], b"*2\r\n$20000\r\n"] {
        let (mut direct, mut through) = (Client::connect(real.addr()), proxy.client());
        direct.send(case);
        through.send(case);
        assert_eq!(show(&through.rest()), show(&direct.rest()), "{}", show(case));
    }
}

#[test]
fn auth_without_a_configured_password_is_answered_as_redis_does() {
    need_redis!();
    let mut real = shared::standalone().client();
    let mut through = shared::client();
    for line in ["AUTH x", "AUTH default x", "AUTH someone x", "AUTH"] {
        let (want, got) = (real.raw(&words(line)), through.raw(&words(line)));
        assert_eq!(show(&got), show(&want), "{line}");
    }
}

fn guarded_cluster() -> RedisCluster {
    let options = &["--requirepass", "upstream", "--masterauth", "upstream"][..];
    RedisCluster::shaped(&Shape { primaries: 1, replicas_per: 0, options, ..Shape::default() })
}

#[test]
fn wrong_upstream_password_is_the_stated_reason_for_not_being_ready() {
    need_redis!();
    let cluster = guarded_cluster();
    let seeds: Vec<String> = cluster.addrs().iter().map(ToString::to_string).collect();
    for (keys, reason) in [(vec![("upstream-password", "wrong")], "WRONGPASS"), (vec![], "NOAUTH")] {
        let proxy = Proxy::launch(&Setup { seeds: seeds.clone(), keys, wrapper: Vec::new() });
        eventually("the reason is told", || {
            let (status, body) = proxy.admin("/readyz?verbose");
            check(status == 503 && body.contains(reason), (status, body))
        });
        assert_eq!(proxy.admin("/readyz").0, 503);
        assert_eq!(proxy.admin("/livez").0, 200, "alive all the same");
        assert!(!proxy.log().contains("upstream-password=wrong"), "a secret in the log");
    }
}

#[test]
fn upstream_password_from_environment_or_file_opens_the_cluster() {
    need_redis!();
    let cluster = guarded_cluster();
    let file = scratch_dir("secret").join("password");
    std::fs::write(&file, "upstream\n").expect("a file");
    let file = file.to_str().expect("a path").to_owned();
    for keys in [
        vec![("upstream-password", "upstream")],
        vec![("upstream-password-file", file.as_str())],
        vec![("upstream-username", "default"), ("upstream-password", "upstream")],
    ] {
        let proxy = Proxy::start(&cluster.addrs(), &keys);
        let mut client = proxy.client();
        assert_eq!(client.call(&words("SET k v")), Value::Simple("OK".into()));
        assert_eq!(proxy.client_resp3().call(&words("GET k")).text(), "v");
    }
}

#[test]
fn more_clients_than_allowed_are_told_so() {
    let fake = FakeCluster::start(1);
    let proxy = Proxy::start(fake.addrs(), &[("max-clients", "5")]);
    let mut inside: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut inside {
        client.ok(&words("PING"));
    }
    let mut outside = proxy.client();
    assert_eq!(show(&outside.rest()), show(b"-ERR max number of clients reached\r\n"));
    inside.pop();
    eventually("a free place is given again", || {
        proxy
            .client()
            .try_raw(&words("PING"))
            .map_err(|e| e.to_string())
            .and_then(|r| check(r == b"+PONG\r\n", show(&r)))
    });
}
