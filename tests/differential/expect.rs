//! What the command table says of a request: must its reply equal a single Redis', is it refused, or
//! is a difference documented? Everything allowed here comes from the product's own data.

use std::collections::BTreeSet;

use slotway::command::{Command, CommandTable, Handling, Lookup, find_keys};
use slotway::error::ProxyError;
use slotway::protocol::request::{Args, Span};

use super::compare::Rule;
use crate::support::keys::slot;

/// What the reply through the proxy must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// A single Redis' reply, as far as it is the same every time.
    Same(Rule),
    /// An error that begins so; a single Redis would execute the request, so it must not get it.
    Error(String),
    /// A documented difference of this command.
    Differs(&'static str, Rule),
}

/// Hands the request over as the scanner would.
pub fn with_args<T>(args: &[Vec<u8>], then: impl FnOnce(&Args<'_>) -> T) -> T {
    let mut frame = Vec::new();
    let mut spans = Vec::new();
    for arg in args {
        spans.push(Span { start: frame.len() as u32, len: arg.len() as u32 });
        frame.extend_from_slice(arg);
    }
    then(&Args::new(&frame, &spans))
}

/// The command of a request that has the right number of arguments.
pub fn command_of(args: &[Vec<u8>]) -> Option<&'static Command> {
    with_args(args, |args| match CommandTable::builtin().lookup(args) {
        Lookup::Found(command) if command.arity_ok(args.len()) => Some(command),
        _ => None,
    })
}

/// True if the table refuses the request.
pub fn refused(args: &[Vec<u8>]) -> bool {
    command_of(args).is_some_and(|command| matches!(handling(command, args), Handling::Refuse(_)))
}

/// How the table handles this request.
pub fn handling(command: &Command, args: &[Vec<u8>]) -> Handling {
    with_args(args, |args| command.handling_for(args))
}

/// The slots of the keys in the request.
pub fn slots(command: &Command, args: &[Vec<u8>]) -> BTreeSet<u16> {
    let mut keys = Vec::new();
    // Where no keys can be found, whichever server gets the request refuses it.
    let _ = with_args(args, |args| find_keys(command, args, &mut keys));
    keys.iter().map(|&index| slot(&args[index as usize])).collect()
}

/// What the table says. `queued`: slots of the transaction the request would join, if one is open.
pub fn expected(args: &[Vec<u8>], queued: Option<&BTreeSet<u16>>) -> Expected {
    let Some(command) = command_of(args) else { return Expected::Same(Rule::Exact) };
    let handling = handling(command, args);
    if let Handling::Refuse(text) = handling {
        return Expected::Error(text.to_owned());
    }
    if let Some(why) = command.not_in_multi.filter(|_| queued.is_some()) {
        let text = ProxyError::NotInTransaction.text();
        return Expected::Error(format!("{text}: '{}' {}", command.name, why.words()));
    }
    let any_slots = match handling {
        Handling::Split(_) => queued.is_none(),
        Handling::Transaction(_) => queued.is_some(),
        Handling::Local(_) => true,
        _ => false,
    };
    if !any_slots {
        let mut all = slots(command, args);
        all.extend(queued.into_iter().flatten());
        if all.len() > 1 {
            return Expected::Error(ProxyError::CrossSlot.text().to_owned());
        }
    }
    if may_differ(args) {
        return Expected::Differs(command.name, Rule::of_difference(command, args));
    }
    Expected::Same(Rule::of(command, args))
}

/// True if a difference is documented for this request.
pub fn may_differ(args: &[Vec<u8>]) -> bool {
    let Some(command) = command_of(args).filter(|command| command.decision.differs.is_some()) else {
        return false;
    };
    let option = command.decision.differs_with.as_ref();
    option.is_none_or(|option| with_args(args, |args| option.first(args).is_some()))
}

/// Names of the commands that have a documented difference a reply can show.
pub fn documented() -> Vec<&'static str> {
    let commands = CommandTable::builtin().iter().filter(|c| c.decision.differs.is_some() && !c.added);
    commands.filter(|command| !matches!(command.handling, Handling::Refuse(_))).map(|c| c.name).collect()
}
