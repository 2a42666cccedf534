//! A worker's connection through slotway: it opens itself again, sorts every reply into success, "not executed" and
//! "maybe", and notes redirects, unexplained errors and silence.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slotway::error::{Executed, ProxyError};

use super::bench::{Beat, Bench};
use super::check::{Excuse, Kind, Micros, Slots, Span, Status, Suspicion};
use crate::support::client::Client;
use crate::support::keys::{SLOTS, slot};
use crate::support::resp::{Value, parse};

/// Longer than the longest deadline slotway has by default: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// A little less than `tryagain-wait`: from then on TRYAGAIN may be the answer to a command over several keys.
const TRYAGAIN_WAIT: Micros = 4_500_000;
/// Parts of the slot space that successes are watched in, one per primary of the beginning.
const ZONES: u16 = 3;

/// One request.
pub struct Ask {
    pub frame: Vec<u8>,
    pub slots: Slots,
    /// Needs several keys of one slot at once.
    pub several: bool,
}

impl Ask {
    /// A request for one key.
    pub fn key(frame: Vec<u8>, key: &str) -> Self {
        Self { frame, slots: Slots::one(slot(key.as_bytes())), several: false }
    }

    /// A request for these keys.
    pub fn keys<'k>(frame: Vec<u8>, keys: impl IntoIterator<Item = &'k str>) -> Self {
        let slots: Vec<u16> = keys.into_iter().map(|k| slot(k.as_bytes())).collect();
        let several = (1..slots.len()).any(|n| slots[..n].contains(&slots[n]));
        Self { frame, slots: Slots::Only(slots), several }
    }

    /// A request for all shards.
    pub fn everywhere(frame: Vec<u8>) -> Self {
        Self { frame, slots: Slots::All, several: false }
    }

    /// A request for no shard.
    pub fn nowhere(frame: Vec<u8>) -> Self {
        Self { frame, slots: Slots::Only(Vec::new()), several: false }
    }
}

/// What came back for one request.
#[derive(Debug)]
pub struct Got {
    pub span: Span,
    /// `Err` for an error or no reply at all; never `Open` or `Acked`.
    pub reply: Result<Value, Status>,
}

impl Got {
    /// What became of it, if it was a write.
    pub fn status(&self) -> Status {
        match self.reply {
            Ok(_) => Status::Acked,
            Err(status) => status,
        }
    }
}

/// How a node's or slotway's error is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A redirect that slotway should have followed.
    Redirect,
    /// Not executed, or unknown.
    Failed(Status),
}

/// Sorts an error; `waited` and `several` say whether TRYAGAIN is in order.
pub fn meaning(text: &str, several: bool, waited: Micros) -> Meaning {
    if let Some(ours) = ProxyError::ALL.iter().find(|error| text.starts_with(error.text())) {
        return Meaning::Failed(match ours.executed() {
            Executed::No => Status::No,
            Executed::Maybe | Executed::Partly => Status::Maybe,
        });
    }
    match text.split(' ').next().unwrap_or_default() {
        "TRYAGAIN" if several && waited >= TRYAGAIN_WAIT => Meaning::Failed(Status::No),
        "MOVED" | "ASK" | "TRYAGAIN" => Meaning::Redirect,
        // Of the proxy's making, with the nodes it concerns: executed in part.
        _ if text.contains("slotway") => Meaning::Failed(Status::Maybe),
        _ => Meaning::Failed(Status::No),
    }
}

/// See the module.
pub struct Conn<'b> {
    bench: &'b Bench,
    name: String,
    instance: usize,
    client: Option<Client>,
    /// Sent first on each new connection; no reply to it may be an error.
    greeting: Vec<Vec<u8>>,
    /// How often it was opened.
    opened: usize,
    pushes: VecDeque<Value>,
    /// One per zone; none for a connection nobody waits for.
    beats: Vec<Option<Arc<Beat>>>,
}

impl<'b> Conn<'b> {
    pub fn new(bench: &'b Bench, name: impl Into<String>, instance: usize) -> Self {
        let beats = (0..ZONES).map(|_| None).collect();
        let name = name.into();
        Self {
            bench,
            name,
            instance,
            client: None,
            greeting: Vec::new(),
            opened: 0,
            pushes: VecDeque::new(),
            beats,
        }
    }

    /// For a few requests outside of the load: nobody waits for its next success.
    pub fn in_passing(mut self) -> Self {
        self.beats.clear();
        self
    }

    /// What every new connection begins with.
    pub fn greeting(mut self, frames: Vec<Vec<u8>>) -> Self {
        self.greeting = frames;
        self
    }

    pub fn opened(&self) -> usize {
        self.opened
    }

    pub fn forget_pushes(&mut self) {
        self.pushes.clear();
    }

    /// The next push within `limit`.
    pub fn push(&mut self, limit: Duration) -> Option<Value> {
        if let Some(push) = self.pushes.pop_front() {
            return Some(push);
        }
        let client = self.client.as_mut()?;
        client.patience(limit.max(Duration::from_millis(1)));
        let reply = client.try_reply();
        client.patience(PATIENCE);
        match reply {
            Ok(bytes) => Some(parse(&bytes)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => {
                self.broke(&[], self.bench.now(), &error);
                None
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens the connection if it is not; false when the run ends meanwhile.
    fn open(&mut self) -> bool {
        while self.client.is_none() {
            let from = self.bench.now();
            match self.dial() {
                Ok(client) => {
                    self.client = Some(client);
                    self.opened += 1;
                    self.pushes.clear();
                }
                Err(error) => {
                    let span = Span::new(from, self.bench.now());
                    let text = format!("{}: connect: {error}", self.name);
                    self.bench.wrong(Kind::Stuck, Slots::All, span, text);
                    if self.bench.stop.is_set() {
                        return false;
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
        true
    }

    fn dial(&self) -> std::io::Result<Client> {
        let mut client = Client::try_connect(self.bench.addr(self.instance))?;
        client.patience(PATIENCE);
        for frame in &self.greeting {
            let reply = parse(&client.try_raw(frame)?);
            if reply.is_error() {
                return Err(std::io::Error::other(format!("{reply:?}")));
            }
        }
        Ok(client)
    }

    /// The next reply; pushes before it are put aside.
    fn reply(&mut self) -> std::io::Result<Value> {
        loop {
            let client = self.client.as_mut().ok_or(ErrorKind::NotConnected)?;
            match parse(&client.try_reply()?) {
                push @ Value::Push(_) => self.pushes.push_back(push),
                reply => return Ok(reply),
            }
        }
    }

    /// One request, one reply.
    pub fn call(&mut self, ask: Ask) -> Got {
        let only = self.batch(&[ask]).pop();
        only.unwrap_or(Got { span: Span::new(0, 0), reply: Err(Status::No) })
    }

    /// All requests in one write, then all replies; one for each request.
    pub fn batch(&mut self, asks: &[Ask]) -> Vec<Got> {
        let bytes: Vec<u8> = asks.iter().flat_map(|ask| ask.frame.iter().copied()).collect();
        let opened = self.open();
        let sent = self.bench.now();
        let Some(client) = self.client.as_mut().filter(|_| opened) else {
            let span = Span::new(sent, sent);
            return asks.iter().map(|_| Got { span, reply: Err(Status::No) }).collect();
        };
        if let Err(error) = client.try_send(&bytes) {
            return self.broke(asks, sent, &error);
        }
        let mut all = Vec::with_capacity(asks.len());
        for (index, ask) in asks.iter().enumerate() {
            match self.reply() {
                Ok(reply) => {
                    let span = Span::new(sent, self.bench.now());
                    all.push(Got { span, reply: self.sort(ask, reply, span) });
                }
                Err(error) => {
                    all.extend(self.broke(&asks[index..], sent, &error));
                    break;
                }
            }
        }
        all
    }

    /// The connection gives no more replies.
    fn broke(&mut self, asks: &[Ask], sent: Micros, error: &std::io::Error) -> Vec<Got> {
        self.client = None;
        let span = Span::new(sent, self.bench.now());
        let text = format!("{}: {} requests without a reply: {error}", self.name, asks.len());
        self.bench.count_error("connection closed", span.to);
        let slots = asks.iter().try_fold(Vec::new(), |mut all, ask| match &ask.slots {
            Slots::Only(slots) => {
                all.extend_from_slice(slots);
                Some(all)
            }
            Slots::All => None,
        });
        let slots = slots.map_or(Slots::All, Slots::Only);
        let hangs = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        let (kind, excuse) = if hangs { (Kind::Stuck, Excuse::None) } else { (Kind::Error, Excuse::Broken) };
        self.bench.suspect(Suspicion { kind, slots, span, excuse, text });
        asks.iter().map(|_| Got { span, reply: Err(Status::Maybe) }).collect()
    }

    fn sort(&mut self, ask: &Ask, value: Value, span: Span) -> Result<Value, Status> {
        if let Value::Error(text) = &value {
            return Err(self.failed(ask, text, span));
        }
        self.inside(ask, &value, span);
        self.bench.answered.fetch_add(1, Ordering::Relaxed);
        if let Slots::Only(slots) = &ask.slots {
            for slot in slots {
                let zone = slot * ZONES / SLOTS.max(1);
                self.beat(usize::from(zone), span.from);
            }
        }
        Ok(value)
    }

    fn beat(&mut self, zone: usize, at: Micros) {
        let Some(place) = self.beats.get_mut(zone) else { return };
        place.get_or_insert_with(|| self.bench.beat(format!("{} zone {zone}", self.name))).now(at);
    }

    fn failed(&self, ask: &Ask, text: &str, span: Span) -> Status {
        self.bench.count_error(text, span.to);
        let waited = span.to - span.from;
        let (kind, status) = match meaning(text, ask.several, waited) {
            Meaning::Redirect => (Kind::Redirect, Status::No),
            Meaning::Failed(status) => (Kind::Error, status),
        };
        let excuse = match (kind, status) {
            (Kind::Error, _) if text.contains("BUSY Redis is busy running a script") => Excuse::Busy,
            (Kind::Error, Status::Maybe) => Excuse::Broken,
            _ => Excuse::None,
        };
        if !(text.starts_with("TRYAGAIN") && kind == Kind::Error) {
            let text = format!("{}: {text} (after {} ms)", self.name, waited / 1000);
            self.bench.suspect(Suspicion { kind, slots: ask.slots.clone(), span, excuse, text });
        }
        status
    }

    /// Errors within an EXEC's array.
    fn inside(&self, ask: &Ask, value: &Value, span: Span) {
        let Value::Array(items) = value else { return };
        for text in
            items.iter().filter_map(|item| if let Value::Error(text) = item { Some(text) } else { None })
        {
            let redirect = meaning(text, false, 0) == Meaning::Redirect;
            let kind = if redirect { Kind::Redirect } else { Kind::Error };
            self.bench.wrong(
                kind,
                ask.slots.clone(),
                span,
                format!("{}: inside an array: {text}", self.name),
            );
        }
    }

    /// A reply that is not the one of its request.
    pub fn misfit(&self, ask: &str, key: &str, got: &Value, span: Span) {
        let text = format!("{}: {ask} was answered {got:?}", self.name);
        self.bench.wrong(Kind::WrongReply, Slots::one(slot(key.as_bytes())), span, text);
    }
}
