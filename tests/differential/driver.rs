//! Runs one sequence against both: slotway in front of a cluster, and a single redis-server. Owns the
//! servers. Says where the replies first differ in a way nothing documents.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use super::compare::Rule;
use super::expect::{Expected, command_of, expected, slots};
use super::sequences::{Request, Role, Sequence};
use super::values::Supplies;
use crate::support::client::Client;
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, frame, parse};
use crate::support::server::Server;
use crate::support::shared::seeds;

/// Both sides.
pub struct Servers {
    cluster: RedisCluster,
    single: Server,
    proxy: Proxy,
}

/// The first difference of a sequence.
#[derive(Debug)]
pub struct Difference {
    /// Number of the request.
    pub index: usize,
    pub want: Vec<Vec<u8>>,
    pub got: Vec<Vec<u8>>,
    pub why: String,
}

/// What a sequence showed.
#[derive(Default)]
pub struct Outcome {
    pub difference: Option<Difference>,
    /// Requests that got a reply other than an error, through the proxy as from the single server.
    pub succeeded: Vec<usize>,
    /// Commands whose documented difference was seen.
    pub differed: BTreeSet<&'static str>,
}

/// What decides how many replies a request gets, and what they are compared with.
#[derive(Default)]
struct Session {
    /// Rules for the replies of EXEC; `None` outside a transaction.
    queue: Option<Vec<Rule>>,
    queued_slots: BTreeSet<u16>,
    /// Subscriptions: channels, patterns, shard channels.
    subscribed: [BTreeSet<Vec<u8>>; 3],
    silent: bool,
    silent_once: bool,
}

/// One request on its way.
struct Sent {
    index: usize,
    expected: Expected,
    replies: usize,
}

/// In the place of what the single server must not execute: refused at once, in a transaction too.
const REFUSED_BY_ALL: &[&[u8]] = &[b"GET"];

// === impl Servers ===

impl Servers {
    pub fn start() -> Self {
        let cluster =
            RedisCluster::shaped(&Shape { node_timeout: Duration::from_secs(20), ..Shape::default() });
        let proxy = Proxy::start(&seeds(&cluster), &[("workers", "2")]);
        Self { cluster, single: Server::standalone(&[]), proxy }
    }

    /// What only a server can make: payloads of DUMP and FUNCTION DUMP.
    pub fn supplies(&self) -> Supplies {
        let mut client = self.single.client();
        client.ok(&cmd!["SET", "text", "dumped"]);
        client.ok(&cmd!["RPUSH", "list", "a", "b", "1"]);
        client.ok(&cmd!["SADD", "set", "1", "2"]);
        client.ok(&cmd!["ZADD", "zset", "1", "a", "2.5", "b"]);
        client.ok(&cmd!["HSET", "hash", "f1", "v", "f2", "2"]);
        client.ok(&cmd!["XADD", "stream", "1-1", "f", "v"]);
        let mut dumps: Vec<Vec<u8>> = ["text", "list", "set", "zset", "hash", "stream"]
            .iter()
            .map(|key| client.ok(&cmd!["DUMP", key]).bytes().to_vec())
            .collect();
        dumps.push(b"no payload".to_vec());
        let code = "#!lua name=dumped\nredis.register_function('fd', function() return 1 end)";
        client.ok(&cmd!["FUNCTION", "LOAD", code]);
        let functions = client.ok(&cmd!["FUNCTION", "DUMP"]).bytes().to_vec();
        Supplies { dumps, functions, scripts: Vec::new() }
    }

    /// Empties all servers.
    fn clean(&self) {
        let mut clients: Vec<Client> =
            (0..self.cluster.primaries()).map(|index| self.cluster.client(index)).collect();
        clients.push(self.single.client());
        let all = [cmd!["FLUSHALL"], cmd!["SCRIPT", "FLUSH"], cmd!["FUNCTION", "FLUSH"]].concat();
        clients.iter_mut().for_each(|client| client.send(&all));
        for client in &mut clients {
            assert!(client.values(3).iter().all(|reply| !reply.is_error()));
        }
    }

    /// Runs the requests of a sequence with these numbers; stops at the first difference.
    pub fn run(&self, sequence: &Sequence, only: &[usize], resp3: bool) -> Outcome {
        self.clean();
        let (mut single, mut through) = (self.single.client(), self.proxy.client());
        if resp3 {
            single.ok(&cmd!["HELLO", "3"]);
            through.ok(&cmd!["HELLO", "3"]);
        }
        let mut session = Session::default();
        let mut outcome = Outcome::default();
        let mut whole: Option<Vec<u8>> = None;
        for batch in only.chunks(sequence.batch.min(only.len()).max(1)) {
            let (mut to_single, mut to_proxy, mut sent) = (Vec::new(), Vec::new(), Vec::new());
            for &index in batch {
                let request = framed(&sequence.requests[index].args);
                let (expected, replies) = session.take(&sequence.requests[index]);
                match expected {
                    Expected::Error(_) => to_single.extend(frame(REFUSED_BY_ALL)),
                    _ => to_single.extend_from_slice(&request),
                }
                to_proxy.extend_from_slice(&request);
                sent.push(Sent { index, expected, replies });
            }
            // A side that has closed the connection says so when it is read.
            let _ = through.try_send(&to_proxy);
            let _ = single.try_send(&to_single);
            for sent in sent {
                let (want, single_open) = replies(&mut single, sent.replies);
                let (got, proxy_open) = replies(&mut through, sent.replies);
                let request = &sequence.requests[sent.index];
                if let Some(why) = judge(&sent, (&want, &got), whole.as_deref(), &mut outcome) {
                    outcome.difference = Some(Difference { index: sent.index, want, got, why });
                    return outcome;
                }
                whole = (request.role == Role::Whole).then(|| got.concat());
                if !single_open && !proxy_open {
                    return outcome;
                }
            }
        }
        outcome
    }
}

fn framed(args: &[Vec<u8>]) -> Vec<u8> {
    frame(&args.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// The next replies, and whether the connection is still open. Invalidations come when they come.
fn replies(client: &mut Client, count: usize) -> (Vec<Vec<u8>>, bool) {
    let mut all = Vec::new();
    while all.len() < count {
        match client.try_reply() {
            Ok(reply) if reply.starts_with(b">2\r\n$10\r\ninvalidate") => {}
            Ok(reply) => all.push(reply),
            Err(error) => {
                let ended = matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset);
                if !ended {
                    all.push(format!("(nothing: {error})").into_bytes());
                }
                return (all, false);
            }
        }
    }
    (all, true)
}

/// Why the replies are not what they must be; notes what they show.
fn judge(
    sent: &Sent,
    (want, got): (&[Vec<u8>], &[Vec<u8>]),
    whole: Option<&[u8]>,
    outcome: &mut Outcome,
) -> Option<String> {
    if got.iter().chain(want).any(|reply| reply.starts_with(b"(nothing")) {
        return Some("a reply is missing".into());
    }
    if let Expected::Error(text) = &sent.expected {
        let is =
            got.len() == want.len() && got.iter().all(|reply| *reply == format!("-{text}\r\n").into_bytes());
        return (!is).then(|| format!("must be refused with: {text}"));
    }
    if want.len() != got.len() {
        return Some(format!("{} replies instead of {}", got.len(), want.len()));
    }
    let (name, rule) = match &sent.expected {
        Expected::Differs(name, rule) => (Some(*name), rule),
        Expected::Same(rule) => (None, rule),
        Expected::Error(_) => return None,
    };
    if name.is_some() && want != got {
        outcome.differed.extend(name);
    }
    for (want, got) in want.iter().zip(got) {
        if rule.differs(want, got, whole) {
            return Some(format!("differs ({rule:?})"));
        }
    }
    let error = |reply: &Vec<u8>| reply.starts_with(b"-");
    if !got.iter().any(error) && (name.is_some() || !want.iter().any(error)) {
        outcome.succeeded.push(sent.index);
    }
    None
}

// === impl Session ===

impl Session {
    /// What is expected of the next request, and how many replies it gets.
    fn take(&mut self, request: &Request) -> (Expected, usize) {
        let args = &request.args;
        let in_transaction = self.queue.is_some();
        let mut expected = expected(args, in_transaction.then_some(&self.queued_slots));
        if request.role == Role::Cleaning {
            expected = Expected::Same(Rule::Anything);
        }
        let accepted = !matches!(expected, Expected::Error(_));
        let Some(command) = command_of(args).filter(|_| accepted) else { return (expected, self.count(1)) };
        let word = |index: usize| args.get(index).map(|arg| arg.to_ascii_lowercase()).unwrap_or_default();
        let mut replies = 1;
        match (command.name, &mut self.queue) {
            ("multi", None) => self.queue = Some(Vec::new()),
            ("exec", Some(rules)) => {
                expected = Expected::Same(Rule::Each(std::mem::take(rules)));
                self.end_transaction();
            }
            ("discard", Some(_)) | ("reset" | "quit", _) => {
                self.end_transaction();
                if command.name == "reset" {
                    *self = Self::default();
                }
            }
            ("multi" | "watch", Some(_)) => {}
            (_, Some(rules)) => {
                let rule = match expected {
                    Expected::Same(Rule::Random) | Expected::Differs(_, Rule::Random) => Rule::Form,
                    Expected::Same(rule) | Expected::Differs(_, rule) => rule,
                    Expected::Error(_) => Rule::Exact,
                };
                rules.push(rule);
                self.queued_slots.extend(slots(command, args));
                expected = Expected::Same(Rule::Exact);
            }
            ("client|reply", None) => return (expected, self.reply_mode(&word(2))),
            (name, None) => replies = self.subscription(name, &args[1..]).unwrap_or(1),
        }
        (expected, self.count(replies))
    }

    fn end_transaction(&mut self) {
        self.queue = None;
        self.queued_slots.clear();
    }

    fn count(&mut self, replies: usize) -> usize {
        if self.silent || std::mem::take(&mut self.silent_once) { 0 } else { replies }
    }

    fn reply_mode(&mut self, mode: &[u8]) -> usize {
        match mode {
            b"on" => {
                self.silent = false;
                self.silent_once = false;
                1
            }
            b"off" => {
                self.silent = true;
                0
            }
            b"skip" => {
                self.silent_once = !self.silent;
                0
            }
            _ => self.count(1),
        }
    }

    /// Replies of a request that subscribes or unsubscribes: one for each name.
    fn subscription(&mut self, name: &str, names: &[Vec<u8>]) -> Option<usize> {
        let kind = ["subscribe", "psubscribe", "ssubscribe"].iter().position(|n| *n == name);
        if let Some(kind) = kind {
            self.subscribed[kind].extend(names.iter().cloned());
            return Some(names.len());
        }
        let kind = ["unsubscribe", "punsubscribe", "sunsubscribe"].iter().position(|n| *n == name)?;
        if names.is_empty() {
            return Some(std::mem::take(&mut self.subscribed[kind]).len().max(1));
        }
        names.iter().for_each(|name| {
            self.subscribed[kind].remove(name);
        });
        Some(names.len())
    }
}

/// The replies for people.
pub fn shown(replies: &[Vec<u8>]) -> String {
    let one = |reply: &Vec<u8>| match std::panic::catch_unwind(|| parse(reply)) {
        Ok(Value::Error(text)) => format!("-{text}"),
        _ => crate::support::resp::show(reply),
    };
    if replies.is_empty() {
        "(no reply)".into()
    } else {
        replies.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}
