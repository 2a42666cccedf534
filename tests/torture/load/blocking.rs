//! Lists with clients that wait for their elements: each element comes out once, or is still there at the end.

use std::sync::Mutex;

use super::{Group, PAUSE, key};
use crate::support::keys::{key_in, slot};
use crate::support::resp::Value;
use crate::torture::bench::{Bench, lock};
use crate::torture::check::queue::Queue;
use crate::torture::check::{Slots, Span, Status};
use crate::torture::conn::{Ask, Conn, Got};

const WAITING: usize = 4;
/// Pairs of lists, each pair in one slot.
const PAIRS: usize = 3;
/// Seconds a client waits for an element.
const TIMEOUTS: [&str; 3] = ["0.3", "1", "2"];

struct List {
    key: String,
    queue: Mutex<Queue>,
}

pub struct Queues {
    lists: Vec<List>,
}

impl Default for Queues {
    fn default() -> Self {
        let list = |n: usize| {
            let base = key("list", "", n / 2 + 4);
            let key = key_in(slot(base.as_bytes()), &format!("t:list:{n}:"));
            List { key, queue: Mutex::default() }
        };
        Self { lists: (0..2 * PAIRS).map(list).collect() }
    }
}

impl Group for Queues {
    fn name(&self) -> &'static str {
        "queues"
    }

    fn threads(&self) -> usize {
        WAITING + 1
    }

    fn work(&self, bench: &Bench, thread: usize) {
        let name = format!("queues {thread}");
        let mut random = bench.random(&name);
        let mut conn = Conn::new(bench, name, thread);
        while !bench.stop.is_set() {
            if thread < WAITING {
                let first = random.usize(..PAIRS) * 2;
                self.wait(bench, &mut conn, (first, random.bool()), TIMEOUTS[random.usize(..TIMEOUTS.len())]);
            } else {
                let list = &self.lists[random.usize(..self.lists.len())];
                push(bench, &mut conn, list, random.usize(1..=4));
                bench.pace(&mut random, PAUSE);
            }
        }
    }

    fn finish(&self, bench: &Bench) {
        let mut conn = Conn::new(bench, "queues, at the end", 0).in_passing();
        let windows = bench.windows();
        for list in &self.lists {
            loop {
                let got = conn.call(Ask::key(cmd!["LPOP", list.key], &list.key));
                match &got.reply {
                    Ok(Value::Bulk(element)) => self.popped(bench, &conn, list, element, &got),
                    _ => break,
                }
            }
            let slots = Slots::one(slot(list.key.as_bytes()));
            let lost = |at| windows.iter().any(|w| w.may_lose(&slots, at));
            for finding in lock(&list.queue).emptied(lost) {
                bench.found(&list.key, slot(list.key.as_bytes()), Span::new(0, bench.now()), Some(finding));
            }
        }
    }
}

impl Queues {
    /// Waits at one list or two of one slot.
    fn wait(&self, bench: &Bench, conn: &mut Conn, (first, both): (usize, bool), timeout: &str) {
        let (one, two) = (&self.lists[first], &self.lists[first + 1]);
        let ask = match both {
            true => Ask::key(cmd!["BLPOP", one.key, two.key, timeout], &one.key),
            false => Ask::key(cmd!["BRPOP", two.key, timeout], &two.key),
        };
        let got = conn.call(Ask { several: both, ..ask });
        match &got.reply {
            Ok(Value::Array(items)) => match items.as_slice() {
                [Value::Bulk(key), Value::Bulk(element)] => {
                    let list = [one, two].into_iter().find(|l| l.key.as_bytes() == key.as_slice());
                    match list {
                        Some(list) => self.popped(bench, conn, list, element, &got),
                        None => conn.misfit("a pop", &one.key, &Value::Bulk(key.clone()), got.span),
                    }
                }
                _ => conn.misfit("a pop", &one.key, &Value::Array(items.clone()), got.span),
            },
            Ok(Value::NullArray | Value::Null) => {}
            Ok(other) => conn.misfit("a pop", &one.key, other, got.span),
            Err(Status::Maybe) => [one, two].iter().for_each(|l| lock(&l.queue).blind_pop()),
            Err(_) => {}
        }
    }

    fn popped(&self, bench: &Bench, conn: &Conn, list: &List, element: &[u8], got: &Got) {
        let shown = String::from_utf8_lossy(element);
        let number = shown.split_once('#').filter(|(key, _)| *key == list.key).map(|(_, n)| n.parse());
        let Some(Ok(number)) = number else {
            return conn.misfit("a pop", &list.key, &Value::Bulk(element.to_vec()), got.span);
        };
        let finding = lock(&list.queue).popped(number, got.span.to);
        bench.found(&format!("{}: {}", conn.name(), list.key), slot(list.key.as_bytes()), got.span, finding);
    }
}

/// Pushes a few elements, one command each.
fn push(bench: &Bench, conn: &mut Conn, list: &List, count: usize) {
    let numbers: Vec<u64> = (0..count).map(|_| lock(&list.queue).begin()).collect();
    let element = |n: u64| format!("{}#{n}", list.key);
    let ask = |n: &u64| Ask::key(cmd!["RPUSH", list.key, element(*n)], &list.key);
    for (number, got) in numbers.iter().zip(conn.batch(&numbers.iter().map(ask).collect::<Vec<_>>())) {
        match &got.reply {
            Ok(Value::Int(length)) if *length > 0 => bench.acked(&list.key, &element(*number), got.span.to),
            Ok(other) => conn.misfit("RPUSH", &list.key, other, got.span),
            Err(_) => {}
        }
        let finding = lock(&list.queue).end(*number, got.status(), got.span.to);
        bench.found(&format!("{}: {}", conn.name(), list.key), slot(list.key.as_bytes()), got.span, finding);
    }
}
