//! Publish and subscribe. Each worker has one hub: a [`Topic`](topic::Topic) for every channel, pattern and
//! shard channel that some of its clients want, and one [`Link`](link::Link) per node, a RESP3 connection on
//! which the worker subscribes once, however many clients want the same. Messages pass as the bytes they came
//! in; only their first byte depends on the client's version.
//!
//! # Where a topic is subscribed
//!
//! - A channel or pattern: at the owner of its name's slot, where PUBLISH of that channel goes too (so the order
//!   of a publisher's messages holds). The cluster bus brings every message to every node, so any other primary
//!   does while the owner is down.
//! - A shard channel: at the owner of its slot, where its messages are. What the server takes
//!   back when the slot leaves (`sunsubscribe`) is subscribed again and the client never hears of it.
//! - Whatever can match keyspace events: at every primary, for each tells only of its own keys. An event is
//!   taken from the owner of its key, any other message from one node, the topic's home: each comes once.
//!
//! # How a topic moves
//!
//! It is subscribed at the new place first. Both places bring every message then, so that only the home's count;
//! the home changes when neither has brought one for a moment, and both answered a PING in it (a node that stands
//! still is silent, too): none is lost, doubled or overtaken. A topic that is never quiet stays where it is, which is as good. A home that is lost is replaced at once, and what
//! was published meanwhile is lost, as in Redis; what it had told, and the bus brings to the next home as well, is not
//! told again ([`Echoes`](echo::Echoes)).

use bytes::Bytes;
use serde::Deserialize;

pub mod client;
pub mod counts;
pub mod echo;
pub mod events;
pub mod frames;
pub mod glob;
pub mod hub;
pub mod inspect;
pub mod leaving;
pub mod link;
pub mod places;
pub mod publish;
pub mod push;
pub mod reader;
pub mod subscribe;
pub mod topic;
pub mod ways;

/// What can be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// SUBSCRIBE.
    Channel,
    /// PSUBSCRIBE.
    Pattern,
    /// SSUBSCRIBE.
    Shard,
}

/// The commands; `pubsub = "…"` in `overrides.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each variant is the command of that name")]
pub enum PubSubCommand {
    Subscribe,
    Psubscribe,
    Ssubscribe,
    Unsubscribe,
    Punsubscribe,
    Sunsubscribe,
    Publish,
    Spublish,
}

/// What a command does to subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Adds some.
    Join(Kind),
    /// Takes some away.
    Leave(Kind),
    /// Sends a message to a channel or shard channel.
    Publish(Kind),
}

impl PubSubCommand {
    /// What it does.
    pub fn act(self) -> Act {
        match self {
            Self::Subscribe => Act::Join(Kind::Channel),
            Self::Psubscribe => Act::Join(Kind::Pattern),
            Self::Ssubscribe => Act::Join(Kind::Shard),
            Self::Unsubscribe => Act::Leave(Kind::Channel),
            Self::Punsubscribe => Act::Leave(Kind::Pattern),
            Self::Sunsubscribe => Act::Leave(Kind::Shard),
            Self::Publish => Act::Publish(Kind::Channel),
            Self::Spublish => Act::Publish(Kind::Shard),
        }
    }

    /// How such a command is handled, for the table of commands.
    pub fn words(self) -> &'static str {
        match self.act() {
            Act::Publish(_) => "by channel",
            Act::Join(_) | Act::Leave(_) => "shared subscription",
        }
    }
}

impl Kind {
    /// All of them, by index.
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];

    /// Place in an array by kind.
    #[inline]
    pub fn index(self) -> usize {
        self as usize
    }

    /// First word of a confirmation; in capitals, the command.
    pub fn join_word(self) -> &'static str {
        match self {
            Self::Channel => "subscribe",
            Self::Pattern => "psubscribe",
            Self::Shard => "ssubscribe",
        }
    }

    /// The same for the end of a subscription.
    pub fn leave_word(self) -> &'static str {
        match self {
            Self::Channel => "unsubscribe",
            Self::Pattern => "punsubscribe",
            Self::Shard => "sunsubscribe",
        }
    }
}

/// The name of a channel or pattern; cheap to share between the hub and its clients.
pub type Name = Bytes;
