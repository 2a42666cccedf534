//! Replies the proxy gives itself.
//!
//! Everything here is synchronous and only appends to the buffer it is given. What a command changes about its
//! client goes into `ClientState`; what the session has to do beyond that comes back as `After`.

mod acl;
mod auth;
pub mod client;
mod client_filter;
mod client_list;
mod cluster;
mod commands;
pub mod config;
mod connection;
mod docs;
pub mod glob;
mod help;
pub mod info;
pub mod info_fields;
pub mod info_nodes;
mod info_own;
mod info_stats;
pub mod settings;

pub use client::{ClientsRequest, PauseMode, Unblock};
pub use client_filter::{ClientFilter, ClientKind, KillFilter};
pub use client_list::{ClientIo, client_line};
pub use commands::asks_node;
pub use connection::ping;
pub use info::reply as inform;
pub use info_nodes::NodesInfo;

use std::time::Instant;

use super::{CommandTable, LearnedTable, LocalCommand};
use crate::config::Config;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::{ClientState, Replies};
use crate::telemetry::snapshot::Traffic;

/// What local replies need to know beside the client. Borrowed, so that making one costs nothing.
#[derive(Clone, Copy)]
pub struct LocalEnv<'a> {
    /// The command table.
    pub table: &'static CommandTable,
    /// The configuration.
    pub config: &'a Config,
    /// What the cluster has beyond it.
    pub learned: &'a LearnedTable,
    /// What clients must AUTH with; `None` where they need not.
    pub password: Option<&'a [u8]>,
    /// What HELLO and INFO tell of the process.
    pub facts: &'a dyn Facts,
}

/// What the process knows about itself. Asked by HELLO, INFO, CONFIG and CLUSTER only.
pub trait Facts {
    /// Version of the nodes, which is the version clients are told.
    fn redis_version(&self) -> String;
    /// 40 hexadecimal digits, drawn at start.
    fn run_id(&self) -> String;
    /// When the process started.
    fn started(&self) -> Instant;
    /// Port clients connect to.
    fn tcp_port(&self) -> u16;
    /// Numbers.
    fn gauges(&self) -> Gauges;
    /// How often each command was received since the start or CONFIG RESETSTAT, by `CommandId`.
    fn command_calls(&self) -> Vec<u64>;
    /// How often clients were answered with each error of the proxy, in the order of `ProxyError::ALL`; as above.
    fn error_counts(&self) -> Vec<u64>;
}

/// Numbers of the process that INFO shows; those that count are since the start or CONFIG RESETSTAT.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Open client connections.
    pub connected_clients: u64,
    /// How many may be open.
    pub max_clients: u64,
    /// Connections accepted.
    pub total_connections: u64,
    /// Connections turned away.
    pub rejected_connections: u64,
    /// Commands received.
    pub total_commands: u64,
    /// Bytes read from clients.
    pub input_bytes: u64,
    /// Bytes written to clients.
    pub output_bytes: u64,
    /// Bytes the process may use.
    pub max_memory: u64,
    /// Commands received, bytes read and bytes written, per second.
    pub rates: Traffic,
    /// Worker threads.
    pub workers: usize,
    /// Slots that have an owner.
    pub slots_covered: u16,
    /// Clients that wait in a blocking command.
    pub blocked_clients: u64,
    /// Clients with CLIENT TRACKING on.
    pub tracking_clients: usize,
    /// Channels that clients are subscribed to.
    pub channels: usize,
    /// Patterns that clients are subscribed to.
    pub patterns: usize,
    /// Shard channels that clients are subscribed to.
    pub shard_channels: usize,
}

/// What the session does after a local command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// Nothing more: the reply is written.
    Continue,
    /// Deliver the reply, then close the connection.
    Close,
    /// INFO; nothing is written yet: ask the nodes, then `inform`.
    Inform,
    /// CONFIG GET; nothing is written yet: ask the nodes, then `config::reply`.
    Configure,
    /// CLIENT INFO; nothing is written yet: a `client_line` of the asking client.
    Describe,
    /// Nothing is written: any node can answer the request as it is, and nobody else as well.
    AskNode,
    /// Nothing is written yet: ask all workers.
    Clients(ClientsRequest),
    /// Nothing is written: this error of slotway's own.
    Error(ProxyError),
    /// CLIENT REPLY: from this reply on, only those that are wanted.
    Replies(Replies),
    /// RESET: whatever the session itself has switched on is over.
    Reset,
}

/// Answers `command`. The arity must have been checked, and whether the client may send it.
///
/// HELLO and RESET change `client.resp`; the reply is already in the new version.
pub fn reply(
    env: &LocalEnv<'_>,
    client: &mut ClientState,
    command: LocalCommand,
    args: &Args,
    out: &mut Vec<u8>,
) -> After {
    match command {
        LocalCommand::Ping => connection::ping(args, out),
        LocalCommand::Echo => connection::echo(args, out),
        LocalCommand::Quit => return connection::quit(out),
        LocalCommand::Reset => {
            connection::reset(env, client, out);
            return After::Reset;
        }
        LocalCommand::Select => connection::select(args, out),
        LocalCommand::Role => connection::role(out),
        LocalCommand::Time => connection::time(out),
        LocalCommand::Hello => return auth::hello(env, client, args, out),
        LocalCommand::Auth => auth::auth(env, client, args, out),
        LocalCommand::Command => return commands::reply(env, client.resp, args, out),
        LocalCommand::Client => return client::reply(client, args, out),
        LocalCommand::Info if info::wants_nodes(args) => return After::Inform,
        LocalCommand::Info => info::reply(env, client.resp, args, None, out),
        LocalCommand::Cluster => cluster::reply(env, client, args, out),
        LocalCommand::ClusterMode => cluster::mode(client, args, out),
        LocalCommand::Config if config::wants_nodes(args) => return After::Configure,
        LocalCommand::Config => {
            let _no_primary_disagrees = config::reply(env, client.resp, args, config::Heard::Told(&[]), out);
        }
        LocalCommand::Acl => return acl::reply(env.table, args, out),
        LocalCommand::Help => help::reply(env.table, args, out),
    }
    After::Continue
}

// === shared by the commands ===

/// Why a local command is answered with an error.
#[derive(Debug)]
pub(super) enum Trouble {
    /// In Redis' words.
    Redis(String),
    /// One of slotway's own.
    Ours(ProxyError),
}

impl<T: Into<String>> From<T> for Trouble {
    fn from(text: T) -> Self {
        Self::Redis(text.into())
    }
}

impl Trouble {
    /// Answers with it.
    fn answer(self, out: &mut Vec<u8>) -> After {
        match self {
            Self::Redis(text) => {
                encode::error(out, text);
                After::Continue
            }
            Self::Ours(error) => After::Error(error),
        }
    }
}

/// The only user there is.
const USER: &[u8] = b"default";

/// Error of an option or a number of options a command does not know.
const SYNTAX_ERROR: &str = "ERR syntax error";

/// An integer as Redis reads it: no blanks, no `+`, no leading zeros.
pub fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        b"0" if text.len() == 1 => Some(0),
        [b'1'..=b'9', ..] => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// The first bytes of what a client sent, to be quoted in an error.
fn quoted(text: &[u8]) -> String {
    let text = text.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text.get(..128).unwrap_or(text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_strict() {
        for (text, expected) in [("0", Some(0)), ("-7", Some(-7)), ("12", Some(12))] {
            assert_eq!(integer(text.as_bytes()), expected);
        }
        for text in ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1x", "99999999999999999999"] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }
}
