//! The keys the generated requests use: some of every data type in a few slots, some that nobody
//! fills, some with odd hash tags; and the requests that fill them.

use fastrand::Rng;

use crate::support::keys::key_in;

/// Slots whose keys a mixed request may combine: all three shards, two slots of one of them.
pub const SLOTS: [u16; 4] = [300, 1200, 7000, 15000];

/// What a key is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Text,
    Number,
    Bits,
    HyperLogLog,
    List,
    NumberList,
    LongList,
    Hash,
    LargeHash,
    Set,
    NumberSet,
    LargeSet,
    SortedSet,
    LargeSortedSet,
    /// A large sorted set whose members all have one score.
    OneScore,
    Geo,
    Stream,
    /// Where results are stored; not filled.
    Target,
    /// Never filled.
    Missing,
}

/// Every kind that is filled with something.
pub const FILLED: &[Kind] = &[
    Kind::Text,
    Kind::Number,
    Kind::Bits,
    Kind::HyperLogLog,
    Kind::List,
    Kind::NumberList,
    Kind::LongList,
    Kind::Hash,
    Kind::LargeHash,
    Kind::Set,
    Kind::NumberSet,
    Kind::LargeSet,
    Kind::SortedSet,
    Kind::LargeSortedSet,
    Kind::Geo,
    Kind::Stream,
];

/// Which slots the keys of one request come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// All from one.
    Slot(u16),
    /// Each from any, some without a tag.
    Mixed,
}

/// A key of a kind, the same every time for the same slot.
pub fn key(kind: Kind, spread: Spread, random: &mut Rng) -> Vec<u8> {
    let name = format!("{kind:?}").to_lowercase();
    match spread {
        Spread::Slot(slot) => key_in(slot, &name).into_bytes(),
        Spread::Mixed => match random.u8(..12) {
            0 => name.into_bytes(),
            1 => format!("{name}{{}}{{x}}").into_bytes(),
            2 => format!("{{{{{name}}}}}").into_bytes(),
            3 => [name.as_bytes(), b"\0\r\n\xff{"].concat(),
            _ => key_in(SLOTS[random.usize(..SLOTS.len())], &name).into_bytes(),
        },
    }
}

/// Kinds the commands of a group (or one command) are made for.
pub fn fitting(group: &str, command: &str) -> &'static [Kind] {
    use Kind::*;
    match (group, command) {
        (_, "lcs" | "append" | "setrange" | "getrange" | "substr") => &[Text, Bits],
        (_, "incr" | "decr" | "incrby" | "decrby" | "incrbyfloat") => &[Number],
        (_, "sort" | "sort_ro") => &[NumberList, NumberSet, List, Set, SortedSet],
        (_, "zdiff" | "zdiffstore" | "zinter" | "zinterstore" | "zunion" | "zunionstore" | "zintercard") => {
            &[SortedSet, LargeSortedSet, Geo, Set, NumberSet]
        }
        ("string", _) => &[Text, Number],
        ("bitmap", _) => &[Bits, Text, Number],
        ("hyperloglog", _) => &[HyperLogLog],
        ("list", _) => &[List, NumberList, LongList],
        ("hash", _) => &[Hash, LargeHash],
        ("set", _) => &[Set, NumberSet, LargeSet],
        ("sorted-set", _) => &[SortedSet, LargeSortedSet, Geo],
        ("geo", _) => &[Geo],
        ("stream", _) => &[Stream],
        ("scripting", _) => &[Text, Number, List],
        _ => FILLED,
    }
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// The requests that fill `key` anew, whatever was there.
pub fn fill(kind: Kind, key: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let lines: &[&str] = match kind {
        Kind::Text => &["SET @ hello-world"],
        Kind::Number => &["SET @ 10"],
        Kind::Bits => &["SETRANGE @ 1 xyz", "SETBIT @ 70 1"],
        Kind::HyperLogLog => &["PFADD @ a b c 1 2 3"],
        Kind::List => &["RPUSH @ a b c a 1 m1"],
        Kind::NumberList => &["RPUSH @ 3 1 2.5 -7 10"],
        Kind::LongList => &["RPUSH @"],
        Kind::Hash => &["HSET @ f1 v1 f2 2 f3 3.5 a 1"],
        Kind::LargeHash => &["HSET @"],
        Kind::Set => &["SADD @ a b c m1 1 2"],
        Kind::NumberSet => &["SADD @ 1 2 3 5 8 13"],
        Kind::LargeSet => &["SADD @"],
        Kind::SortedSet => &["ZADD @ 1 a 2 b 2 c 3.5 m1 -1 1"],
        Kind::LargeSortedSet | Kind::OneScore => &["ZADD @"],
        Kind::Geo => &["GEOADD @ 13.361389 38.115556 a 15.087269 37.502669 b 2.349 48.8534 c"],
        Kind::Stream => &[
            "XADD @ 1-1 f v",
            "XADD @ 2-1 f v a b",
            "XADD @ 3-1 f v",
            "XADD @ 4-2 g w",
            "XGROUP CREATE @ g1 0",
            "XGROUP CREATE @ g2 $",
            "XREADGROUP GROUP g1 c1 COUNT 2 STREAMS @ >",
        ],
        Kind::Target | Kind::Missing => &[],
    };
    let mut requests = vec![vec![b"DEL".to_vec(), key.to_vec()]];
    for line in lines {
        let mut args = words(line);
        args.iter_mut().filter(|arg| *arg == b"@").for_each(|arg| *arg = key.to_vec());
        args.extend(many(kind));
        requests.push(args);
    }
    requests
}

/// The further arguments of the large kinds: enough to leave the compact encodings.
fn many(kind: Kind) -> Vec<Vec<u8>> {
    let number = |n: u32| n.to_string().into_bytes();
    let named = |prefix: &str, n: u32| format!("{prefix}{n}").into_bytes();
    match kind {
        Kind::LongList => (0..900).map(|n| named("element-of-some-length-", n % 300)).collect(),
        Kind::LargeHash => (0..180).flat_map(|n| [named("f", n), number(n)]).collect(),
        Kind::LargeSet => (0..150).map(|n| named("m", n)).collect(),
        Kind::LargeSortedSet => (0..150).flat_map(|n| [number(n / 2), named("m", n)]).collect(),
        Kind::OneScore => (0..150).flat_map(|n| [number(0), named("m", n)]).collect(),
        _ => Vec::new(),
    }
}
