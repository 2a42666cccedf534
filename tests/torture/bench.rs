//! What all threads of a run share: the clock, the stop sign, the notebook of suspicions, the acknowledged writes,
//! and when each worker last had a success.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::check::aof::{Token, token};
use super::check::verdict::Window;
use super::check::{Excuse, Finding, Kind, Micros, Slots, Span, Suspicion};
use crate::support::Stop;

/// So many suspicions are kept; a run that bad needs no more.
const SUSPICIONS_MAX: usize = 200_000;

/// When a worker last had a success, by the moment the request was sent (or the message published).
pub struct Beat {
    pub name: String,
    at: AtomicU64,
}

impl Beat {
    pub fn now(&self, at: Micros) {
        self.at.fetch_max(at, Ordering::Relaxed);
    }

    pub fn at(&self) -> Micros {
        self.at.load(Ordering::Relaxed)
    }
}

/// An acknowledged write that must stand in an AOF.
pub struct Acked {
    pub token: Token,
    pub what: String,
    pub at: Micros,
}

/// See the module.
pub struct Bench {
    start: Instant,
    pub stop: Stop,
    pub seed: u64,
    addrs: Vec<SocketAddr>,
    suspicions: Mutex<Vec<Suspicion>>,
    windows: Mutex<Vec<Window>>,
    acked: Mutex<Vec<Acked>>,
    beats: Mutex<Vec<Arc<Beat>>>,
    /// Requests answered, errors excepted.
    pub answered: AtomicU64,
    /// Errors by their first words, with the moment the reply came.
    errors: Mutex<BTreeMap<String, Vec<Micros>>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bench {
    pub fn new(seed: u64, addrs: Vec<SocketAddr>) -> Self {
        Self {
            start: Instant::now(),
            stop: Stop::default(),
            seed,
            addrs,
            suspicions: Mutex::default(),
            windows: Mutex::default(),
            acked: Mutex::default(),
            beats: Mutex::default(),
            answered: AtomicU64::new(0),
            errors: Mutex::default(),
        }
    }

    pub fn now(&self) -> Micros {
        self.start.elapsed().as_micros() as Micros
    }

    /// Address of one of the instances; workers are spread over them.
    pub fn addr(&self, index: usize) -> SocketAddr {
        self.addrs[index % self.addrs.len()]
    }

    /// Random numbers of a worker's own, the same for the same seed.
    pub fn random(&self, worker: &str) -> fastrand::Rng {
        fastrand::Rng::with_seed(token(&self.seed.to_le_bytes(), worker.as_bytes()))
    }

    /// Keeps the load of a worker steady: waits up to twice `mean`.
    pub fn pace(&self, random: &mut fastrand::Rng, mean: Duration) {
        std::thread::sleep(mean.mul_f64(2.0 * random.f64()));
    }

    pub fn suspect(&self, suspicion: Suspicion) {
        let mut all = lock(&self.suspicions);
        if all.len() < SUSPICIONS_MAX {
            all.push(suspicion);
        }
    }

    /// Notes a model's finding about `who`.
    pub fn found(&self, who: &str, slot: u16, span: Span, finding: Option<Finding>) {
        let Some(finding) = finding else { return };
        let excuse = finding.lost.map_or(Excuse::None, Excuse::Loss);
        let text = format!("{who}: {}", finding.text);
        self.suspect(Suspicion { kind: finding.kind, slots: Slots::one(slot), span, excuse, text });
    }

    /// Notes what nothing excuses.
    pub fn wrong(&self, kind: Kind, slots: Slots, span: Span, text: String) {
        self.suspect(Suspicion { kind, slots, span, excuse: Excuse::None, text });
    }

    /// A write with a value of its own was acknowledged.
    pub fn acked(&self, key: &str, value: &str, at: Micros) {
        let what = format!("{key} {}", value.get(..40).unwrap_or(value));
        lock(&self.acked).push(Acked { token: token(key.as_bytes(), value.as_bytes()), what, at });
    }

    pub fn take_acked(&self) -> Vec<Acked> {
        std::mem::take(&mut lock(&self.acked))
    }

    pub fn take_suspicions(&self) -> Vec<Suspicion> {
        std::mem::take(&mut lock(&self.suspicions))
    }

    pub fn add_window(&self, window: Window) {
        lock(&self.windows).push(window);
    }

    pub fn windows(&self) -> Vec<Window> {
        lock(&self.windows).clone()
    }

    /// A new entry on the board of successes.
    pub fn beat(&self, name: String) -> Arc<Beat> {
        let beat = Arc::new(Beat { name, at: AtomicU64::new(0) });
        lock(&self.beats).push(Arc::clone(&beat));
        beat
    }

    /// Who had no success with a request sent after `since`.
    pub fn silent_since(&self, since: Micros) -> Vec<String> {
        lock(&self.beats).iter().filter(|b| b.at() < since).map(|b| b.name.clone()).collect()
    }

    /// Counts an error by its text.
    pub fn count_error(&self, text: &str, at: Micros) {
        let words: Vec<&str> = text.split_whitespace().take(12).collect();
        // Slots, addresses and the like would make each a kind of its own.
        let word = |w: &&str| if w.bytes().any(|b| b.is_ascii_digit()) { "…" } else { *w }.to_owned();
        let name = words.iter().map(word).collect::<Vec<_>>().join(" ");
        lock(&self.errors).entry(name).or_default().push(at);
    }

    /// Errors that came within a stretch of time, by text.
    pub fn errors_within(&self, span: Span) -> BTreeMap<String, usize> {
        let within =
            |moments: &Vec<Micros>| moments.iter().filter(|at| (span.from..=span.to).contains(at)).count();
        let all = lock(&self.errors);
        all.iter().map(|(text, at)| (text.clone(), within(at))).filter(|(_, count)| *count > 0).collect()
    }
}
