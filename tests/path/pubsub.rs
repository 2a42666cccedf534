//! Publish and subscribe give the bytes of a single Redis, in RESP2 and RESP3, over any mix of slots on one
//! connection, in order, each message once; many subscribers of one channel cost few connections to the nodes.

use std::collections::HashMap;

use super::pubsub_scripts::{Step, compare};
use crate::support::client::{Client, words};
use crate::support::keys::{key_in, slot};
use crate::support::resp::{Value, frame};
use crate::support::{check, eventually, shared};

#[test]
fn a_transaction_may_publish_but_not_subscribe() {
    need_redis!();
    let mut client = shared::client();
    client.ok(&words("MULTI"));
    let refused = client.call(&words("SUBSCRIBE a"));
    assert!(refused.error().starts_with("ERR slotway: not inside a transaction: 'subscribe' "));
    assert!(client.call(&words("EXEC")).error().starts_with("EXECABORT"));
}

/// The parts of a message: kind, channel or pattern, (channel,) payload.
pub fn message(value: &Value) -> Vec<String> {
    value.items().iter().map(Value::text).collect()
}

/// Subscribes, and reads the confirmations.
#[track_caller]
pub fn subscribe(client: &mut Client, command: &str, names: &[String]) {
    let args: Vec<&[u8]> =
        std::iter::once(command.as_bytes()).chain(names.iter().map(String::as_bytes)).collect();
    client.send(&frame(&args));
    for name in names {
        let said = client.value();
        assert!(!said.is_error(), "{said:?}");
        assert_eq!(said.items()[1].text(), *name);
    }
}

/// Nothing has come but what was read: the next thing is the answer to a PING, in RESP2 that of a subscriber.
#[track_caller]
pub fn nothing_more(client: &mut Client) {
    let answer = client.call(&words("PING"));
    let pong = Value::Array(vec![Value::Bulk(b"pong".to_vec()), Value::Bulk(Vec::new())]);
    assert!(answer == pong || answer == Value::Simple("PONG".into()), "{answer:?}");
}

#[test]
fn every_kind_over_many_slots_on_one_connection_brings_each_message_once() {
    need_redis!();
    let name = shared::unique("mixed");
    let channels: Vec<String> = (0..300).map(|n| key_in(n * 54, &format!("{name}:c:{n}:"))).collect();
    let shards: Vec<String> = (0..300).map(|n| key_in(n * 54 + 7, &format!("{name}:s:{n}:"))).collect();
    let patterns: Vec<String> = (0..30).map(|n| format!("{name}:p:{n}:*")).collect();
    for mut client in [shared::client(), shared::proxy().client_resp3()] {
        subscribe(&mut client, "SUBSCRIBE", &channels);
        subscribe(&mut client, "SSUBSCRIBE", &shards);
        subscribe(&mut client, "PSUBSCRIBE", &patterns);
        let mut publisher = shared::client();
        let mut want: Vec<Vec<String>> = Vec::new();
        let mut publish = |command: &str, channel: &str, subscribed: &[&str]| {
            let payload = format!("to {channel}");
            publisher.ok(&cmd![command, channel, payload]);
            let words = [subscribed, &[channel, payload.as_str()]].concat();
            want.push(words.into_iter().map(str::to_owned).collect());
        };
        channels.iter().for_each(|channel| publish("PUBLISH", channel, &["message"]));
        shards.iter().for_each(|channel| publish("SPUBLISH", channel, &["smessage"]));
        for pattern in &patterns {
            for n in 0..10 {
                let channel = key_in(n * 1600, &pattern.replace('*', &format!("{n}")));
                publish("PUBLISH", &channel, &["pmessage", pattern.as_str()]);
            }
        }
        let mut got: Vec<Vec<String>> = client.values(want.len()).iter().map(message).collect();
        got.sort();
        want.sort();
        assert_eq!(got, want);
        nothing_more(&mut client);
    }
}

#[test]
fn messages_of_a_publisher_come_in_order_on_each_channel() {
    need_redis!();
    const EACH: usize = 3000;
    let name = shared::unique("order");
    let channels: Vec<String> = (0..8).map(|n| key_in(n * 2040 + 11, &format!("{name}:{n}:"))).collect();
    let mut by_channel = shared::client();
    subscribe(&mut by_channel, "SUBSCRIBE", &channels);
    let mut by_pattern = shared::proxy().client_resp3();
    subscribe(&mut by_pattern, "PSUBSCRIBE", &[format!("{name}:*")]);
    let mut sharded = shared::client();
    subscribe(&mut sharded, "SSUBSCRIBE", &channels);
    std::thread::scope(|scope| {
        for publisher in 0..4 {
            let channels = &channels;
            scope.spawn(move || {
                let mut client = shared::client();
                for from in (0..EACH).step_by(100) {
                    let request = |n: usize| {
                        let (channel, payload) =
                            (&channels[(n * 7 + publisher) % 8], format!("{publisher}:{n}"));
                        [cmd!["PUBLISH", channel, payload], cmd!["SPUBLISH", channel, payload]].concat()
                    };
                    client.send(&(from..from + 100).flat_map(request).collect::<Vec<u8>>());
                    client.values(200).iter().for_each(|count| assert!(count.int() >= 1, "{count:?}"));
                }
            });
        }
        for client in [&mut by_channel, &mut by_pattern, &mut sharded] {
            scope.spawn(move || {
                let mut last: HashMap<(String, String), usize> = HashMap::new();
                for _ in 0..4 * EACH {
                    let words = message(&client.value());
                    let (channel, payload) = (&words[words.len() - 2], &words[words.len() - 1]);
                    let (publisher, n) = payload.split_once(':').expect("a number");
                    let n: usize = n.parse().expect("a number");
                    let before = last.insert((channel.clone(), publisher.to_owned()), n);
                    assert!(before.is_none_or(|before| before + 8 == n), "{before:?}, then {words:?}");
                }
                nothing_more(client);
            });
        }
    });
}

#[test]
fn subscribers_share_upstream_subscriptions_and_every_count_is_of_clients() {
    need_redis!();
    let channel = shared::unique("shared");
    let owner = shared::cluster().initial_owner(slot(channel.as_bytes()));
    let mut node = shared::cluster().client(owner);
    let mut upstream = |command: &str| node.call(&cmd!["PUBSUB", command, channel]).items()[1].int();
    let mut publisher = shared::client();
    let mut clients: Vec<Client> = (0..9).map(|_| shared::client()).collect();
    for client in &mut clients {
        subscribe(client, "SUBSCRIBE", std::slice::from_ref(&channel));
        subscribe(client, "SSUBSCRIBE", std::slice::from_ref(&channel));
    }
    let mut by_pattern = shared::client();
    subscribe(&mut by_pattern, "PSUBSCRIBE", &[format!("{channel}*"), format!("[s]{}", &channel[1..])]);
    // Two workers.
    assert_eq!((upstream("NUMSUB"), upstream("SHARDNUMSUB")), (2, 2));
    assert_eq!(publisher.call(&cmd!["PUBLISH", channel, "x"]), Value::Int(11));
    assert_eq!(publisher.call(&cmd!["SPUBLISH", channel, "x"]), Value::Int(9));
    // Somebody who is not ours.
    let mut direct = shared::cluster().client(owner);
    subscribe(&mut direct, "SUBSCRIBE", std::slice::from_ref(&channel));
    assert_eq!(publisher.call(&cmd!["PUBLISH", channel, "x"]), Value::Int(12));
    let pair = |count| Value::Array(vec![Value::Bulk(channel.clone().into_bytes()), Value::Int(count)]);
    assert_eq!(publisher.call(&cmd!["PUBSUB", "NUMSUB", channel]), pair(10));
    assert_eq!(publisher.call(&cmd!["PUBSUB", "SHARDNUMSUB", channel]), pair(9));
    let one = Value::Array(vec![Value::Bulk(channel.clone().into_bytes())]);
    assert_eq!(publisher.call(&cmd!["PUBSUB", "CHANNELS", format!("{channel}*")]), one);
    assert_eq!(publisher.call(&cmd!["PUBSUB", "SHARDCHANNELS", format!("{channel}*")]), one);
    drop(direct);
    for client in &mut clients[1..] {
        client.send(&[cmd!["UNSUBSCRIBE"], cmd!["SUNSUBSCRIBE"]].concat());
    }
    drop(by_pattern);
    eventually("one is left", || {
        let left =
            (publisher.call(&cmd!["PUBLISH", channel, "x"]), publisher.call(&cmd!["SPUBLISH", channel, "x"]));
        check(left == (Value::Int(1), Value::Int(1)), left)
    });
    // Both of the way a client can leave.
    clients[0].send(&cmd!["UNSUBSCRIBE", channel]);
    drop(clients);
    eventually("nothing is left upstream", || {
        let left = (upstream("NUMSUB"), upstream("SHARDNUMSUB"));
        check(left == (0, 0), left)
    });
}

/// A PUBLISH behind the answer to an UNSUBSCRIBE counts right, whoever sends it, with and without receivers that are
/// not ours.
#[test]
fn a_count_behind_the_end_of_a_subscription_is_right() {
    need_redis!();
    let name = shared::unique("ended");
    let channels: Vec<String> = (0..3).map(|n| key_in(n * 5000 + 9, &format!("{name}:{n}:"))).collect();
    let mut publishers = [shared::client(), shared::client()];
    for round in 0..60 {
        let mut direct: Vec<Client> = Vec::new();
        if round % 2 == 1 {
            for channel in &channels {
                let owner = shared::cluster().initial_owner(slot(channel.as_bytes()));
                direct.push(shared::cluster().client(owner));
                let direct = direct.last_mut().expect("just pushed");
                subscribe(direct, "SUBSCRIBE", std::slice::from_ref(channel));
                subscribe(direct, "SSUBSCRIBE", std::slice::from_ref(channel));
            }
        }
        let others = direct.len() as i64 / channels.len() as i64;
        let mut client = if round % 4 < 2 { shared::client() } else { shared::proxy().client_resp3() };
        let patterns: Vec<String> = channels.iter().map(|channel| format!("{channel}*")).collect();
        subscribe(&mut client, "SUBSCRIBE", &channels);
        subscribe(&mut client, "PSUBSCRIBE", &patterns);
        subscribe(&mut client, "SSUBSCRIBE", &channels);
        let mut publish = |command: &str, n: usize| {
            publishers[(n + round / 4) % 2].call(&cmd![command, channels[n], "x"]).int()
        };
        client.send(&words("UNSUBSCRIBE"));
        client.values(channels.len());
        assert_eq!([0, 1, 2].map(|n| publish("PUBLISH", n)), [1 + others; 3], "its pattern is left");
        client.values(channels.len());
        subscribe(&mut client, "PUNSUBSCRIBE", &patterns);
        assert_eq!([2, 0, 1].map(|n| publish("PUBLISH", n)), [others; 3]);
        client.send(&words("SUNSUBSCRIBE"));
        client.values(channels.len());
        assert_eq!([1, 0, 2].map(|n| publish("SPUBLISH", n)), [others; 3]);
        assert_eq!(client.call(&cmd!["ECHO", "x"]), Value::Bulk(b"x".to_vec()));
        drop(direct);
        let node = |n: usize| {
            shared::cluster().client(shared::cluster().initial_owner(slot(channels[n].as_bytes())))
        };
        eventually("those that are not ours have left", || {
            let left =
                [0, 1, 2].map(|n| node(n).call(&cmd!["PUBSUB", "NUMSUB", channels[n]]).items()[1].int());
            check(left == [0; 3], left)
        });
    }
}

#[test]
fn client_list_tells_of_subscriptions() {
    need_redis!();
    let name = shared::unique("list");
    for mut client in [shared::client(), shared::proxy().client_resp3()] {
        let id = client.call(&words("CLIENT ID")).int().to_string();
        subscribe(&mut client, "SUBSCRIBE", &[format!("{name}a"), format!("{name}b")]);
        subscribe(&mut client, "PSUBSCRIBE", &[format!("{name}*")]);
        subscribe(&mut client, "SSUBSCRIBE", std::slice::from_ref(&name));
        let line = shared::client().call(&cmd!["CLIENT", "LIST", "ID", id]).text();
        assert!(line.contains(" flags=P ") && line.contains(" sub=2 psub=1 ssub=1 "), "{line}");
        let of_kind = shared::client().call(&words("CLIENT LIST TYPE pubsub")).text();
        assert!(of_kind.contains(&format!("id={id} ")), "{of_kind}");
    }
}

#[test]
fn the_version_may_change_while_subscribed() {
    need_redis!();
    let name = shared::unique("hello");
    let mut client = shared::proxy().client_resp3();
    subscribe(&mut client, "SUBSCRIBE", std::slice::from_ref(&name));
    let mut publisher = shared::client();
    publisher.ok(&cmd!["PUBLISH", name, "three"]);
    assert!(matches!(client.value(), Value::Push(_)));
    assert!(matches!(client.call(&words("HELLO 2")), Value::Array(_)));
    publisher.ok(&cmd!["PUBLISH", name, "two"]);
    assert!(matches!(client.value(), Value::Array(_)));
    assert!(client.call(&words("HELLO 3")).error().starts_with("ERR Can't execute 'hello'"));
    assert!(client.call(&words("GET x")).error().starts_with("ERR Can't execute 'get'"));
    subscribe(&mut client, "UNSUBSCRIBE", &[name]);
    assert!(matches!(client.call(&words("HELLO 3")), Value::Map(_)));
}

#[test]
fn messages_come_between_replies_never_inside_one() {
    need_redis!();
    let name = shared::unique("between");
    let mut client = shared::proxy().client_resp3();
    let value = vec![b'v'; 3 << 20];
    client.ok(&cmd!["SET", name, value]);
    subscribe(&mut client, "SUBSCRIBE", std::slice::from_ref(&name));
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut publisher = shared::client();
            for n in 0..400 {
                let payload = vec![b'a' + (n % 26) as u8; [10, 3000, 40_000][n % 3]];
                publisher.ok(&cmd!["PUBLISH", name, payload]);
            }
        });
        let mut messages = 0;
        for _ in 0..30 {
            client.send(&[cmd!["GET", name], cmd!["STRLEN", name]].concat());
            for wanted in [Value::Bulk(value.clone()), Value::Int(3 << 20)] {
                loop {
                    match client.value() {
                        Value::Push(_) => messages += 1,
                        reply => {
                            assert!(reply == wanted, "another reply");
                            break;
                        }
                    }
                }
            }
        }
        publisher.join().expect("publisher");
        for _ in messages..400 {
            assert!(matches!(client.value(), Value::Push(_)));
        }
        nothing_more(&mut client);
    });
}

#[test]
fn confirmations_and_messages_are_no_replies() {
    need_redis!();
    let script: &[Step] = &[
        (0, "CLIENT REPLY OFF", &[]),
        (0, "GET @k", &[]),
        (0, "SUBSCRIBE @a", &[(0, 1)]),
        (1, "PUBLISH @a text", &[(1, 1), (0, 1)]),
        (0, "SSUBSCRIBE @b @c", &[(0, 2)]),
        (0, "SUNSUBSCRIBE @b", &[(0, 1)]),
        (0, "SUBSCRIBE @a", &[(0, 1)]),
    ];
    let muted: &[Step] = &[
        (0, "PING", &[]),
        (0, "CLIENT REPLY ON", &[(0, 1)]),
        (0, "PING", &[(0, 1)]),
        (0, "CLIENT REPLY SKIP", &[]),
        (0, "SUBSCRIBE @d", &[(0, 1)]),
        (0, "PING", &[(0, 1)]),
    ];
    let whole = [script, muted].concat();
    compare(&[script], || shared::standalone().client(), shared::client);
    let real = || Client::connect_resp3(shared::standalone().addr());
    compare(&[&whole], real, || shared::proxy().client_resp3());
}
