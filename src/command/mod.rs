//! What a command is, as data: arity, flags, where its keys stand, how slotway handles it.
//!
//! Owns the command table. Knows no socket, no slot and no node.
//!
//! `learned` beside it holds what the connected cluster has beyond it, under the rules of `trust`.
//! `commands.json` is what a server says of its commands, `overrides.toml` what we decided about them,
//! `table` both together. Everything that speaks of commands (routing, replies, README) reads the table.

pub mod answers;
pub mod data;
pub mod dump;
pub mod errors;
pub mod fetch;
pub mod flags;
mod index;
mod join;
pub mod keys;
pub mod learned;
pub mod local;
pub mod options;
pub mod overrides;
pub mod readme;
pub mod table;
pub mod trust;

pub use flags::Flags;
pub use keys::{KeyError, KeyRule, find_keys};
pub use learned::LearnedTable;
pub use table::{Command, CommandTable, Lookup};

pub use crate::telemetry::CommandClass;

use crate::operation::OperationKind;
use crate::pubsub::PubSubCommand;
use crate::session::transaction::TransactionCommand;

use serde::Deserialize;

/// Index of a command in the table; stable for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u16);

/// How the parts of a split command become one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitKind {
    /// MGET: one value per key, in key order.
    ByPosition,
    /// DEL, UNLINK, EXISTS, TOUCH: the integers are added.
    Sum,
    /// MSET: `+OK` when every part said so. Arguments come in key-value pairs.
    AllOk,
}

/// What slotway does with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// All its keys must lie in one slot; it goes to that slot's primary unchanged. A command whose
    /// key specs find no key in the arguments given goes to any primary.
    Route,
    /// As `Route` when all keys share a slot, else split per slot and merged.
    Split(SplitKind),
    /// Answered by the proxy itself.
    Local(LocalCommand),
    /// Begins, ends or guards a transaction.
    Transaction(TransactionCommand),
    /// Done by an operation, which asks several nodes, or waits.
    Operation(OperationKind),
    /// Learned from the cluster, with keys: as `Route` where its key specs tell the keys; where they do
    /// not (`asks`: they never do), a node is asked for them first.
    Learned {
        /// Its key specs are of no use.
        asks: bool,
    },
    /// Publishes, or begins or ends subscriptions.
    PubSub(PubSubCommand),
    /// Refused: the whole error text, without `-` and line end. It says why a cluster (or this
    /// version of slotway) cannot do it.
    Refuse(&'static str),
}

/// Commands the proxy answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(
    missing_docs,
    reason = "each variant is the command of that name; ClusterMode: READONLY and its like"
)]
pub enum LocalCommand {
    Ping,
    Echo,
    Quit,
    Reset,
    Select,
    Role,
    Time,
    Command,
    Client,
    Hello,
    Auth,
    Info,
    Cluster,
    ClusterMode,
    Config,
    Acl,
    Help,
}

#[cfg(test)]
pub(crate) mod tests {
    //! What the tests of this folder share.

    use crate::protocol::request::{Args, Span};

    /// A request with its spans, made from words.
    pub(crate) struct Request {
        frame: Vec<u8>,
        spans: Vec<Span>,
    }

    impl Request {
        /// Words parted by blanks; two blanks in a row make an empty argument.
        pub(crate) fn of(line: &str) -> Self {
            Self::new(line.split(' '))
        }

        pub(crate) fn new<T: AsRef<[u8]>>(words: impl IntoIterator<Item = T>) -> Self {
            let mut request = Self { frame: Vec::new(), spans: Vec::new() };
            for word in words {
                let word = word.as_ref();
                request.spans.push(Span { start: request.frame.len() as u32, len: word.len() as u32 });
                request.frame.extend_from_slice(word);
            }
            request
        }

        pub(crate) fn args(&self) -> Args<'_> {
            Args::new(&self.frame, &self.spans)
        }
    }
}
