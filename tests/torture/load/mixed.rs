//! Pipelines of unlike commands over all shards: every reply must be the one its request calls for, to the byte.

use std::time::Duration;

use super::{Group, PAUSE, key};
use crate::support::resp::{Value, frame};
use crate::torture::bench::Bench;
use crate::torture::check::{Kind, Slots, Status};
use crate::torture::conn::{Ask, Conn};

const THREADS: usize = 2;
/// Keys that never change after the run has begun.
pub const CONSTANTS: usize = 120;

pub struct Mixed;

/// The `n`th constant; its value is its name, longer for some.
pub fn constant(n: usize) -> (String, String) {
    let key = key("const", &n.to_string(), n);
    let value = key.repeat(if n.is_multiple_of(10) { 400 } else { 1 });
    (key, value)
}

/// Writes the constants, before any fault.
pub fn prepare(bench: &Bench) {
    let mut conn = Conn::new(bench, "preparation", 0).in_passing();
    for n in 0..CONSTANTS {
        let (key, value) = constant(n);
        let got = conn.call(Ask::key(cmd!["SET", key, value], &key));
        assert_eq!(got.status(), Status::Acked, "SET {key} before any fault: {got:?}");
    }
}

/// A request, the reply it must have, and its name and key.
struct Due {
    ask: Ask,
    reply: Value,
    what: &'static str,
    key: String,
}

impl Group for Mixed {
    fn name(&self) -> &'static str {
        "mixed"
    }

    fn threads(&self) -> usize {
        THREADS
    }

    fn work(&self, bench: &Bench, thread: usize) {
        let name = format!("mixed {thread}");
        let mut random = bench.random(&name);
        let mut conn = Conn::new(bench, name, thread);
        let mut serial = 0;
        while !bench.stop.is_set() {
            let mut dues = Vec::new();
            for _ in 0..random.usize(1..=30) {
                serial += 1;
                dues.push(due(&mut random, &format!("{thread}:{serial}")));
            }
            let (asks, dues): (Vec<Ask>, Vec<_>) =
                dues.into_iter().map(|d| (d.ask, (d.reply, d.what, d.key))).unzip();
            for ((reply, what, key), got) in dues.iter().zip(conn.batch(&asks)) {
                match &got.reply {
                    Ok(value) if value == reply => {}
                    Ok(Value::NullBulk) if *what == "GET" => {
                        let text = format!("{}: {key} is not there", conn.name());
                        bench.wrong(Kind::Stale, Slots::All, got.span, text);
                    }
                    Ok(value) => conn.misfit(what, key, value, got.span),
                    Err(_) => {}
                }
            }
            bench.pace(&mut random, PAUSE + Duration::from_millis(20));
        }
    }
}

fn due(random: &mut fastrand::Rng, serial: &str) -> Due {
    let n = random.usize(..CONSTANTS);
    let (key, value) = constant(n);
    let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
    let (ask, reply, what) = match random.u8(..7) {
        0 => (Ask::nowhere(cmd!["ECHO", serial]), bulk(serial), "ECHO"),
        1 => (Ask::nowhere(cmd!["PING", serial]), bulk(serial), "PING"),
        2 => (Ask::key(cmd!["STRLEN", key], &key), Value::Int(value.len() as i64), "STRLEN"),
        3 => {
            let end = random.usize(1..value.len());
            let range = Ask::key(cmd!["GETRANGE", key, "0", (end - 1).to_string()], &key);
            (range, bulk(&value[..end]), "GETRANGE")
        }
        4 => {
            let keys: Vec<(String, String)> = (n..n + 5).map(|m| constant(m % CONSTANTS)).collect();
            let args = [b"MGET".as_slice()].into_iter().chain(keys.iter().map(|(k, _)| k.as_bytes()));
            let ask = Ask::keys(frame(&args.collect::<Vec<_>>()), keys.iter().map(|(k, _)| k.as_str()));
            let reply = Value::Array(keys.iter().map(|(_, v)| bulk(v)).collect());
            (Ask { several: false, ..ask }, reply, "MGET")
        }
        5 => (Ask::key(cmd!["EXISTS", key], &key), Value::Int(1), "EXISTS"),
        _ => (Ask::key(cmd!["GET", key], &key), bulk(&value), "GET"),
    };
    Due { ask, reply, what, key }
}
