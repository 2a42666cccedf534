//! The command table, key finding, error texts and the proxy's own replies, compared with a real
//! redis-server. Needs nothing but `redis-server` on PATH; every server is ended by its handle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use slotway::command::data::{self, File};
use slotway::command::{CommandTable, Flags, Handling, KeyError, KeyRule, Lookup, errors, fetch, find_keys, keys};
use slotway::protocol::request::{Args, Span};
use slotway::protocol::encode;

use redis_protocol::resp2::types::OwnedFrame as Frame;

/// Commands of the table that the server the table comes from cannot be asked about: not in 7.0.
const NOT_IN_SERVER: &[&str] = &["client|setinfo"];

/// Where `find_keys` is right and COMMAND GETKEYS refuses: PFMERGE without sources is a valid command, and a
/// cluster node routes it by its one key.
const ROUTED_THOUGH_GETKEYS_REFUSES: &[&str] = &["pfmerge"];

/// Compared in the written forms only: Redis looks for the word KEYS from argument 6 on, its key specification says
/// anywhere. It is refused.
const WRITTEN_FORMS_ONLY: &[&str] = &["migrate"];

/// How the key is used is compared in well-formed requests only: Redis takes words it does not know for writes.
const USE_COMPARED_WELL_FORMED: &[&str] = &["bitfield"];

// === a server and a client ===

struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    /// `None`, loudly, where there is no redis-server; a failure if REQUIRE_REDIS is set.
    fn start(options: &[&str]) -> Option<Self> {
        for _ in 0..5 {
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            let dir = tempfile::tempdir().unwrap();
            let spawned = Process::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"])
                .args(options)
                .current_dir(dir.path())
                .stdout(Stdio::null())
                .spawn();
            let mut server = match spawned {
                Ok(child) => Self { child, port, _dir: dir },
                Err(error) => {
                    assert!(std::env::var_os("REQUIRE_REDIS").is_none(), "redis-server: {error}");
                    eprintln!("SKIPPED: redis-server is not on PATH ({error})");
                    return None;
                }
            };
            if server.is_ready() {
                return Some(server);
            }
        }
        panic!("redis-server does not start");
    }

    /// False if it ended: another process may have taken the port in between.
    fn is_ready(&mut self) -> bool {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server does not listen");
    }

    fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Client { stream, buffer: Vec::new() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn send<T: AsRef<[u8]>>(&mut self, words: &[T]) {
        self.stream.write_all(&request(words)).unwrap();
    }

    /// The next RESP2 reply, decoded and as bytes.
    fn reply(&mut self) -> (Frame, Vec<u8>) {
        loop {
            if let Some((frame, used)) = redis_protocol::resp2::decode::decode(&self.buffer).unwrap() {
                return (frame, self.buffer.drain(..used).collect());
            }
            self.fill();
        }
    }

    /// The next RESP3 reply as bytes.
    fn reply3(&mut self) -> Vec<u8> {
        loop {
            if let Some((_, used)) = redis_protocol::resp3::decode::complete::decode(&self.buffer).unwrap() {
                return self.buffer.drain(..used).collect();
            }
            self.fill();
        }
    }

    /// The next reply of one line, which need not be UTF-8.
    fn line(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                return self.buffer.drain(..end + 2).collect();
            }
            self.fill();
        }
    }

    fn fill(&mut self) {
        let mut chunk = [0; 1 << 16];
        let count = self.stream.read(&mut chunk).unwrap();
        assert!(count > 0, "connection closed");
        self.buffer.extend_from_slice(&chunk[..count]);
    }

    fn ask<T: AsRef<[u8]>>(&mut self, words: &[T]) -> Vec<u8> {
        self.send(words);
        self.reply().1
    }
}

fn request<T: AsRef<[u8]>>(words: &[T]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::array(&mut out, words.len());
    words.iter().for_each(|word| encode::bulk(&mut out, word));
    out
}

/// A request as the scanner would hand it over.
struct Cut {
    frame: Vec<u8>,
    spans: Vec<Span>,
}

impl Cut {
    fn new<T: AsRef<[u8]>>(words: &[T]) -> Self {
        let mut cut = Self { frame: Vec::new(), spans: Vec::new() };
        for word in words {
            let word = word.as_ref();
            cut.spans.push(Span { start: cut.frame.len() as u32, len: word.len() as u32 });
            cut.frame.extend_from_slice(word);
        }
        cut
    }

    fn args(&self) -> Args<'_> {
        Args::new(&self.frame, &self.spans)
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// True if the server is the version the table was made from; otherwise comparing makes no sense.
fn same_version(json: &str) -> bool {
    let file: File = serde_json::from_str(json).unwrap();
    let source = CommandTable::builtin().source();
    if file.source == *source {
        return true;
    }
    eprintln!("SKIPPED: the table is of {source:?}, this server is {:?}", file.source);
    false
}

// === the table ===

#[test]
fn table_is_what_the_server_says() {
    let Some(server) = Server::start(&[]) else { return };
    let json = fetch::fetch(&server.addr(), None, None).unwrap();
    if std::env::var_os("SLOTWAY_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/command/commands.json"), &json).unwrap();
    }
    if !same_version(&json) {
        return;
    }
    for (ours, theirs) in data::BUILT_IN.lines().zip(json.lines()) {
        assert_eq!(ours, theirs, "run with SLOTWAY_BLESS=1 to take over what the server says");
    }
    assert_eq!(data::BUILT_IN, json);
    let file: File = serde_json::from_str(&json).unwrap();
    let table = CommandTable::builtin();
    for entry in &file.commands {
        let command = table.by_name(&entry.name).unwrap_or_else(|| panic!("{} is missing", entry.name));
        assert_eq!((command.entry.arity, &command.entry.flags, &command.entry.keys), (entry.arity, &entry.flags, &entry.keys));
    }
    let added: Vec<&str> = table.iter().filter(|c| c.added).map(|c| c.name).collect();
    println!("not in the server: {added:?}");
    assert_eq!(added, NOT_IN_SERVER);
}

#[test]
fn fetch_gives_reasons() {
    let Some(server) = Server::start(&["--requirepass", "secret"]) else { return };
    assert!(fetch::fetch(&server.addr(), None, None).unwrap_err().contains("NOAUTH"));
    assert!(fetch::fetch(&server.addr(), None, Some("wrong")).unwrap_err().contains("WRONGPASS"));
    assert!(fetch::fetch(&server.addr(), Some("default"), Some("secret")).is_ok());
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    assert!(fetch::fetch(&format!("127.0.0.1:{port}"), None, None).unwrap_err().starts_with("cannot connect"));
}

// === keys ===

/// Argument forms in which keys move, written out.
const FORMS: &str = "\
EVAL s 0|EVAL s 0 a|EVAL s 1 a|EVAL s 2 a b c|EVAL s 3 a b|EVAL s -1 a|EVAL s x a|EVAL s 1x a|EVAL s 01 a|EVAL s 99999999999999999999 a
EVALSHA s 2 a b c|EVALSHA_RO s 1 a|EVAL_RO s 2 a b|FCALL f 0|FCALL f 1 a b|FCALL_RO f 2 a b|FCALL f 5 a
XREAD STREAMS a 0|XREAD COUNT 1 STREAMS a b 0 0|XREAD BLOCK 0 streams a 0|XREAD COUNT 1 block 5 Streams a b c 0 0 0|XREAD COUNT 1 STREAMS a|XREAD a b c|XREAD COUNT 1 STREAMS|XREAD STREAMS a b 0
XREADGROUP GROUP g c STREAMS a >|XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a b > >|XREADGROUP GROUP streams c STREAMS a >|XREADGROUP GROUP g c BLOCK 0 STREAMS a b > >
ZUNIONSTORE d 2 a b|ZUNIONSTORE d 2 a b WEIGHTS 1 2 AGGREGATE MAX|ZUNIONSTORE d 0 a|ZUNIONSTORE d 3 a b|ZUNIONSTORE d -1 a|ZUNIONSTORE d x a|ZINTERSTORE d 1 a|ZDIFFSTORE d 2 a b
ZUNION 2 a b WITHSCORES|ZINTER 1 a|ZDIFF 2 a b|ZDIFF 3 a b|ZINTERCARD 2 a b LIMIT 1|ZINTERCARD 0 a|SINTERCARD 2 a b LIMIT 3|SINTERCARD 2 a|SINTERCARD x a
LMPOP 2 a b LEFT|LMPOP 1 a RIGHT COUNT 2|LMPOP 0 a LEFT|ZMPOP 2 a b MIN|ZMPOP 5 a b MIN|BLMPOP 0 2 a b LEFT|BZMPOP 0 1 a MAX COUNT 2|BZMPOP 0 x a MAX
SORT a|SORT a BY w GET # LIMIT 0 1 ALPHA|SORT a STORE d|SORT a BY store STORE d|SORT a GET store|SORT a LIMIT 0 store|SORT a STORE d STORE e|SORT a store|SORT_RO a BY x GET y|SORT_RO a STORE d
GEORADIUS a 1 2 3 m|GEORADIUS a 1 2 3 m STORE d|GEORADIUS a 1 2 3 m WITHDIST STOREDIST d|GEORADIUS a 1 2 3 m STORE d STOREDIST e|GEORADIUS a 1 2 3 m STORE|GEORADIUS a 1 2 3 m STORE d STOREDIST
GEORADIUSBYMEMBER a m 3 km STORE d|GEORADIUSBYMEMBER a STORE 3 km|GEORADIUSBYMEMBER a m 3 km COUNT 1 storedist d|GEOSEARCHSTORE d a FROMMEMBER m BYRADIUS 1 m
BITOP AND d a|BITOP OR d a b c|BITOP NOT d a|BITFIELD a GET u8 0|BITFIELD a SET u8 0 1|BITFIELD a OVERFLOW SAT INCRBY u8 0 1|BITFIELD a OVERFLOW SAT GET u8 0|BITFIELD a GET u8 0 GET u8 1 SET u8 0 1|BITFIELD a
SET a b|SET a b GET|SET a get|SET a b EX 5 GET|SET a b NX|GETEX a PERSIST
OBJECT ENCODING a|object freq a|OBJECT HELP|OBJECT NOSUCH a|MEMORY USAGE a|MEMORY USAGE a SAMPLES 5|MEMORY DOCTOR x|XGROUP CREATE a g $ MKSTREAM|XGROUP DESTROY a g|XGROUP CREATECONSUMER a g c|XGROUP SETID a g 0|XINFO STREAM a FULL|XINFO GROUPS a|XINFO CONSUMERS a g
MSET a 1 b 2|MSET a 1 b|MSETNX a 1 b 2|MGET a b c|DEL a b|RENAME a b|COPY a b DB 1 REPLACE|SMOVE a b m|RPOPLPUSH a b|LMOVE a b LEFT RIGHT|BLMOVE a b LEFT RIGHT 0|BLPOP a b c 0|BRPOPLPUSH a b 0|BZPOPMIN a b 0
MIGRATE h 1 a 0 9|MIGRATE h 1  0 9|MIGRATE h 1  0 9 KEYS a|MIGRATE h 1  0 9 COPY KEYS a b c|MIGRATE h 1 a 0 9 KEYS b|MIGRATE h 1  0 9 KEYS|MIGRATE h 1  0 9 AUTH p KEYS a b
PFCOUNT a b|PFMERGE d|PFMERGE d a|PFMERGE d a b|PFDEBUG ENCODING a|SUNIONSTORE d a b|SINTERSTORE d a|SDIFFSTORE d a b c|ZRANGESTORE d a 0 -1|LCS a b LEN|TOUCH a b|WATCH a b
SUBSCRIBE a|SSUBSCRIBE a|SPUBLISH a m|PUBLISH a m|PING a|SELECT 0|FLUSHALL ASYNC|SCAN 0|CLIENT ID x|CONFIG GET a|CLUSTER KEYSLOT a|NOSUCH a|RESTORE-ASKING a 0 x|MOVE a 1|DUMP a x|GET a b|GET";

/// Words that mean something to commands whose keys move, and words that do not.
const VOCABULARY: &[&str] = &[
    "a", "b", "c", "", "0", "1", "2", "3", "7", "-1", "x", "1x", " 2", "+1", "LEFT", "STORE", "storedist", "STREAMS",
    "streams", "KEYS", "COUNT", "BLOCK", "GROUP", "BY", "GET", "LIMIT", "AUTH", "WEIGHTS", "SAMPLES", "*", "$",
];

/// Keys with their use, or an error.
type Keys = Result<Vec<(String, Vec<String>)>, String>;

fn forms() -> Vec<Vec<String>> {
    let mut forms: Vec<Vec<String>> = FORMS.lines().flat_map(|l| l.split('|')).map(words).collect();
    let mut random = fastrand::Rng::with_seed(16384);
    for command in CommandTable::builtin().iter().filter(|c| c.subcommands.is_empty()) {
        let name: Vec<String> = command.name.split('|').map(str::to_owned).collect();
        let least = command.entry.arity.unsigned_abs() as usize;
        for argc in least.saturating_sub(1).max(name.len() + 1)..=least + 6 {
            let fill = |word: &dyn Fn(usize) -> String| {
                let mut form = name.clone();
                form.extend((name.len()..argc).map(word));
                form
            };
            forms.push(fill(&|index| format!("k{index}")));
            forms.push(fill(&|index| (index / 2).to_string()));
        }
        let rounds = match command.key_rule {
            _ if WRITTEN_FORMS_ONLY.contains(&command.name) => 0,
            KeyRule::Specs => 400,
            _ => 5,
        };
        for _ in 0..rounds {
            let mut form = name.clone();
            let argc = random.usize(least..least + 8);
            form.extend((name.len()..argc).map(|_| random.choice(VOCABULARY).unwrap().to_string()));
            forms.push(form);
        }
    }
    // A request without arguments never reaches GETKEYS: it is itself one argument short then.
    forms.retain(|form| form.len() > 1);
    forms
}

/// What we would answer to COMMAND GETKEYSANDFLAGS: keys and use, or the error.
fn our_keys(form: &[String]) -> Keys {
    let cut = Cut::new(form);
    match CommandTable::builtin().lookup(&cut.args()) {
        Lookup::Found(command) => {
            let keys = keys::keys_with_use(command, &cut.args()).map_err(|e| e.to_string())?;
            Ok(keys.into_iter().map(|(index, how)| (form[index as usize].clone(), how.to_vec())).collect())
        }
        _ => Err("ERR Invalid command specified".into()),
    }
}

fn copy_use(ours: &mut Keys, theirs: &Keys) {
    if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
        ours.iter_mut().zip(theirs).for_each(|(our, their)| our.1.clone_from(&their.1));
    }
}

fn their_keys(reply: Frame) -> Keys {
    match reply {
        Frame::Error(error) => Err(error),
        Frame::Array(keys) => Ok(keys.into_iter().map(one_key).collect()),
        other => panic!("{other:?}"),
    }
}

fn one_key(frame: Frame) -> (String, Vec<String>) {
    let Frame::Array(pair) = frame else { panic!("{frame:?}") };
    let [key, Frame::Array(how)] = pair.as_slice() else { panic!("{pair:?}") };
    (text(key), how.iter().map(text).collect())
}

fn text(frame: &Frame) -> String {
    match frame {
        Frame::BulkString(bytes) | Frame::SimpleString(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Redis names the destination of a lenient reading last, we name it where it stands.
fn sorted(mut keys: Vec<(String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
    keys.sort();
    keys
}

#[test]
fn keys_are_those_of_getkeys() {
    let Some(server) = Server::start(&[]) else { return };
    if !same_version(&fetch::fetch(&server.addr(), None, None).unwrap()) {
        return;
    }
    let forms = forms();
    let mut client = server.client();
    let (mut keys, mut errors, mut routed) = (0, 0, Vec::new());
    for batch in forms.chunks(200) {
        let prefix = words("COMMAND GETKEYSANDFLAGS");
        let bytes: Vec<u8> = batch.iter().flat_map(|form| request(&[&prefix[..], form].concat())).collect();
        client.stream.write_all(&bytes).unwrap();
        for form in batch {
            let theirs = their_keys(client.reply().0);
            if NOT_IN_SERVER.contains(&form[..2].join("|").to_lowercase().as_str()) {
                assert_eq!(theirs, Err("ERR Invalid command specified".into()));
                continue;
            }
            let mut ours = our_keys(form);
            if USE_COMPARED_WELL_FORMED.contains(&form[0].as_str()) {
                copy_use(&mut ours, &theirs);
            }
            assert_eq!(ours.map(sorted), theirs.clone().map(sorted), "{form:?}");
            if theirs.is_ok() { keys += 1 } else { errors += 1 }
            if let Some(name) = check_routing(form, theirs) {
                routed.push(name);
            }
        }
    }
    println!("{} forms: {keys} with keys, {errors} errors", forms.len());
    println!("cannot be compared (not in the server): {NOT_IN_SERVER:?}");
    println!("routed though GETKEYS refuses them: {routed:?}");
    routed.sort_unstable();
    routed.dedup();
    assert_eq!(routed, ROUTED_THOUGH_GETKEYS_REFUSES);
}

/// `find_keys`, which routes, agrees with GETKEYS; the name of the command where it is right not to.
fn check_routing(form: &[String], theirs: Keys) -> Option<&'static str> {
    let cut = Cut::new(form);
    let Lookup::Found(command) = CommandTable::builtin().lookup(&cut.args()) else { return None };
    let mut out = Vec::new();
    let found = find_keys(command, &cut.args(), &mut out);
    let names = |out: &[u32]| out.iter().map(|&i| form[i as usize].clone()).collect::<Vec<_>>();
    match theirs {
        Ok(keys) => {
            let (mut ours, mut theirs) = (names(&out), keys.into_iter().map(|k| k.0).collect::<Vec<_>>());
            ours.sort();
            theirs.sort();
            assert_eq!((found, ours), (Ok(()), theirs), "{form:?}");
        }
        Err(error) if error == KeyError::NoKeys.to_string() => assert_eq!((found, out.len()), (Ok(()), 0), "{form:?}"),
        Err(error) if error == KeyError::Invalid.to_string() => {
            if found.is_ok() {
                return Some(command.name);
            }
            assert!(out.is_empty(), "{form:?}");
        }
        Err(_) => {}
    }
    None
}

// === errors ===

#[test]
fn errors_are_redis_errors() {
    let Some(server) = Server::start(&[]) else { return };
    let long = "x".repeat(200);
    let mut client = server.client();
    let mut checked = 0;
    let mut check = |form: &[&[u8]]| {
        let cut = Cut::new(form);
        let args = cut.args();
        let ours: Vec<u8> = match CommandTable::builtin().lookup(&args) {
            Lookup::UnknownCommand => errors::unknown_command(&args),
            Lookup::UnknownSubcommand(container) => errors::unknown_subcommand(container, &args),
            Lookup::Found(command) => {
                assert!(!command.arity_ok(args.len()), "{}", command.name);
                errors::wrong_arity(command).into_bytes()
            }
        };
        let mut out = Vec::new();
        encode::error(&mut out, &ours);
        client.send(form);
        let theirs = client.line();
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&theirs));
        assert_eq!(out, theirs);
        checked += 1;
    };
    for line in ["foo", "FOO a b", "foo  ", "GETT x", "object FOO", "OBJECT nosuch a b", "xinfo x", "Client SetInf x", "mset a 1 b"] {
        check(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    }
    let long = long.as_bytes();
    let bytes: &[u8] = b"\xff\x00tail\r\n'quote";
    for form in [
        &[&b"foo"[..], long] as &[&[u8]],
        &[b"foo", &long[..100], &long[..100], b"z"],
        &[b"foo", &long[..124], b"y", b"z"],
        &[b"foo", &long[..125], b"y", b"z"],
        &[long, b"a"],
        &[b"foo", bytes, b"a\r\nb"],
        &[bytes, b"a"],
        &[b"a\r\nb"],
        &[b"object", bytes],
        &[b"object", long],
        &[b"object", b"a\r\nb"],
        &[b"", b""],
    ] {
        check(form);
    }
    for command in CommandTable::builtin().iter().filter(|c| !c.added) {
        let mut form: Vec<&[u8]> = command.name.split('|').map(str::as_bytes).collect();
        let arity = command.entry.arity;
        if arity > 0 {
            form.resize(arity as usize + 1, b"x");
            check(&form);
        }
        if arity.unsigned_abs() as usize > command.name.split('|').count() {
            form.truncate(command.name.split('|').count());
            check(&form);
        }
    }
    println!("{checked} errors compared");
}
