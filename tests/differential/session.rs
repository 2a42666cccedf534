//! What a connection is in the middle of, as far as it decides what the next request is answered: a
//! transaction, watched keys, subscriptions, silence.

use std::collections::BTreeSet;

use slotway::command::Handling;
use slotway::error::ProxyError;

use super::compare::Rule;
use super::expect::{Expected, command_of, expected, handling, slots};
use super::sequences::{Request, Role};

/// One connection's state.
#[derive(Default)]
pub struct Session {
    transaction: Option<Transaction>,
    /// Slot of the watched keys.
    watched: Option<u16>,
    /// Subscriptions: channels, patterns, shard channels.
    subscribed: [BTreeSet<Vec<u8>>; 3],
    silent: bool,
    silent_once: bool,
}

/// Between MULTI and EXEC.
#[derive(Default)]
struct Transaction {
    /// For the replies of EXEC.
    rules: Vec<Rule>,
    slots: BTreeSet<u16>,
    failed: bool,
}

/// What is to be done with a request.
pub struct Taken {
    pub expected: Expected,
    /// How many replies it gets.
    pub replies: usize,
    /// What the single server gets in its place.
    pub instead: Option<&'static str>,
}

/// What every server refuses at once, and a transaction does not survive.
const REFUSED_BY_ALL: &str = "GET";

impl Session {
    /// What is expected of the next request.
    pub fn take(&mut self, request: &Request) -> Taken {
        let args = &request.args;
        let name = args[0].to_ascii_lowercase();
        let mut expected = expected(args, self.transaction.as_ref().map(|transaction| &transaction.slots));
        if request.role == Role::Cleaning && !matches!(expected, Expected::Error(_)) {
            // How many keys there were to take away.
            expected = Expected::Same(Rule::Near(i64::MAX));
        }
        let Some(command) = command_of(args) else {
            match name.as_slice() {
                b"exec" => self.end_transaction(),
                _ => self.fail_transaction(),
            }
            return self.taken(expected, 1);
        };
        if let Expected::Error(_) = expected {
            self.fail_transaction();
            return self.taken(expected, 1);
        }
        let mut replies = 1;
        match (command.name, &mut self.transaction) {
            ("multi", transaction @ None) => *transaction = Some(Transaction::default()),
            ("exec", Some(_)) => return self.exec(),
            ("watch", None) => {
                let slot = slots(command, args).first().copied();
                if self.watched.is_some() && self.watched != slot {
                    return self.taken(Expected::Error(ProxyError::CrossSlot.text().to_owned()), 1);
                }
                self.watched = slot;
            }
            ("unwatch", None) => self.watched = None,
            ("discard", Some(_)) => self.end_transaction(),
            ("reset", _) => *self = Self::default(),
            ("multi" | "watch", Some(_)) => {}
            ("client|reply", None) => {
                let replies = self.reply_mode(&args[2]);
                return Taken { expected, replies, instead: None };
            }
            (_, Some(transaction)) => {
                if !matches!(handling(command, args), Handling::Transaction(_)) {
                    transaction.slots.extend(slots(command, args));
                }
                transaction.rules.push(match expected {
                    Expected::Same(Rule::Random) | Expected::Differs(_, Rule::Random) => Rule::Form,
                    Expected::Same(rule) | Expected::Differs(_, rule) => rule,
                    Expected::Error(_) => Rule::Exact,
                });
                expected = Expected::Same(Rule::Exact);
            }
            (name, None) => replies = self.subscription(name, &args[1..]).unwrap_or(1),
        }
        self.taken(expected, replies)
    }

    fn taken(&mut self, expected: Expected, replies: usize) -> Taken {
        let silent = self.silent || std::mem::take(&mut self.silent_once);
        let instead = matches!(expected, Expected::Error(_)).then_some(REFUSED_BY_ALL);
        Taken { expected, replies: if silent { 0 } else { replies }, instead }
    }

    fn exec(&mut self) -> Taken {
        let watched = self.watched;
        let Transaction { rules, slots, failed } = self.transaction.take().unwrap_or_default();
        self.end_transaction();
        if !failed && watched.is_some() && slots.iter().any(|slot| Some(*slot) != watched) {
            let refused = Expected::Error(ProxyError::CrossSlot.text().to_owned());
            return Taken { instead: Some("DISCARD"), ..self.taken(refused, 1) };
        }
        self.taken(Expected::Same(Rule::Each(rules)), 1)
    }

    fn fail_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.failed = true;
        }
    }

    fn end_transaction(&mut self) {
        self.transaction = None;
        self.watched = None;
    }

    /// Replies of CLIENT REPLY itself.
    fn reply_mode(&mut self, mode: &[u8]) -> usize {
        let silent = self.silent || std::mem::take(&mut self.silent_once);
        match mode.to_ascii_lowercase().as_slice() {
            b"on" => self.silent = false,
            b"off" => self.silent = true,
            b"skip" => self.silent_once = !self.silent,
            _ => return usize::from(!silent),
        }
        usize::from(mode.eq_ignore_ascii_case(b"on"))
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
