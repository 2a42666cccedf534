//! Atomic slot migration, as newer servers do it: a slot changes its owner with all its keys at once, and for some
//! milliseconds both nodes say that it is the other's. No client may notice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::support::client::{Client, words};
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk};
use crate::support::{Stop, check, eventually};

const SLOT: u16 = 100;
/// Each node refuses at least so many requests before they agree, and they disagree at least so long.
const REFUSED: usize = 3;
const APART: Duration = Duration::from_millis(20);
const MOVES: usize = 12;
const CLIENTS: usize = 4;

/// The slot and what is in it, wherever that is.
struct Place {
    owner: Option<usize>,
    next: usize,
    since: Instant,
    refused: [usize; 2],
    values: HashMap<Vec<u8>, Vec<u8>>,
    /// Open transactions by connection: what is queued, and whether a command was refused.
    queued: HashMap<usize, (Vec<Seen>, bool)>,
}

impl Place {
    fn answer(&mut self, seen: &Seen, addrs: &[String]) -> Answer {
        match seen.name().as_str() {
            "MULTI" => {
                self.queued.insert(seen.connection, Default::default());
                Answer::text("+OK")
            }
            "EXEC" => match self.queued.remove(&seen.connection) {
                Some((commands, false)) if self.is_at(seen.node) => {
                    let replies: Vec<u8> = commands.iter().flat_map(|c| self.execute(c)).collect();
                    Answer::Reply([format!("*{}\r\n", commands.len()).into_bytes(), replies].concat())
                }
                // Between queueing and EXEC the slot went away: nodes say it of EXEC itself.
                Some((_, false)) => self.refuse(seen.node, addrs),
                _ => Answer::text("-EXECABORT Transaction discarded because of previous errors."),
            },
            "APPEND" | "GET" => {
                let here = self.is_at(seen.node);
                match self.queued.get_mut(&seen.connection) {
                    Some((commands, _)) if here => {
                        commands.push(seen.clone());
                        Answer::text("+QUEUED")
                    }
                    Some((_, refused)) => {
                        *refused = true;
                        self.refuse(seen.node, addrs)
                    }
                    None if here => Answer::Reply(self.execute(seen)),
                    None => self.refuse(seen.node, addrs),
                }
            }
            _ => Answer::Standard,
        }
    }

    fn is_at(&self, node: usize) -> bool {
        self.owner == Some(node)
    }

    /// MOVED to the other node; once both have said it often enough they agree.
    fn refuse(&mut self, node: usize, addrs: &[String]) -> Answer {
        self.refused[node] += 1;
        if self.refused.iter().all(|n| *n >= REFUSED) && self.since.elapsed() >= APART {
            self.owner = Some(self.next);
        }
        Answer::text(&format!("-MOVED {SLOT} {}", addrs[1 - node]))
    }

    fn execute(&mut self, seen: &Seen) -> Vec<u8> {
        let value = self.values.entry(seen.args[1].clone()).or_default();
        if seen.name() == "GET" {
            return bulk(value);
        }
        value.extend_from_slice(&seen.args[2]);
        format!(":{}\r\n", value.len()).into_bytes()
    }
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().expect("no script panics")
}

/// A string that grows; every reply must show all that was appended, once and in order.
struct Grower {
    client: Client,
    id: usize,
    round: usize,
    value: String,
}

impl Grower {
    fn key(&self) -> String {
        key_in(SLOT, &format!("{}.{}", self.id, self.round / 20))
    }

    fn turn(&mut self) {
        self.round += 1;
        if self.round.is_multiple_of(20) {
            self.value.clear();
        }
        if self.id == 0 { self.transaction() } else { self.pipeline() }
    }

    fn pipeline(&mut self) {
        let key = self.key();
        let pair =
            |n: usize| [cmd!["APPEND", key, format!("{}.{n},", self.round)], cmd!["GET", key]].concat();
        self.client.send(&(0..10).flat_map(pair).collect::<Vec<u8>>());
        for n in 0..10 {
            self.value += &format!("{}.{n},", self.round);
            assert_eq!(self.client.value(), Value::Int(self.value.len() as i64), "APPEND {n} to {key}");
            assert_eq!(self.client.value().text(), self.value, "GET {n} of {key}");
        }
    }

    fn transaction(&mut self) {
        let (key, piece) = (self.key(), format!("{},", self.round));
        let parts = [words("MULTI"), cmd!["APPEND", key, piece], cmd!["GET", key], words("EXEC")];
        self.client.send(&parts.concat());
        self.value += &piece;
        for due in ["OK", "QUEUED", "QUEUED"] {
            assert_eq!(self.client.value(), Value::Simple(due.into()));
        }
        let due = vec![Value::Int(self.value.len() as i64), Value::Bulk(self.value.clone().into())];
        assert_eq!(self.client.value(), Value::Array(due), "EXEC of {key}");
    }
}

#[test]
fn two_nodes_that_redirect_to_each_other_for_a_moment_go_unnoticed() {
    let fake = FakeCluster::start(2);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let addrs: Vec<String> = fake.addrs().iter().map(ToString::to_string).collect();
    let place = Arc::new(Mutex::new(Place {
        owner: Some(0),
        next: 0,
        since: Instant::now(),
        refused: [0; 2],
        values: HashMap::new(),
        queued: HashMap::new(),
    }));
    let told = Arc::clone(&place);
    fake.script(move |seen| lock(&told).answer(seen, &addrs));
    let (stop, rounds) = (Stop::default(), [const { AtomicUsize::new(0) }; CLIENTS]);
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        for (id, rounds) in rounds.iter().enumerate() {
            let (proxy, stop) = (&proxy, &stop);
            scope.spawn(move || {
                let mut grower = Grower { client: proxy.client(), id, round: 0, value: String::new() };
                while !stop.is_set() {
                    grower.turn();
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 0..MOVES {
            // Until then a request of the move before may still be at the other node.
            let done = rounds.each_ref().map(|r| r.load(Ordering::Relaxed) + 2);
            eventually("everyone goes on", || {
                let now = rounds.each_ref().map(|r| r.load(Ordering::Relaxed));
                check(now.iter().zip(&done).all(|(now, due)| now >= due), now)
            });
            let to = (n + 1) % 2;
            let start = Instant::now();
            {
                let mut place = lock(&place);
                (place.owner, place.next, place.since, place.refused) = (None, to, start, [0; 2]);
            }
            // Half of the times the map is ahead of the nodes, else behind.
            if n % 4 < 2 {
                fake.change_map(|map| map.assign(SLOT, to));
            }
            eventually("both have refused", || {
                let place = lock(&place);
                check(place.owner == Some(to), place.refused)
            });
            fake.change_map(|map| map.assign(SLOT, to));
        }
        stop.set();
    });
    proxy.wait_metric("slotway_redirects_total", &[], |n| n >= (2 * REFUSED * MOVES) as f64);
}
