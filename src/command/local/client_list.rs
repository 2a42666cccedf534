//! The lines of CLIENT LIST and CLIENT INFO.

use std::net::SocketAddr;

use super::{SYNTAX_ERROR, integer, quoted};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::{ClientState, Resp, SessionMode};

/// Which clients CLIENT LIST shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListFilter {
    /// Every one.
    All,
    /// Those of a kind.
    Kind(ClientKind),
    /// Those with these ids; sorted.
    Ids(Vec<u64>),
}

/// Kinds of clients, as Redis tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// Any but the others.
    Normal,
    /// Subscribed to something.
    PubSub,
    /// A replication link; the proxy has none.
    Replication,
}

/// What a line says of a connection's buffers; numbers not known stay 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientIo {
    /// Descriptor of the socket.
    pub fd: i32,
    /// Bytes of requests received and not taken yet.
    pub query_bytes: usize,
    /// Room left in that buffer.
    pub query_free: usize,
    /// Bytes of replies not sent yet.
    pub output_bytes: usize,
    /// Replies owed.
    pub output_replies: usize,
    /// All memory of the connection, in bytes.
    pub total_bytes: usize,
    /// Channels subscribed to.
    pub channels: usize,
    /// Patterns subscribed to.
    pub patterns: usize,
    /// Shard channels subscribed to.
    pub shard_channels: usize,
    /// Commands queued by MULTI.
    pub queued: usize,
}

// === impl ListFilter ===

impl ListFilter {
    pub(super) fn parse(args: &Args) -> Result<ListFilter, String> {
        let option = args.at(2);
        if args.len() == 2 {
            return Ok(ListFilter::All);
        }
        if args.len() == 4 && option.eq_ignore_ascii_case(b"TYPE") {
            let kind = args.at(3).to_ascii_lowercase();
            return match kind.as_slice() {
                b"normal" => Ok(ListFilter::Kind(ClientKind::Normal)),
                b"pubsub" => Ok(ListFilter::Kind(ClientKind::PubSub)),
                b"master" | b"replica" | b"slave" => Ok(ListFilter::Kind(ClientKind::Replication)),
                _ => Err(format!("ERR Unknown client type '{}'", quoted(args.at(3)))),
            };
        }
        if args.len() > 3 && option.eq_ignore_ascii_case(b"ID") {
            let ids: Option<Vec<i64>> = args.iter().skip(3).map(integer).collect();
            let ids = ids.ok_or("ERR Invalid client ID")?;
            let mut ids: Vec<u64> = ids.into_iter().filter_map(|id| id.try_into().ok()).collect();
            ids.sort_unstable();
            ids.dedup();
            return Ok(ListFilter::Ids(ids));
        }
        Err(SYNTAX_ERROR.into())
    }

    /// Whether this client is to be shown.
    pub fn matches(&self, client: &ClientState) -> bool {
        match self {
            ListFilter::All => true,
            ListFilter::Ids(ids) => ids.binary_search(&client.id).is_ok(),
            ListFilter::Kind(ClientKind::PubSub) => client.mode == SessionMode::Subscribed,
            ListFilter::Kind(ClientKind::Normal) => client.mode != SessionMode::Subscribed,
            ListFilter::Kind(ClientKind::Replication) => false,
        }
    }
}

// === a line ===

/// One line of CLIENT LIST, with its line end. `now_ms` is on the clock of `last_active_ms`.
pub fn client_line(client: &ClientState, io: &ClientIo, now_ms: u64) -> String {
    let names = client.names.as_deref().cloned().unwrap_or_default();
    let command = client.last_command.map_or("NULL", |command| command.entry.name.as_str());
    let multi = if client.mode == SessionMode::Multi { io.queued as i64 } else { -1 };
    let resp = if client.resp == Resp::V3 { 3 } else { 2 };
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db=0 sub={} psub={} ssub={} multi={multi} \
         qbuf={} qbuf-free={} argv-mem=0 multi-mem=0 rbs={} rbp={} obl={} oll={} omem={} tot-mem={} events=r \
         cmd={command} user=default redir=-1 resp={resp} lib-name={} lib-ver={}\n",
        client.id,
        address(client.peer),
        address(client.local),
        io.fd,
        names.name,
        client.connected.elapsed().as_secs(),
        now_ms.saturating_sub(client.last_active_ms) / 1000,
        flags(client.mode),
        io.channels,
        io.patterns,
        io.shard_channels,
        io.query_bytes,
        io.query_free,
        io.output_bytes,
        io.output_bytes,
        io.output_bytes,
        io.output_replies,
        io.output_bytes,
        io.total_bytes,
        names.lib_name,
        names.lib_ver,
    )
}

/// Answers CLIENT LIST and CLIENT INFO with lines of `client_line`.
pub fn encode_client_list(out: &mut Vec<u8>, resp: Resp, lines: &str) {
    encode::verbatim(out, resp, lines);
}

fn address(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "?:0".to_owned(), |address| address.to_string())
}

fn flags(mode: SessionMode) -> &'static str {
    match mode {
        SessionMode::Normal | SessionMode::Pinned => "N",
        SessionMode::Multi => "x",
        SessionMode::Blocked => "b",
        SessionMode::Subscribed => "P",
        SessionMode::Tracking => "t",
        SessionMode::Monitor => "O",
    }
}
