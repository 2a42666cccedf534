//! Clients that cache what they read (CLIENT TRACKING): whatever changes is invalidated, soon.

use std::time::{Duration, Instant};

use super::{Group, PAUSE, key};
use crate::support::keys::slot;
use crate::support::resp::Value;
use crate::torture::bench::Bench;
use crate::torture::check::{Kind, Slots, Span, Status};
use crate::torture::conn::{Ask, Conn};

const THREADS: usize = 2;
const KEYS: usize = 6;
/// A little more than `node-silence-timeout`: a frozen node tells nothing until it is given up.
const BOUND: Duration = Duration::from_secs(10);

pub struct Cached;

impl Group for Cached {
    fn name(&self) -> &'static str {
        "cached"
    }

    fn threads(&self) -> usize {
        THREADS
    }

    fn work(&self, bench: &Bench, thread: usize) {
        let name = format!("cached {thread}");
        let mut random = bench.random(&name);
        let greeting = vec![cmd!["HELLO", "3"], cmd!["CLIENT", "TRACKING", "ON"]];
        let mut reader = Conn::new(bench, name.clone(), thread).greeting(greeting);
        let mut writer = Conn::new(bench, format!("{name}, the writer"), thread + 1);
        let keys: Vec<String> = (0..KEYS).map(|n| key("cache", &format!("{thread}.{n}"), n + 17)).collect();
        let mut number = 0;
        while !bench.stop.is_set() {
            number += 1;
            turn(bench, &mut reader, &mut writer, &keys[random.usize(..KEYS)], number);
            bench.pace(&mut random, PAUSE);
        }
    }
}

/// Reads a key, has it changed by another connection, and waits to be told.
fn turn(bench: &Bench, reader: &mut Conn, writer: &mut Conn, key: &str, number: u64) {
    let read = reader.call(Ask::key(cmd!["GET", key], key));
    if read.status() != Status::Acked {
        return;
    }
    let opened = reader.opened();
    // What was pushed before the reply concerns what was cached before.
    reader.forget_pushes();
    let value = format!("{key}|{number}|{}", bench.now());
    let write = writer.call(Ask::key(cmd!["SET", key, value], key));
    if write.status() != Status::Acked {
        return;
    }
    bench.acked(key, &value, write.span.to);
    let start = Instant::now();
    while start.elapsed() < BOUND && reader.opened() == opened {
        match reader.push(Duration::from_millis(500)) {
            Some(push) if invalidates(&push, key) => return,
            _ => {}
        }
        if bench.stop.is_set() {
            return;
        }
    }
    if reader.opened() == opened {
        let text = format!("{}: {key} was changed, and nobody said so for {BOUND:?}", reader.name());
        let span = Span::new(write.span.to, bench.now());
        bench.wrong(Kind::StaleCache, Slots::one(slot(key.as_bytes())), span, text);
    }
}

/// True for a push that makes a client drop the key: by name, or all at once.
fn invalidates(push: &Value, key: &str) -> bool {
    let Value::Push(items) = push else { return false };
    match items.as_slice() {
        [Value::Bulk(kind), Value::Array(keys)] if kind == b"invalidate" => {
            keys.iter().any(|k| matches!(k, Value::Bulk(k) if k == key.as_bytes()))
        }
        [Value::Bulk(kind), Value::Null] => kind == b"invalidate",
        _ => false,
    }
}
