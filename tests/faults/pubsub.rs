//! Subscriptions and what goes wrong at the nodes: they die, fail over, refuse, are silent, and slots move. A
//! subscription lives on without its client doing anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::path::pubsub::{message, nothing_more, subscribe};
use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::{key_in, slot};
use crate::support::node::{Answer, FakeCluster, Gate, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk};
use crate::support::{Stop, check, eventually, heavy, shared};

/// The confirmation of a subscription as a RESP3 node sends it.
pub fn confirmation(seen: &Seen) -> Vec<u8> {
    let word = seen.name().to_lowercase();
    [b">3\r\n".to_vec(), bulk(word.as_bytes()), bulk(&seen.args[1]), b":1\r\n".to_vec()].concat()
}

pub fn is_subscription(seen: &Seen) -> bool {
    matches!(seen.name().as_str(), "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE")
}

#[test]
fn a_subscription_is_confirmed_when_the_node_has_confirmed_it() {
    let fake = FakeCluster::start(2);
    let gate = Gate::default();
    let hold = gate.clone();
    fake.script(move |seen| match is_subscription(seen) {
        true => Answer::Hold(hold.clone(), confirmation(seen)),
        false => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let mut client = proxy.client();
    client.send(&[words("SUBSCRIBE a b"), words("PING")].concat());
    eventually("both are asked for", || check(fake.seen_named("SUBSCRIBE").len() == 2, fake.seen()));
    let mut other = proxy.client();
    other.send(&words("SUBSCRIBE a"));
    other.patience(Duration::from_millis(300));
    assert!(other.try_reply().is_err(), "confirmed too early");
    gate.open();
    assert_eq!(client.value().items()[2], Value::Int(1));
    assert_eq!(client.value().items()[2], Value::Int(2));
    assert_eq!(client.value().items()[0].text(), "pong", "what came behind waited for its turn");
    other.patience(Duration::from_secs(20));
    assert_eq!(other.value().items()[1].text(), "a");
    assert_eq!(fake.seen_named("SUBSCRIBE").len(), 2, "the second client costs the node nothing");
    for seen in fake.seen_named("SUBSCRIBE") {
        assert_eq!(seen.node, fake.owner(slot(&seen.args[1])), "{seen:?}");
    }
}

#[test]
fn what_a_node_refuses_is_refused_as_a_whole_in_its_own_words() {
    let fake = FakeCluster::start(1);
    fake.script(|seen| match (is_subscription(seen), seen.arg(1).as_str()) {
        (true, "secret") => {
            Answer::text("-NOPERM this user has no permissions to access one of the channels")
        }
        (true, _) => Answer::Reply(confirmation(seen)),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let mut client = proxy.client();
    let refused = client.call(&words("SUBSCRIBE open secret"));
    assert!(refused.error().starts_with("NOPERM this user"), "{refused:?}");
    assert_eq!(client.call(&words("ECHO x")), Value::Bulk(b"x".to_vec()), "it is no subscriber");
    eventually("the other one is given up", || {
        let left = fake.seen_named("UNSUBSCRIBE");
        check(left.len() == 1 && left[0].arg(1) == "open", left)
    });
    subscribe(&mut client, "SUBSCRIBE", &["open".to_owned()]);
}

#[test]
fn nodes_without_resp3_are_subscribed_to_in_resp2() {
    let fake = FakeCluster::start(1);
    fake.script(|seen| {
        let resp2 = |mut frame: Vec<u8>| {
            frame[0] = b'*';
            frame
        };
        match seen.name().as_str() {
            "HELLO" => Answer::text("-NOPROTO unsupported protocol version"),
            "SUBSCRIBE" => {
                let hello =
                    [b"*3\r\n".to_vec(), bulk(b"message"), bulk(&seen.args[1]), bulk(b"hello")].concat();
                Answer::Reply([resp2(confirmation(seen)), hello].concat())
            }
            _ => Answer::Standard,
        }
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let mut client = proxy.client();
    subscribe(&mut client, "SUBSCRIBE", &["a".to_owned()]);
    // What came with the confirmation may have been before the client was told.
    fake.disconnect(0);
    assert_eq!(message(&client.value()), ["message", "a", "hello"], "subscribed again");
}

#[test]
fn no_confirmation_within_owner_wait_is_an_error_and_leaves_nothing_behind() {
    let fake = FakeCluster::start(1);
    fake.script(|seen| if is_subscription(seen) { Answer::Never } else { Answer::Standard });
    let proxy = Proxy::start(fake.addrs(), &[("owner-wait", "1s"), ("workers", "1")]);
    let mut client = proxy.client();
    assert!(client.call(&words("SUBSCRIBE a")).error().starts_with("CLUSTERDOWN"));
    assert_eq!(client.call(&words("ECHO x")), Value::Bulk(b"x".to_vec()));
    eventually("nobody wants it", || check(fake.seen_named("UNSUBSCRIBE").len() == 1, fake.seen()));
}

/// The cluster bus may bring a message to the next home after the lost one has told it.
#[test]
fn what_the_lost_home_told_is_not_told_again_by_the_next() {
    let fake = FakeCluster::start(2);
    let name = key_in(0, "c");
    let told = |text: &str| {
        [b">3\r\n".to_vec(), bulk(b"smessage"), bulk(name.as_bytes()), bulk(text.as_bytes())].concat()
    };
    let (first, next) =
        ([told("a"), told("b")].concat(), [told("b"), told("b"), told("a"), told("c")].concat());
    let moved = format!("-MOVED {} {}", slot(name.as_bytes()), fake.addrs()[1]);
    let other = key_in(0, "other");
    let asked = AtomicU64::new(0);
    fake.script(move |seen| match (is_subscription(seen), seen.node) {
        (true, 0) if asked.load(Ordering::Relaxed) == 2 => Answer::text(&moved),
        (true, 0) => match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Reply(confirmation(seen)),
            _ => Answer::Reply([confirmation(seen), first.clone()].concat()),
        },
        (true, _) if seen.arg(1).starts_with('c') => {
            Answer::Reply([confirmation(seen), next.clone()].concat())
        }
        (true, _) => Answer::Reply(confirmation(seen)),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("workers", "1")]);
    let (mut client, mut behind) = (proxy.client(), proxy.client());
    subscribe(&mut client, "SSUBSCRIBE", std::slice::from_ref(&name));
    subscribe(&mut behind, "SSUBSCRIBE", &[other]);
    let mut texts = || message(&client.value()).pop();
    assert_eq!([texts(), texts()], [Some("a".to_owned()), Some("b".to_owned())]);
    fake.change_map(|map| map.assign(slot(name.as_bytes()), 1));
    fake.disconnect(0);
    assert_eq!([texts(), texts()], [Some("b".to_owned()), Some("c".to_owned())], "each echo once");
}

#[test]
fn links_that_nodes_close_are_made_again() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let names: Vec<String> = (0..60).map(|n| key_in(n * 270, &format!("n{n}:"))).collect();
    let patterns: Vec<String> = names.iter().map(|name| format!("p{name}*")).collect();
    let mut clients = [proxy.client(), proxy.client_resp3()];
    for client in &mut clients {
        subscribe(client, "SUBSCRIBE", &names);
        subscribe(client, "SSUBSCRIBE", &names);
        subscribe(client, "PSUBSCRIBE", &patterns);
    }
    for node in 0..3 {
        let killed = cluster.client(node).call(&words("CLIENT KILL TYPE pubsub")).int();
        assert!(killed >= 1, "{killed}");
    }
    let mut publisher = proxy.client();
    eventually("everything is subscribed again", || {
        let stands = |index: usize| {
            let mut node = cluster.client(index);
            let own: Vec<&String> =
                names.iter().filter(|name| cluster.initial_owner(slot(name.as_bytes())) == index).collect();
            let count = |node: &mut Client, command: &str| {
                let names = own.iter().map(|name| name.as_bytes());
                let args: Vec<&[u8]> =
                    [&b"PUBSUB"[..], command.as_bytes()].into_iter().chain(names).collect();
                let said = node.call(&crate::support::resp::frame(&args));
                said.items().chunks(2).all(|pair| pair[1] == Value::Int(2))
            };
            count(&mut node, "NUMSUB") && count(&mut node, "SHARDNUMSUB")
        };
        let patterns: i64 =
            (0..3).map(|index| cluster.client(index).call(&words("PUBSUB NUMPAT")).int()).sum();
        check((0..3).all(stands) && patterns == 60, patterns)
    });
    for name in &names {
        assert_eq!(publisher.call(&cmd!["PUBLISH", name, "x"]), Value::Int(2));
        assert_eq!(publisher.call(&cmd!["SPUBLISH", name, "x"]), Value::Int(2));
        assert_eq!(publisher.call(&cmd!["PUBLISH", format!("p{name}"), "x"]), Value::Int(2));
    }
    for client in &mut clients {
        client.values(180);
        nothing_more(client);
    }
}

/// Publishes until `client` hears of it: the first message it gets.
fn publish_until_heard(
    publisher: &mut Client,
    command: &str,
    channel: &str,
    client: &mut Client,
) -> Vec<String> {
    client.patience(Duration::from_millis(200));
    let heard = eventually(&format!("{command} {channel} is heard"), || {
        let reply = publisher.call(&cmd![command, channel, "again"]);
        client.try_reply().map_err(|error| format!("{error}; {reply:?}"))
    });
    client.patience(Duration::from_secs(20));
    message(&crate::support::resp::parse(&heard))
}

#[test]
fn subscriptions_survive_the_loss_of_their_node() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut cluster = RedisCluster::start(3, 1);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let name = key_in(cluster.slot_of(0), "c");
    let pattern = format!("*{}", &name[1..]);
    let connect = |command: &str, topic: &str| {
        let mut client = proxy.client();
        subscribe(&mut client, command, &[topic.to_owned()]);
        client
    };
    let mut plain = connect("SUBSCRIBE", &name);
    let mut sharded = connect("SSUBSCRIBE", &name);
    let mut by_pattern = connect("PSUBSCRIBE", &pattern);
    cluster.nodes[0].kill();
    let mut publisher = proxy.client();
    publisher.patience(Duration::from_secs(40));
    assert_eq!(publish_until_heard(&mut publisher, "PUBLISH", &name, &mut plain)[0], "message");
    assert_eq!(publish_until_heard(&mut publisher, "PUBLISH", &name, &mut by_pattern)[0], "pmessage");
    assert_eq!(publish_until_heard(&mut publisher, "SPUBLISH", &name, &mut sharded)[0], "smessage");
    // All of it goes on at the new owner, where it would have begun.
    let replica = cluster.replica_of(0);
    eventually("everything is at the new owner", || {
        let mut node = cluster.client(replica);
        let plain = node.call(&cmd!["PUBSUB", "NUMSUB", name]).items()[1].int();
        let sharded = node.call(&cmd!["PUBSUB", "SHARDNUMSUB", name]).items()[1].int();
        check((plain, sharded) == (1, 1), (plain, sharded))
    });
    for (client, command) in
        [(&mut plain, "PUBLISH"), (&mut sharded, "SPUBLISH"), (&mut by_pattern, "PUBLISH")]
    {
        publisher.ok(&cmd![command, name, "last"]);
        eventually("the last one comes, and comes once", || {
            let words = message(&client.value());
            check(words.last().is_some_and(|payload| payload == "last"), words)
        });
    }
}

#[test]
fn channels_go_on_elsewhere_while_their_owner_is_down() {
    need_redis!();
    let options = &["--cluster-require-full-coverage", "no"][..];
    let mut cluster = RedisCluster::shaped(&Shape { replicas_per: 0, options, ..Shape::default() });
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "1")]);
    let name = key_in(cluster.slot_of(0), "c");
    let mut client = proxy.client();
    subscribe(&mut client, "SUBSCRIBE", std::slice::from_ref(&name));
    let addr = cluster.nodes[0].addr();
    cluster.nodes[0].kill();
    let mut direct = cluster.client(1);
    assert_eq!(publish_until_heard(&mut direct, "PUBLISH", &name, &mut client), ["message", &name, "again"]);
    let mut late = proxy.client();
    subscribe(&mut late, "SUBSCRIBE", &[key_in(cluster.slot_of(0), "late")]);
    cluster.nodes[0].restart_at(addr);
    eventually("it goes home", || {
        let here = cluster.client(0).call(&cmd!["PUBSUB", "NUMSUB", name]).items()[1].int();
        let there = cluster.client(1).call(&cmd!["PUBSUB", "NUMSUB", name]).items()[1].int();
        check((here, there) == (1, 0), (here, there))
    });
}

/// Moves slots there and back while numbered messages are published through the proxy and at a node.
#[test]
fn no_message_is_lost_doubled_or_overtaken_while_slots_move() {
    need_redis!();
    let _one_at_a_time = heavy();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let moving = cluster.slot_of(0);
    let name = key_in(moving, "c");
    let mut plain = proxy.client();
    subscribe(&mut plain, "SUBSCRIBE", std::slice::from_ref(&name));
    let mut by_pattern = proxy.client_resp3();
    // A pattern lives in a slot, too.
    subscribe(&mut by_pattern, "PSUBSCRIBE", &[key_in(moving, "[c]")]);
    let (stop, sent) = (Stop::default(), [const { AtomicU64::new(0) }; 3]);
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        let publishers = [proxy.client(), cluster.client(1), cluster.client(2)];
        for (id, mut publisher) in publishers.into_iter().enumerate() {
            let (stop, sent, name) = (&stop, &sent, &name);
            scope.spawn(move || {
                while !stop.is_set() {
                    let n = sent[id].load(Ordering::Relaxed);
                    publisher.ok(&cmd!["PUBLISH", name, format!("{id}:{n}")]);
                    sent[id].store(n + 1, Ordering::Relaxed);
                    // Quiet moments are rare, but there are some.
                    std::thread::sleep(Duration::from_millis(if n % 20 == 0 { 150 } else { 1 }));
                }
            });
        }
        for round in 0..3 {
            for (from, to) in [(0, 1), (1, 2), (2, 0)] {
                cluster.move_slot(moving, from, to);
                let goal = sent[0].load(Ordering::Relaxed) + 60;
                eventually("messages flow", || {
                    let now = sent[0].load(Ordering::Relaxed);
                    check(now >= goal, (round, now))
                });
            }
        }
        stop.set();
    });
    let total: u64 = sent.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    for client in [&mut plain, &mut by_pattern] {
        let mut next = [0u64; 3];
        for _ in 0..total {
            let words = message(&client.value());
            let (id, n) = words.last().and_then(|payload| payload.split_once(':')).expect("a number");
            let (id, n): (usize, u64) = (id.parse().expect("an id"), n.parse().expect("a number"));
            assert_eq!(n, next[id], "publisher {id}, {words:?}");
            next[id] += 1;
        }
        nothing_more(client);
    }
    eventually("the channel is where its slot is, and only there", || {
        let at = |node: usize| cluster.client(node).call(&cmd!["PUBSUB", "NUMSUB", name]).items()[1].int();
        let seen = [at(0), at(1), at(2)];
        check(seen == [1, 0, 0], seen)
    });
}

#[test]
fn sharded_subscriptions_follow_their_slots() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    let slots: Vec<u16> = (0..6).map(|n| cluster.slot_of(0) + n).collect();
    let names: Vec<String> = slots.iter().map(|&slot| key_in(slot, "s")).collect();
    let mut clients = [proxy.client(), proxy.client_resp3()];
    for client in &mut clients {
        subscribe(client, "SSUBSCRIBE", &names);
    }
    let mut publisher = proxy.client();
    for (index, (&slot, name)) in slots.iter().zip(&names).enumerate() {
        let to = 1 + index % 2;
        cluster.move_slot(slot, 0, to);
        eventually("the new owner has it", || {
            let count = cluster.client(to).call(&cmd!["PUBSUB", "SHARDNUMSUB", name]).items()[1].int();
            check(count == 2, count)
        });
        assert_eq!(publisher.call(&cmd!["SPUBLISH", name, "moved"]), Value::Int(2));
    }
    for client in &mut clients {
        for name in &names {
            assert_eq!(message(&client.value()), ["smessage", name.as_str(), "moved"]);
        }
        nothing_more(client);
        // Unsubscribing where it is now.
        client.send(&cmd!["SUNSUBSCRIBE"]);
        let mut left: Vec<String> =
            client.values(names.len()).iter().map(|said| said.items()[1].text()).collect();
        left.sort();
        let mut all = names.clone();
        all.sort();
        assert_eq!(left, all);
    }
}

#[test]
fn a_frozen_node_is_left_by_its_channels() {
    need_redis!();
    let node_timeout = Duration::from_secs(60);
    let mut cluster = RedisCluster::shaped(&Shape { replicas_per: 0, node_timeout, ..Shape::default() });
    let keys = [("node-silence-timeout", "1s"), ("workers", "1"), ("probe-interval", "300ms")];
    let proxy = Proxy::start(&shared::seeds(&cluster), &keys);
    let name = key_in(cluster.slot_of(0), "c");
    let mut client = proxy.client();
    subscribe(&mut client, "SUBSCRIBE", std::slice::from_ref(&name));
    cluster.nodes[0].freeze();
    let mut direct = cluster.client(1);
    assert_eq!(publish_until_heard(&mut direct, "PUBLISH", &name, &mut client)[2], "again");
    cluster.nodes[0].thaw();
}
