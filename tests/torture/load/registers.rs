//! Keys with one writer and several readers: SET, DEL and GET, alone, in pipelines, and many at once over all shards
//! (MSET, MGET, DEL, EXISTS), read on the writer's own connection and on others, through all instances.

use std::sync::Mutex;

use super::{Group, PAUSE, key, number_in, numbered};
use crate::support::keys::slot;
use crate::support::resp::{Value, frame};
use crate::torture::bench::{Bench, lock};
use crate::torture::check::register::{Read, Register};
use crate::torture::check::{Excuse, Kind, Micros, Slots, Span, Status, Suspicion};
use crate::torture::conn::{Ask, Conn, Got};

const WRITERS: usize = 2;
const READERS: usize = 2;
/// Neighbours lie in one slot.
const KEYS: usize = 24;
/// Makes values long enough to be split over reads now and then.
const PADDING: usize = 60;
/// As much as `dedicated-request-bytes`: such a request goes over a connection of its own.
const LARGE: usize = 1 << 20;
/// One of so many turns writes a large value, one of so many asks for the replicas.
const LARGE_TURNS: u32 = 400;
const WAIT_TURNS: u32 = 20;

struct Key {
    name: String,
    register: Mutex<Register>,
}

pub struct Registers {
    /// Of each writer.
    keys: Vec<Vec<Key>>,
}

impl Default for Registers {
    fn default() -> Self {
        let one = |writer: usize, n: usize| Key {
            name: key("reg", &format!("{writer}.{n}"), n / 2),
            register: Mutex::default(),
        };
        Self { keys: (0..WRITERS).map(|w| (0..KEYS).map(|n| one(w, n)).collect()).collect() }
    }
}

impl Group for Registers {
    fn name(&self) -> &'static str {
        "registers"
    }

    fn threads(&self) -> usize {
        WRITERS + READERS
    }

    fn work(&self, bench: &Bench, thread: usize) {
        let name = format!("registers {thread}");
        let mut random = bench.random(&name);
        let mut conn = Conn::new(bench, name, thread);
        while !bench.stop.is_set() {
            match self.keys.get(thread) {
                Some(keys) => Writer { bench, keys, conn: &mut conn }.turn(&mut random),
                None => self.look(bench, &mut conn, &mut random),
            }
            bench.pace(&mut random, PAUSE);
        }
    }
}

impl Registers {
    /// A reader's turn: a few keys of anyone's, one by one or together.
    fn look(&self, bench: &Bench, conn: &mut Conn, random: &mut fastrand::Rng) {
        let pick = |random: &mut fastrand::Rng| &self.keys[random.usize(..WRITERS)][random.usize(..KEYS)];
        let keys: Vec<&Key> = (0..random.usize(1..=6)).map(|_| pick(random)).collect();
        if random.bool() {
            for (key, got) in keys.iter().zip(conn.batch(&keys.iter().map(|k| get(k)).collect::<Vec<_>>())) {
                if let Ok(value) = &got.reply {
                    seen(bench, conn, key, value, got.span, None);
                }
            }
        } else {
            let got = conn.call(mget(&keys));
            each(bench, conn, &keys, &got, |_| None);
        }
    }
}

fn value(key: &Key, number: usize) -> String {
    numbered(&key.name, number, PADDING)
}

fn get(key: &Key) -> Ask {
    Ask::key(cmd!["GET", key.name], &key.name)
}

fn many(name: &str, keys: &[&Key]) -> Ask {
    let names = keys.iter().map(|k| k.name.as_bytes());
    let args: Vec<&[u8]> = [name.as_bytes()].into_iter().chain(names).collect();
    Ask::keys(frame(&args), keys.iter().map(|k| k.name.as_str()))
}

/// Sent key by key where nodes say TRYAGAIN, so it has no limit of its own.
fn mget(keys: &[&Key]) -> Ask {
    Ask { several: false, ..many("MGET", keys) }
}

/// Judges the reply of an MGET; `after` as in `Read`.
fn each(bench: &Bench, conn: &Conn, keys: &[&Key], got: &Got, after: impl Fn(usize) -> Option<usize>) {
    match &got.reply {
        Ok(Value::Array(items)) if items.len() == keys.len() => {
            for (n, (key, item)) in keys.iter().zip(items).enumerate() {
                seen(bench, conn, key, item, got.span, after(n));
            }
        }
        Ok(other) => conn.misfit("MGET", &keys[0].name, other, got.span),
        Err(_) => {}
    }
}

/// Judges what a read of one key showed.
fn seen(bench: &Bench, conn: &Conn, key: &Key, value: &Value, span: Span, after: Option<usize>) {
    let Ok(seen) = number_in(&key.name, value) else { return conn.misfit("GET", &key.name, value, span) };
    let finding = lock(&key.register).read(&Read { seen, span, after });
    bench.found(&format!("{}: {}", conn.name(), key.name), slot(key.name.as_bytes()), span, finding);
}

struct Writer<'a, 'b> {
    bench: &'b Bench,
    keys: &'a [Key],
    conn: &'a mut Conn<'b>,
}

impl<'a> Writer<'a, '_> {
    fn turn(&mut self, random: &mut fastrand::Rng) {
        if random.u32(..LARGE_TURNS) == 0 {
            return self.set_and_get(random, LARGE);
        }
        if random.u32(..WAIT_TURNS) == 0 {
            return self.set_and_wait(random);
        }
        match random.u8(..5) {
            0 => self.set_and_get(random, PADDING),
            1 => {
                // Over all shards; its parts take effect one by one.
                let keys = self.some(random, 4);
                self.set_together(&keys);
            }
            2 => {
                // One slot: atomic, and what TRYAGAIN can hit.
                let first = random.usize(..KEYS / 2) * 2;
                let keys = [&self.keys[first], &self.keys[first + 1]];
                self.set_together(&keys);
            }
            3 => self.remove(random),
            _ => self.set_different(random),
        }
    }

    /// Different keys of this writer.
    fn some(&self, random: &mut fastrand::Rng, count: usize) -> Vec<&'a Key> {
        let mut numbers: Vec<usize> = (0..KEYS).collect();
        random.shuffle(&mut numbers);
        let keys = self.keys;
        numbers.iter().take(count).map(|n| &keys[*n]).collect()
    }

    fn begin(key: &Key, removal: bool) -> usize {
        lock(&key.register).begin(removal)
    }

    fn end(&self, key: &Key, number: usize, got: &Got, value: Option<String>) {
        let status = got.status();
        let finding = lock(&key.register).end(number, status, got.span.to);
        let who = format!("{}: {}", self.conn.name(), key.name);
        self.bench.found(&who, slot(key.name.as_bytes()), got.span, finding);
        if let (Status::Acked, Some(value)) = (status, value) {
            self.bench.acked(&key.name, &value, got.span.to);
        }
    }

    fn expect_ok(&self, what: &str, key: &Key, got: &Got) {
        if let Ok(value) = &got.reply
            && *value != Value::Simple("OK".into())
        {
            self.conn.misfit(what, &key.name, value, got.span);
        }
    }

    /// SET and GET of one key in turn, in one pipeline: each GET shows the SET before it. The first value is padded.
    fn set_and_get(&mut self, random: &mut fastrand::Rng, padding: usize) {
        let keys = self.keys;
        let key = &keys[random.usize(..KEYS)];
        let numbers: Vec<usize> = (0..random.usize(1..=6)).map(|_| Self::begin(key, false)).collect();
        let value = |n: usize| numbered(&key.name, n, if n == numbers[0] { padding } else { PADDING });
        let set = |n: &usize| Ask::key(cmd!["SET", key.name, value(*n)], &key.name);
        let asks: Vec<Ask> = numbers.iter().flat_map(|n| [set(n), get(key)]).collect();
        for (pair, &number) in self.conn.batch(&asks).chunks(2).zip(&numbers) {
            let [set, get] = pair else { continue };
            self.expect_ok("SET", key, set);
            self.end(key, number, set, Some(value(number)));
            if let Ok(value) = &get.reply {
                seen(self.bench, self.conn, key, value, get.span, Some(number));
            }
        }
    }

    /// One pipeline of SETs to different keys.
    fn set_different(&mut self, random: &mut fastrand::Rng) {
        let keys: Vec<&Key> = (0..random.usize(1..=8)).map(|_| &self.keys[random.usize(..KEYS)]).collect();
        let numbers: Vec<usize> = keys.iter().map(|k| Self::begin(k, false)).collect();
        let set = |(key, n): (&&Key, &usize)| Ask::key(cmd!["SET", key.name, value(key, *n)], &key.name);
        let asks: Vec<Ask> = keys.iter().zip(&numbers).map(set).collect();
        let all = self.conn.batch(&asks);
        for ((key, number), got) in keys.iter().zip(numbers).zip(&all) {
            self.expect_ok("SET", key, got);
            self.end(key, number, got, Some(value(key, number)));
        }
    }

    /// SETs with WAIT behind them: what a replica has no failover loses.
    fn set_and_wait(&mut self, random: &mut fastrand::Rng) {
        let keys = self.some(random, 3);
        let numbers: Vec<usize> = keys.iter().map(|k| Self::begin(k, false)).collect();
        let set = |(key, n): (&&Key, &usize)| Ask::key(cmd!["SET", key.name, value(key, *n)], &key.name);
        let mut asks: Vec<Ask> = keys.iter().zip(&numbers).map(set).collect();
        asks.push(Ask::everywhere(cmd!["WAIT", "1", "300"]));
        let all = self.conn.batch(&asks);
        for ((key, number), got) in keys.iter().zip(&numbers).zip(&all) {
            self.expect_ok("SET", key, got);
            self.end(key, *number, got, Some(value(key, *number)));
        }
        let Some((waited, sets)) = all.split_last() else { return };
        match &waited.reply {
            Ok(Value::Int(0)) | Err(_) => {}
            Ok(Value::Int(count)) if *count > 0 => {
                let done = keys.iter().zip(&numbers).zip(sets).filter(|(_, got)| got.reply.is_ok());
                done.for_each(|((key, number), _)| lock(&key.register).copied(*number));
            }
            Ok(other) => self.conn.misfit("WAIT", &keys[0].name, other, waited.span),
        }
    }

    /// MSET, then MGET of the same keys, in one pipeline.
    fn set_together(&mut self, keys: &[&Key]) {
        let numbers: Vec<usize> = keys.iter().map(|k| Self::begin(k, false)).collect();
        let values: Vec<String> = keys.iter().zip(&numbers).map(|(k, n)| value(k, *n)).collect();
        let pairs = keys.iter().zip(&values).flat_map(|(k, v)| [k.name.as_bytes(), v.as_bytes()]);
        let args: Vec<&[u8]> = [b"MSET".as_slice()].into_iter().chain(pairs).collect();
        let mset = Ask::keys(frame(&args), keys.iter().map(|k| k.name.as_str()));
        let all = self.conn.batch(&[mset, mget(keys)]);
        let [set, get] = all.as_slice() else { return };
        self.expect_ok("MSET", keys[0], set);
        for (key, (number, value)) in keys.iter().zip(numbers.iter().zip(values)) {
            self.end(key, *number, set, Some(value));
        }
        each(self.bench, self.conn, keys, get, |n| Some(numbers[n]));
    }

    /// DEL and EXISTS over shards: the counts are known where the keys' fates are.
    fn remove(&mut self, random: &mut fastrand::Rng) {
        let keys = self.keys;
        let first = random.usize(..KEYS);
        let keys = [&keys[first], &keys[(first + 5) % KEYS], &keys[(first + 10) % KEYS]];
        let there: Vec<Option<bool>> = keys.iter().map(|k| lock(&k.register).exists()).collect();
        let before = keys.map(|k| lock(&k.register).acked_at());
        let numbers: Vec<usize> = keys.iter().map(|k| Self::begin(k, true)).collect();
        let exists = Ask { several: false, ..many("EXISTS", &keys) };
        let delete = Ask { several: false, ..many("DEL", &keys) };
        let all = self.conn.batch(&[delete, exists]);
        let [deleted, exist] = all.as_slice() else { return };
        for (key, number) in keys.iter().zip(&numbers) {
            self.end(key, *number, deleted, None);
        }
        let least = there.iter().filter(|t| **t == Some(true)).count();
        let most = there.iter().filter(|t| **t != Some(false)).count();
        self.expect_count("DEL", &keys, deleted, (least, most), before);
        if deleted.status() == Status::Acked {
            self.expect_count("EXISTS", &keys, exist, (0, 0), [deleted.span.to; 3]);
        }
    }

    /// A count within bounds that hold unless the cluster lost what was acknowledged for a key at its moment.
    fn expect_count(&self, what: &str, keys: &[&Key; 3], got: &Got, due: (usize, usize), acked: [Micros; 3]) {
        let Ok(value) = &got.reply else { return };
        let &Value::Int(count) = value else { return self.conn.misfit(what, &keys[0].name, value, got.span) };
        if (due.0 as i64..=due.1 as i64).contains(&count) {
            return;
        }
        let slots = keys.map(|k| slot(k.name.as_bytes()));
        let excuse = Excuse::LossOfOne(slots.into_iter().zip(acked).collect());
        let slots = Slots::Only(slots.to_vec());
        let text = format!("{}: {what} of three keys counted {count}, due {due:?}", self.conn.name());
        self.bench.suspect(Suspicion { kind: Kind::Stale, slots, span: got.span, excuse, text });
    }
}
