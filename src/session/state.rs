//! What the proxy remembers of one client beside its bytes: identity, protocol version, mode.
//!
//! Owned by the session; local commands read and change it. Must never hold a key or a value.

use std::net::SocketAddr;
use std::time::Instant;

use crate::config::ReadFrom;
use crate::tracking::options::TrackingState;

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

/// Which replies a client wants: CLIENT REPLY. A reply that is not wanted is made and thrown away; pushes
/// are no replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Replies {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// Not that of the next request.
    SkipOne,
    /// Not that of the request at hand (CLIENT REPLY SKIP itself), nor that of the next.
    SkipTwo,
}

/// What a client has switched on for itself; all off at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ClientSettings {
    /// CLIENT NO-EVICT: not closed for the memory its replies take.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// READONLY, READWRITE.
    pub reads: ReadChoice,
}

/// What a client said of where its reads may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadChoice {
    /// Nothing.
    #[default]
    Usual,
    /// READONLY: they may go to replicas.
    ReadOnly,
    /// READWRITE: to primaries.
    ReadWrite,
}

impl ReadChoice {
    /// Where they go: `usual` is `read-from`, `readonly` is `read-from-readonly`.
    pub fn mode(self, usual: ReadFrom, readonly: Option<ReadFrom>) -> ReadFrom {
        match self {
            Self::Usual => usual,
            Self::ReadOnly => readonly.unwrap_or(usual),
            Self::ReadWrite => ReadFrom::Primary,
        }
    }
}

/// What commands inside a transaction can change about their client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changeable {
    names: Option<Box<ClientNames>>,
    settings: ClientSettings,
    /// CLIENT CACHING.
    caching: Option<bool>,
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
    /// What it switched on.
    pub settings: ClientSettings,
    /// Has subscriptions; in RESP3 that is no mode of its own.
    pub subscribed: bool,
    /// CLIENT TRACKING.
    pub tracking: Option<Box<TrackingState>>,
    /// CLIENT SETNAME, CLIENT SETINFO; boxed, for most clients never say any of it.
    pub names: Option<Box<ClientNames>>,
    /// Commands received on this connection.
    pub commands: u64,
    /// The last command received.
    pub last_command: Option<&'static crate::command::Command>,
    /// When the last command was received, in milliseconds of the worker's clock.
    pub last_active_ms: u64,
}

impl ClientState {
    /// What commands inside a transaction can change.
    pub fn changeable(&self) -> Changeable {
        Changeable {
            names: self.names.clone(),
            settings: self.settings,
            caching: self.tracking.as_ref().and_then(|tracking| tracking.caching),
        }
    }

    /// Puts it in force.
    pub fn change(&mut self, Changeable { names, settings, caching }: Changeable) {
        (self.names, self.settings) = (names, settings);
        if let Some(tracking) = &mut self.tracking {
            tracking.caching = caching;
        }
    }
}

/// Names a client gave itself. Each is printable ASCII without spaces.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ClientNames {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: String,
}
