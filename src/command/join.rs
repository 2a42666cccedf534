//! Joins what a server says of a command with what we decided about it.
//!
//! Runs once at start; whatever is contradictory or undecided is an error here, so that the path of a
//! request never meets it.

use serde::de::IgnoredAny;

use super::data::{Begin, Entry, Find, KeySpec};
use super::flags::Flags;
use super::keys::{KeyRule, Pick, Spec, SpecSet, Start};
use super::options::OptionScan;
use super::overrides::{NotInMulti, Override, Overrides, Refusal, Routing};
use super::table::{Command, TableError};
use super::{CommandClass, CommandId, Handling};
use crate::pubsub::Act;

impl Command {
    /// `container`: it has subcommands; alone it is never sent with the right number of arguments.
    pub(super) fn new(
        id: CommandId,
        entry: Entry<IgnoredAny>,
        decision: Override,
        container: bool,
    ) -> Result<Self, TableError> {
        let name: &'static str = String::leak(entry.name.clone());
        let fail = |what| TableError::Command(name.into(), what);
        let flags = Flags::parse(entry.flags.iter().chain(&entry.acl).map(String::as_str));
        let specs = spec_set(&entry.keys, &decision, flags).map_err(fail)?;
        let (handling, conditional) = handling(name, &decision).map_err(fail)?;
        let keyless = specs.specs.is_empty();
        let delicate = [Flags::ADMIN, Flags::PUBSUB, Flags::BLOCKING, Flags::ASKING, Flags::DANGEROUS];
        let handling = match handling {
            Some(handling) => handling,
            None if container => Handling::Route,
            None if keyless || delicate.iter().any(|&f| flags.has(f)) => {
                return Err(fail("needs a decision"));
            }
            None => Handling::Route,
        };
        if (decision.route == Some(Routing::AnyPrimary))
            != (keyless && handling == Handling::Route && !container)
        {
            return Err(fail("any-primary is for commands without keys"));
        }
        let not_in_multi = not_in_multi(&decision, handling);
        Ok(Self {
            id,
            name,
            flags,
            class: class(handling, flags),
            key_rule: key_rule(&specs),
            handling,
            container: None,
            subcommands: Vec::new(),
            reads_at_replicas: !keyless && Self::is_read_at_replicas(flags, &decision, handling),
            entry,
            decision,
            not_in_multi,
            added: false,
            specs,
            conditional,
        })
    }
}

/// A command's own line, else its container's. What belongs to the container alone is left out.
pub(super) fn decision_for(decisions: &Overrides, name: &str) -> Override {
    match decisions.get(name) {
        Some(own) => own.clone(),
        None => name
            .split_once('|')
            .and_then(|(container, _)| decisions.get(container))
            // What differs is said of one command.
            .map(|decision| Override { differs: None, differs_with: None, ..decision.clone() })
            .unwrap_or_default(),
    }
}

/// Why a command is refused inside a transaction: its own line says so, or it follows from how it is done.
fn not_in_multi(decision: &Override, handling: Handling) -> Option<NotInMulti> {
    let by_handling = match handling {
        Handling::Operation(kind) if !kind.is_routed_in_transaction() => Some(NotInMulti::Nodes),
        Handling::PubSub(what) if !matches!(what.act(), Act::Publish(_)) => Some(NotInMulti::Subscriptions),
        _ => None,
    };
    decision.not_in_multi.or(by_handling)
}

type Handled = (Option<Handling>, Option<(OptionScan, Handling)>);

fn handling(name: &str, decision: &Override) -> Result<Handled, &'static str> {
    let error = |refusal: Refusal| -> Result<&'static str, &'static str> {
        let reason = decision.reason.as_deref().ok_or("refused without a reason")?;
        Ok(String::leak(refusal.error(name, reason)))
    };
    let ours = match (decision.operation, decision.transaction, decision.pubsub) {
        (None, None, None) => None,
        (Some(kind), None, None) => Some(Handling::Operation(kind)),
        (None, Some(kind), None) => Some(Handling::Transaction(kind)),
        (None, None, Some(kind)) => Some(Handling::PubSub(kind)),
        _ => return Err("more than one decision"),
    };
    match (decision.split, decision.local, decision.route, decision.refuse, ours) {
        (None, None, None, None, None) => Ok((None, None)),
        (Some(kind), None, None, None, None) => Ok((Some(Handling::Split(kind)), None)),
        (None, Some(local), None, None, None) => Ok((Some(Handling::Local(local)), None)),
        (None, None, Some(_), None, None) => Ok((Some(Handling::Route), None)),
        (None, None, None, Some(refusal), None) => Ok((Some(Handling::Refuse(error(refusal)?)), None)),
        (None, None, route, None, Some(ours)) => match (&decision.operation_with, route, ours) {
            (None, None, ours) => Ok((Some(ours), None)),
            (Some(option), Some(_), Handling::Operation(_)) => {
                Ok((Some(Handling::Route), Some((option.clone(), ours))))
            }
            _ => Err("more than one decision"),
        },
        _ => Err("more than one decision"),
    }
}

pub(super) fn class(handling: Handling, flags: Flags) -> CommandClass {
    match handling {
        Handling::Local(_) => CommandClass::Local,
        Handling::Split(_) => CommandClass::MultiKey,
        Handling::Operation(kind) if kind.waits() => CommandClass::Blocking,
        // It only gives memory back: never refused for want of it.
        Handling::PubSub(what) if matches!(what.act(), Act::Leave(_)) => CommandClass::Local,
        Handling::Refuse(_) | Handling::Operation(_) | Handling::Transaction(_) | Handling::PubSub(_) => {
            CommandClass::Other
        }
        _ if flags.has(Flags::SCRIPTING) => CommandClass::Script,
        _ if flags.has(Flags::WRITE) => CommandClass::Write,
        _ if flags.has(Flags::READONLY) => CommandClass::Read,
        // Neither reads nor writes, says the server: as with EVAL, what it does is the client's to say.
        Handling::Learned { .. } => CommandClass::Script,
        Handling::Route => CommandClass::Other,
    }
}

fn spec_set(keys: &[KeySpec], decision: &Override, flags: Flags) -> Result<SpecSet, &'static str> {
    let mut specs = Vec::new();
    for key in keys.iter().filter(|key| !key.flags.iter().any(|f| f == "not_key")) {
        match spec(key) {
            Some(spec) => specs.push(spec),
            None if decision.ignore_unknown_keys => {}
            None => return Err("has keys the server cannot tell; ignore-unknown-keys, if that is right"),
        }
    }
    if let Some(extra) = &decision.key_option {
        specs.push(Spec {
            begin: Start::Option(extra.option.clone()),
            find: Pick::Range { last: 0, step: 1, limit: 0 },
            incomplete: false,
            flags: extra.flags.clone(),
        });
    }
    let (lenient, keys_optional) = (flags.has(Flags::MOVABLEKEYS), flags.has(Flags::NO_MANDATORY_KEYS));
    Ok(SpecSet { specs, lenient, keys_optional })
}

pub(super) fn spec(key: &KeySpec) -> Option<Spec> {
    let size = |number: i32| usize::try_from(number).ok();
    let begin = match &key.begin {
        Begin::Index(index) => Start::Index(size(*index)?),
        Begin::Keyword(word, from) => Start::Keyword(word.clone(), *from),
        Begin::Unknown => return None,
    };
    let find = match key.find {
        Find::Range(last, step, limit) => {
            Pick::Range { last: last.into(), step: size(step)?, limit: size(limit)? }
        }
        Find::Keynum(index, first, step) => {
            Pick::Keynum { index: size(index)?, first: size(first)?, step: size(step)? }
        }
        Find::Unknown => return None,
    };
    let flags: Vec<String> = key.flags.iter().filter(|f| *f != "incomplete").cloned().collect();
    Some(Spec { begin, find, incomplete: flags.len() < key.flags.len(), flags })
}

/// The cheapest rule that says the same: specifications that follow each other without a gap are one range.
pub(super) fn key_rule(set: &SpecSet) -> KeyRule {
    let mut whole: Option<(u16, i16, u16)> = None;
    for spec in &set.specs {
        let (Start::Index(first), Pick::Range { last, step, limit: 0 }) = (&spec.begin, &spec.find) else {
            return KeyRule::Specs;
        };
        let last = if *last < 0 { *last } else { *first as i64 + last };
        let (Ok(first), Ok(last), Ok(step)) =
            (u16::try_from(*first), i16::try_from(last), u16::try_from(*step))
        else {
            return KeyRule::Specs;
        };
        whole = match whole {
            None => Some((first, last, step.max(1))),
            Some((start, end, 1)) if end >= 0 && i32::from(first) == i32::from(end) + 1 && step == 1 => {
                Some((start, last, 1))
            }
            Some(_) => return KeyRule::Specs,
        };
    }
    match whole {
        None => KeyRule::None,
        Some((1, 1, _)) => KeyRule::First,
        Some((first, last, step)) => KeyRule::Range { first, last, step },
    }
}
