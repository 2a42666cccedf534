//! Counters and strings that only grow: a write applied twice, lost or out of order shows in their values.

use std::sync::Mutex;

use super::{Group, PAUSE, key, text};
use crate::support::keys::slot;
use crate::support::resp::Value;
use crate::torture::bench::{Bench, lock};
use crate::torture::check::Finding;
use crate::torture::check::appends::Appends;
use crate::torture::check::counter::Counter;
use crate::torture::conn::{Ask, Conn, Got};

const THREADS: usize = 3;
/// Keys of each kind a thread has.
const KEYS: usize = 6;
/// A string with so many pieces is followed by a new one.
const PIECES: usize = 300;

/// A string that grows, and those before it.
struct Growing {
    name: String,
    generation: usize,
    appends: Appends,
}

struct Own {
    counters: Vec<(String, Counter)>,
    strings: Vec<Growing>,
}

pub struct Counters {
    threads: Vec<Mutex<Own>>,
}

impl Growing {
    fn key(&self) -> String {
        format!("{}.{}", self.name, self.generation)
    }
}

impl Default for Counters {
    fn default() -> Self {
        let own = |thread: usize| {
            let name = |kind: &str, n: usize| key(kind, &format!("{thread}.{n}"), n + 5);
            Mutex::new(Own {
                counters: (0..KEYS).map(|n| (name("incr", n), Counter::default())).collect(),
                strings: (0..KEYS)
                    .map(|n| Growing { name: name("app", n), generation: 0, appends: Appends::default() })
                    .collect(),
            })
        };
        Self { threads: (0..THREADS).map(own).collect() }
    }
}

impl Group for Counters {
    fn name(&self) -> &'static str {
        "counters"
    }

    fn threads(&self) -> usize {
        THREADS
    }

    fn work(&self, bench: &Bench, thread: usize) {
        let name = format!("counters {thread}");
        let mut random = bench.random(&name);
        let mut conn = Conn::new(bench, name, thread);
        let mut own = lock(&self.threads[thread]);
        while !bench.stop.is_set() {
            let (n, depth) = (random.usize(..KEYS), random.usize(1..=12));
            if random.bool() {
                increment(bench, &mut conn, &mut own.counters[n], depth);
            } else {
                append(bench, &mut conn, &mut own.strings[n], depth);
            }
            bench.pace(&mut random, PAUSE);
        }
    }

    fn finish(&self, bench: &Bench) {
        let mut conn = Conn::new(bench, "counters, at the end", 0).in_passing();
        for thread in &self.threads {
            let mut own = lock(thread);
            for (key, counter) in &mut own.counters {
                let got = conn.call(Ask::key(cmd!["GET", key], key));
                let Ok(value) = &got.reply else { continue };
                let number = text(value).map(|t| t.map_or(Some(0), |t| t.parse().ok()));
                let Ok(Some(number)) = number else { continue };
                let finding = counter.read(number, got.span.to);
                bench.found(key, slot(key.as_bytes()), got.span, finding);
            }
            for string in &mut own.strings {
                append(bench, &mut conn, string, 1);
            }
        }
    }
}

fn increment(bench: &Bench, conn: &mut Conn, (key, counter): &mut (String, Counter), depth: usize) {
    let asks: Vec<Ask> = (0..depth).map(|_| Ask::key(cmd!["INCR", key], key)).collect();
    for got in conn.batch(&asks) {
        match &got.reply {
            Ok(Value::Int(value)) if *value > 0 => {
                let finding = counter.incremented(*value as u64, got.span.to);
                bench.found(&format!("{}: {key}", conn.name()), slot(key.as_bytes()), got.span, finding);
            }
            Ok(other) => conn.misfit("INCR", key, other, got.span),
            Err(status) => counter.failed(*status),
        }
    }
}

/// A pipeline of APPENDs with a GET behind them.
fn append(bench: &Bench, conn: &mut Conn, string: &mut Growing, depth: usize) {
    let key = string.key();
    let numbers: Vec<usize> = (0..depth).map(|_| string.appends.begin()).collect();
    let piece = |n: &usize| Ask::key(cmd!["APPEND", key, Appends::piece(*n)], &key);
    let mut asks: Vec<Ask> = numbers.iter().map(piece).collect();
    asks.push(Ask::key(cmd!["GET", key], &key));
    let mut all = conn.batch(&asks);
    let read = all.pop();
    for (number, got) in numbers.iter().zip(&all) {
        string.appends.end(*number, got.status(), got.span.to);
        match &got.reply {
            Ok(Value::Int(length)) if *length > 0 => bench.acked(&key, &Appends::piece(*number), got.span.to),
            Ok(other) => conn.misfit("APPEND", &key, other, got.span),
            Err(_) => {}
        }
    }
    let whole = read.is_some_and(|got| judge(bench, conn, &key, &string.appends, &got));
    // Only a string whose end was seen is left behind.
    if whole && string.appends.len() >= PIECES {
        string.generation += 1;
        string.appends = Appends::default();
    }
}

/// Judges a GET behind all pieces; false when there was no reply.
pub fn judge(bench: &Bench, conn: &Conn, key: &str, appends: &Appends, got: &Got) -> bool {
    let Ok(value) = &got.reply else { return false };
    let Ok(shown) = text(value) else {
        conn.misfit("GET", key, value, got.span);
        return true;
    };
    let findings: Vec<Finding> = appends.read(&shown.unwrap_or_default(), appends.len());
    for finding in findings {
        bench.found(&format!("{}: {key}", conn.name()), slot(key.as_bytes()), got.span, Some(finding));
    }
    true
}
