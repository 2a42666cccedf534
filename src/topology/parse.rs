//! Replies of one node to the four questions of a refresh, made into a [`View`]. Pure.
//!
//! Addresses. CLUSTER SLOTS says what a client shall dial (`cluster-preferred-endpoint-type`), so
//! its host and port come before those of CLUSTER NODES; rows that only CLUSTER NODES has (slotless
//! primaries, failed replicas) take `ip:port` from there, or their host name where others go by theirs.
//! A host that is nil, empty or `?` means "the host I dialled", with the port of the row; only where that
//! would be the very node that was asked although the row is another node, the row's IP is used. Port 0
//! is no address.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};

use super::node::NodeAddr;
use super::server::mode;
use super::table::SLOTS;
use super::view::{Claim, ClusterInfo, Flags, Migration, Row, ServerInfo, View};

/// The questions, to be written at once.
pub(crate) const QUESTIONS: &[u8] = b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n\
*2\r\n$7\r\nCLUSTER\r\n$5\r\nNODES\r\n\
*2\r\n$7\r\nCLUSTER\r\n$4\r\nINFO\r\n\
*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n\
*1\r\n$5\r\nHELLO\r\n\
*2\r\n$7\r\nCOMMAND\r\n$5\r\nCOUNT\r\n";

/// Replies owed for [`QUESTIONS`].
pub(crate) const ANSWERS: usize = 6;

/// Why a node's answers make no view. The texts are the node's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    /// The node wants another password, or one at all.
    #[error("{0}")]
    Auth(String),
    /// Not a cluster node.
    #[error(
        "cluster support is disabled at the node; set `upstream` to standalone or sentinel if that is meant"
    )]
    ClusterDisabled,
    /// A cluster node, but no cluster is expected.
    #[error("the server is a node of a cluster; set `upstream` to cluster")]
    IsCluster,
    /// A sentinel, but none is expected.
    #[error("the server is a sentinel; set `upstream` to sentinel")]
    IsSentinel,
    /// Not a sentinel, but one is expected.
    #[error("the server is no sentinel; they usually listen on port 26379")]
    NotSentinel,
    /// A sentinel that does not know the name.
    #[error("the sentinel monitors no master named {0:?} (sentinel-master)")]
    UnknownMaster(String),
    /// The node is loading its data set.
    #[error("the node is loading its data set")]
    Loading,
    /// Any other error reply.
    #[error("{0}")]
    Refused(String),
    /// An answer is not of the documented form.
    #[error("unexpected {0}")]
    Form(&'static str),
}

/// Makes a view of the [`ANSWERS`] answers of the node reached at `dialled`.
///
/// The last three are a courtesy (a least ACL may forbid them, an old server not know them): an error on INFO
/// server only leaves the version unknown, one on HELLO or COMMAND COUNT leaves changes of the modules
/// unnoticed. An error on any other question is an error.
pub(crate) fn parse_view(dialled: &NodeAddr, answers: &[OwnedFrame]) -> Result<View, ParseError> {
    let [slots, nodes, info, server, hello, count] = answers else {
        return Err(ParseError::Form("number of answers"));
    };
    if no_error(slots).is_err() && mode(server.as_str().unwrap_or("")) == Some("sentinel") {
        return Err(ParseError::IsSentinel);
    }
    let slots = array(no_error(slots)?).ok_or(ParseError::Form("CLUSTER SLOTS"))?;
    let nodes = no_error(nodes)?.as_str().ok_or(ParseError::Form("CLUSTER NODES"))?;
    let info = no_error(info)?.as_str().ok_or(ParseError::Form("CLUSTER INFO"))?;
    let mut rows = BTreeMap::new();
    for line in nodes.lines().filter(|l| !l.trim().is_empty()) {
        let (id, row) = node_line(line).ok_or(ParseError::Form("line of CLUSTER NODES"))?;
        rows.insert(id, row);
    }
    let my_id = rows.iter().find(|(_, row)| row.flags.myself).map(|(id, _)| id.clone());
    let my_id = my_id.ok_or(ParseError::Form("CLUSTER NODES: no line is flagged myself"))?;
    let claims = slot_rows(slots, &my_id, dialled, &mut rows)?;
    fill_unknown_hosts(&my_id, dialled, &mut rows);
    let server = server_info(server.as_str().unwrap_or(""));
    let commands = commands_mark(&server, hello, count);
    Ok(View { dialled: dialled.clone(), my_id, rows, claims, cluster: cluster_info(info), server, commands })
}

/// Sorts an error reply; `Ok` for any other reply.
pub(crate) fn no_error(frame: &OwnedFrame) -> Result<&OwnedFrame, ParseError> {
    let OwnedFrame::Error(text) = frame else { return Ok(frame) };
    Err(match text.split(' ').next().unwrap_or("") {
        "NOAUTH" | "WRONGPASS" => ParseError::Auth(text.clone()),
        "LOADING" => ParseError::Loading,
        "ERR" if text.contains("cluster support disabled") => ParseError::ClusterDisabled,
        _ => ParseError::Refused(text.clone()),
    })
}

pub(super) fn array(frame: &OwnedFrame) -> Option<&[OwnedFrame]> {
    match frame {
        OwnedFrame::Array(items) => Some(items),
        _ => None,
    }
}

// === CLUSTER NODES ===

/// `<id> <ip:port@cport[,hostname[,aux…]]> <flags> <primary> <ping> <pong> <epoch> <link> <slot>…`
fn node_line(line: &str) -> Option<(String, Row)> {
    let mut fields = line.split_ascii_whitespace();
    let id = fields.next()?;
    let (addr, hostname) = node_address(fields.next()?)?;
    let flags_text = fields.next()?;
    let primary = fields.next()?;
    let mut fields = fields.skip(2);
    let config_epoch = fields.next()?.parse().ok()?;
    let link_up = fields.next()? == "connected";
    let mut row = Row {
        addr: None,
        aliases: Vec::new(),
        flags: flags(flags_text),
        flags_text: flags_text.to_owned(),
        primary_id: (primary != "-").then(|| primary.to_owned()),
        config_epoch,
        link_up,
        has_slots: false,
        migrations: Vec::new(),
    };
    if !row.flags.noaddr {
        row.aliases.extend(hostname.map(|host| NodeAddr { host: host.to_owned(), port: addr.port }));
        row.addr = (addr.port != 0).then_some(addr);
    }
    for field in fields {
        match field.strip_prefix('[') {
            Some(open) => row.migrations.extend(migration(open)),
            None => row.has_slots = true,
        }
    }
    Some((id.to_owned(), row))
}

/// The address (its host may be empty) and the host name.
fn node_address(field: &str) -> Option<(NodeAddr, Option<&str>)> {
    let mut parts = field.split(',');
    let address = parts.next()?;
    let hostname = parts.next().filter(|h| !h.is_empty() && !h.contains('=') && *h != "?");
    let address = address.split('@').next()?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let host = if host == "?" { "" } else { host };
    Some((NodeAddr { host: host.to_owned(), port: port.parse().ok()? }, hostname))
}

fn flags(text: &str) -> Flags {
    let mut flags = Flags::default();
    for flag in text.split(',') {
        match flag {
            "myself" => flags.myself = true,
            "slave" | "replica" => flags.replica = true,
            "fail?" => flags.pfail = true,
            "fail" => flags.fail = true,
            "handshake" => flags.handshake = true,
            "noaddr" => flags.noaddr = true,
            _ => {}
        }
    }
    flags
}

/// `93-<-id]` or `77->-id]`; other forms (later servers) are left out.
fn migration(open: &str) -> Option<Migration> {
    let inner = open.strip_suffix(']')?;
    let (slot, peer, leaving) = match inner.split_once("->-") {
        Some((slot, peer)) => (slot, peer, true),
        None => inner.split_once("-<-").map(|(slot, peer)| (slot, peer, false))?,
    };
    let slot = slot.parse().ok().filter(|s: &u16| usize::from(*s) < SLOTS)?;
    Some(Migration { slot, peer: peer.to_owned(), leaving })
}

// === CLUSTER SLOTS ===

/// One node entry: `[host, port, id, [metadata key, value, …]]`.
struct Endpoint<'a> {
    host: Option<&'a str>,
    port: u16,
    id: Option<&'a str>,
    metadata: Vec<&'a str>,
}

fn slot_rows(
    slots: &[OwnedFrame],
    my_id: &str,
    dialled: &NodeAddr,
    rows: &mut BTreeMap<String, Row>,
) -> Result<Vec<Claim>, ParseError> {
    let form = ParseError::Form("row of CLUSTER SLOTS");
    let mut claims = Vec::with_capacity(slots.len());
    let mut preferred: HashMap<String, (NodeAddr, Vec<NodeAddr>)> = HashMap::new();
    for slot_row in slots {
        let items = array(slot_row).ok_or(form.clone())?;
        let [OwnedFrame::Integer(first), OwnedFrame::Integer(last), nodes @ ..] = items else {
            return Err(form);
        };
        let mut owner = None;
        for (at, node) in nodes.iter().enumerate() {
            let endpoint = endpoint(node).ok_or(form.clone())?;
            let Some(id) = endpoint_id(&endpoint, rows) else {
                // A primary that CLUSTER NODES does not have: the two answers do not belong together.
                if at == 0 {
                    return Err(form);
                }
                continue;
            };
            if !preferred.contains_key(&id) {
                let resolved = endpoint_address(&endpoint, &id, my_id, dialled, rows);
                preferred.insert(id.clone(), resolved);
            }
            if at == 0 {
                owner = Some(id);
            }
        }
        let (first, last) =
            (slot_number(*first).ok_or(form.clone())?, slot_number(*last).ok_or(form.clone())?);
        if let Some(owner) = owner.filter(|_| first <= last) {
            claims.push(Claim { first, last, owner });
        }
    }
    by_name(&preferred, rows);
    for (id, (addr, aliases)) in preferred {
        if let Some(row) = rows.get_mut(&id).filter(|row| !row.flags.noaddr) {
            row.aliases.extend(aliases);
            if addr.port != 0 {
                row.aliases.extend(row.addr.replace(addr).filter(|a| !a.host.is_empty()));
            }
        }
    }
    Ok(claims)
}

/// Where the cluster prefers host names, rows that CLUSTER SLOTS does not have go by theirs, too: of a replica to
/// which nothing was replicated yet it says nothing.
fn by_name(preferred: &HashMap<String, (NodeAddr, Vec<NodeAddr>)>, rows: &mut BTreeMap<String, Row>) {
    let is_name = |(id, (addr, _)): (&String, &(NodeAddr, Vec<NodeAddr>))| {
        rows.get(id).is_some_and(|row| row.aliases.contains(addr) && row.addr.as_ref() != Some(addr))
    };
    if !preferred.iter().any(is_name) {
        return;
    }
    for (_, row) in rows.iter_mut().filter(|(id, row)| !row.flags.noaddr && !preferred.contains_key(*id)) {
        if let Some(name) = row.aliases.first().cloned() {
            row.aliases.extend(row.addr.replace(name));
        }
    }
}

fn slot_number(n: i64) -> Option<u16> {
    u16::try_from(n).ok().filter(|s| usize::from(*s) < SLOTS)
}

fn endpoint(frame: &OwnedFrame) -> Option<Endpoint<'_>> {
    let items = array(frame)?;
    let host = items.first()?.as_str().filter(|h| !h.is_empty() && *h != "?");
    let OwnedFrame::Integer(port) = items.get(1)? else { return None };
    let metadata = items.get(3).and_then(array).unwrap_or(&[]);
    Some(Endpoint {
        host,
        port: u16::try_from(*port).ok()?,
        id: items.get(2).and_then(OwnedFrame::as_str),
        metadata: metadata.iter().filter_map(OwnedFrame::as_str).collect(),
    })
}

impl<'a> Endpoint<'a> {
    fn meta(&self, key: &str) -> Option<&'a str> {
        let pair = self.metadata.chunks_exact(2).find(|pair| pair.first() == Some(&key))?;
        pair.get(1).copied().filter(|v| !v.is_empty() && *v != "?")
    }

    fn at(&self, host: &str) -> NodeAddr {
        NodeAddr { host: host.to_owned(), port: self.port }
    }
}

/// The id of an entry; servers before 4.0 give none, then the address is looked up.
fn endpoint_id(endpoint: &Endpoint<'_>, rows: &BTreeMap<String, Row>) -> Option<String> {
    if let Some(id) = endpoint.id {
        return rows.contains_key(id).then(|| id.to_owned());
    }
    let addr = endpoint.at(endpoint.host?);
    rows.iter().find(|(_, row)| row.addr.as_ref() == Some(&addr)).map(|(id, _)| id.clone())
}

/// What to dial, and other names of it.
fn endpoint_address(
    endpoint: &Endpoint<'_>,
    id: &str,
    my_id: &str,
    dialled: &NodeAddr,
    rows: &BTreeMap<String, Row>,
) -> (NodeAddr, Vec<NodeAddr>) {
    let named = ["ip", "hostname"].into_iter().filter_map(|key| endpoint.meta(key));
    let mut aliases: Vec<NodeAddr> = named.map(|host| endpoint.at(host)).collect();
    if let Some(host) = endpoint.host {
        return (endpoint.at(host), aliases);
    }
    let mine = endpoint.at(&dialled.host);
    let my_port = rows.get(my_id).and_then(|row| row.addr.as_ref()).map(|addr| addr.port);
    if id != my_id && Some(endpoint.port) == my_port {
        let ip = rows.get(id).and_then(|row| row.addr.clone()).filter(|a| !a.host.is_empty());
        let ip = endpoint.meta("ip").map(|ip| endpoint.at(ip)).or(ip);
        if let Some(ip) = ip {
            aliases.retain(|alias| *alias != ip);
            return (ip, aliases);
        }
    }
    (mine, aliases)
}

/// Rows without a host left: the address dialled, unless that is certainly another node.
fn fill_unknown_hosts(my_id: &str, dialled: &NodeAddr, rows: &mut BTreeMap<String, Row>) {
    let my_port = rows.get(my_id).and_then(|row| row.addr.as_ref()).map(|addr| addr.port);
    for (id, row) in rows.iter_mut() {
        let Some(addr) = row.addr.as_mut().filter(|a| a.host.is_empty()) else { continue };
        if id != my_id && Some(addr.port) == my_port {
            row.addr = None;
        } else {
            addr.host.clone_from(&dialled.host);
        }
    }
    for row in rows.values_mut() {
        let own = row.addr.clone();
        row.aliases.sort();
        row.aliases.dedup();
        row.aliases.retain(|alias| Some(alias) != own.as_ref() && !alias.host.is_empty() && alias.port != 0);
    }
}

// === INFO ===

pub(super) fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.trim_end().split_once(':'))
}

fn cluster_info(text: &str) -> ClusterInfo {
    let mut info = ClusterInfo::default();
    for (key, value) in fields(text) {
        match key {
            "cluster_state" => info.state_ok = value == "ok",
            "cluster_current_epoch" => info.current_epoch = value.parse().unwrap_or(0),
            "cluster_slots_assigned" => info.slots_assigned = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    info
}

pub(super) fn server_info(text: &str) -> ServerInfo {
    let mut info = ServerInfo::default();
    for (key, value) in fields(text) {
        match key {
            "redis_version" => info.redis_version = Some(value.to_owned()),
            "valkey_version" => info.valkey_version = Some(value.to_owned()),
            "run_id" => info.run_id = Some(value.to_owned()),
            _ => {}
        }
    }
    info
}

// === HELLO, COMMAND COUNT ===

/// Differs when the node's commands may differ: of its version, its modules (in any order) and the number
/// of its commands. What the node did not tell makes no difference.
pub(super) fn commands_mark(server: &ServerInfo, hello: &OwnedFrame, count: &OwnedFrame) -> u64 {
    let mut mark = DefaultHasher::new();
    (&server.redis_version, &server.valkey_version).hash(&mut mark);
    let fields = array(hello).unwrap_or(&[]).chunks_exact(2);
    let modules = fields.filter(|pair| pair.first().and_then(OwnedFrame::as_str) == Some("modules"));
    let modules = modules.filter_map(|pair| array(pair.get(1)?)).flatten();
    let sum = modules.fold(0u64, |sum, module| {
        let mut one = DefaultHasher::new();
        module.hash(&mut one);
        sum.wrapping_add(one.finish())
    });
    sum.hash(&mut mark);
    if let OwnedFrame::Integer(count) = count {
        count.hash(&mut mark);
    }
    mark.finish()
}
