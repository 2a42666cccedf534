//! A server that is no cluster node: its answers to the questions of a refresh, made into a [`View`], and the
//! picture of an upstream in which one primary owns all slots. Pure.
//!
//! Such servers have no cluster id: a node's id here is its address. Config epochs of nodes are 0 throughout;
//! that of the sentinels is the picture's current epoch.

use std::collections::{BTreeMap, BTreeSet};

use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};

use super::agreed::{Agreed, AgreedNode, Ignored};
use super::judge::Verdict;
use super::node::NodeAddr;
use super::parse::{ParseError, array, commands_mark, fields, no_error, server_info};
use super::table::SLOTS;
use super::view::{Claim, ClusterInfo, Flags, Row, ServerInfo, View};

/// The first of the questions, which also goes along with every PING: a server that is told to replicate another
/// keeps its connections, and says so only when asked, or written to.
pub(crate) const ROLE: &[u8] = b"*1\r\n$4\r\nROLE\r\n";

/// The questions, to be written at once.
pub(crate) const QUESTIONS: &[u8] = b"*1\r\n$4\r\nROLE\r\n\
*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n\
*1\r\n$5\r\nHELLO\r\n\
*2\r\n$7\r\nCOMMAND\r\n$5\r\nCOUNT\r\n";

/// Replies owed for [`QUESTIONS`].
pub(crate) const ANSWERS: usize = 4;

/// Makes a view of the [`ANSWERS`] answers of the server reached at `dialled`: a primary claims every slot, a
/// replica none. Errors on all but the first question are no errors, as in `parse_view`.
pub(crate) fn parse_server(dialled: &NodeAddr, answers: &[OwnedFrame]) -> Result<View, ParseError> {
    let [role, server, hello, count] = answers else {
        return Err(ParseError::Form("number of answers"));
    };
    let role = array(no_error(role)?).ok_or(ParseError::Form("ROLE"))?;
    let about = server.as_str().filter(|_| no_error(server).is_ok()).unwrap_or("");
    match mode(about) {
        Some("cluster") => return Err(ParseError::IsCluster),
        Some("sentinel") => return Err(ParseError::IsSentinel),
        _ => {}
    }
    let word = |index: usize| role.get(index).and_then(OwnedFrame::as_str);
    let (replica, primary_id, link_up) = match word(0) {
        Some("master") => (false, None, true),
        Some("slave" | "replica") => {
            let port = role.get(2).and_then(|port| match port {
                OwnedFrame::Integer(port) => u16::try_from(*port).ok(),
                _ => None,
            });
            let of = word(1).zip(port).map(|(host, port)| NodeAddr { host: host.to_owned(), port });
            (true, of.map(|of| of.to_string()), word(3) == Some("connected"))
        }
        Some("sentinel") => return Err(ParseError::IsSentinel),
        _ => return Err(ParseError::Form("ROLE")),
    };
    let my_id = dialled.to_string();
    let row = Row {
        addr: Some(dialled.clone()),
        aliases: Vec::new(),
        flags: Flags { myself: true, replica, ..Flags::default() },
        flags_text: flags_text(replica).to_owned(),
        primary_id,
        config_epoch: 0,
        link_up,
        has_slots: !replica,
        migrations: Vec::new(),
    };
    let all = Claim { first: 0, last: SLOTS as u16 - 1, owner: my_id.clone() };
    let server = server_info(about);
    Ok(View {
        dialled: dialled.clone(),
        rows: BTreeMap::from([(my_id.clone(), row)]),
        claims: if replica { Vec::new() } else { vec![all] },
        cluster: ClusterInfo { state_ok: true, ..ClusterInfo::default() },
        commands: commands_mark(&server, hello, count),
        server,
        my_id,
    })
}

/// Primary or not, by the answer to [`ROLE`]; `None` where it does not tell.
pub(crate) fn role(answer: &OwnedFrame) -> Option<bool> {
    match array(answer)?.first()?.as_str()? {
        "master" => Some(true),
        "slave" | "replica" => Some(false),
        _ => None,
    }
}

/// `redis_mode`, or what Valkey calls it.
pub(super) fn mode(about: &str) -> Option<&str> {
    fields(about).find(|(key, _)| matches!(*key, "redis_mode" | "server_mode")).map(|(_, value)| value)
}

fn flags_text(replica: bool) -> &'static str {
    if replica { "slave" } else { "master" }
}

impl View {
    /// The server says that it is a primary. Of a server that is no cluster node.
    pub(crate) fn is_primary(&self) -> bool {
        self.me().is_some_and(|me| !me.flags.replica)
    }
}

/// What the server at `addr` says of itself: primary or not; `None` if it did not answer.
pub(crate) fn says_primary(views: &[View], addr: &NodeAddr) -> Option<bool> {
    views.iter().find(|view| view.dialled == *addr).map(View::is_primary)
}

/// One primary and what is known beside it.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    /// Owner of all slots; `None` when the one there was is none any more.
    pub primary: Option<NodeAddr>,
    /// Other nodes, the flags they are shown with, and why they get no traffic.
    pub others: Vec<(NodeAddr, String, Option<Ignored>)>,
    /// Whose word it is.
    pub base: Option<NodeAddr>,
    /// The sentinels' config epoch.
    pub epoch: u64,
    /// How many were compared.
    pub compared: usize,
    /// As in [`Agreed`].
    pub held_rounds: u32,
    /// As in [`Agreed`].
    pub before: Vec<NodeAddr>,
}

impl Picture {
    /// As the rest of the service has it. Details of servers come from their `views`.
    pub(crate) fn agreed(self, views: &[View]) -> Agreed {
        let id = self.primary.as_ref().map(NodeAddr::to_string);
        let mut nodes = BTreeMap::new();
        for (addr, flags, ignored) in self.others {
            // Nobody to replicate: nothing to read from.
            let ignored = ignored.or(id.is_none().then_some(Ignored::Slotless));
            nodes.insert(addr.to_string(), node(&addr, &flags, id.clone(), ignored));
        }
        if let Some(addr) = &self.primary {
            nodes.insert(addr.to_string(), node(addr, flags_text(false), None, None));
        }
        let view = views.iter().find(|view| Some(&view.dialled) == self.primary.as_ref());
        let owner = self.primary.is_some().then_some((0, 0));
        Agreed {
            nodes,
            slots: vec![owner; SLOTS],
            migrations: Vec::new(),
            base: self.base.or(self.primary).unwrap_or(NodeAddr { host: String::new(), port: 0 }),
            current_epoch: self.epoch,
            state_ok: id.is_some(),
            owners: id.into_iter().collect(),
            server: view.map_or_else(ServerInfo::default, |view| view.server.clone()),
            tentative: false,
            compared: self.compared,
            held_rounds: self.held_rounds,
            before: self.before,
        }
    }
}

fn node(addr: &NodeAddr, flags: &str, primary_id: Option<String>, ignored: Option<Ignored>) -> AgreedNode {
    let replica = flags != flags_text(false);
    AgreedNode {
        addr: Some(addr.clone()),
        aliases: Vec::new(),
        flags_text: flags.to_owned(),
        replica,
        primary_id: primary_id.filter(|_| replica),
        config_epoch: 0,
        ignored,
    }
}

impl Agreed {
    /// The primary of all slots, where one owns them all.
    pub(crate) fn sole_primary(&self) -> Option<&NodeAddr> {
        self.nodes.get(self.owner(0)?.0)?.addr.as_ref()
    }

    /// All servers known, whatever their state.
    pub(crate) fn servers(&self) -> BTreeSet<NodeAddr> {
        let named = self.nodes.values().flat_map(|node| node.addr.iter().chain(&node.aliases));
        named.chain(&self.before).cloned().collect()
    }
}

/// The primary's view was taken, the others were compared with it.
pub(crate) fn verdicts(views: &[View], outcome: &Result<Agreed, String>) -> Vec<Verdict> {
    let primary = outcome.as_ref().ok().and_then(Agreed::sole_primary);
    let of = |view: &View| match primary == Some(&view.dialled) {
        true => Verdict::Taken,
        false => Verdict::Compared,
    };
    views.iter().map(of).collect()
}
