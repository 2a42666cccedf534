//! Runs one sequence against both: slotway in front of a cluster, and a single redis-server. Owns the
//! servers. Says where the replies first differ in a way nothing documents.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use slotway::command::Flags;
use slotway::error::ProxyError;

use super::expect::{Expected, command_of, refused};
use super::sequences::{Role, Sequence};
use super::session::{Session, Taken};
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

/// One request on its way.
struct Sent {
    index: usize,
    expected: Expected,
    replies: usize,
    /// Which arguments are keys depends on the arguments.
    movable_keys: bool,
}

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
        Supplies { dumps, functions, ..Supplies::default() }
    }

    /// Empties all servers, and what slotway knows of scripts.
    fn clean(&self) {
        let flush = [b"SCRIPT".to_vec(), b"FLUSH".to_vec()];
        if !refused(&flush) {
            self.proxy.client().ok(&framed(&flush));
        }
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
                let Taken { expected, replies, instead } = session.take(&sequence.requests[index]);
                match instead {
                    Some(word) => to_single.extend(frame(&[word.as_bytes()])),
                    None => to_single.extend_from_slice(&request),
                }
                to_proxy.extend_from_slice(&request);
                let command = command_of(&sequence.requests[index].args);
                let movable_keys = command.is_some_and(|command| command.flags.has(Flags::MOVABLEKEYS));
                sent.push(Sent { index, expected, replies, movable_keys });
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

/// What comes when it comes: invalidations, messages of one's own publishing, lines of MONITOR.
fn is_unasked(reply: &[u8]) -> bool {
    let kinds =
        ["2\r\n$10\r\ninvalidate", "3\r\n$7\r\nmessage", "3\r\n$8\r\nsmessage", "4\r\n$8\r\npmessage"];
    let push = reply
        .strip_prefix(b">")
        .is_some_and(|rest| kinds.iter().any(|kind| rest.starts_with(kind.as_bytes())));
    let monitor = reply.starts_with(b"+1") && reply.windows(3).any(|at| at == b" [0");
    push || monitor
}

/// The next replies, and whether the connection is still open.
fn replies(client: &mut Client, count: usize) -> (Vec<Vec<u8>>, bool) {
    let mut all = Vec::new();
    while all.len() < count {
        match client.try_reply() {
            Ok(reply) if is_unasked(&reply) => {}
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

/// Where a request does not fit the command's syntax, a node may take other arguments for keys than a right
/// request has there, and say CROSSSLOT before it sees what is wrong.
fn malformed(want: &[u8], got: &[u8]) -> bool {
    want.starts_with(b"-") && *got == format!("-{}\r\n", ProxyError::CrossSlot.text()).into_bytes()
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
        let start = format!("-{text}").into_bytes();
        let is = got.len() == want.len() && got.iter().all(|reply| reply.starts_with(&start));
        // A mode of the connection may come first, as with a single Redis.
        let alike = want == got && got.iter().all(|reply| reply.starts_with(b"-"));
        return (!is && !alike).then(|| format!("must be refused with: {text}"));
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
        // A script that a failed EVAL brought is known to slotway, not to a single Redis.
        let known = name.is_some() && want.starts_with(b"-NOSCRIPT");
        if rule.differs(want, got, whole) && !(sent.movable_keys && malformed(want, got)) && !known {
            return Some(format!("differs ({rule:?})"));
        }
    }
    let error = |reply: &Vec<u8>| reply.starts_with(b"-");
    if !got.iter().any(error) && (name.is_some() || !want.iter().any(error)) {
        outcome.succeeded.push(sent.index);
    }
    None
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
