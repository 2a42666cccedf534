//! CONFIG GET: of each setting the one value that is true behind the proxy. What is the proxy's own stands in
//! `settings`; all others are the primaries', if they agree. Pure: it is given what the primaries said.

use super::settings::{self, SETTINGS, WITHOUT_NODES, Whose};
use super::{LocalEnv, NodesInfo, glob};
use crate::command::local::info_fields::Source;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::Resp;

/// Names and patterns one CONFIG GET may have; there are no more settings than that twice over.
const PATTERNS_MAX: usize = 512;
const TOO_MANY: &str = "ERR slotway: at most 512 names and patterns in one CONFIG GET";

/// Names and values one primary told for one name or pattern.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What the primaries say.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// By primary that answered, by name or pattern in the order of [`patterns`].
    Told(&'a [Vec<Pairs>]),
    /// They let nobody ask; their INFO.
    Refused(&'a NodesInfo<'a>),
}

/// The names and patterns asked for, each once; one more than allowed at the most. A name says nothing new in another letter case.
pub fn patterns<'a>(args: &Args<'a>) -> Vec<&'a [u8]> {
    let mut all: Vec<&[u8]> = Vec::new();
    for index in 2..args.len() {
        let pattern = args.at(index);
        if !all.iter().any(|known| known.eq_ignore_ascii_case(pattern)) {
            all.push(pattern);
        }
        if all.len() > PATTERNS_MAX {
            break;
        }
    }
    all
}

/// True for what names no single setting, as Redis tells them apart.
fn is_glob(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| b"[*?".contains(byte))
}

/// Whether the primaries have to be asked.
pub fn wants_nodes(args: &Args) -> bool {
    let patterns = patterns(args);
    let ours =
        |name: &&[u8]| settings::find(name).is_some_and(|(_, whose, _)| !matches!(whose, Whose::Nodes));
    patterns.len() <= PATTERNS_MAX && !patterns.iter().all(|pattern| !is_glob(pattern) && ours(pattern))
}

/// Names that were found, as they are shown, and their values.
#[derive(Default)]
struct Found {
    pairs: Pairs,
    /// Asked for by name, and not the same at all primaries.
    differing: Vec<Vec<u8>>,
}

impl Found {
    fn has(&self, name: &[u8]) -> bool {
        self.pairs.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    fn add(&mut self, shown: &[u8], value: impl FnOnce() -> Vec<u8>) {
        if !self.has(shown) {
            self.pairs.push((shown.to_owned(), value()));
        }
    }

    /// What the table of settings has for `pattern`.
    fn add_ours(&mut self, env: &LocalEnv<'_>, pattern: &[u8]) {
        for (name, whose, _) in SETTINGS {
            if let (Whose::Ours(value), Some(shown)) = (whose, shown(pattern, name)) {
                self.add(shown, || value(env).into_bytes());
            }
        }
    }

    /// What the primaries told for `pattern`, the `index`th.
    fn add_told(&mut self, primaries: &[Vec<Pairs>], index: usize, pattern: &[u8]) {
        let told = || primaries.iter().filter_map(|primary| primary.get(index)).flatten();
        for (name, value) in told() {
            if settings::find(name).is_some_and(|(_, whose, _)| !matches!(whose, Whose::Nodes)) {
                continue;
            }
            if told().filter(|(other, _)| other == name).all(|(_, other)| other == value) {
                self.add(name, || value.clone());
            } else if !is_glob(pattern) && !self.differing.contains(name) {
                self.differing.push(name.clone());
            }
        }
    }

    /// What stands in for the primaries' word.
    fn add_substitutes(&mut self, info: &NodesInfo<'_>, pattern: &[u8]) {
        for (name, value) in WITHOUT_NODES {
            if let Some(shown) = shown(pattern, name) {
                self.add(shown, || value(&|field: &str| info.value(field, Source::Same)).into_bytes());
            }
        }
    }
}

/// How `name` is shown where it fits: asked for by name it keeps the letter case of the question.
fn shown<'a>(pattern: &'a [u8], name: &'a str) -> Option<&'a [u8]> {
    if is_glob(pattern) {
        return glob::matches(pattern, name.as_bytes()).then_some(name.as_bytes());
    }
    name.as_bytes().eq_ignore_ascii_case(pattern).then_some(pattern)
}

/// Answers CONFIG GET. What the primaries do not agree on is left out where a pattern asked for it, and an error
/// where a name did: it is returned, too, to be counted.
pub fn reply(
    env: &LocalEnv<'_>,
    resp: Resp,
    args: &Args,
    heard: Heard<'_>,
    out: &mut Vec<u8>,
) -> Option<ProxyError> {
    let patterns = patterns(args);
    if patterns.len() > PATTERNS_MAX {
        encode::error(out, TOO_MANY);
        return None;
    }
    let mut found = Found::default();
    for (index, pattern) in patterns.into_iter().enumerate() {
        found.add_ours(env, pattern);
        match heard {
            Heard::Told(primaries) => found.add_told(primaries, index, pattern),
            Heard::Refused(info) => found.add_substitutes(info, pattern),
        }
    }
    if !found.differing.is_empty() {
        let names = String::from_utf8_lossy(&found.differing.join(&b", "[..])).into_owned();
        let error = ProxyError::SettingsDiffer;
        encode::error(out, format!("{} ({names})", error.text()));
        return Some(error);
    }
    encode::map(out, resp, found.pairs.len());
    for (name, value) in found.pairs {
        encode::bulk(out, name);
        encode::bulk(out, value);
    }
    None
}
