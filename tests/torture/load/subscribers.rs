//! Publishers with numbered messages and subscribers of every kind: by name, by pattern, of a shard. Numbers only
//! grow, nothing comes from nowhere, and after a fault every subscription hears again.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Group, PAUSE, key};
use crate::support::client::Client;
use crate::support::keys::slot;
use crate::support::resp::{Value, frame, parse};
use crate::torture::bench::{Beat, Bench, lock};
use crate::torture::check::messages::Messages;
use crate::torture::check::{Excuse, Finding, Kind, Slots, Span, Suspicion};
use crate::torture::conn::{Ask, Conn};

const PUBLISHERS: usize = 2;
/// Channels of each kind.
const CHANNELS: usize = 3;
/// How often a subscriber looks whether the run is over.
const LOOK: Duration = Duration::from_millis(300);

/// A channel and what each publisher sent, or is sending.
struct Channel {
    name: String,
    sent: [AtomicU64; PUBLISHERS],
    /// Messages that may come late: their PUBLISH ended in an error that leaves open whether it was executed.
    open: [Mutex<BTreeSet<u64>>; PUBLISHERS],
}

pub struct Channels {
    plain: Vec<Channel>,
    sharded: Vec<Channel>,
}

impl Default for Channels {
    fn default() -> Self {
        let channel = |kind: &str, n: usize| Channel {
            name: key(kind, &n.to_string(), n),
            sent: Default::default(),
            open: Default::default(),
        };
        Self {
            plain: (0..CHANNELS).map(|n| channel("chan", n)).collect(),
            sharded: (0..CHANNELS).map(|n| channel("shard", n + 2)).collect(),
        }
    }
}

/// What a subscriber listens to.
#[derive(Clone, Copy)]
enum Way {
    Names,
    Pattern,
    Shards,
}

const WAYS: [Way; 3] = [Way::Names, Way::Pattern, Way::Shards];

impl Group for Channels {
    fn name(&self) -> &'static str {
        "channels"
    }

    fn threads(&self) -> usize {
        PUBLISHERS + 2 * WAYS.len()
    }

    fn work(&self, bench: &Bench, thread: usize) {
        match thread.checked_sub(PUBLISHERS) {
            None => self.publish(bench, thread),
            // Each kind once at each of two instances.
            Some(n) => Subscriber::new(bench, self, WAYS[n % WAYS.len()], n / WAYS.len()).listen(),
        }
    }
}

impl Channels {
    fn publish(&self, bench: &Bench, publisher: usize) {
        let name = format!("publisher {publisher}");
        let mut random = bench.random(&name);
        let mut conn = Conn::new(bench, name, publisher);
        while !bench.stop.is_set() {
            let plain = self.plain.iter().map(|c| ("PUBLISH", c));
            let all: Vec<(&str, &Channel)> =
                plain.chain(self.sharded.iter().map(|c| ("SPUBLISH", c))).collect();
            let number = |c: &Channel| c.sent[publisher].fetch_add(1, Ordering::Relaxed);
            let numbers: Vec<u64> = all.iter().map(|(_, c)| number(c)).collect();
            let ask = |((verb, channel), number): (&(&str, &Channel), &u64)| {
                let message = format!("{publisher}:{number}:{}", bench.now());
                Ask::key(cmd![verb, channel.name, message], &channel.name)
            };
            let asks: Vec<Ask> = all.iter().zip(&numbers).map(ask).collect();
            for (((_, channel), number), got) in all.iter().zip(numbers).zip(conn.batch(&asks)) {
                match &got.reply {
                    Ok(Value::Int(_)) => {}
                    Ok(value) => conn.misfit("PUBLISH", &channel.name, value, got.span),
                    Err(_) => drop(lock(&channel.open[publisher]).insert(number)),
                }
            }
            bench.pace(&mut random, PAUSE);
        }
    }
}

struct Subscriber<'b> {
    bench: &'b Bench,
    channels: &'b [Channel],
    name: String,
    request: Vec<u8>,
    instance: usize,
    heard: HashMap<(usize, usize), Messages>,
    beats: Vec<Arc<Beat>>,
}

impl<'b> Subscriber<'b> {
    fn new(bench: &'b Bench, all: &'b Channels, way: Way, instance: usize) -> Self {
        let (verb, kind, channels) = match way {
            Way::Names => ("SUBSCRIBE", "names", &all.plain),
            Way::Pattern => ("PSUBSCRIBE", "pattern", &all.plain),
            Way::Shards => ("SSUBSCRIBE", "shards", &all.sharded),
        };
        let mut args = vec![verb.as_bytes()];
        match way {
            Way::Pattern => args.push(b"t:chan:*"),
            _ => args.extend(channels.iter().map(|c| c.name.as_bytes())),
        }
        let name = format!("subscriber of {kind} at instance {instance}");
        let beats = channels.iter().map(|c| bench.beat(format!("{name}: {}", c.name))).collect();
        Self { bench, channels, request: frame(&args), name, instance, heard: HashMap::new(), beats }
    }

    /// Subscribes, and listens until the run ends. slotway has no reason to close the connection.
    fn listen(mut self) {
        while !self.bench.stop.is_set() {
            let from = self.bench.now();
            let error = match Client::try_connect(self.bench.addr(self.instance)) {
                Ok(client) => self.hear(client),
                Err(error) => error,
            };
            if !self.bench.stop.is_set() {
                let span = Span::new(from, self.bench.now());
                let text = format!("{}: connection: {error}", self.name);
                self.bench.wrong(Kind::Error, Slots::All, span, text);
                std::thread::sleep(LOOK);
            }
        }
    }

    fn hear(&mut self, mut client: Client) -> std::io::Error {
        client.patience(LOOK);
        if let Err(error) = client.try_send(&self.request) {
            return error;
        }
        loop {
            match client.try_reply() {
                Ok(bytes) => self.message(&parse(&bytes)),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return error,
            }
            if self.bench.stop.is_set() {
                return ErrorKind::Interrupted.into();
            }
        }
    }

    fn message(&mut self, value: &Value) {
        let now = self.bench.now();
        let span = Span::new(now, now);
        let words: Option<Vec<String>> = match value {
            Value::Array(items) => items.iter().map(|i| super::text(i).ok().flatten()).collect(),
            _ => None,
        };
        let words: Vec<&str> = words.iter().flatten().map(String::as_str).collect();
        let (channel, message) = match words.as_slice() {
            ["message" | "smessage", channel, message] | ["pmessage", _, channel, message] => {
                (*channel, *message)
            }
            // Confirmations carry a count, which is no text.
            [] if matches!(value, Value::Array(items) if matches!(items.last(), Some(Value::Int(_)))) => {
                return;
            }
            _ => return self.wrong(Kind::WrongReply, span, format!("{value:?}")),
        };
        let parts: Vec<Option<u64>> = message.split(':').map(|p| p.parse().ok()).collect();
        let place = self.channels.iter().position(|c| c.name == channel);
        let (Some(place), &[Some(publisher), Some(number), Some(at)]) = (place, parts.as_slice()) else {
            return self.wrong(Kind::FromNowhere, span, format!("{message} in {channel}"));
        };
        let publisher = publisher as usize;
        let Some(sent) = self.channels[place].sent.get(publisher) else {
            return self.wrong(Kind::FromNowhere, span, format!("{message} in {channel}"));
        };
        let open = lock(&self.channels[place].open[publisher]).contains(&number);
        let heard = self.heard.entry((place, publisher)).or_default();
        let finding = heard.heard(number, sent.load(Ordering::Relaxed), open);
        if let Some(Finding { kind, text, .. }) = finding {
            let excuse = if kind == Kind::Order { Excuse::OwnerChanged } else { Excuse::None };
            let text = format!("{}: {channel}: {text}", self.name);
            let slots = Slots::one(slot(channel.as_bytes()));
            self.bench.suspect(Suspicion { kind, slots, span, excuse, text });
        }
        self.beats[place].now(at);
    }

    fn wrong(&self, kind: Kind, span: Span, text: String) {
        self.bench.wrong(kind, Slots::All, span, format!("{}: {text}", self.name));
    }
}
