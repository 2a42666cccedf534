//! Inline commands, long pipelines, broken and hostile input: what Redis says, byte for byte, and a
//! closed connection where Redis closes it.

use std::io::Write;
use std::time::Duration;

use fastrand::Rng;

use crate::support::client::{Client, words};
use crate::support::resp::{Value, show};
use crate::support::shared;

/// Everything a fresh connection answers to `bytes` after the client said it is done.
fn conversation(mut client: Client, bytes: &[u8]) -> Vec<u8> {
    // A server that has closed already makes the write or the shutdown fail; what it said counts.
    let _ = client.try_send(bytes);
    let _ = client.stream().shutdown(std::net::Shutdown::Write);
    client.rest()
}

#[test]
fn inline_commands_are_parsed_as_redis_does() {
    need_redis!();
    let cases: &[&[u8]] = &[
        b"PING\r\n",
        b"ping\n",
        b"  PING   hello  \r\n",
        b"\r\n\r\nPING\r\n",
        b"SET {inl}a \"b c\"\r\nGET {inl}a\r\n",
        b"SET {inl}a 'it\\'s'\r\nGET {inl}a\r\n",
        b"SET {inl}a \"\\x00\\xff\\n\\r\\t\\b\\a\\\"\\\\\"\r\nGET {inl}a\r\n",
        b"SET {inl}a 'no \\n escape'\r\nGET {inl}a\r\n",
        b"SET {inl}a \"\"\r\nGET {inl}a\r\n",
        b"SET \"{inl}a b\" c\r\nGET \"{inl}a b\"\r\n",
        b"\"PING\"\r\n",
        b"ECHO foo\"bar\"\r\nPING\r\n",
        b"ECHO \"foo\"bar\r\nPING\r\n",
        b"ECHO \"unbalanced\r\nPING\r\n",
        b"ECHO 'unbalanced\r\nPING\r\n",
        b"ECHO \"half\\x4\"\r\n",
        b"ECHO a\tb\r\n",
        b"MGET {inl}a {inl}b\r\nPING\r\n",
    ];
    for case in cases {
        let want = conversation(shared::standalone().client(), case);
        let got = conversation(shared::client(), case);
        assert_eq!(show(&got), show(&want), "{}", show(case));
    }
}

#[test]
fn hostile_input_gets_redis_own_protocol_error_and_a_closed_connection() {
    need_redis!();
    let cases: &[&[u8]] = &[
        b"*-5\r\nPING\r\n",
        b"*0\r\nPING\r\n",
        b"*x\r\nPING\r\n",
        b"*\r\nPING\r\n",
        b"*99999999999\r\nPING\r\n",
        b"*1\r\n$-5\r\nPING\r\n",
        b"*1\r\n$999999999999\r\nPING\r\n",
        b"*1\r\n$99999999999999999999\r\nPING\r\n",
        b"*1\r\n$x\r\nPING\r\n",
        b"*1\r\n$\r\nPING\r\n",
        b"*1\r\n:4\r\nPING\r\n",
        b"*1\r\n+PING\r\n",
        b"*1\r\nPING\r\n",
        b"*2\r\n$4\r\nECHO\r\n*1\r\n$1\r\na\r\n",
        b"*1\r\n$-1\r\nPING\r\n",
        b"*+1\r\n$4\r\nPING\r\n",
        b"*01\r\n$4\r\nPING\r\n",
        b"*1 \r\n$4\r\nPING\r\n",
    ];
    for case in cases {
        // A good request first: its reply must not be lost.
        let bytes = [b"*1\r\n$4\r\nPING\r\n", *case].concat();
        let want = conversation(shared::standalone().client(), &bytes);
        let got = conversation(shared::client(), &bytes);
        assert_eq!(show(&got), show(&want), "{}", show(case));
    }
}

#[test]
fn connection_is_closed_by_the_proxy_after_a_protocol_error() {
    need_redis!();
    for (case, text) in [
        (&b"*1000000000\r\n"[..], "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*2\r\n$3\r\nGET\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$999999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n!3\r\n", "-ERR Protocol error: expected '$', got '!'\r\n"),
    ] {
        let mut client = shared::client();
        client.send(case);
        assert_eq!(show(&client.rest()), show(text.as_bytes()), "{}", show(case));
    }
}

#[test]
fn endless_lines_are_cut_off_with_redis_own_words() {
    need_redis!();
    for (start, text) in [
        (&b""[..], "-ERR Protocol error: too big inline request\r\n"),
        (b"*", "-ERR Protocol error: too big mbulk count string\r\n"),
        (b"*1\r\n$", "-ERR Protocol error: too big bulk count string\r\n"),
    ] {
        let mut client = shared::client();
        let mut endless = start.to_vec();
        endless.resize(200_000, b'1');
        // The proxy may close while this is still being written.
        let _ = client.try_send(&endless);
        let got = client.rest();
        let got = String::from_utf8_lossy(&got).into_owned();
        // A reset caused by bytes nobody read may take the text with it; more than it must not come.
        assert!(got == text || got.is_empty(), "{got}");
    }
    for (start, text) in [
        (&b""[..], "-ERR Protocol error: too big inline request\r\n"),
        (b"*", "-ERR Protocol error: too big mbulk count string\r\n"),
    ] {
        let mut client = shared::client();
        let mut line = start.to_vec();
        line.resize(64 * 1024 + 1, b'1');
        client.send(&line);
        assert_eq!(show(&client.rest()), show(text.as_bytes()));
    }
}

#[test]
fn hostile_clients_cost_little_memory() {
    need_redis!();
    let proxy = shared::proxy();
    let before = proxy.resident_bytes();
    let mut clients: Vec<Client> = (0..200).map(|_| shared::client()).collect();
    for client in &mut clients {
        // The largest array and value there may be, announced and never sent.
        client.send(b"*1048576\r\n$536870912\r\n");
    }
    for client in &mut clients {
        client.send(b"x");
    }
    assert_eq!(shared::client().call(&words("PING")), Value::Simple("PONG".into()));
    let grown = proxy.resident_bytes().saturating_sub(before) >> 20;
    assert!(grown < 64, "{grown} MiB for 200 announcements");
}

#[test]
fn pipeline_of_10_000_commands_is_answered_in_order() {
    need_redis!();
    let name = shared::unique("pipe");
    let mut pipeline = Vec::new();
    for n in 0..10_000 {
        pipeline.extend(match n % 5 {
            0 => cmd!["SET", format!("{name}:{n}"), n.to_string()],
            1 => cmd!["GET", format!("{name}:{}", n - 1)],
            2 => cmd!["ECHO", n.to_string()],
            3 => cmd!["INCR", format!("{name}:{}", n - 3)],
            _ => {
                cmd!["MGET", format!("{name}:{}", n - 4), format!("{name}:none"), format!("{name}:{}", n - 4)]
            }
        });
    }
    let mut client = shared::client();
    let mut sender = client.stream().try_clone().expect("clone");
    let writer = std::thread::spawn(move || sender.write_all(&pipeline));
    for n in 0..10_000i64 {
        let value = client.value();
        let counted = Value::Bulk((n - 3).to_string().into_bytes());
        match n % 5 {
            0 => assert_eq!(value, Value::Simple("OK".into()), "{n}"),
            1 => assert_eq!(value.text(), (n - 1).to_string()),
            2 => assert_eq!(value.text(), n.to_string()),
            3 => assert_eq!(value, Value::Int(n - 2)),
            _ => assert_eq!(value, Value::Array(vec![counted.clone(), Value::NullBulk, counted])),
        }
    }
    writer.join().expect("writer").expect("write");
}

#[test]
fn ten_thousand_gets_written_before_the_first_read_all_succeed() {
    need_redis!();
    let key = shared::unique("written");
    let mut client = shared::client();
    client.ok(&cmd!["SET", key, "v".repeat(1024)]);
    let pipeline = cmd!["GET", key].repeat(10_000);
    client.send(&pipeline);
    for n in 0..10_000 {
        assert_eq!(client.reply().len(), 1024 + 9, "reply {n}");
    }
}

#[test]
fn many_clients_pipelining_at_once_get_their_own_replies() {
    need_redis!();
    let threads: Vec<_> = (0..8u64)
        .map(|id| {
            std::thread::spawn(move || {
                let mut random = Rng::with_seed(id);
                let name = shared::unique("own");
                let mut client = shared::client();
                for round in 0..40 {
                    let count = random.usize(1..150);
                    let mut pipeline = Vec::new();
                    for n in 0..count {
                        let value = format!("{id}/{round}/{n}");
                        pipeline.extend(cmd!["SET", format!("{name}:{n}"), value]);
                        pipeline.extend(cmd!["GET", format!("{name}:{n}")]);
                    }
                    client.send_split(&pipeline, 4096, &mut random);
                    for n in 0..count {
                        assert_eq!(client.value(), Value::Simple("OK".into()));
                        assert_eq!(client.value().text(), format!("{id}/{round}/{n}"));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a client");
    }
}

#[test]
fn quit_answers_what_came_before_it_and_closes() {
    need_redis!();
    let key = shared::unique("quit");
    let bytes = [cmd!["SET", key, "1"], cmd!["GET", key], words("QUIT"), words("PING")].concat();
    let mut client = shared::client();
    client.send(&bytes);
    assert_eq!(show(&client.rest()), show(b"+OK\r\n$1\r\n1\r\n+OK\r\n"));
}

#[test]
fn unfinished_requests_do_not_disturb_others() {
    need_redis!();
    let mut slow = shared::client();
    slow.send(b"*3\r\n$3\r\nSET\r\n$5\r\nsl");
    let mut client = shared::client();
    client.patience(Duration::from_secs(5));
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
    slow.send(b"ow1\r\n$1\r\nx\r\n");
    assert_eq!(slow.value(), Value::Simple("OK".into()));
}
