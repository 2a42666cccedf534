//! What is asked: the workloads as data, and the request bytes of each, built before the clock starts.
//!
//! Owns key names and values. It must never build a request while a measurement runs.

use std::ops::Range;

use fastrand::Rng;

use crate::Result;

/// What a workload sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SET and GET in the ratio 1:10, drawn at random.
    Mix,
    /// MGET of ten random keys.
    Mget,
    /// MSET of ten random keys.
    Mset,
    /// GET only.
    Get,
}

/// Keys of one value size; they are set before the first measurement so that every GET finds its value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Key prefix, different for every value size.
    pub prefix: &'static str,
    /// Bytes per value.
    pub value_len: usize,
    /// How many keys; 0 stands for `--keys`.
    count: u64,
}

/// One line of the table of workloads.
pub struct Workload {
    /// Name on the command line and in the tables.
    pub name: &'static str,
    /// What it is, for the tables.
    pub title: &'static str,
    /// What it sends.
    pub kind: Kind,
    /// Client connections.
    pub connections: usize,
    /// Requests per batch: a connection sends this many and waits for all their replies.
    pub pipeline: usize,
    /// The keys it draws from.
    pub keys: Keys,
}

const SMALL: Keys = Keys { prefix: "key", value_len: 64, count: 0 };
const MEDIUM: Keys = Keys { prefix: "k16", value_len: 16 * 1024, count: 1_000 };
const LARGE: Keys = Keys { prefix: "k1m", value_len: 1024 * 1024, count: 32 };

/// Every size of value there is.
pub const KEY_SETS: &[Keys] = &[SMALL, MEDIUM, LARGE];

/// Keys per MGET and MSET.
const MULTI: usize = 10;

const fn mix(name: &'static str, title: &'static str, connections: usize, pipeline: usize) -> Workload {
    Workload { name, title, kind: Kind::Mix, connections, pipeline, keys: SMALL }
}

const fn single(
    name: &'static str,
    title: &'static str,
    kind: Kind,
    connections: usize,
    keys: Keys,
) -> Workload {
    Workload { name, title, kind, connections, pipeline: 1, keys }
}

/// Every workload, in the order of the tables.
pub const WORKLOADS: &[Workload] = &[
    mix("p1", "SET and GET 1:10 of 64 bytes, pipeline 1, 50 connections", 50, 1),
    mix("c1000", "SET and GET 1:10 of 64 bytes, pipeline 1, 1,000 connections", 1_000, 1),
    mix("p16", "SET and GET 1:10 of 64 bytes, pipeline 16, 50 connections", 50, 16),
    mix("p64", "SET and GET 1:10 of 64 bytes, pipeline 64, 50 connections", 50, 64),
    single("mget10", "MGET of 10 keys, 50 connections", Kind::Mget, 50, SMALL),
    single("mset10", "MSET of 10 keys, 50 connections", Kind::Mset, 50, SMALL),
    single("get16k", "GET of 16 KiB, 50 connections", Kind::Get, 50, MEDIUM),
    single("get1m", "GET of 1 MiB, 10 connections", Kind::Get, 10, LARGE),
];

/// The workloads of these names.
///
/// # Errors
/// Names the first one that does not exist.
pub fn by_names(names: &[String]) -> Result<Vec<&'static Workload>> {
    let find = |name: &String| {
        let found = WORKLOADS.iter().find(|workload| workload.name == name);
        found.ok_or_else(|| format!("no workload is called {name:?}").into())
    };
    if names.is_empty() { Ok(WORKLOADS.iter().collect()) } else { names.iter().map(find).collect() }
}

impl Keys {
    /// How many keys there are when the user wants `small` of the small ones.
    pub fn count(&self, small: u64) -> u64 {
        if self.count == 0 { small } else { self.count }
    }

    fn name(&self, index: u64) -> String {
        format!("{}:{index:012}", self.prefix)
    }

    /// The value of a key: the same for every target, so that nothing depends on who was filled first.
    fn value(&self, index: u64) -> Vec<u8> {
        let mut rng = Rng::with_seed(index);
        std::iter::repeat_with(|| rng.alphanumeric() as u8).take(self.value_len).collect()
    }
}

/// Ready requests, one behind the other.
pub struct Pool {
    bytes: Vec<u8>,
    /// Where each request starts, and the end of the last.
    starts: Vec<usize>,
}

impl Pool {
    /// No requests yet.
    pub fn new() -> Self {
        Self { bytes: Vec::new(), starts: vec![0] }
    }

    /// Adds one request.
    pub fn push(&mut self, args: &[&[u8]]) {
        self.bytes.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
        for arg in args {
            self.bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            self.bytes.extend_from_slice(arg);
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.starts.push(self.bytes.len());
    }

    /// SET of every key of a set.
    pub fn preload(keys: &Keys, small: u64) -> Self {
        let mut pool = Self::new();
        for index in 0..keys.count(small) {
            pool.push(&[b"SET", keys.name(index).as_bytes(), &keys.value(index)]);
        }
        pool
    }

    /// GET of as many different small keys.
    pub fn gets(count: usize) -> Self {
        let mut pool = Self::new();
        for index in 0..count {
            pool.push(&[b"GET", SMALL.name(index as u64).as_bytes()]);
        }
        pool
    }

    /// Enough random requests of a workload that a batch may start at any of them.
    pub fn random(workload: &Workload, small: u64, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let keys = workload.keys;
        let mut pool = Self::new();
        let requests = match workload.kind {
            Kind::Mix | Kind::Get => 16_384,
            Kind::Mget => 4_096,
            Kind::Mset => 2_048,
        };
        for _ in 0..requests {
            let (name, pairs, with_values) = match workload.kind {
                Kind::Mix if rng.u8(0..11) == 0 => ("SET", 1, true),
                Kind::Mix | Kind::Get => ("GET", 1, false),
                Kind::Mget => ("MGET", MULTI, false),
                Kind::Mset => ("MSET", MULTI, true),
            };
            let mut args = vec![name.as_bytes().to_vec()];
            for _ in 0..pairs {
                let index = rng.u64(0..keys.count(small));
                args.push(keys.name(index).into_bytes());
                if with_values {
                    args.push(keys.value(index));
                }
            }
            pool.push(&args.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        pool
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The bytes of the `count` requests from `first` on (fewer at the end), and how many they are.
    pub fn batch(&self, first: usize, count: usize) -> (Range<usize>, usize) {
        let last = (first + count).min(self.len());
        match (self.starts.get(first), self.starts.get(last)) {
            (Some(from), Some(to)) => (*from..*to, last - first),
            _ => (0..0, 0),
        }
    }

    /// The bytes of a range that `batch` gave.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }
}
