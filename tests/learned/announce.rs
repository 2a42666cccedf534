//! Fake nodes that announce invented commands, in the words of COMMAND.

use std::sync::{Arc, Mutex, PoisonError};

use crate::support::node::{Answer, FakeCluster, Seen};
use crate::support::proxy::Proxy;
use crate::support::resp::bulk;

/// One command as COMMAND tells it.
#[derive(Clone, Debug)]
pub struct Announced {
    pub name: String,
    pub arity: i64,
    pub flags: Vec<String>,
    pub range: (i64, i64, i64),
    pub acl: Vec<String>,
    pub tips: Vec<String>,
    /// Key specifications, encoded.
    pub keys: Vec<Vec<u8>>,
    pub subcommands: Vec<Announced>,
}

fn list(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}

fn simple(words: &[String]) -> Vec<u8> {
    array(&words.iter().map(|word| format!("+{word}\r\n").into_bytes()).collect::<Vec<_>>())
}

fn number(n: i64) -> Vec<u8> {
    format!(":{n}\r\n").into_bytes()
}

impl Announced {
    /// A command of any arity without keys; `flags` parted by blanks.
    pub fn new(name: &str, flags: &str) -> Self {
        let (acl, tips, keys, subcommands) = (vec![], vec![], vec![], vec![]);
        Self {
            name: name.into(),
            arity: -1,
            flags: list(flags),
            range: (0, 0, 0),
            acl,
            tips,
            keys,
            subcommands,
        }
    }

    pub fn arity(mut self, arity: i64) -> Self {
        self.arity = arity;
        self
    }

    pub fn range(mut self, first: i64, last: i64, step: i64) -> Self {
        self.range = (first, last, step);
        self
    }

    pub fn acl(mut self, categories: &str) -> Self {
        self.acl = list(categories);
        self
    }

    pub fn tips(mut self, tips: &str) -> Self {
        self.tips = list(tips);
        self
    }

    /// One more key specification.
    pub fn key(mut self, spec: Vec<u8>) -> Self {
        self.keys.push(spec);
        self
    }

    pub fn sub(mut self, subcommand: Announced) -> Self {
        self.subcommands.push(subcommand);
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        let subcommands: Vec<_> = self.subcommands.iter().map(Announced::encode).collect();
        let tips: Vec<_> = self.tips.iter().map(|tip| bulk(tip.as_bytes())).collect();
        array(&[
            bulk(self.name.as_bytes()),
            number(self.arity),
            simple(&self.flags),
            number(self.range.0),
            number(self.range.1),
            number(self.range.2),
            simple(&self.acl),
            array(&tips),
            array(&self.keys),
            array(&subcommands),
        ])
    }
}

/// A key specification of these words: `index 1`, `keyword KEYS 2`, `unknown`; `range 0 1 0`, `keynum 0 1 1`,
/// `unknown`; flags.
pub fn spec(begin: &str, find: &str, flags: &str) -> Vec<u8> {
    let part = |words: &str, names: &[&str]| {
        let mut words = words.split(' ');
        let kind = words.next().unwrap_or_default();
        let fields: Vec<Vec<u8>> = names
            .iter()
            .zip(words)
            .flat_map(|(name, word)| {
                let value = word.parse().map_or_else(|_| bulk(word.as_bytes()), number);
                [bulk(name.as_bytes()), value]
            })
            .collect();
        array(&[bulk(b"type"), bulk(kind.as_bytes()), bulk(b"spec"), array(&fields)])
    };
    let begin_names: &[&str] =
        if begin.starts_with("index") { &["index"] } else { &["keyword", "startfrom"] };
    let find_names: &[&str] = if find.starts_with("range") {
        &["lastkey", "keystep", "limit"]
    } else {
        &["keynumidx", "firstkey", "keystep"]
    };
    array(&[
        bulk(b"flags"),
        simple(&list(flags)),
        bulk(b"begin_search"),
        part(begin, begin_names),
        bulk(b"find_keys"),
        part(find, find_names),
    ])
}

/// The usual one: argument 1 is the key.
pub fn first() -> Vec<u8> {
    spec("index 1", "range 0 1 0", "RW access update")
}

/// What the nodes answer to COMMAND; changed while they run.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<(Vec<u8>, i64)>>);

impl Told {
    /// These commands, one after the other.
    pub fn commands(&self, commands: &[Announced]) {
        self.raw(array(&commands.iter().map(Announced::encode).collect::<Vec<_>>()));
    }

    /// These bytes.
    pub fn raw(&self, reply: Vec<u8>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *told = (reply, told.1 + 1);
    }

    fn answer(&self, seen: &Seen) -> Option<Answer> {
        let (reply, version) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (seen.name().as_str(), seen.args.len(), seen.arg(1).to_uppercase().as_str()) {
            ("COMMAND", 1, _) => Some(Answer::Reply(reply)),
            // Any other number than before makes a proxy look again.
            ("COMMAND", 2, "COUNT") => Some(Answer::Reply(number(version))),
            _ => None,
        }
    }
}

/// Three nodes that announce what `Told` says. `script` is asked about everything else but the questions
/// of the topology.
pub fn announcing(
    commands: &[Announced],
    script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> (FakeCluster, Told) {
    let (fake, told) = (FakeCluster::start(3), Told::default());
    told.commands(commands);
    let tells = told.clone();
    fake.script(move |seen| tells.answer(seen).unwrap_or_else(|| script(seen)));
    (fake, told)
}

/// The same, and a proxy in front.
pub fn learned(commands: &[Announced]) -> (FakeCluster, Told, Proxy) {
    let (fake, told) = announcing(commands, |_| Answer::Standard);
    let proxy = Proxy::start(fake.addrs(), &[("refresh-interval", "200ms")]);
    (fake, told, proxy)
}

/// Requests that clients sent, as they arrived: no handshakes and nothing the proxy asks for itself.
pub fn arrived(fake: &FakeCluster) -> Vec<Seen> {
    let own = ["HELLO", "AUTH", "CLIENT", "CLUSTER", "INFO", "PING", "COMMAND"];
    fake.seen().into_iter().filter(|seen| !own.contains(&seen.name().as_str())).collect()
}

/// Questions for keys that arrived.
pub fn questions(fake: &FakeCluster) -> Vec<Seen> {
    fake.seen_named("COMMAND").into_iter().filter(|seen| seen.arg(1) == "GETKEYS").collect()
}
