//! What stands in the places of a request that are neither keys nor words of the syntax: by name and
//! type of the argument, mostly right, sometimes wrong, never such that a server would be busy for
//! seconds, allocate hundreds of megabytes, or change its data by the clock while the test runs.

use fastrand::Rng;
use slotway::command::data::Argument;

/// Values that have to be asked of a server once, or that belong to one sequence.
#[derive(Default, Clone, Debug)]
pub struct Supplies {
    /// Payloads of DUMP.
    pub dumps: Vec<Vec<u8>>,
    /// A payload of FUNCTION DUMP.
    pub functions: Vec<u8>,
    /// Of this run: no other run may know its scripts.
    pub mark: String,
    /// Scripts nobody else uses.
    pub scripts: Vec<Vec<u8>>,
}

const WORDS: &[&str] = &["a", "b", "c", "m1", "m2", "f1", "f2", "f3", "1", "2", "3", "x", "10"];
const NOT_INTEGERS: &[&str] =
    &["abc", "", "1.5", "9223372036854775808", "-9223372036854775809", "0x10", " 1", "+1", "1e3", "-0", "01"];
const NOT_DOUBLES: &[&str] = &["abc", "", "nan", "1 ", "0x", "(", "--1"];
const INTEGERS: &[&str] =
    &["0", "1", "2", "3", "-1", "-2", "10", "100", "9223372036854775807", "-9223372036854775808"];
const DOUBLES: &[&str] =
    &["0", "1", "-1.5", "3.0e2", "inf", "-inf", "+inf", "1e308", "0.1", "2", "-0", "0x1p3"];
/// Small, or so large that it is refused before memory is taken.
const OFFSETS: &[&str] =
    &["0", "1", "7", "8", "100", "5000", "-1", "4294967296", "9223372036854775807", "-9223372036854775808"];
const STREAM_IDS: &[&str] = &[
    "1-1",
    "2-1",
    "3-1",
    "5-3",
    "9-9",
    "0-1",
    "0",
    "7",
    "7-*",
    "12-0",
    "18446744073709551615-18446744073709551615",
];
const LEX: &[&str] = &["-", "+", "[a", "(a", "[m1", "(m3", "[", "[\u{ff}"];
const SCORES: &[&str] = &["0", "1", "(1", "2.5", "-inf", "+inf", "(inf", "100"];
const RANGES: &[&str] = &["0", "1", "2", "-1", "-3", "5", "100", "-100"];

/// Texts that are odd wherever they stand; put in the place of any argument. No number here is out of range
/// for C's strtod or strtoul: SORT of Redis 7.0 fails by chance after one (it reads an old errno).
pub const HOSTILE: &[&[u8]] =
    &[b"", b"abc", b"\0\r\n", b"-1", b"nan", b"-nan", b"-0", b"0x10", b" 1", b"1 ", b"+1", b"*", b"\xff"];

/// Any text: of words that meet others, empty, binary, long.
pub fn text(random: &mut Rng) -> Vec<u8> {
    let length = match random.u8(..) {
        0..=190 => return choose(WORDS, random),
        191..=200 => 0,
        201..=235 => random.usize(1..20),
        236..=250 => random.usize(20..200),
        251..=254 => random.usize(200..3000),
        255 => random.usize(3000..40000),
    };
    let alphabet: &[u8] = b"\r\n\0 abcdefg$*+-:\"'\\\xff";
    (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
}

fn choose(from: &[&str], random: &mut Rng) -> Vec<u8> {
    from[random.usize(..from.len())].as_bytes().to_vec()
}

/// A value for an argument of `command`.
pub fn value(command: &str, arg: &Argument, supplies: &Supplies, random: &mut Rng) -> Vec<u8> {
    let any = |from: &[Vec<u8>], random: &mut Rng| -> Vec<u8> {
        if from.is_empty() { Vec::new() } else { from[random.usize(..from.len())].clone() }
    };
    let wrong = random.u8(..9) == 0;
    match (arg.kind.as_str(), arg.name.as_str()) {
        // A wait may only be short; what is no number is refused.
        ("double", "timeout") => choose(&["0.01", "0.02", "1e-2", "-1", "abc"], random),
        ("integer", "milliseconds") if command.starts_with("xread") => {
            choose(&["1", "15", "-1", "x"], random)
        }
        ("integer", "timeout") => choose(&["1", "10", "-1", "x"], random),
        // The last one reads a key it was not given.
        (_, "script") if random.u8(..4) == 0 => supplies.scripts.last().cloned().unwrap_or_default(),
        (_, "script") => any(&supplies.scripts, random),
        (_, "sha1") => sha(supplies, random),
        (_, "connection-name" | "clientname") if random.u8(..5) == 0 => vec![b'n'; 5000],
        (_, "serialized-value") if command.starts_with("function") => supplies.functions.clone(),
        (_, "serialized-value") => any(&supplies.dumps, random),
        ("integer" | "unix-time", _) if wrong => choose(NOT_INTEGERS, random),
        ("double", _) if wrong => choose(NOT_DOUBLES, random),
        ("integer", name) => choose(integer(command, name), random),
        ("unix-time", "unix-time-seconds") => choose(&["0", "1", "4102444800", "-1"], random),
        ("unix-time", _) => choose(&["0", "1", "4102444800000", "-1"], random),
        ("double", name) => choose(double(name), random),
        ("pattern", _) => choose(&["*", "m*", "f?", "[a-c]", "nosuch*", "", "a\\*", "*1*"], random),
        // A small time may be over on one server and not yet on the other.
        (_, "min-idle-time") if wrong => choose(NOT_INTEGERS, random),
        (_, name) => match words(command, name) {
            [] => text(random),
            _ if wrong => text(random),
            from => choose(from, random),
        },
    }
}

fn integer(command: &str, name: &str) -> &'static [&'static str] {
    match (command, name) {
        // A negative number asks for that many elements, with repetitions.
        ("srandmember" | "hrandfield" | "zrandmember", "count") => {
            &["0", "1", "3", "-3", "-20", "500", "9223372036854775807", "-9223372036854775808"]
        }
        ("zincrby" | "zinter" | "zunion" | "zinterstore" | "zunionstore", _) => DOUBLES,
        (_, "offset") if command.starts_with('z') || command.starts_with("sort") => RANGES,
        (_, "offset") if command.starts_with("bitfield") => {
            &["0", "1", "7", "100", "#0", "#3", "#1000", "-1", "4294967296", "#-1", "#"]
        }
        (_, "offset") => OFFSETS,
        (_, "start" | "stop" | "end") => RANGES,
        (_, "seconds" | "milliseconds" | "ttl") => {
            &["0", "-1", "100000000", "1000000000", "9223372036854775807", "-9223372036854775808"]
        }
        (_, "ms" | "min-idle-time") => &["0", "100000000"],
        ("setbit", "value") => &["0", "1", "2", "-1"],
        (_, "bit") => &["0", "1", "2"],
        (_, "numkeys") => &["0", "1", "2", "-1", "100"],
        (_, "cursor") => &["0", "0", "0", "5", "18446744073709551615", "x", "-1"],
        (_, "protover") => &["2", "3", "2", "3", "4", "1", "-1"],
        ("select", "index") => &["0", "0", "1", "15", "16", "-1", "2147483648", "-2147483649"],
        (_, "slot" | "start-slot" | "end-slot") => &["0", "100", "16383", "16384", "-1"],
        (_, "destination-db" | "db") => &["0", "0", "1", "99"],
        (_, "client-id") => &["0", "999999999", "-1", "9223372036854775807"],
        (_, "version") => &["1", "5", "6", "0"],
        (_, "numreplicas") => &["0", "1", "5"],
        (_, "bits") => &["1", "5", "256", "0", "4097"],
        (_, "config-epoch" | "port" | "cluster_bus_port") => &["0", "1"],
        (_, "index") => RANGES,
        (_, "count" | "len" | "num-matches" | "limit" | "rank") => {
            &["0", "1", "2", "3", "5", "100", "-1", "-2", "9223372036854775807"]
        }
        _ => INTEGERS,
    }
}

fn double(name: &str) -> &'static [&'static str] {
    match name {
        "longitude" => &["13.361389", "15", "2.349", "-180", "180", "181", "0"],
        "latitude" => &["38.115556", "37", "48.85", "-85.05112878", "86", "0"],
        "radius" | "width" | "height" => &["200", "1", "500", "5000", "0", "-1", "1e9"],
        "min" | "max" => SCORES,
        _ => DOUBLES,
    }
}

/// Words that mean something in that place; none: any text.
fn words(command: &str, name: &str) -> &'static [&'static str] {
    match name {
        "encoding" => &["u8", "i5", "u63", "i64", "u1", "u64", "i65", "u0", "x", "8"],
        "operation" => &["AND", "or", "XOR", "NOT", "Not", "NAND"],
        "id" if command == "xadd" => STREAM_IDS,
        "id" if command.starts_with("xreadgroup") => &[">", ">", "0", "1-1", "$", "x"],
        "id" if command.starts_with("xread") => &["0", "1-1", "$", "3", "+", "99", "x-1"],
        "id" | "last-id" | "max_deleted_entry_id" => STREAM_IDS,
        "start" | "end" if command.starts_with('x') => &["-", "+", "1-1", "(2-1", "3", "0", "(5", "+-"],
        "threshold" => &["0", "1", "2", "3-1", "100", "-1", "2"],
        "min" | "max" if command == "zrangestore" => &["0", "-1", "2", "[a", "(m1", "-", "+", "(1", "inf"],
        "start" | "stop" => &["0", "-1", "2", "[a", "(m1", "-", "+", "(1", "inf"],
        "min" | "max" => LEX,
        "group" | "groupname" => &["g1", "g1", "g1", "g2", "nosuch"],
        "consumer" | "consumername" => &["c1", "c1", "c2"],
        "min-idle-time" => &["0", "0", "100000000", "-1"],
        "field" | "member" | "member1" | "member2" | "element" | "pivot" => &[],
        "subcommand" => &["GETREG", "DECODE", "ENCODING", "TODENSE", "BOGUS"],
        "type" => &["string", "LIST", "hash", "zset", "stream", "nosuch"],
        "command-name" => {
            &["get", "SET", "nosuch", "config|get", "xgroup|create", "OBJECT", "client|info", "client"]
        }
        "module-name" => &["nosuch"],
        "category" | "categoryname" => &["read", "STRING", "nosuch", "@all"],
        "section" => &["server", "CLIENTS", "memory", "all", "everything", "keyspace", "nosuch"],
        "event" | "command" => &["command", "get", "nosuch"],
        "username" => &["default", "default", "nosuch"],
        "password" => &["", "secret"],
        "channel" => &["quiet1", "quiet2", "quiet3"],
        "shardchannel" => &["quiet{a}", "quiet{b}"],
        "connection-name" | "clientname" => &["me", "you", "with blank", "", "new\nline"],
        "parameter" => {
            &["hash-max-listpack-entries", "maxmemory-policy", "nosuch", "LIST-*", "proto-max-bulk-len"]
        }
        "ip:port" => &["127.0.0.1:1", "nowhere", ":0"],
        "yes/no" => &["yes", "no", "maybe"],
        "rule" => &["on", "~*", "+@all", "bogus"],
        "library-name" | "library-name-pattern" => &["lib1", "lib2", "nosuch", "lib*"],
        "function" => &["f1", "f2", "f3", "nosuch"],
        "function-code" => FUNCTIONS,
        _ => &[],
    }
}

/// A library whose function reads what it was not given.
pub const REACHING: &str = "#!lua name=reaching\nredis.register_function{function_name='reach', \
     callback=function(keys, args) return redis.call('get', args[1]) end, flags={'no-writes'}}";

/// Libraries; the first three are good.
pub const FUNCTIONS: &[&str] = &[
    "#!lua name=lib1\nredis.register_function('f1', function(keys, args) return {#keys, args[1] or false} end)",
    "#!lua name=lib2\nredis.register_function{function_name='f2', callback=function(keys, args) \
     return redis.call('get', keys[1]) end, flags={'no-writes'}}",
    "#!lua name=lib2\nredis.register_function('f3', function(keys, args) \
     return redis.call('set', keys[1], args[1]) end)",
    "#!lua name=lib3\nnonsense",
    "#!python name=lib4\n1",
    "no shebang",
];

/// Scripts that touch no key but those they are given, made different from all others by `mark`.
pub fn scripts(mark: &str) -> Vec<Vec<u8>> {
    let bodies = [
        "return {KEYS[1] or false, ARGV[1] or false, #KEYS, #ARGV}",
        "return redis.call('get', KEYS[1])",
        "return redis.pcall('incr', KEYS[1])",
        "return redis.call('set', KEYS[1], ARGV[1])",
        "return redis.call('rpush', KEYS[1], 'a', unpack(ARGV))",
        "return {double=3.5}",
        "redis.setresp(3); return {map={a=1}}",
        "redis.setresp(3); return {set={a=true}}",
        "redis.setresp(3); return {true, false, {double=1.5}, {big_number='123456789012345678901'}}",
        "return {1, 2, {3, 'x', {}}, false, 3.99}",
        "return redis.error_reply('MY own')",
        "return redis.status_reply('FINE')",
        "return redis.sha1hex('a') .. cjson.encode({1, 2})",
        "error('boom')",
        "return {err='CODE and text'}",
        "return nope",
        "this is no lua",
        "return redis.call('nosuch')",
        "return redis.call('get')",
        "return redis.call('blpop', KEYS[1], 0)",
        "return redis.call('subscribe', 'a')",
        "redis.call('select', 0); return 1",
    ];
    let flags = ["#!lua flags=no-writes", "#!lua flags=allow-oom", "#!lua flags=bogus", "#!python"];
    let marked = bodies.iter().map(|body| format!("{body} -- {mark}"));
    let flagged = flags.iter().map(|flag| format!("{flag}\n{} -- {mark}", bodies[1]));
    let reaching = format!("return redis.call('get', ARGV[1] or 'a key not given') -- {mark}");
    marked.chain(flagged).chain([reaching]).map(String::into_bytes).collect()
}

/// The hash of a script that may be known, in any letter case, or of none.
fn sha(supplies: &Supplies, random: &mut Rng) -> Vec<u8> {
    if supplies.scripts.is_empty() || random.u8(..5) == 0 {
        return choose(&["ffffffffffffffffffffffffffffffffffffffff", "short", ""], random);
    }
    let count = supplies.scripts.len();
    let index = if random.u8(..4) == 0 { count - 1 } else { random.usize(..count) };
    let sha = super::sha1::hex(&supplies.scripts[index]);
    if random.u8(..6) == 0 { sha.to_uppercase().into_bytes() } else { sha.into_bytes() }
}
