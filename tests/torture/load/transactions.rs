//! Transactions: both of their writes or none, once; with WATCH two clients never win the same number.

use std::sync::Mutex;

use super::counters::judge;
use super::{Group, PAUSE, key, text};
use crate::support::keys::slot;
use crate::support::resp::Value;
use crate::torture::bench::{Bench, lock};
use crate::torture::check::appends::Appends;
use crate::torture::check::claims::Claims;
use crate::torture::check::counter::Counter;
use crate::torture::check::{Kind, Slots, Span, Status};
use crate::torture::conn::{Ask, Conn, Got};

const PLAIN: usize = 2;
const WATCHING: usize = 2;
/// Pairs of keys of a thread, and keys the watching threads fight for.
const KEYS: usize = 3;
/// A pair with so many pieces is followed by a new one.
const PIECES: usize = 300;

/// A counter and a string in one slot that grow together.
struct Pair {
    name: String,
    generation: usize,
    counter: Counter,
    appends: Appends,
}

pub struct Transactions {
    plain: Vec<Mutex<Vec<Pair>>>,
    watched: Vec<(String, Mutex<Claims>)>,
}

impl Default for Transactions {
    fn default() -> Self {
        let pair = |thread: usize, n: usize| Pair {
            name: key("tx", &format!("{thread}.{n}"), n + 8),
            generation: 0,
            counter: Counter::default(),
            appends: Appends::default(),
        };
        Self {
            plain: (0..PLAIN).map(|t| Mutex::new((0..KEYS).map(|n| pair(t, n)).collect())).collect(),
            watched: (0..KEYS).map(|n| (key("cas", &n.to_string(), n + 11), Mutex::default())).collect(),
        }
    }
}

impl Group for Transactions {
    fn name(&self) -> &'static str {
        "transactions"
    }

    fn threads(&self) -> usize {
        PLAIN + WATCHING
    }

    fn work(&self, bench: &Bench, thread: usize) {
        let name = format!("transactions {thread}");
        let mut random = bench.random(&name);
        let mut conn = Conn::new(bench, name.clone(), thread);
        while !bench.stop.is_set() {
            let n = random.usize(..KEYS);
            match self.plain.get(thread) {
                Some(pairs) => lock(pairs)[n].grow(bench, &mut conn),
                None => compare_and_set(bench, &mut conn, &self.watched[n]),
            }
            bench.pace(&mut random, PAUSE);
        }
    }

    fn finish(&self, bench: &Bench) {
        let mut conn = Conn::new(bench, "transactions, at the end", 0).in_passing();
        for (key, claims) in &self.watched {
            let got = conn.call(Ask::key(cmd!["GET", key], key));
            if let Some((number, _)) = watched_value(&conn, key, &got) {
                bench.found(key, slot(key.as_bytes()), got.span, lock(claims).read(number));
            }
        }
        self.plain
            .iter()
            .for_each(|pairs| lock(pairs).iter_mut().for_each(|pair| pair.grow(bench, &mut conn)));
    }
}

impl Pair {
    fn keys(&self) -> (String, String) {
        (format!("{}.{}.n", self.name, self.generation), format!("{}.{}.s", self.name, self.generation))
    }

    /// One transaction in one write.
    fn grow(&mut self, bench: &Bench, conn: &mut Conn) {
        let (count, string) = self.keys();
        let number = self.appends.begin();
        let piece = Appends::piece(number);
        let ask = |frame: Vec<u8>| Ask::keys(frame, [count.as_str(), string.as_str()]);
        // Sent whole at EXEC: what comes before is answered here.
        let asks = [
            Ask::nowhere(cmd!["MULTI"]),
            Ask::nowhere(cmd!["INCR", count]),
            Ask::nowhere(cmd!["APPEND", string, piece]),
            Ask::nowhere(cmd!["GET", count]),
            Ask::nowhere(cmd!["GET", string]),
            ask(cmd!["EXEC"]),
        ];
        let all = conn.batch(&asks);
        let Some(exec) = all.last() else { return };
        for got in all.get(1..5).unwrap_or_default() {
            if let Ok(value) = &got.reply
                && *value != Value::Simple("QUEUED".into())
            {
                conn.misfit("a queued command", &count, value, got.span);
            }
        }
        self.appends.end(number, exec.status(), exec.span.to);
        match &exec.reply {
            Ok(Value::Array(items)) if items.len() == 4 => {
                bench.acked(&string, &piece, exec.span.to);
                self.judge(bench, conn, items, exec);
            }
            Ok(other) => conn.misfit("EXEC", &count, other, exec.span),
            Err(status) => self.counter.failed(*status),
        }
        if exec.reply.is_ok() && self.appends.len() >= PIECES {
            self.generation += 1;
            (self.counter, self.appends) = (Counter::default(), Appends::default());
        }
    }

    fn judge(&mut self, bench: &Bench, conn: &Conn, items: &[Value], exec: &Got) {
        let (count, string) = self.keys();
        let (Value::Int(n), Ok(Some(shown)), Ok(Some(whole))) = (&items[0], text(&items[2]), text(&items[3]))
        else {
            return conn.misfit("EXEC", &count, &Value::Array(items.to_vec()), exec.span);
        };
        let pieces = whole.split_terminator(',').count();
        if shown != n.to_string() || pieces as i64 != *n {
            let text = format!("{}: INCR {n}, GET {shown}, {pieces} pieces: not atomic", conn.name());
            bench.wrong(Kind::WrongReply, Slots::one(slot(count.as_bytes())), exec.span, text);
        }
        let finding = self.counter.incremented(u64::try_from(*n).unwrap_or(0), exec.span.to);
        bench.found(&format!("{}: {count}", conn.name()), slot(count.as_bytes()), exec.span, finding);
        let got = Got { span: exec.span, reply: Ok(items[3].clone()) };
        judge(bench, conn, &string, &self.appends, &got);
    }
}

/// "number:who" of a watched key.
fn watched_value(conn: &Conn, key: &str, got: &Got) -> Option<(u64, String)> {
    let value = got.reply.as_ref().ok()?;
    match text(value) {
        Ok(None) => Some((0, String::new())),
        Ok(Some(shown)) => match shown.split_once(':').map(|(n, who)| (n.parse(), who.to_owned())) {
            Some((Ok(number), who)) => Some((number, who)),
            _ => {
                conn.misfit("GET", key, value, got.span);
                None
            }
        },
        Err(()) => {
            conn.misfit("GET", key, value, got.span);
            None
        }
    }
}

/// WATCH, GET, then a transaction that makes the number one more, if nobody else did meanwhile.
fn compare_and_set(bench: &Bench, conn: &mut Conn, (key, claims): &(String, Mutex<Claims>)) {
    let all = conn.batch(&[Ask::key(cmd!["WATCH", key], key), Ask::key(cmd!["GET", key], key)]);
    let [watch, get] = all.as_slice() else { return };
    let (true, Some((number, _))) = (watch.status() == Status::Acked, watched_value(conn, key, get)) else {
        conn.call(Ask::nowhere(cmd!["UNWATCH"]));
        return;
    };
    let value = format!("{}:{} {}", number + 1, conn.name(), get.span.to);
    let asks =
        [Ask::nowhere(cmd!["MULTI"]), Ask::nowhere(cmd!["SET", key, value]), Ask::key(cmd!["EXEC"], key)];
    let all = conn.batch(&asks);
    let Some(exec) = all.last() else { return };
    match &exec.reply {
        Ok(Value::Array(items)) if *items == [Value::Simple("OK".into())] => {
            bench.acked(key, &value, exec.span.to);
            let finding = lock(claims).win(number + 1, &value, exec.span.to);
            bench.found(key, slot(key.as_bytes()), Span::new(get.span.from, exec.span.to), finding);
        }
        // Somebody else was faster, or the slot has a new owner.
        Ok(Value::NullArray | Value::Null) | Err(_) => {}
        Ok(other) => conn.misfit("EXEC", key, other, exec.span),
    }
}
