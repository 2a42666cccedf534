//! The judgement of a run. Models say what a reply must be, given what was sent before; what does not fit is a
//! `Suspicion`; `judge` asks whether a fault of the run excuses it. Pure: knows neither sockets nor threads nor time.

pub mod aof;
pub mod appends;
pub mod claims;
pub mod counter;
pub mod messages;
pub mod queue;
pub mod register;
pub mod verdict;

/// Microseconds since the run began.
pub type Micros = u64;

/// A stretch of time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: Micros,
    pub to: Micros,
}

impl Span {
    pub fn new(from: Micros, to: Micros) -> Self {
        Self { from, to }
    }

    pub fn meets(self, other: Span) -> bool {
        self.from <= other.to && other.from <= self.to
    }

    pub fn holds(self, other: Span) -> bool {
        self.from <= other.from && other.to <= self.to
    }
}

/// The hash slots something concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slots {
    /// These.
    Only(Vec<u16>),
    /// Every shard has a part in it.
    All,
}

impl Slots {
    pub fn one(slot: u16) -> Self {
        Self::Only(vec![slot])
    }

    /// True when one of them lies in one of the ranges.
    pub fn meets(&self, ranges: &[(u16, u16)]) -> bool {
        match self {
            Slots::All => !ranges.is_empty(),
            Slots::Only(slots) => slots.iter().any(|s| ranges.iter().any(|(a, b)| (a..=b).contains(&s))),
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No answer yet.
    Open,
    /// Answered with success.
    Acked,
    /// Answered with an error that leaves open whether it was executed.
    Maybe,
    /// Answered with an error that says it was not executed.
    No,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A reply that is not the one of its request.
    WrongReply,
    /// A write took effect twice.
    Twice,
    /// Effects or messages not in the order sent.
    Order,
    /// nil or an older value, although a newer one was acknowledged.
    Stale,
    /// An acknowledged write is gone.
    Lost,
    /// Something nobody sent.
    FromNowhere,
    /// An error said "not executed", and it was.
    Untrue,
    /// An acknowledged write stands in no node's AOF.
    NotInAof,
    /// A redirect of a node reached a client.
    Redirect,
    /// An error no fault explains.
    Error,
    /// A subscription hears nothing any more.
    Silent,
    /// No reply, or no success after the fault was over.
    Stuck,
    /// A tracking client was not told of a change.
    StaleCache,
}

/// What would make a suspicion harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// Nothing.
    None,
    /// The cluster itself lost all that was there at these moments: it failed over without its old primary's help.
    Loss(Vec<Micros>),
    /// The cluster lost one of these: slot, and when it was acknowledged.
    LossOfOne(Vec<(u16, Micros)>),
    /// The node was running a script, and said so as it would to any client.
    Busy,
    /// A fault broke the connection, and the error admits that the request may have been executed.
    Broken,
    /// The channel's slot has got another owner: what was published at the old one comes over the cluster bus, what was
    /// published behind it at the new one may come sooner.
    OwnerChanged,
    /// A replica showed nil while its primary gave the slot away; otherwise the other excuse.
    MovedAway(Box<Excuse>),
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    pub kind: Kind,
    pub slots: Slots,
    /// From the request to its reply.
    pub span: Span,
    pub excuse: Excuse,
    /// Keys and values of the run's own making.
    pub text: String,
}

/// A model's complaint, before it is known whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// When each missed write was first known to be there (acknowledged, or shown by a read), if only a loss of the
    /// cluster's could explain it.
    pub lost: Option<Vec<Micros>>,
    pub text: String,
}

impl Finding {
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, lost: None, text: text.into() }
    }

    pub fn missed(kind: Kind, lost: impl IntoIterator<Item = Micros>, text: impl Into<String>) -> Self {
        Self { kind, lost: Some(lost.into_iter().collect()), text: text.into() }
    }
}
