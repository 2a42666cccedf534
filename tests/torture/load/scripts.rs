//! Scripts by their SHA1, loaded once: whatever node runs them has them, and each runs once.

use std::sync::Mutex;

use super::counters::judge;
use super::{Group, PAUSE, key};
use crate::support::resp::Value;
use crate::torture::bench::{Bench, lock};
use crate::torture::check::Status;
use crate::torture::check::appends::Appends;
use crate::torture::conn::{Ask, Conn};

const THREADS: usize = 2;
const KEYS: usize = 3;
const PIECES: usize = 300;
const BODY: &str = "redis.call('APPEND', KEYS[1], ARGV[1]) return {KEYS[1], ARGV[1]}";

pub struct Scripts {
    strings: Vec<Mutex<Vec<Growing>>>,
}

struct Growing {
    name: String,
    generation: usize,
    appends: Appends,
}

impl Default for Scripts {
    fn default() -> Self {
        let one = |thread: usize, n: usize| Growing {
            name: key("script", &format!("{thread}.{n}"), n + 14),
            generation: 0,
            appends: Appends::default(),
        };
        let own = |thread: usize| Mutex::new((0..KEYS).map(|n| one(thread, n)).collect());
        Self { strings: (0..THREADS).map(own).collect() }
    }
}

impl Group for Scripts {
    fn name(&self) -> &'static str {
        "scripts"
    }

    fn threads(&self) -> usize {
        THREADS
    }

    fn work(&self, bench: &Bench, thread: usize) {
        let name = format!("scripts {thread}");
        let mut random = bench.random(&name);
        let mut conn = Conn::new(bench, name, thread);
        let mut own = lock(&self.strings[thread]);
        let Some(sha) = load(bench, &mut conn) else { return };
        while !bench.stop.is_set() {
            let string = &mut own[random.usize(..KEYS)];
            string.run(bench, &mut conn, &sha);
            bench.pace(&mut random, PAUSE);
        }
    }
}

fn load(bench: &Bench, conn: &mut Conn) -> Option<String> {
    while !bench.stop.is_set() {
        let got = conn.call(Ask::everywhere(cmd!["SCRIPT", "LOAD", BODY]));
        if let Ok(Value::Bulk(sha)) = got.reply {
            return Some(String::from_utf8_lossy(&sha).into_owned());
        }
    }
    None
}

impl Growing {
    fn run(&mut self, bench: &Bench, conn: &mut Conn, sha: &str) {
        let key = format!("{}.{}", self.name, self.generation);
        let number = self.appends.begin();
        let piece = Appends::piece(number);
        let got = conn.call(Ask::key(cmd!["EVALSHA", sha, "1", key, piece], &key));
        self.appends.end(number, got.status(), got.span.to);
        let due = Value::Array(vec![Value::Bulk(key.clone().into()), Value::Bulk(piece.clone().into())]);
        match &got.reply {
            Ok(value) if *value == due => bench.acked(&key, &piece, got.span.to),
            Ok(value) => conn.misfit("EVALSHA", &key, value, got.span),
            Err(_) => {}
        }
        // Reading each time would only double the work.
        if number % 10 == 9 || got.status() != Status::Acked {
            let read = conn.call(Ask::key(cmd!["GET", key], &key));
            let whole = judge(bench, conn, &key, &self.appends, &read);
            if whole && self.appends.len() >= PIECES {
                self.generation += 1;
                self.appends = Appends::default();
            }
        }
    }
}
