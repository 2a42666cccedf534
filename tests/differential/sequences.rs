//! Sequences of requests for one connection each: every command in every form once per round, with
//! what fills its keys before it, by kind of data, so that state builds up. All from one seed.

use std::collections::HashSet;

use fastrand::Rng;

use super::arguments::{Form, Made, Shape};
use super::compare::leaves_chance;
use super::keys::{self, Kind, SLOTS, Spread};
use super::talks::{self, ODD_IN_MULTI};
use super::values::{self, Supplies};

/// One request of a sequence.
#[derive(Clone, Debug)]
pub struct Request {
    pub args: Vec<Vec<u8>>,
    /// What it is to show: index of the command's shape, numbers of its arguments.
    pub shows: Option<(usize, Vec<usize>)>,
    pub role: Role,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its reply is compared.
    Compared,
    /// So is this one; it reads the collection that the next request picks from.
    Whole,
    /// It takes away keys that may be on one server alone: its reply may differ.
    Cleaning,
}

/// Requests for one connection.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Topic, seed and number: enough to find it again.
    pub name: String,
    pub requests: Vec<Request>,
    /// Requests sent together before replies are read.
    pub batch: usize,
}

/// What sequences are about; commands of a topic share data.
const TOPICS: &[(&str, &[&str])] = &[
    ("strings", &["string", "bitmap", "hyperloglog"]),
    ("lists", &["list"]),
    ("hashes", &["hash"]),
    ("sets", &["set"]),
    ("sorted sets", &["sorted-set", "geo"]),
    ("streams", &["stream"]),
    ("generic", &["generic"]),
    ("scripting", &["scripting"]),
    ("session", &["connection", "server", "cluster"]),
    ("publish and subscribe", &["pubsub"]),
    ("transactions", &["transactions"]),
];

/// Requests of one sequence that show something, besides what prepares them.
const PER_SEQUENCE: usize = 40;

/// Commands after which a connection is of no more use to the requests behind it.
const LAST: &[&str] = &["quit", "monitor", "client|kill", "client|reply", "sync", "psync", "shutdown"];

/// All sequences of one round.
pub fn round(shapes: &[Shape], supplies: &Supplies, seed: u64) -> Vec<Sequence> {
    let mut random = Rng::with_seed(seed);
    let mut sequences = Vec::new();
    for (topic, groups) in TOPICS {
        let mut jobs: Vec<(usize, Form)> = Vec::new();
        let mut last: Vec<(usize, Form)> = Vec::new();
        for (index, shape) in shapes.iter().enumerate().filter(|(_, shape)| groups.contains(&group(shape))) {
            let list = if LAST.contains(&shape.name) { &mut last } else { &mut jobs };
            list.extend(shape.forms().map(|form| (index, form)));
        }
        random.shuffle(&mut jobs);
        let alone = last.chunks(1);
        for jobs in jobs.chunks(PER_SEQUENCE).chain(alone) {
            let name = format!("{topic}, seed {seed}, sequence {}", sequences.len());
            let mut supplies = supplies.clone();
            supplies.scripts = values::scripts(&format!("{name}, {}", supplies.mark));
            let mut writer = Writer::new(shapes, &supplies, Rng::with_seed(random.u64(..)), topic);
            jobs.iter().for_each(|job| writer.job(*job));
            sequences.push(Sequence { name, batch: writer.batch(), requests: writer.requests });
        }
    }
    sequences.extend(talks::all(shapes, &mut random));
    sequences
}

struct Writer<'a> {
    shapes: &'a [Shape],
    supplies: &'a Supplies,
    random: Rng,
    topic: &'static str,
    /// All keys of a connection in one slot.
    one_slot: Option<u16>,
    filled: HashSet<Vec<u8>>,
    requests: Vec<Request>,
}

impl<'a> Writer<'a> {
    fn new(shapes: &'a [Shape], supplies: &'a Supplies, mut random: Rng, topic: &'static str) -> Self {
        let narrow = random.u8(..10) < if topic == "transactions" { 8 } else { 1 };
        let one_slot = narrow.then(|| SLOTS[random.usize(..SLOTS.len())]);
        let mut writer =
            Self { shapes, supplies, random, topic, one_slot, filled: HashSet::new(), requests: Vec::new() };
        if topic == "scripting" {
            writer.load_scripts();
        }
        writer
    }

    fn batch(&mut self) -> usize {
        [1, 7, 50, usize::MAX][self.random.usize(..4)]
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.random.u8(..100) < percent
    }

    fn plain(&mut self, args: Vec<Vec<u8>>) {
        self.push(args, Role::Compared);
    }

    fn push(&mut self, args: Vec<Vec<u8>>, role: Role) {
        self.requests.push(Request { args, shows: None, role });
    }

    fn words(&mut self, line: &str) {
        self.plain(line.split(' ').map(|word| word.as_bytes().to_vec()).collect());
    }

    /// Some are known before the first EVALSHA, by either of the ways that make them known.
    fn load_scripts(&mut self) {
        let scripts: Vec<Vec<u8>> = self.supplies.scripts.clone();
        for script in scripts {
            match self.random.u8(..3) {
                0 => self.plain(vec![b"SCRIPT".to_vec(), b"LOAD".to_vec(), script]),
                1 => self.plain(vec![b"EVAL".to_vec(), script, b"1".to_vec(), b"{tag}none".to_vec()]),
                _ => {}
            }
        }
        for library in super::values::FUNCTIONS.iter().take(3) {
            if self.random.bool() {
                self.plain(
                    ["FUNCTION", "LOAD", "REPLACE", library].map(|word| word.as_bytes().to_vec()).into(),
                );
            }
        }
        self.reach();
    }

    /// The script, and the function, that read what they were not given, in all ways; keys that no node has all of.
    fn reach(&mut self) {
        let Some(script) = self.supplies.scripts.last().cloned() else { return };
        let sha = super::sha1::hex(&script).into_bytes();
        for (name, what) in [("EVAL", &script), ("EVALSHA", &sha), ("EVAL_RO", &script), ("EVALSHA_RO", &sha)]
        {
            for other in ["{a}other", "{b}other", "{c}other"] {
                let words = [name.as_bytes(), what, b"1", b"{tag}none", other.as_bytes()];
                self.plain(words.iter().map(|word| word.to_vec()).collect());
            }
        }
        let load = ["FUNCTION", "LOAD", "REPLACE", super::values::REACHING];
        self.plain(load.map(|word| word.as_bytes().to_vec()).into());
        for name in ["FCALL", "FCALL_RO"] {
            for other in ["{a}other", "{b}other", "{c}other"] {
                self.words(&format!("{name} reach 1 {{tag}}none {other}"));
            }
        }
    }

    /// One request in the wanted form, and what belongs around it.
    fn job(&mut self, (index, form): (usize, Form)) {
        if self.topic == "transactions" {
            return self.transaction(index, form);
        }
        if self.topic == "publish and subscribe" && self.chance(30) {
            self.words("PING");
        }
        self.request(index, form);
        if self.chance(15) && !LAST.contains(&self.shapes[index].name) {
            self.noise();
        }
        if self.shapes[index].name == "client|reply" {
            ["GET Text", "ECHO unseen", "CLIENT REPLY ON", "ECHO seen"]
                .iter()
                .for_each(|line| self.words(line));
        }
    }

    /// Any command on data, so that the topics meet.
    fn noise(&mut self) {
        let index = loop {
            let index = self.random.usize(..self.shapes.len());
            if on_data(self.shapes[index].group) && self.shapes[index].has_keys() {
                break index;
            }
        };
        if self.topic == "publish and subscribe" {
            // In a subscribed connection most commands are refused before their arguments are looked at.
            return self.words("GET Text");
        }
        self.request(index, Form::Any);
    }

    fn spread(&mut self, shape: &Shape) -> Spread {
        let split = ["mget", "mset", "del", "unlink", "exists", "touch"].contains(&shape.name);
        if let Some(slot) = self.one_slot {
            return Spread::Slot(slot);
        }
        if self.chance(if split { 60 } else { 12 }) {
            return Spread::Mixed;
        }
        Spread::Slot(SLOTS[self.random.usize(..SLOTS.len())])
    }

    fn request(&mut self, index: usize, form: Form) {
        let shape = &self.shapes[index];
        let spread = self.spread(shape);
        let mut made = shape.make(form, spread, self.supplies, &mut self.random);
        if shape.name.starts_with("command|getkeys") {
            made.args.truncate(2);
            let other = self.random.usize(..self.shapes.len());
            let inner = self.shapes[other].make(Form::Any, spread, self.supplies, &mut self.random);
            made.args.extend(inner.args);
        }
        if shape.name == "client|tracking" {
            two_prefixes(&mut made.args);
        }
        self.fill(&made);
        self.companion(shape.name, &made);
        let chance = leaves_chance(&made.args);
        self.requests.push(Request {
            args: made.args,
            shows: Some((index, made.shown)),
            role: Role::Compared,
        });
        match shape.name {
            "select" => self.words("SELECT 0"),
            "hello" => {
                let line = if self.random.bool() { "HELLO 2" } else { "HELLO 3" };
                self.words(line);
                self.words("CLIENT SETNAME settled");
            }
            "client|setname" => self.words("CLIENT SETNAME settled"),
            "flushall" | "flushdb" => self.filled.clear(),
            _ if chance => self.forget(&made.keys),
            _ => {}
        }
    }

    fn fill(&mut self, made: &Made) {
        let lexical = is_lexical(&made.args);
        for (kind, key) in &made.keys {
            let kind = if lexical && *kind == Kind::LargeSortedSet { Kind::OneScore } else { *kind };
            let percent = match kind {
                _ if lexical => 100,
                Kind::Missing | Kind::Target => 0,
                _ if self.filled.contains(key) => 12,
                _ => 88,
            };
            if self.chance(percent) {
                self.filled.insert(key.clone());
                keys::fill(kind, key).into_iter().for_each(|args| self.plain(args));
            }
        }
    }

    /// What reads the whole collection a random member is picked from.
    fn companion(&mut self, name: &str, made: &Made) {
        let key = made.keys.first().map(|(_, key)| key.clone());
        let line = match (name, key) {
            ("spop" | "srandmember", Some(key)) => vec![b"SMEMBERS".to_vec(), key],
            ("hrandfield", Some(key)) => vec![b"HGETALL".to_vec(), key],
            ("zrandmember", Some(key)) => {
                vec![b"ZRANGE".to_vec(), key, b"0".to_vec(), b"-1".to_vec(), b"WITHSCORES".to_vec()]
            }
            ("randomkey", None) => vec![b"KEYS".to_vec(), b"*".to_vec()],
            _ => return,
        };
        self.push(line, Role::Whole);
    }

    /// Takes away keys that may now hold different data on both servers.
    fn forget(&mut self, keys: &[(Kind, Vec<u8>)]) {
        for (_, key) in keys {
            self.filled.remove(key);
            self.push(vec![b"DEL".to_vec(), key.clone()], Role::Cleaning);
        }
    }

    /// A transaction around requests on data of one slot, or a form of one of its own commands.
    fn transaction(&mut self, index: usize, form: Form) {
        if self.chance(30) {
            self.request(index, form);
        }
        if self.chance(25) {
            self.watch();
        }
        self.words("MULTI");
        for _ in 0..self.random.usize(0..6) {
            match self.random.u8(..12) {
                0 => self.words("PING"),
                1 => self.words("ECHO in-between"),
                2 => {
                    let line = ODD_IN_MULTI[self.random.usize(..ODD_IN_MULTI.len())];
                    self.words(line);
                }
                3 if self.random.u8(..4) == 0 => self.words("GET"),
                3 if self.random.u8(..4) == 0 => self.words("NOSUCH command"),
                3 if self.random.u8(..4) == 0 => self.words("MULTI"),
                3 if self.random.u8(..4) == 0 => self.watch(),
                _ => self.noise(),
            }
        }
        match self.random.u8(..10) {
            0 => self.words("DISCARD"),
            1 => self.request(index, form),
            _ => {}
        }
        self.words("EXEC");
    }

    fn watch(&mut self) {
        let slot = self.one_slot.unwrap_or(SLOTS[self.random.usize(..SLOTS.len())]);
        let key = keys::key(Kind::Number, Spread::Slot(slot), &mut self.random);
        self.plain(vec![b"WATCH".to_vec(), key.clone()]);
        match self.random.u8(..4) {
            0 => self.plain(vec![b"INCR".to_vec(), key]),
            1 => self.words("UNWATCH"),
            _ => {}
        }
    }
}

/// By member instead of score: where scores differ, what a large sorted set answers is a matter of chance.
fn is_lexical(args: &[Vec<u8>]) -> bool {
    let name = args[0].to_ascii_lowercase();
    name.ends_with(b"lex")
        || name == b"zlexcount"
        || args.iter().any(|arg| arg.eq_ignore_ascii_case(b"bylex"))
}

/// Of more than two prefixes Redis 7.0 says of the second that it overlaps, and then OK: two replies.
fn two_prefixes(args: &mut Vec<Vec<u8>>) {
    let mut places = args.iter().enumerate().filter(|(_, arg)| arg.eq_ignore_ascii_case(b"prefix"));
    if let Some((third, _)) = places.nth(2) {
        args.truncate(third);
    }
}

/// Its group; but who publishes has not subscribed: when one's own messages come is not the same everywhere.
fn group(shape: &Shape) -> &'static str {
    if ["publish", "spublish"].contains(&shape.name) { "server" } else { shape.group }
}

/// Groups of commands on data.
fn on_data(group: &str) -> bool {
    TOPICS.iter().take(7).any(|(_, groups)| groups.contains(&group))
}
