//! The lines of CLIENT LIST and CLIENT INFO.

use crate::session::state::{ClientState, ReadChoice, Resp, SessionMode};

/// What a line says of a connection beside its state; numbers not known stay 0.
#[derive(Debug, Clone, Default)]
pub struct ClientIo {
    /// The peer's address; the path of a Unix socket and port 0.
    pub addr: String,
    /// Our address; for a Unix socket the same as `addr`.
    pub laddr: String,
    /// Connected over a Unix socket.
    pub is_unix: bool,
    /// Held back by CLIENT PAUSE.
    pub is_postponed: bool,
    /// To be closed when everything owed is written.
    pub is_closing: bool,
    /// The socket took less than there is to write.
    pub is_writing: bool,
    /// Descriptor of the socket.
    pub fd: i32,
    /// Bytes of requests received and not taken yet.
    pub query_bytes: usize,
    /// Room left in that buffer.
    pub query_free: usize,
    /// Bytes of replies not sent yet.
    pub output_bytes: usize,
    /// Pieces they are kept in.
    pub output_chunks: usize,
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

/// One line of CLIENT LIST, with its line end. `now_ms` is on the clock of `last_active_ms`.
pub fn client_line(client: &ClientState, io: &ClientIo, now_ms: u64) -> String {
    let names = client.names.as_deref().cloned().unwrap_or_default();
    let command = client.last_command.map_or("NULL", |command| command.entry.name.as_str());
    let multi = if client.mode == SessionMode::Multi { io.queued as i64 } else { -1 };
    let resp = if client.resp == Resp::V3 { 3 } else { 2 };
    let redir = crate::tracking::options::redirection(client.tracking.as_deref());
    let events = if io.is_writing { "rw" } else { "r" };
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db=0 sub={} psub={} ssub={} multi={multi} \
         qbuf={} qbuf-free={} argv-mem=0 multi-mem=0 rbs={} rbp={} obl={} oll={} omem={} tot-mem={} \
         events={events} cmd={command} user=default redir={redir} resp={resp} lib-name={} lib-ver={}\n",
        client.id,
        io.addr,
        io.laddr,
        io.fd,
        names.name,
        client.connected.elapsed().as_secs(),
        now_ms.saturating_sub(client.last_active_ms) / 1000,
        flags(client, io),
        io.channels,
        io.patterns,
        io.shard_channels,
        io.query_bytes,
        io.query_free,
        io.output_bytes,
        io.output_bytes,
        io.output_bytes,
        io.output_chunks,
        io.output_bytes,
        io.total_bytes,
        names.lib_name,
        names.lib_ver,
    )
}

/// Redis' letters, in its order; `N` where none applies.
fn flags(client: &ClientState, io: &ClientIo) -> String {
    let mode = client.mode;
    let flags: String = [
        ('O', mode == SessionMode::Monitor),
        ('P', client.subscribed),
        ('x', mode == SessionMode::Multi),
        ('b', mode == SessionMode::Blocked || io.is_postponed),
        ('t', client.tracking.is_some()),
        ('R', client.tracking.as_ref().is_some_and(|state| state.broken_redirect)),
        ('B', client.tracking.as_ref().is_some_and(|state| state.options.bcast)),
        ('c', io.is_closing),
        ('U', io.is_unix),
        ('r', client.settings.reads == ReadChoice::ReadOnly),
        ('e', client.settings.no_evict),
        ('T', client.settings.no_touch),
    ]
    .iter()
    .filter_map(|&(letter, applies)| applies.then_some(letter))
    .collect();
    if flags.is_empty() { "N".to_owned() } else { flags }
}
