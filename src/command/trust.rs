//! Which of what a cluster says of its commands is believed, and what follows from it.
//!
//! Pure. A server's word adds names; it never changes what is done with a command of the built-in table,
//! never has a command split or sent to several nodes, and never makes one reachable before AUTH. What
//! is in doubt is refused, with the reason in the error.

use serde::de::IgnoredAny;

use super::data::{Begin, Entry, Find, KeySpec};
use super::flags::Flags;
use super::join::{class, key_rule, spec};
use super::keys::{KeyRule, Pick, SpecSet, Start};
use super::overrides::{Override, Refusal};
use super::table::{Command, CommandTable};
use super::{CommandClass, Handling};

/// Longest name, and longest subcommand's name. What is longer is not looked up, however long a client makes it.
pub const NAME_BYTES_MAX: usize = 64;

/// Most key specifications followed; with more the keys are asked for. No real command has as many, and
/// each costs a walk over the arguments.
const SPECS_MAX: usize = 8;

/// What is done with an announced command.
#[derive(Debug)]
pub struct Plan {
    /// Its flags, as far as they are believed.
    pub flags: Flags,
    /// What is done with it; a refusal is in `refusal`.
    pub handling: Handling,
    /// The whole error it is refused with.
    pub refusal: Option<String>,
    /// Where its keys are.
    pub specs: SpecSet,
    /// The same, by cost.
    pub key_rule: KeyRule,
    /// For the duration histogram.
    pub class: CommandClass,
}

/// Why a command is refused, in the words of the error.
const REFUSED: &[(&[&str], &str)] = &[
    (&["admin", "@admin"], "it is flagged as administration of a node"),
    (&["dangerous", "@dangerous"], "it is flagged as dangerous"),
    (&["pubsub", "@pubsub"], "it publishes or subscribes, and how is not known"),
    (&["asking"], "it writes to a slot that is being moved"),
    (&["@connection"], "it changes the state of a connection, and those to the nodes are shared"),
    (&["@transaction"], "it changes the state of a connection, and those to the nodes are shared"),
];
const MANY_NODES: &str = "the server wants it sent to more than the owner of its keys (request_policy)";
const NO_KEY_EITHER: &str = "it names no key, and commands of this name do not go to just any node";
const WAITS: &str = "it may wait, and names no key";
const NO_KEY: &str = "it may write and names no key, so that no shard can be chosen";

/// The folded name, if it can be one: container and subcommand each of printable ASCII without blanks.
pub fn folded_name(name: &str) -> Option<String> {
    let fits = |part: &str| {
        (1..=NAME_BYTES_MAX).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'|')
    };
    let (container, short) = match name.split_once('|') {
        Some((container, short)) => (container, Some(short)),
        None => (name, None),
    };
    (fits(container) && short.is_none_or(fits)).then(|| name.to_ascii_lowercase())
}

/// What is done with a command of this folded `name` that the built-in table does not have; `None` where
/// it is not taken in at all: what is built in answers for its container.
pub fn judge(name: &str, entry: &Entry<IgnoredAny>) -> Option<Plan> {
    let refuse =
        |reason: &str| format!("ERR slotway: '{name}', learned from the cluster, is refused: {reason}");
    let (specs, asks) = key_specs(entry);
    let words = words(entry);
    let flags = believed(&words);
    let has_keys = asks || !specs.specs.is_empty();
    let refusal = match inherited(name)? {
        Some(text) => Some(text),
        None if !has_keys && is_of_builtin(name) => Some(refuse(NO_KEY_EITHER)),
        None => reason(&words, entry, has_keys, flags).map(refuse),
    };
    let handling = if has_keys { Handling::Learned { asks } } else { Handling::Route };
    let class = if refusal.is_some() { CommandClass::Other } else { class(handling, flags) };
    let key_rule = if asks { KeyRule::Specs } else { key_rule(&specs) };
    Some(Plan { flags, handling, refusal, specs, key_rule, class })
}

/// What the built-in container of a subcommand decides for it: its error, where the container is
/// refused. `None` where the container is not there to be added to: it has no subcommands, or the proxy
/// answers some of them, and what else it does is the proxy's to say.
fn inherited(name: &str) -> Option<Option<String>> {
    let Some((container, _)) = name.split_once('|') else { return Some(None) };
    let Some(container) = CommandTable::builtin().by_name(container) else { return Some(None) };
    let subcommands = container.subcommands.iter().filter_map(|&id| CommandTable::builtin().get(id));
    let mut handlings = subcommands.map(|subcommand| subcommand.handling);
    let ours = handlings.any(|handling| matches!(handling, Handling::Local(_)));
    match &container.decision {
        Override { refuse: Some(refusal), reason, .. } => {
            Some(Some(Refusal::error(*refusal, name, reason.as_deref().unwrap_or_default())))
        }
        _ if ours || container.subcommands.is_empty() => None,
        Override { local: None, split: None, .. } => Some(None),
        _ => None,
    }
}

/// True for a subcommand of a command that is built in.
fn is_of_builtin(name: &str) -> bool {
    name.split_once('|').is_some_and(|(container, _)| CommandTable::builtin().by_name(container).is_some())
}

/// Flags and categories; servers write them in lower case, and nothing else should make a difference.
fn words(entry: &Entry<IgnoredAny>) -> Vec<String> {
    entry.flags.iter().chain(&entry.acl).map(|word| word.to_ascii_lowercase()).collect()
}

/// What says both read and write is a write: it must not be repeated. Who may come before AUTH is not
/// for a node to say.
fn believed(words: &[String]) -> Flags {
    let flags = words.iter().map(|word| if word == "@blocking" { "blocking" } else { word.as_str() });
    let flags = Flags::parse(flags).without(Flags::NO_AUTH);
    if flags.has(Flags::WRITE) { flags.without(Flags::READONLY) } else { flags }
}

fn reason(words: &[String], entry: &Entry<IgnoredAny>, has_keys: bool, flags: Flags) -> Option<&'static str> {
    let flagged = |any: &[&str]| words.iter().any(|word| any.contains(&word.as_str()));
    if let Some((_, reason)) = REFUSED.iter().find(|(any, _)| flagged(any)) {
        return Some(reason);
    }
    let policy = entry.tips.iter().find_map(|tip| {
        let tip = tip.to_ascii_lowercase();
        tip.strip_prefix("request_policy:").map(str::to_owned)
    });
    match policy.as_deref() {
        // Its keys may lie in several slots, if the client splits it: here they may not.
        Some("multi_shard") if has_keys => None,
        Some(_) => Some(MANY_NODES),
        None if !has_keys && flagged(&["blocking", "@blocking"]) => Some(WAITS),
        None if !has_keys && !flags.has(Flags::READONLY) => Some(NO_KEY),
        None => None,
    }
}

/// The specifications to follow, and whether they are of no use: incomplete, unknown, out of range, too
/// many, or only half the truth because the command finds its keys itself (flag `movablekeys`, though
/// the specifications move nothing).
fn key_specs(entry: &Entry<IgnoredAny>) -> (SpecSet, bool) {
    let has = |flag: &str| entry.flags.iter().any(|word| word.eq_ignore_ascii_case(flag));
    let movable = has("movablekeys");
    // Also what is flagged `not_key`: nodes take the slot from it all the same.
    let all = entry.keys.iter().map(|key| fit(key).and_then(|key| spec(&key)));
    let all: Option<Vec<_>> = if entry.keys.len() > SPECS_MAX { None } else { all.collect() };
    let specs = all.filter(|specs| {
        let moves = specs.iter().any(|spec| {
            !matches!((&spec.begin, &spec.find), (Start::Index(_), Pick::Range { limit: 0, .. }))
        });
        let told = if specs.is_empty() { !movable && entry.range.0 == 0 } else { !movable || moves };
        told && !specs.iter().any(|spec| spec.incomplete)
    });
    let asks = specs.is_none();
    let keys_optional = has("no_mandatory_keys");
    (SpecSet { specs: specs.unwrap_or_default(), lenient: false, keys_optional }, asks)
}

/// A specification within the range of what can be followed.
fn fit(key: &KeySpec) -> Option<KeySpec> {
    let mut key = key.clone();
    let begins = match key.begin {
        Begin::Index(index) => index > 0,
        Begin::Keyword(_, from) => from != 0,
        Begin::Unknown => false,
    };
    let finds = match &mut key.find {
        // One key needs no step, and old modules give none.
        Find::Range(0, step @ 0, _) => {
            *step = 1;
            true
        }
        Find::Range(_, step, limit) => *step > 0 && *limit >= 0,
        Find::Keynum(index, first, step) => *index >= 0 && *first >= 0 && *step > 0,
        Find::Unknown => false,
    };
    (begins && finds).then_some(key)
}

impl Command {
    /// How many arguments a request needs at least to name its first key; 0 where that depends on them.
    pub fn first_key_arguments(&self) -> usize {
        let indexes = self.specs.specs.iter().map(|spec| match spec.begin {
            Start::Index(index) => index + 1,
            _ => 0,
        });
        if self.specs.keys_optional { 0 } else { indexes.min().unwrap_or(0) }
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
