//! Connections that said READONLY, so that replicas answer their reads: each reads what it wrote, and nobody reads what
//! is older than the bound. Other connections may see other ages; so may one that was answered by a primary before.

use std::collections::HashMap;
use std::sync::Mutex;

use super::mixed::{CONSTANTS, constant};
use super::{Group, PAUSE, key, number_in, numbered};
use crate::support::keys::slot;
use crate::support::resp::{Value, frame};
use crate::torture::bench::{Bench, lock};
use crate::torture::check::register::{Read, Register};
use crate::torture::check::{Excuse, Finding, Kind, Micros, Slots, Span, Suspicion};
use crate::torture::conn::{Ask, Conn, Got};

const WRITERS: usize = 2;
const READERS: usize = 2;
const KEYS: usize = 12;
const PADDING: usize = 20;
/// Two of them are more than `dedicated-request-bytes`, each is more than what goes over a connection of its own.
const LARGE: usize = 600 << 10;
/// One of so many turns writes two large values at once.
const LARGE_TURNS: u32 = 400;
/// `replica-max-lag`.
const LAG: Micros = 10_000_000;

struct Key {
    name: String,
    register: Mutex<Register>,
}

pub struct Replicas {
    /// Of each writer.
    keys: Vec<Vec<Key>>,
}

impl Default for Replicas {
    fn default() -> Self {
        let one = |writer: usize, n: usize| Key {
            name: key("rep", &format!("{writer}.{n}"), n + 1),
            register: Mutex::default(),
        };
        Self { keys: (0..WRITERS).map(|w| (0..KEYS).map(|n| one(w, n)).collect()).collect() }
    }
}

impl Group for Replicas {
    fn name(&self) -> &'static str {
        "replicas"
    }

    fn threads(&self) -> usize {
        WRITERS + READERS
    }

    fn work(&self, bench: &Bench, thread: usize) {
        let name = format!("replicas {thread}");
        let mut random = bench.random(&name);
        let conn = Conn::new(bench, name, thread).greeting(vec![cmd!["READONLY"]]);
        let mut client = Client { bench, conn, opened: 0, known: HashMap::new() };
        while !bench.stop.is_set() {
            match (self.keys.get(thread), random.u8(..4)) {
                (Some(keys), 0) => client.set_and_get(&keys[random.usize(..KEYS)], random.usize(1..=4)),
                (Some(keys), 1) => client.set_together(keys, &mut random),
                (_, 2) => client.constants(&mut random),
                _ => client.look(&self.keys, &mut random),
            }
            bench.pace(&mut random, PAUSE);
        }
    }
}

/// A connection and what it knows.
struct Client<'b> {
    bench: &'b Bench,
    conn: Conn<'b>,
    /// Which connection that is: nothing is promised from one to the next.
    opened: usize,
    /// The newest write of a key that it was told of.
    known: HashMap<String, usize>,
}

fn get(key: &Key) -> Ask {
    Ask::key(cmd!["GET", key.name], &key.name)
}

impl Client<'_> {
    fn batch(&mut self, asks: &[Ask]) -> Vec<Got> {
        let all = self.conn.batch(asks);
        if self.conn.opened() != self.opened {
            self.opened = self.conn.opened();
            self.known.clear();
        }
        all
    }

    fn knows(&mut self, key: &Key, number: usize) {
        let known = self.known.entry(key.name.clone()).or_default();
        *known = number.max(*known);
    }

    /// A write was answered.
    fn end(&mut self, key: &Key, number: usize, got: &Got, value: &str) {
        let finding = lock(&key.register).end(number, got.status(), got.span.to);
        self.found(key, got.span, finding);
        match &got.reply {
            Ok(Value::Simple(ok)) if ok == "OK" => {
                self.bench.acked(&key.name, value, got.span.to);
                self.knows(key, number);
            }
            Ok(other) => self.conn.misfit("SET", &key.name, other, got.span),
            Err(_) => {}
        }
    }

    /// Judges what a read of one key showed; `after`: the last write sent before it, for the writer's own.
    fn seen(&mut self, key: &Key, value: &Value, span: Span, after: Option<usize>) {
        let Ok(seen) = number_in(&key.name, value) else {
            return self.conn.misfit("GET", &key.name, value, span);
        };
        let least = self.known.get(&key.name).copied().unwrap_or(0);
        let finding = lock(&key.register).read_behind(&Read { seen, span, after }, least, LAG);
        let Some(Finding { kind, lost, text }) = finding else { return };
        let excuse = lost.map_or(Excuse::None, Excuse::Loss);
        let excuse = if seen.is_none() { Excuse::MovedAway(Box::new(excuse)) } else { excuse };
        self.stale(kind, &key.name, span, (excuse, text));
    }

    fn stale(&self, kind: Kind, key: &str, span: Span, (excuse, text): (Excuse, String)) {
        let text = format!("{}: {key}: {text}", self.conn.name());
        self.bench.suspect(Suspicion { kind, slots: Slots::one(slot(key.as_bytes())), span, excuse, text });
    }

    fn found(&self, key: &Key, span: Span, finding: Option<Finding>) {
        self.bench.found(
            &format!("{}: {}", self.conn.name(), key.name),
            slot(key.name.as_bytes()),
            span,
            finding,
        );
    }

    /// SET and GET in turn, in one pipeline.
    fn set_and_get(&mut self, key: &Key, count: usize) {
        let numbers: Vec<usize> = (0..count).map(|_| lock(&key.register).begin(false)).collect();
        let value = |n: &usize| numbered(&key.name, *n, PADDING);
        let set = |n: &usize| Ask::key(cmd!["SET", key.name, value(n)], &key.name);
        let asks: Vec<Ask> = numbers.iter().flat_map(|n| [set(n), get(key)]).collect();
        for (pair, number) in self.batch(&asks).chunks(2).zip(&numbers) {
            let [set, get] = pair else { continue };
            self.end(key, *number, set, &value(number));
            if let Ok(shown) = &get.reply {
                self.seen(key, shown, get.span, Some(*number));
            }
        }
    }

    /// MSET of a few keys of several shards, seldom a large one, then a read of each.
    fn set_together(&mut self, keys: &[Key], random: &mut fastrand::Rng) {
        let (padding, count) = match random.u32(..LARGE_TURNS) {
            0 => (LARGE, 2),
            _ => (PADDING, 3),
        };
        let first = random.usize(..KEYS);
        let keys: Vec<&Key> = (0..count).map(|n| &keys[(first + n) % KEYS]).collect();
        let numbers: Vec<usize> = keys.iter().map(|k| lock(&k.register).begin(false)).collect();
        let values: Vec<String> =
            keys.iter().zip(&numbers).map(|(k, n)| numbered(&k.name, *n, padding)).collect();
        let pairs = keys.iter().zip(&values).flat_map(|(k, v)| [k.name.as_bytes(), v.as_bytes()]);
        let args: Vec<&[u8]> = [b"MSET".as_slice()].into_iter().chain(pairs).collect();
        let mset = Ask::keys(frame(&args), keys.iter().map(|k| k.name.as_str()));
        let set = self.batch(&[mset]);
        let Some(set) = set.first() else { return };
        for (key, (number, value)) in keys.iter().zip(numbers.iter().zip(&values)) {
            self.end(key, *number, set, value);
        }
        let reads = self.batch(&keys.iter().map(|k| get(k)).collect::<Vec<_>>());
        for ((key, number), got) in keys.iter().zip(&numbers).zip(&reads) {
            if let Ok(shown) = &got.reply {
                self.seen(key, shown, got.span, Some(*number));
            }
        }
    }

    /// A few keys of anyone's, one by one or together.
    fn look(&mut self, all: &[Vec<Key>], random: &mut fastrand::Rng) {
        let pick = |random: &mut fastrand::Rng| &all[random.usize(..WRITERS)][random.usize(..KEYS)];
        let keys: Vec<&Key> = (0..random.usize(1..=6)).map(|_| pick(random)).collect();
        if random.bool() {
            let reads = self.batch(&keys.iter().map(|k| get(k)).collect::<Vec<_>>());
            for (key, got) in keys.iter().zip(&reads) {
                if let Ok(shown) = &got.reply {
                    self.seen(key, shown, got.span, None);
                }
            }
            return;
        }
        let args: Vec<&[u8]> =
            [b"MGET".as_slice()].into_iter().chain(keys.iter().map(|k| k.name.as_bytes())).collect();
        let ask = Ask { several: false, ..Ask::keys(frame(&args), keys.iter().map(|k| k.name.as_str())) };
        let reads = self.batch(&[ask]);
        let Some(Got { span, reply: Ok(Value::Array(items)) }) = reads.first() else { return };
        for (key, shown) in keys.iter().zip(items) {
            self.seen(key, shown, *span, None);
        }
    }

    /// Keys that have been there all the time, with the same value.
    fn constants(&mut self, random: &mut fastrand::Rng) {
        let all: Vec<(String, String)> = (0..5).map(|_| constant(random.usize(..CONSTANTS))).collect();
        let asks: Vec<Ask> = all.iter().map(|(key, _)| Ask::key(cmd!["GET", key], key)).collect();
        for ((key, value), got) in all.iter().zip(self.batch(&asks)) {
            match &got.reply {
                Ok(Value::Bulk(shown)) if shown == value.as_bytes() => {}
                Ok(Value::NullBulk | Value::Null) if got.span.from < LAG => {}
                Ok(Value::NullBulk | Value::Null) => {
                    let excuse = Excuse::MovedAway(Box::new(Excuse::None));
                    self.stale(Kind::Stale, key, got.span, (excuse, "is not there".to_owned()));
                }
                Ok(other) => self.conn.misfit("GET", key, other, got.span),
                Err(_) => {}
            }
        }
    }
}
