//! The form of `overrides.toml`: our reviewed decisions about commands, one line each.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::options::OptionScan;
use super::{LocalCommand, SplitKind};
use crate::operation::OperationKind;
use crate::pubsub::PubSubCommand;
use crate::session::transaction::TransactionCommand;

/// The decisions built in, as text.
pub const BUILT_IN: &str = include_str!("overrides.toml");

/// The whole file: full command name to decision.
pub type Overrides = BTreeMap<String, Override>;

/// One decision. It holds for the subcommands too, unless they have a line of their own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Override {
    /// Split over several slots and merged this way.
    pub split: Option<SplitKind>,
    /// Answered by the proxy.
    pub local: Option<LocalCommand>,
    /// Begins, ends or guards a transaction.
    pub transaction: Option<TransactionCommand>,
    /// Publishes, or begins or ends subscriptions.
    pub pubsub: Option<PubSubCommand>,
    /// Done by an operation of the proxy's own.
    pub operation: Option<OperationKind>,
    /// Refused.
    pub refuse: Option<Refusal>,
    /// Sent on, although it has no keys or its flags call for a decision.
    pub route: Option<Routing>,
    /// Done by the operation only where one of these options is among the arguments; otherwise sent on.
    pub operation_with: Option<OptionScan>,
    /// Where a command that waits says for how long. Without it the wait lasts as long as the node says.
    pub timeout: Option<TimeoutPlace>,
    /// Read at the primary wherever reads go, although its flags call it a read; why, in words for people.
    pub at_primary: Option<String>,
    /// Arguments after the name come in pairs: any other number is a wrong number of arguments.
    #[serde(default)]
    pub pairs: bool,
    /// Held back by CLIENT PAUSE WRITE although it has no flag `write`.
    #[serde(default)]
    pub may_replicate: bool,
    /// Key specifications of kind `unknown` are left out: `key-option` says what they do not, or
    /// they are about keys named in the data.
    #[serde(default)]
    pub ignore_unknown_keys: bool,
    /// The argument after the last of these options is a key, too.
    pub key_option: Option<KeyOption>,
    /// How the keys are used depends on an option (for COMMAND GETKEYSANDFLAGS).
    pub key_use: Option<KeyUse>,
    /// A command that the server `commands.json` comes from does not have.
    pub add: Option<Addition>,
    /// How its replies or effects differ from a single Redis', in words for people. The differential
    /// test holds every command without such words to a single Redis' bytes.
    pub differs: Option<String>,
    /// They differ only where one of these options is given: a cluster refuses it.
    pub differs_with: Option<OptionScan>,
    /// Refused inside a transaction, beside what cannot be part of one by the way it is done.
    pub not_in_multi: Option<NotInMulti>,
    /// Why, in words that complete the error a client sees.
    pub reason: Option<String>,
}

/// Why a command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// A later version will bring it.
    Later,
    /// It administers one node; whoever may do that connects to the node.
    Node,
    /// A cluster cannot do it, whatever stands in front of it.
    Cluster,
}

/// Why a command cannot be part of a transaction: no node could do it in EXEC, and slotway cannot either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotInMulti {
    /// It asks nodes beside that of the transaction; so does every operation that does not go by its keys.
    Nodes,
    /// It is about other clients, on whatever worker they are.
    Clients,
    /// It changes the connection itself, and how replies look.
    Connection,
    /// It begins or ends subscriptions.
    Subscriptions,
}

/// Where a command without keys goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Routing {
    /// To any primary.
    AnyPrimary,
    /// By its keys, as every command with keys.
    Keys,
}

/// The argument that says how long a command may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutPlace {
    /// Index of the argument, from the end where it is negative; without one it is the value of the option
    /// that `operation-with` looks for.
    pub at: Option<i32>,
    /// Unit and form of the number.
    pub unit: TimeoutUnit,
}

/// How a timeout is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeoutUnit {
    /// A decimal number of seconds.
    Seconds,
    /// A whole number of milliseconds.
    Milliseconds,
}

/// An option whose value is a key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOption {
    /// The option.
    pub option: OptionScan,
    /// How that key is used.
    pub flags: Vec<String>,
}

/// How keys are used, depending on an option.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyUse {
    /// The option.
    pub option: OptionScan,
    /// Flags where it is given.
    pub with: Vec<String>,
    /// Flags where it is not.
    pub without: Vec<String>,
}

/// What COMMAND would say of an added command.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// As in COMMAND INFO.
    pub arity: i32,
    /// As in COMMAND INFO.
    pub flags: Vec<String>,
    /// As in COMMAND INFO.
    pub acl: Vec<String>,
}

// === impl NotInMulti ===

impl NotInMulti {
    /// What it does, in words that complete a sentence about the command.
    pub fn words(self) -> &'static str {
        match self {
            NotInMulti::Nodes => "asks other nodes than that of the transaction",
            NotInMulti::Clients => "is about other clients of slotway",
            NotInMulti::Connection => "changes the connection itself",
            NotInMulti::Subscriptions => "is about subscriptions, which are slotway's own",
        }
    }
}

// === impl Refusal ===

impl Refusal {
    /// The error a client gets, without `-` and line end.
    pub fn error(self, name: &str, reason: &str) -> String {
        format!("ERR slotway: '{name}' {}: {reason}", self.words())
    }

    /// The middle of the sentence.
    pub fn words(self) -> &'static str {
        match self {
            Refusal::Later => "is not yet supported by this version",
            Refusal::Node => "is a node's administration, not reachable through the proxy",
            Refusal::Cluster => "cannot work on a cluster",
        }
    }
}
