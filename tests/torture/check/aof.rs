//! Append-only files as evidence: which writes a node executed, read from what it wrote with `appendfsync always`.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A write with a value nobody else writes: the hash of key and value.
pub type Token = u64;

/// All keys of a run begin so; other keys may be written with the same value again and again.
const PREFIX: &[u8] = b"t:";

pub fn token(key: &[u8], value: &[u8]) -> Token {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

/// Calls `each` for every command; a torn one at the end, as a killed node leaves it, ends the file. How many bytes
/// were understood.
pub fn commands(bytes: &[u8], mut each: impl FnMut(&[&[u8]])) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'#' {
            // A timestamp annotation.
            let Some(end) = bytes[at..].iter().position(|b| *b == b'\n') else { break };
            at += end + 1;
            continue;
        }
        let Some((args, length)) = command(&bytes[at..]) else { break };
        each(&args);
        at += length;
    }
    at
}

fn command(bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let mut at = 0;
    let count = number(bytes, &mut at, b'*')?;
    let mut args = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let length = number(bytes, &mut at, b'$')?;
        args.push(bytes.get(at..at + length)?);
        at += length + 2;
    }
    (at <= bytes.len()).then_some((args, at))
}

fn number(bytes: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    let rest = bytes.get(*at..)?;
    let end = rest.iter().position(|b| *b == b'\r')?;
    let (first, digits) = rest.get(..end)?.split_first()?;
    *at += end + 2;
    (*first == kind).then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

/// What the files of one node say about the keys of the run.
#[derive(Debug, Default)]
pub struct Executed {
    tokens: HashSet<Token>,
    /// What stands there more than once.
    repeated: Vec<String>,
}

impl Executed {
    /// Adds one file; how many of its bytes were understood.
    pub fn file(&mut self, bytes: &[u8]) -> usize {
        commands(bytes, |args| {
            let Some((name, rest)) = args.split_first() else { return };
            match name.to_ascii_uppercase().as_slice() {
                b"SET" | b"APPEND" if rest.len() >= 2 => self.add(rest[0], rest[1]),
                b"MSET" => rest.chunks_exact(2).for_each(|pair| self.add(pair[0], pair[1])),
                b"RPUSH" => rest.iter().skip(1).for_each(|element| self.add(rest[0], element)),
                _ => {}
            }
        })
    }

    fn add(&mut self, key: &[u8], value: &[u8]) {
        if key.starts_with(PREFIX) && !self.tokens.insert(token(key, value)) {
            let shown = &value[..value.len().min(60)];
            self.repeated.push(format!("{} {}", key.escape_ascii(), shown.escape_ascii()));
        }
    }

    /// Writes that this node executed more than once, although each is unlike every other.
    pub fn repeated(&self) -> &[String] {
        &self.repeated
    }

    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.tokens.iter().copied()
    }
}
