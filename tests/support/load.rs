//! Clients that go on while a test moves or breaks something: each writes and reads keys of its own, one request
//! at a time, and notes every reply that is not what it has to be.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::client::Client;
use super::resp::{Value, frame, parse};
use super::{Stop, check, within};

/// What they do.
#[derive(Clone, Copy)]
pub struct Load {
    pub clients: usize,
    /// An acknowledged write must be there: off where the servers themselves lose some.
    pub exact: bool,
    /// A connection may end between two requests: its client opens another.
    pub reconnects: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self { clients: 4, exact: true, reconnects: false }
    }
}

/// What came of it so far.
#[derive(Default)]
pub struct Progress {
    rounds: AtomicU64,
    slowest: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Progress {
    /// Waits until all clients together went through `more` rounds from now on.
    #[track_caller]
    pub fn wait(&self, more: u64) {
        let until = self.rounds.load(Ordering::Relaxed) + more;
        within(Duration::from_secs(60), "the load goes on", || {
            let seen = self.rounds.load(Ordering::Relaxed);
            check(seen >= until || !self.faults().is_empty(), seen)
        });
    }

    /// The longest any request took since this was asked last.
    pub fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest.swap(0, Ordering::Relaxed))
    }

    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().expect("no client panics").clone()
    }

    fn fault(&self, text: String) {
        self.faults.lock().expect("no client panics").push(text);
    }
}

impl Load {
    /// Runs them at `addr` while `body` does its part; every request had to succeed.
    #[track_caller]
    pub fn during<T>(self, addr: SocketAddr, body: impl FnOnce(&Progress) -> T) -> T {
        let (stop, progress) = (Stop::default(), Progress::default());
        let result = std::thread::scope(|scope| {
            let _end = stop.at_end();
            for number in 0..self.clients {
                let (stop, progress) = (&stop, &progress);
                scope.spawn(move || Worker::new(self, addr, number, progress).run(stop));
            }
            progress.wait(20);
            let result = body(&progress);
            progress.wait(20);
            result
        });
        let faults = progress.faults();
        assert!(
            faults.is_empty(),
            "{} faults, the first: {:?}",
            faults.len(),
            &faults[..faults.len().min(5)]
        );
        result
    }
}

struct Worker<'a> {
    load: Load,
    addr: SocketAddr,
    number: usize,
    progress: &'a Progress,
    client: Option<Client>,
}

impl<'a> Worker<'a> {
    fn new(load: Load, addr: SocketAddr, number: usize, progress: &'a Progress) -> Self {
        Self { load, addr, number, progress, client: None }
    }

    fn run(&mut self, stop: &Stop) {
        for round in 1u64.. {
            if stop.is_set() || !self.round(round) {
                return;
            }
            self.progress.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// False when something was wrong: it is noted, and one fault is enough.
    fn round(&mut self, round: u64) -> bool {
        let (n, value) = (self.number, round.to_string());
        // Keys of many slots, and of other ones in every round.
        let keys: Vec<String> = (0..4).map(|i| format!("load:{n}:{}:{i}", round % 64)).collect();
        let (single, counter, list) = (&keys[0], format!("load:{n}:count"), format!("load:{n}:list"));
        let stored = || Value::Bulk(value.as_bytes().to_vec());
        let ok = || Some(Value::Simple("OK".to_owned()));
        let queued = || Some(Value::Simple("QUEUED".to_owned()));
        let pairs: Vec<&str> = keys.iter().flat_map(|key| [key.as_str(), &value]).collect();
        let all: Vec<&str> = keys.iter().map(String::as_str).collect();
        let exact = self.load.exact;
        self.expect(&[(&["SET", single, &value], ok())])
            && self.expect(&[(&["GET", single], exact.then(stored))])
            && self.expect(&[(&["INCR", &counter], exact.then_some(Value::Int(round as i64)))])
            && self.expect(&[(&[&["MSET"], &pairs[..]].concat(), ok())])
            && self
                .expect(&[(&[&["MGET"], &all[..]].concat(), exact.then(|| Value::Array(vec![stored(); 4])))])
            && self.expect(&[
                (&["MULTI"], ok()),
                (&["RPUSH", &list, &value], queued()),
                (&["LTRIM", &list, "-5", "-1"], queued()),
                (&["EXEC"], None),
            ])
    }

    /// Some requests in one push; each with its reply, if that can be told.
    fn expect(&mut self, requests: &[(&[&str], Option<Value>)]) -> bool {
        let frames = requests
            .iter()
            .map(|(args, _)| frame(&args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>()));
        let (push, name) = (frames.collect::<Vec<_>>().concat(), requests[0].0);
        let begun = Instant::now();
        let replies = loop {
            match self.once(&push, requests.len()) {
                Ok(replies) => break replies,
                Err(_) if self.load.reconnects && begun.elapsed() < Duration::from_secs(30) => {
                    self.client = None;
                }
                Err(error) => {
                    self.progress.fault(format!("{name:?}: {error}"));
                    return false;
                }
            }
        };
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.progress.slowest.fetch_max(took, Ordering::Relaxed);
        for (reply, (args, wanted)) in replies.iter().zip(requests) {
            if reply.is_error() || wanted.as_ref().is_some_and(|wanted| wanted != reply) {
                self.progress.fault(format!("{args:?}: {reply:?} after {:?}", begun.elapsed()));
                return false;
            }
        }
        true
    }

    fn once(&mut self, push: &[u8], replies: usize) -> std::io::Result<Vec<Value>> {
        if self.client.is_none() {
            let mut client = Client::try_connect(self.addr)?;
            client.patience(Duration::from_secs(40));
            self.client = Some(client);
        }
        let client = self.client.as_mut().expect("just opened");
        client.try_send(push)?;
        (0..replies).map(|_| client.try_reply().map(|reply| parse(&reply))).collect()
    }
}
