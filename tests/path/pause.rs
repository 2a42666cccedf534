//! CLIENT PAUSE over two workers: what is held back, what goes through, and that nothing else suffers.

use std::time::{Duration, Instant};

use crate::support::client::{Client, words};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, show};
use crate::support::server::Server;
use crate::support::{check, eventually, shared};

fn proxy(keys: &[(&str, &str)]) -> Proxy {
    let keys: Vec<_> = keys.iter().copied().chain([("workers", "2")]).collect();
    Proxy::start(&shared::seeds(shared::cluster()), &keys)
}

/// Waits until `asking` sees so many clients held back.
fn held(asking: &mut Client, count: usize) {
    eventually("clients are held back", || {
        let list = asking.call(&words("CLIENT LIST")).text();
        check(list.matches(" flags=b ").count() == count, list)
    });
}

#[test]
fn writes_wait_and_reads_go_on() {
    need_redis!();
    let (real, proxy) = (Server::standalone(&[]), proxy(&[]));
    let key = shared::unique("pause");
    for addr in [real.addr(), proxy.addr()] {
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(addr)).collect();
        let [me, one, two, three] = clients.as_mut_slice() else { panic!("four") };
        // The stricter mode and the later end count; a second pause shortens nothing.
        for line in ["CLIENT PAUSE 600000 WRITE", "CLIENT PAUSE 1 write"] {
            assert_eq!(me.call(&words(line)), Value::Simple("OK".into()));
        }
        let set = words(&format!("SET {key} 1"));
        one.send(&[words("PING"), set.clone(), words("PING")].concat());
        assert_eq!(one.value(), Value::Simple("PONG".into()), "what comes before goes through");
        two.send(format!("INCR {key}\r\n").as_bytes());
        three.send(&cmd!["EVAL", "return 5", "1", key]);
        held(me, 3);
        for line in
            ["GET KEY", "EXISTS KEY", "NOSUCH", "SET KEY", "CLIENT INFO", "TTL KEY", "EVAL_RO return{} 1 KEY"]
        {
            me.call(&words(&line.replace("KEY", &key)));
        }
        assert_eq!(me.call(&words(&format!("EXISTS {key}"))), Value::Int(0), "nothing was written");
        assert_eq!(me.call(&words("CLIENT UNPAUSE")), Value::Simple("OK".into()));
        assert_eq!(one.values(2), [Value::Simple("OK".into()), Value::Simple("PONG".into())]);
        assert!(matches!(two.value(), Value::Int(1 | 2)));
        assert_eq!(three.value(), Value::Int(5));
        me.call(&words(&format!("DEL {key}")));
        assert_eq!(me.call(&set), Value::Simple("OK".into()));
    }
}

#[test]
fn each_write_and_what_may_become_one_is_held_back_as_in_redis() {
    need_redis!();
    let (real, proxy) = (Server::standalone(&[]), proxy(&[]));
    let key = shared::unique("held");
    let lines = [
        "APPEND K x",
        "PFADD K a",
        "PFCOUNT K",
        "SORT K",
        "GETEX K",
        "EVALSHA x 1 K",
        "FCALL f 1 K",
        "DEL K",
        "DEL K a b",
        "MSET K 1 a 2",
        "EXPIRE K 5",
        "SPOP K",
    ];
    let free = [
        "GET K",
        "SORT_RO K",
        "FCALL_RO f 1 K",
        "EVALSHA_RO x 1 K",
        "MGET K a",
        "OBJECT ENCODING K",
        "HELLO",
        "XREAD STREAMS K 0",
    ];
    for addr in [real.addr(), proxy.addr()] {
        let mut me = Client::connect(addr);
        me.ok(&words("CLIENT PAUSE 600000 WRITE"));
        let mut waiting: Vec<Client> = lines.iter().map(|_| Client::connect(addr)).collect();
        for (client, line) in waiting.iter_mut().zip(lines) {
            client.send(&words(&line.replace('K', &key)));
        }
        held(&mut me, lines.len());
        for line in free {
            me.call(&words(&line.replace('K', &key)));
        }
        me.ok(&words("CLIENT UNPAUSE"));
        waiting.iter_mut().for_each(|client| drop(client.value()));
        held(&mut me, 0);
    }
}

#[test]
fn all_wait_until_the_time_is_over_and_nothing_expires_meanwhile() {
    need_redis!();
    let real = Server::standalone(&[]);
    let proxy = proxy(&[
        ("request-deadline", "300ms"),
        ("client-stall-timeout", "300ms"),
        ("tryagain-wait", "100ms"),
        ("owner-wait", "100ms"),
    ]);
    let pause = Duration::from_millis(1500);
    for addr in [real.addr(), proxy.addr()] {
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(addr)).collect();
        let start = Instant::now();
        assert_eq!(clients[0].call(&words("CLIENT PAUSE 1500")), Value::Simple("OK".into()));
        // What would only get an error gets it at once, also while all is held back.
        assert!(clients[1].call(&words("NOSUCH")).error().starts_with("ERR unknown command"));
        assert!(clients[1].call(&words("GET")).error().starts_with("ERR wrong number"));
        for (client, line) in clients.iter_mut().zip(["CLIENT UNPAUSE", "PING", "GET nokey", "INFO server"]) {
            client.send(&[words(line), words("ECHO last")].concat());
        }
        for client in &mut clients {
            let first = client.value();
            assert!(!first.is_error(), "{first:?}");
            assert_eq!(client.value().text(), "last");
            assert!(start.elapsed() >= pause, "{:?} of {pause:?}", start.elapsed());
        }
    }
}

#[test]
fn a_client_held_back_can_be_killed_and_its_request_is_never_executed() {
    need_redis!();
    let proxy = proxy(&[]);
    let key = shared::unique("killed");
    let mut me = proxy.client();
    let mut waiting: Vec<Client> = (0..2).map(|_| proxy.client()).collect();
    let id = waiting[0].call(&words("CLIENT ID")).int();
    me.ok(&words("CLIENT PAUSE 600000 WRITE"));
    waiting[0].send(&words(&format!("SET {key} 1")));
    waiting[1].send(&words(&format!("EXISTS {key}:other")));
    waiting[1].value();
    held(&mut me, 1);
    assert_eq!(me.call(&words(&format!("CLIENT KILL ID {id}"))), Value::Int(1));
    assert_eq!(show(&waiting[0].rest()), show(b""));
    me.ok(&words("CLIENT UNPAUSE"));
    assert_eq!(me.call(&words(&format!("EXISTS {key}"))), Value::Int(0));
}

#[test]
fn the_stop_ends_the_pause() {
    need_redis!();
    let mut proxy = proxy(&[]);
    let key = shared::unique("stop");
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    clients[0].ok(&words("CLIENT PAUSE 600000 WRITE"));
    for client in &mut clients[1..] {
        client.send(&words(&format!("INCR {key}")));
    }
    held(&mut clients[0], 2);
    assert_eq!(proxy.terminate(), Some(0));
    let mut answers: Vec<Value> = clients[1..].iter_mut().map(Client::value).collect();
    answers.sort_by_key(Value::int);
    assert_eq!(answers, [Value::Int(1), Value::Int(2)]);
}
