//! What a command is, as data: arity, flags, where its keys stand, how slotway handles it.
//!
//! Owns the command table. Knows no socket, no slot and no node.

pub mod local;

/// Index of a command in the table; stable for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u16);

/// How the parts of a split command become one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Refused, with the reason why a cluster (or this version of slotway) cannot do it.
    Refuse(&'static str),
}

/// Commands the proxy answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the command of that name")]
pub enum LocalCommand {
    Ping,
    Echo,
    Quit,
    Reset,
    Select,
    Time,
    Command,
    Client,
    Hello,
    Auth,
    Info,
    Cluster,
}
