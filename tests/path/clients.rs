//! CLIENT commands about other clients, which live on two workers: what a single Redis would do with them.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::support::client::{Client, words};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, show};
use crate::support::server::Server;
use crate::support::shared;

/// A proxy of one's own, for what concerns all clients; two workers.
fn proxy() -> Proxy {
    Proxy::start(&shared::seeds(shared::cluster()), &[("workers", "2")])
}

fn id(client: &mut Client) -> i64 {
    client.call(&words("CLIENT ID")).int()
}

/// Fields of the one line of CLIENT INFO, or of a line of CLIENT LIST.
fn fields(line: &str) -> HashMap<String, String> {
    let pairs =
        line.trim_start_matches("txt:").trim_end().split(' ').filter_map(|field| field.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn info(client: &mut Client) -> HashMap<String, String> {
    fields(&client.call(&words("CLIENT INFO")).text())
}

/// What CLIENT LIST with these options shows, by name, in no order.
fn listed(client: &mut Client, options: &str) -> Vec<String> {
    let text = client.call(&words(&format!("CLIENT LIST {options}"))).text();
    let mut names: Vec<String> = text.lines().map(|line| fields(line)["name"].clone()).collect();
    names.sort();
    names
}

/// Clients with names, so that they can be told apart.
fn crowd(addr: SocketAddr, names: &[&str]) -> Vec<Client> {
    let named = |name: &&str| {
        let mut client = Client::connect(addr);
        client.ok(&words(&format!("CLIENT SETNAME {name}")));
        client
    };
    names.iter().map(named).collect()
}

#[track_caller]
fn is_gone(client: &mut Client) {
    assert_eq!(show(&client.rest()), show(b""));
}

#[test]
fn kill_closes_whom_a_single_redis_would_close() {
    need_redis!();
    let (real, proxy) = (Server::standalone(&[]), proxy());
    for addr in [real.addr(), proxy.addr()] {
        let mut clients = crowd(addr, &["me", "a", "b", "c", "d", "e", "f"]);
        let ids: Vec<i64> = clients.iter_mut().map(id).collect();
        let addresses: Vec<String> = clients.iter_mut().map(|client| info(client)["addr"].clone()).collect();
        assert_eq!(addresses[2], clients[2].stream().local_addr().unwrap().to_string());
        let (me, others) = clients.split_first_mut().unwrap();
        assert_eq!(me.call(&words(&format!("CLIENT KILL ID {}", ids[1]))), Value::Int(1));
        is_gone(&mut others[0]);
        assert_eq!(me.call(&words(&format!("CLIENT KILL ID {}", ids[1]))), Value::Int(0));
        assert_eq!(listed(me, ""), ["b", "c", "d", "e", "f", "me"]);
        assert_eq!(me.call(&words(&format!("CLIENT KILL {}", addresses[2]))), Value::Simple("OK".into()));
        is_gone(&mut others[1]);
        assert_eq!(me.call(&words(&format!("CLIENT KILL {}", addresses[2]))).error(), "ERR No such client");
        let both = format!("CLIENT KILL ADDR {} ID {}", addresses[3], ids[4]);
        assert_eq!(me.call(&words(&both)), Value::Int(0), "all filters must fit");
        let both =
            format!("CLIENT KILL ADDR {} ID {} TYPE normal USER default LADDR {addr}", addresses[3], ids[3]);
        assert_eq!(me.call(&words(&both)), Value::Int(1));
        is_gone(&mut others[2]);
        let mine = format!("CLIENT KILL ID {}", ids[0]);
        assert_eq!(me.call(&words(&mine)), Value::Int(0), "SKIPME is yes");
        // One after the other in one write: the list knows of the kill.
        me.send(&[words("CLIENT KILL TYPE normal"), words("CLIENT LIST")].concat());
        assert_eq!(me.value(), Value::Int(3));
        assert_eq!(me.value().text().lines().count(), 1);
        others.iter_mut().skip(3).for_each(is_gone);
        assert_eq!(me.call(&words("PING")), Value::Simple("PONG".into()));
    }
}

#[test]
fn a_client_may_kill_itself_and_hears_of_it() {
    need_redis!();
    let (real, proxy) = (Server::standalone(&[]), proxy());
    let key = shared::unique("killed");
    for addr in [real.addr(), proxy.addr()] {
        let mut clients = crowd(addr, &["me", "a", "b"]);
        let address = info(&mut clients[1])["addr"].clone();
        clients[1].send(&[words(&format!("CLIENT KILL {address}")), words(&format!("SET {key} 1"))].concat());
        assert_eq!(show(&clients[1].rest()), show(b"+OK\r\n"), "what follows is not executed");
        assert_eq!(clients[0].call(&words(&format!("EXISTS {key}"))), Value::Int(0));
        clients[0].send(&words("CLIENT KILL TYPE normal SKIPME no"));
        assert_eq!(show(&clients[0].rest()), show(b":2\r\n"));
        is_gone(&mut clients[2]);
        let mut next = Client::connect(addr);
        assert_eq!(listed(&mut next, ""), [""]);
    }
}

#[test]
fn kill_by_age_spares_the_young() {
    need_redis!();
    let proxy = proxy();
    let mut clients = crowd(proxy.addr(), &["me", "a"]);
    assert_eq!(clients[0].call(&words("CLIENT KILL MAXAGE 3600")), Value::Int(0));
    for wrong in ["0", "-1", "x"] {
        let error = clients[0].call(&words(&format!("CLIENT KILL MAXAGE {wrong}")));
        assert_eq!(error.error(), "ERR maxage should be greater than 0");
    }
    crate::support::eventually("a second has passed", || {
        match clients[0].call(&words("CLIENT KILL MAXAGE 1")) {
            Value::Int(1) => Ok(()),
            other => Err(other),
        }
    });
    is_gone(&mut clients[1]);
}

#[test]
fn list_shows_the_clients_of_all_workers() {
    need_redis!();
    let (real, proxy) = (Server::standalone(&[]), proxy());
    for addr in [real.addr(), proxy.addr()] {
        let mut clients = crowd(addr, &["a", "b", "c", "d"]);
        let ids: Vec<i64> = clients.iter_mut().map(id).collect();
        let me = &mut clients[0];
        assert_eq!(listed(me, ""), ["a", "b", "c", "d"]);
        assert_eq!(listed(me, "TYPE normal"), ["a", "b", "c", "d"]);
        assert_eq!(listed(me, "TYPE pubsub"), [""; 0]);
        assert_eq!(listed(me, &format!("ID {} {} {} 99", ids[3], ids[1], ids[3])), ["b", "d", "d"]);
    }
}

/// Fields whose values differ by nature.
const OWN_VALUES: &[&str] =
    &["id", "addr", "laddr", "fd", "qbuf", "qbuf-free", "argv-mem", "rbs", "rbp", "tot-mem"];

#[test]
fn info_has_the_values_of_a_single_redis() {
    need_redis!();
    let (mut real, mut through) = (shared::standalone().client(), shared::client());
    for line in [
        "CLIENT SETNAME me",
        "CLIENT NO-EVICT on",
        "HELLO 3",
        "GET a",
        "NOSUCH",
        "RESET",
        "CLIENT NO-EVICT off",
        "OBJECT ENCODING nokey",
    ] {
        real.call(&words(line));
        through.call(&words(line));
        let (mut want, mut got) = (info(&mut real), info(&mut through));
        for name in OWN_VALUES.iter().chain(&["age", "idle"]) {
            assert!(want.remove(*name).is_some() && got.remove(*name).is_some(), "{name}");
        }
        assert_eq!(
            (got.remove("lib-name"), got.remove("lib-ver")),
            (Some(String::new()), Some(String::new()))
        );
        assert_eq!(got, want, "{line}");
    }
}

#[test]
fn settings_show_as_flags() {
    need_redis!();
    let mut client = shared::client();
    for (line, flags) in [
        ("CLIENT NO-TOUCH on", "T"),
        ("READONLY", "rT"),
        ("CLIENT NO-EVICT on", "reT"),
        ("ASKING", "reT"),
        ("READWRITE", "eT"),
        ("READONLY", "reT"),
        ("RESET", "e"),
        ("CLIENT NO-EVICT off", "N"),
    ] {
        client.ok(&words(line));
        assert_eq!(info(&mut client)["flags"], flags, "{line}");
    }
}

/// Subscribers and clients that wait: seen as such, closed, and silent only as far as Redis is.
#[test]
fn subscribed_and_waiting_clients_are_told_apart_and_closed() {
    need_redis!();
    let (real, proxy) = (Server::standalone(&[]), proxy());
    let key = shared::unique("waits");
    for addr in [real.addr(), proxy.addr()] {
        let mut clients = crowd(addr, &["me", "plain", "sub", "sub3", "waits"]);
        clients[2].call(&words("SUBSCRIBE a"));
        clients[3].call(&words("HELLO 3"));
        clients[3].call(&words("PSUBSCRIBE b*"));
        clients[4].send(&words(&format!("BLPOP {key} 0")));
        let (me, others) = clients.split_first_mut().unwrap();
        crate::support::eventually("one waits", || {
            let list = me.call(&words("CLIENT LIST")).text();
            crate::support::check(list.contains(" name=waits ") && list.contains(" flags=b "), list)
        });
        assert_eq!(listed(me, "TYPE pubsub"), ["sub", "sub3"]);
        assert_eq!(listed(me, "TYPE normal"), ["me", "plain", "waits"]);
        assert_eq!(me.call(&words("CLIENT KILL TYPE pubsub")), Value::Int(2));
        is_gone(&mut others[1]);
        is_gone(&mut others[2]);
        assert_eq!(listed(me, "TYPE pubsub"), [""; 0]);
        assert_eq!(me.call(&words("CLIENT KILL TYPE normal")), Value::Int(2));
        is_gone(&mut others[3]);
        // Nobody waits any more: what is pushed stays.
        me.ok(&words(&format!("RPUSH {key} x")));
        assert_eq!(me.call(&words(&format!("LLEN {key}"))), Value::Int(1));
        me.ok(&words(&format!("DEL {key}")));
    }
}

#[test]
fn reply_off_silences_replies_and_no_pushes() {
    need_redis!();
    let real = Server::standalone(&[]);
    let channel = shared::unique("loud");
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut seen = Vec::new();
        for addr in [real.addr(), shared::proxy().addr()] {
            let (mut client, mut publisher) = (Client::connect(addr), Client::connect(addr));
            client.ok(&words(hello));
            client.send(&words("CLIENT REPLY OFF"));
            client.send(&words(&format!("SUBSCRIBE {channel}")));
            let mut all = vec![show(&client.reply())];
            publisher.ok(&words(&format!("PUBLISH {channel} hi")));
            all.push(show(&client.reply()));
            client.send(&words(&format!("UNSUBSCRIBE {channel}")));
            all.push(show(&client.reply()));
            client.send(&[words("PING"), words("CLIENT REPLY ON"), words("PING x")].concat());
            all.extend([show(&client.reply()), show(&client.reply())]);
            seen.push(all);
        }
        assert_eq!(seen[1], seen[0], "{hello}");
    }
}
