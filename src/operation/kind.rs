//! Which operations there are: data, named by `overrides.toml`. What each does is its own file's business.

use serde::Deserialize;

use super::everyone::EveryoneKind;

/// Which operation a command is; `operation = "…"` in `overrides.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// INFO, where it shows something of the nodes' data.
    Info,
    /// PING, while scripts without keys run.
    Ping,
    /// CONFIG GET, where it asks for a setting of the nodes.
    Settings,
    /// WATCH.
    Watch,
    /// UNWATCH, after a WATCH.
    Unwatch,
    /// EXEC after a WATCH; of a transaction that publishes, or of `dedicated-request-bytes` and more.
    Exec,
    /// Waits for data in one slot: BLPOP and its kind, XREAD BLOCK, learned commands flagged `blocking`.
    Block,
    /// WAIT and WAITAOF.
    Wait,
    /// CLIENT TRACKING.
    Tracking,
    /// MONITOR.
    Monitor,
    /// A learned command whose keys a node has to tell.
    AskKeys,
    /// SUBSCRIBE and its like, where a node has to be asked.
    Subscribe,
    /// UNSUBSCRIBE and its like, where nodes have to be told.
    Unsubscribe,
    /// PUBSUB.
    Pubsub,
    /// What concerns all keys, or all nodes.
    #[serde(untagged)]
    Everyone(EveryoneKind),
}

impl OperationKind {
    /// How such a command is handled, for the table of commands.
    pub fn words(self) -> &'static str {
        match self {
            Self::Everyone(_) | Self::Info | Self::Ping | Self::Settings | Self::Pubsub | Self::Monitor => {
                "all shards"
            }
            Self::Subscribe | Self::Unsubscribe => "shared subscription",
            Self::AskKeys => "route by key, asked for",
            Self::Watch | Self::Unwatch | Self::Exec | Self::Block | Self::Wait | Self::Tracking => {
                "dedicated connection"
            }
        }
    }

    /// True for what does not wait inside a transaction, and goes to the owner of its keys like any command.
    pub fn is_routed_in_transaction(self) -> bool {
        self.waits()
    }

    /// True for what has an answer whatever nodes do, and a bound of its own for how long it asks them:
    /// `request-deadline` never ends it.
    pub(super) fn is_timeless(self) -> bool {
        matches!(self, Self::Ping | Self::Unsubscribe)
    }

    /// True for what waits at nodes as long as its client wants, and ends when its client is gone.
    pub fn waits(self) -> bool {
        matches!(self, Self::Block | Self::Wait)
    }
}
