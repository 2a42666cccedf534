//! What the proxy remembers of one client beside its bytes: identity, protocol version, mode.
//!
//! Owned by the session; local commands read and change it. Must never hold a key or a value.

use std::net::SocketAddr;
use std::time::Instant;

/// The protocol version a client speaks; its upstream lanes speak the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Resp {
    /// RESP2, the version of a connection that never said HELLO.
    #[default]
    V2,
    /// RESP3, after HELLO 3.
    V3,
}

/// What kind of conversation the session is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SessionMode {
    /// Requests are answered one by one.
    #[default]
    Normal,
    /// Between MULTI and EXEC: commands queue.
    Multi,
    /// Holds a dedicated connection for WATCH.
    Pinned,
    /// Waits in a blocking command on a dedicated connection.
    Blocked,
    /// RESP2 subscriber: only the pub/sub commands are allowed.
    Subscribed,
    /// CLIENT TRACKING is on: the session has connections of its own.
    Tracking,
    /// MONITOR: pushes only.
    Monitor,
}

/// Identity and settings of one client connection.
#[derive(Debug)]
pub struct ClientState {
    /// Unique across all instances (the high bits are drawn at start).
    pub id: u64,
    /// The peer's address; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Our side of the connection.
    pub local: Option<SocketAddr>,
    /// When the connection was accepted.
    pub connected: Instant,
    /// Protocol version.
    pub resp: Resp,
    /// False until AUTH (or HELLO … AUTH) succeeded, where a password is configured.
    pub authenticated: bool,
    /// Mode of the conversation.
    pub mode: SessionMode,
    /// CLIENT SETNAME, CLIENT SETINFO; boxed, for most clients never say any of it.
    pub names: Option<Box<ClientNames>>,
    /// Commands received on this connection.
    pub commands: u64,
    /// The last command received.
    pub last_command: Option<&'static crate::command::Command>,
    /// When the last command was received, in milliseconds of the worker's clock.
    pub last_active_ms: u64,
}

/// Names a client gave itself. Each is printable ASCII without spaces.
#[derive(Debug, Default, Clone)]
pub struct ClientNames {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: String,
}
