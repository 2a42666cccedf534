//! Client-side caching: an invalidation arrives for what this client read, from whichever node, in every mode;
//! what Redis refuses is refused in its words. MONITOR shows the commands of all shards.

use crate::support::client::Client;
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::frame;
use crate::support::shared;

fn line(text: &str) -> Vec<u8> {
    frame(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn invalidation(key: &str) -> String {
    format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n${}\r\n{key}\r\n", key.len())
}

/// A key on each shard, with a value.
fn keys(name: &str) -> Vec<String> {
    let cluster = shared::cluster();
    let name = shared::unique(name);
    let keys: Vec<String> = (0..3).map(|index| key_in(cluster.slot_of(index), &name)).collect();
    let mut client = shared::client();
    keys.iter().for_each(|key| drop(client.ok(&line(&format!("SET {key} v")))));
    keys
}

/// Nothing was pushed: the reply to a PING comes next.
fn hears_nothing(client: &mut Client) {
    assert_eq!(text(&client.raw(&line("PING still"))), "$5\r\nstill\r\n");
}

#[test]
fn invalidations_come_from_every_shard_for_what_was_read() {
    let (mut reader, mut writer) = (shared::proxy().client_resp3(), shared::client());
    assert_eq!(text(&reader.raw(&line("CLIENT TRACKING ON"))), "+OK\r\n");
    let keys = keys("track");
    for key in &keys {
        assert_eq!(text(&reader.raw(&line(&format!("GET {key}")))), "$1\r\nv\r\n");
    }
    for key in &keys {
        writer.ok(&line(&format!("SET {key} w")));
        assert_eq!(text(&reader.reply()), invalidation(key));
    }
    // Once told, no more before the next read; MGET over all shards is a read of each.
    writer.ok(&line(&format!("SET {} x", keys[0])));
    hears_nothing(&mut reader);
    reader.ok(&line(&format!("MGET {}", keys.join(" "))));
    for key in &keys {
        writer.ok(&line(&format!("APPEND {key} y")));
        assert_eq!(text(&reader.reply()), invalidation(key));
    }
    reader.ok(&line(&format!("GET {}", keys[1])));
    assert_eq!(text(&reader.raw(&line("CLIENT TRACKING OFF"))), "+OK\r\n");
    writer.ok(&line(&format!("SET {} z", keys[1])));
    hears_nothing(&mut reader);
    reader.ok(&line(&format!("GET {}", keys[1])));
}

#[test]
fn broadcast_by_prefix_needs_no_read() {
    let (mut reader, mut writer) = (shared::proxy().client_resp3(), shared::client());
    let keys = keys("bcast");
    let prefix = keys[0].split('{').next().unwrap().to_owned();
    reader.ok(&line(&format!("CLIENT TRACKING ON BCAST PREFIX {prefix}")));
    for key in &keys {
        writer.ok(&line(&format!("SET {key} w")));
        assert_eq!(text(&reader.reply()), invalidation(key));
    }
    writer.ok(&line("SET another-prefix w"));
    hears_nothing(&mut reader);
    // More prefixes: what was known is invalid as a whole, then all of them count.
    reader.send(&line("CLIENT TRACKING ON BCAST PREFIX zz-other:"));
    assert_eq!(text(&reader.reply()), ">2\r\n$10\r\ninvalidate\r\n_\r\n");
    assert_eq!(text(&reader.reply()), "+OK\r\n");
    writer.ok(&line("SET zz-other:1 w"));
    assert_eq!(text(&reader.reply()), invalidation("zz-other:1"));
    writer.ok(&line(&format!("SET {} w", keys[2])));
    assert_eq!(text(&reader.reply()), invalidation(&keys[2]));
}

#[test]
fn optin_and_optout_follow_client_caching() {
    let mut writer = shared::client();
    let keys = keys("opt");
    let mut reader = shared::proxy().client_resp3();
    reader.ok(&line("CLIENT TRACKING ON OPTIN"));
    reader.ok(&line(&format!("GET {}", keys[0])));
    reader.ok(&line("CLIENT CACHING YES"));
    reader.ok(&line(&format!("GET {}", keys[1])));
    reader.ok(&line("CLIENT CACHING YES"));
    reader.ok(&line("MULTI"));
    reader.ok(&line(&format!("GET {}", keys[2])));
    reader.ok(&line("EXEC"));
    keys.iter().for_each(|key| drop(writer.ok(&line(&format!("SET {key} w")))));
    assert_eq!(text(&reader.reply()), invalidation(&keys[1]));
    assert_eq!(text(&reader.reply()), invalidation(&keys[2]));
    hears_nothing(&mut reader);
    let mut reader = shared::proxy().client_resp3();
    reader.ok(&line("CLIENT TRACKING ON OPTOUT"));
    reader.ok(&line("CLIENT CACHING NO"));
    reader.ok(&line(&format!("MGET {} {}", keys[0], keys[1])));
    reader.ok(&line(&format!("GET {}", keys[2])));
    keys.iter().for_each(|key| drop(writer.ok(&line(&format!("SET {key} x")))));
    assert_eq!(text(&reader.reply()), invalidation(&keys[2]));
    hears_nothing(&mut reader);
}

#[test]
fn noloop_spares_the_writer() {
    let keys = keys("noloop");
    for (option, hears) in [("", true), (" NOLOOP", false)] {
        let mut client = shared::proxy().client_resp3();
        client.ok(&line(&format!("CLIENT TRACKING ON{option}")));
        for key in &keys {
            client.ok(&line(&format!("GET {key}")));
            client.send(&line(&format!("SET {key} own")));
            let mut replies = vec![text(&client.reply())];
            if hears {
                replies.push(text(&client.reply()));
                replies.sort();
                assert_eq!(replies, ["+OK\r\n".to_owned(), invalidation(key)]);
            } else {
                assert_eq!(replies, ["+OK\r\n"]);
                hears_nothing(&mut client);
            }
        }
    }
}

#[test]
fn a_resp2_client_has_them_sent_to_another() {
    let mut writer = shared::client();
    let keys = keys("redir");
    for resp3 in [false, true] {
        let mut target = if resp3 { shared::proxy().client_resp3() } else { shared::client() };
        let id = target.ok(&line("CLIENT ID")).int();
        if !resp3 {
            target.ok(&line("SUBSCRIBE __redis__:invalidate"));
        }
        let mut reader = shared::client();
        reader.ok(&line(&format!("CLIENT TRACKING ON REDIRECT {id}")));
        assert_eq!(reader.ok(&line("CLIENT GETREDIR")).int(), id);
        for key in &keys {
            reader.ok(&line(&format!("GET {key}")));
            writer.ok(&line(&format!("SET {key} w")));
            let expected = match resp3 {
                true => invalidation(key),
                false => format!(
                    "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n${}\r\n{key}\r\n",
                    key.len()
                ),
            };
            assert_eq!(text(&target.reply()), expected);
        }
    }
}

const FLUSH: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

#[test]
fn tracking_lives_through_a_change_of_the_version() {
    let (keys, mut writer) = (keys("version"), shared::client());
    for options in ["", " BCAST"] {
        let mut reader = shared::client();
        // Nobody hears of it so far.
        reader.ok(&line(&format!("CLIENT TRACKING ON{options}")));
        keys.iter().for_each(|key| drop(reader.ok(&line(&format!("GET {key}")))));
        // Behind requests of before, and alone.
        for before in [true, false] {
            let get = line(&format!("GET {}", keys[0]));
            reader.send(&[if before { get } else { Vec::new() }, line("HELLO 3")].concat());
            let hello = (0..=usize::from(before)).map(|_| text(&reader.reply())).last().unwrap();
            assert!(hello.starts_with('%'), "{hello}");
            assert_eq!(text(&reader.reply()), FLUSH, "what it read so far nobody kept track of");
            for key in &keys {
                reader.send(&line(&format!("GET {key}")));
                // By prefix there is more to hear: a connection that stands, other tests' keys.
                while text(&reader.reply()).starts_with('>') {
                    assert!(!options.is_empty());
                }
            }
            for key in &keys {
                writer.ok(&line(&format!("SET {key} changed")));
                loop {
                    let push = text(&reader.reply());
                    if push == invalidation(key) {
                        break;
                    }
                    assert!(!options.is_empty() && push.starts_with('>'), "{push}");
                }
            }
            reader.send(&line("HELLO 2"));
            while !text(&reader.reply()).starts_with("*14") {}
            hears_nothing(&mut reader);
        }
    }
}

#[test]
fn large_requests_are_kept_track_of_like_small_ones() {
    let keys_of = [("dedicated-request-bytes", "16KiB"), ("workers", "1")];
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &keys_of);
    let (mut reader, mut writer) = (proxy.client_resp3(), proxy.client());
    reader.ok(&line("CLIENT TRACKING ON NOLOOP"));
    let name = shared::unique("large");
    let keys: Vec<String> = (0..2000).map(|n| key_in(77, &format!("{name}:{n}:"))).collect();
    let words: Vec<&[u8]> =
        std::iter::once(&b"MGET"[..]).chain(keys.iter().map(|key| key.as_bytes())).collect();
    let request = frame(&words);
    assert!(request.len() > 32 << 10);
    reader.ok(&request);
    writer.ok(&line(&format!("SET {} v", keys[1234])));
    assert_eq!(text(&reader.reply()), invalidation(&keys[1234]));
    // Over several slots, and as part of a large transaction.
    let mut words = words;
    let spread: Vec<String> = (0..3).map(|n| key_in(n * 5000, &name)).collect();
    words.extend(spread.iter().map(|key| key.as_bytes()));
    reader.ok(&frame(&words));
    writer.ok(&line(&format!("SET {} v", spread[2])));
    assert_eq!(text(&reader.reply()), invalidation(&spread[2]));
    let (read, large) = (line(&format!("GET {}", keys[5])), "x".repeat(40 << 10));
    let write = line(&format!("SET {} {large}", keys[6]));
    reader.send(&[line("MULTI"), read, write, line("EXEC")].concat());
    reader.values(4);
    writer.ok(&line(&format!("SET {} v", keys[5])));
    assert_eq!(text(&reader.reply()), invalidation(&keys[5]));
    // And its own large write is its own.
    reader.ok(&line(&format!("SET {} {large}", keys[7])));
    hears_nothing(&mut reader);
}

#[test]
fn what_scripts_read_is_kept_track_of() {
    let (keys, mut writer) = (keys("scripted"), shared::client());
    let sha = writer.ok(&frame(&[b"SCRIPT", b"LOAD", b"return redis.call('GET',KEYS[1])"])).text();
    for options in ["", " OPTIN"] {
        let mut reader = shared::proxy().client_resp3();
        reader.ok(&line(&format!("CLIENT TRACKING ON{options}")));
        for key in &keys {
            for transaction in [false, true] {
                if !options.is_empty() {
                    reader.ok(&line("CLIENT CACHING YES"));
                }
                let read = line(&format!("EVALSHA_RO {sha} 1 {key}"));
                if transaction {
                    reader.send(&[line("MULTI"), read, line("EXEC")].concat());
                    reader.values(3);
                } else {
                    reader.ok(&read);
                }
                writer.ok(&line(&format!("SET {key} w")));
                assert_eq!(text(&reader.reply()), invalidation(key));
            }
        }
    }
}

#[test]
fn words_and_errors_are_those_of_a_single_redis() {
    let scripts = [
        "CLIENT TRACKING|CLIENT TRACKING maybe|CLIENT TRACKING ON BOGUS|CLIENT TRACKING ON REDIRECT",
        "CLIENT TRACKING ON REDIRECT x|CLIENT TRACKING ON REDIRECT 99|CLIENT TRACKING ON PREFIX a",
        "CLIENT TRACKING ON BCAST OPTIN|CLIENT TRACKING ON OPTIN OPTOUT|CLIENT TRACKINGINFO|CLIENT GETREDIR",
        "CLIENT TRACKING ON BCAST PREFIX ab PREFIX abc|CLIENT TRACKING ON BCAST PREFIX ab|CLIENT TRACKINGINFO",
        "CLIENT TRACKING ON BCAST PREFIX ab|CLIENT TRACKING ON BCAST PREFIX a|CLIENT TRACKING ON|CLIENT TRACKING OFF|CLIENT TRACKINGINFO",
        "CLIENT TRACKING ON OPTIN|CLIENT TRACKING ON OPTOUT|CLIENT CACHING NO|CLIENT CACHING x|CLIENT CACHING YES|CLIENT TRACKINGINFO|CLIENT TRACKINGINFO|PING|CLIENT TRACKINGINFO",
        "CLIENT TRACKING ON OPTOUT|CLIENT CACHING YES|CLIENT CACHING NO|CLIENT TRACKINGINFO",
        "CLIENT CACHING YES|CLIENT TRACKING ON|CLIENT CACHING YES|CLIENT TRACKINGINFO|RESET|CLIENT TRACKINGINFO",
        "CLIENT TRACKING ON NOLOOP|CLIENT TRACKINGINFO|CLIENT GETREDIR|CLIENT TRACKING OFF|CLIENT GETREDIR",
    ];
    for resp3 in [false, true] {
        for script in scripts {
            let play = |addr| {
                let mut client = if resp3 { Client::connect_resp3(addr) } else { Client::connect(addr) };
                script.split('|').map(|step| (step, text(&client.raw(&line(step))))).collect::<Vec<_>>()
            };
            assert_eq!(play(shared::proxy().addr()), play(shared::standalone().addr()), "{script}");
        }
    }
}

#[test]
fn places_for_tracking_are_bounded_and_given_back() {
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &[("tracking-clients-max", "1")]);
    let (mut first, mut second) = (proxy.client_resp3(), proxy.client_resp3());
    first.ok(&line("CLIENT TRACKING ON"));
    let refused = text(&second.raw(&line("CLIENT TRACKING ON")));
    assert!(refused.starts_with("-ERR slotway: too many clients have tracking on"), "{refused}");
    drop(first);
    crate::support::eventually("the place is given back", || {
        let reply = text(&second.raw(&line("CLIENT TRACKING ON")));
        if reply == "+OK\r\n" { Ok(()) } else { Err(reply) }
    });
}

#[test]
fn monitor_shows_what_every_shard_executes() {
    let keys = keys("monitor");
    let mut monitor = shared::client();
    assert_eq!(monitor.raw(&line("MONITOR")), b"+OK\r\n");
    let mut writer = shared::client();
    for key in &keys {
        writer.ok(&line(&format!("SET {key} seen")));
        loop {
            let shown = text(&monitor.reply());
            assert!(shown.starts_with('+'), "{shown}");
            if shown.contains(&format!("\"SET\" \"{key}\" \"seen\"")) {
                break;
            }
        }
    }
    monitor.send(&line("RESET"));
    while monitor.reply() != b"+RESET\r\n" {}
    assert_eq!(monitor.raw(&line("PING")), b"+PONG\r\n");
}
