//! Views for tests: a cluster described in a few lines, as CLUSTER NODES text and CLUSTER SLOTS
//! frames, so that every test also goes through the parser.

use redis_protocol::resp2::types::OwnedFrame;

use super::node::NodeAddr;
use super::parse::parse_view;
use super::server::parse_server;
use super::view::View;

pub(crate) fn addr(text: &str) -> NodeAddr {
    let (host, port) = text.rsplit_once(':').unwrap();
    NodeAddr { host: host.to_owned(), port: port.parse().unwrap() }
}

pub(crate) fn bulk(text: &str) -> OwnedFrame {
    OwnedFrame::BulkString(text.as_bytes().to_vec())
}

pub(crate) fn info(state: &str, epoch: u64) -> OwnedFrame {
    bulk(&format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:16384\r\ncluster_current_epoch:{epoch}\r\n"
    ))
}

/// What a node answers that tells nothing of its commands.
pub(crate) fn untold() -> [OwnedFrame; 2] {
    [OwnedFrame::Error("ERR unknown command".to_owned()), OwnedFrame::Error("NOPERM".to_owned())]
}

pub(crate) fn server() -> OwnedFrame {
    bulk("# Server\r\nredis_version:7.0.15\r\n")
}

/// The view of a server that is no cluster node.
pub(crate) fn server_view(at: &str, primary: bool) -> View {
    let role = match primary {
        true => vec![bulk("master"), OwnedFrame::Integer(7), OwnedFrame::Array(Vec::new())],
        false => vec![
            bulk("slave"),
            bulk("10.0.0.9"),
            OwnedFrame::Integer(6379),
            bulk("connected"),
            OwnedFrame::Integer(7),
        ],
    };
    let [hello, count] = untold();
    parse_server(&addr(at), &[OwnedFrame::Array(role), server(), hello, count]).unwrap()
}

/// One node of a described cluster.
#[derive(Clone, Debug)]
pub(crate) struct N {
    pub id: &'static str,
    pub addr: String,
    pub flags: &'static str,
    pub primary: &'static str,
    pub epoch: u64,
    pub link: &'static str,
    pub slots: Vec<(u16, u16)>,
    pub open: &'static str,
}

/// What one node knows; change it and call [`View`](Self::view).
#[derive(Clone, Debug)]
pub(crate) struct Says {
    pub me: &'static str,
    pub state: &'static str,
    pub epoch: u64,
    pub nodes: Vec<N>,
}

pub(crate) fn primary(id: &'static str, port: u16, epoch: u64, slots: &[(u16, u16)]) -> N {
    let (flags, addr) = ("master", format!("10.0.0.1:{port}"));
    N { id, addr, flags, primary: "-", epoch, link: "connected", slots: slots.to_vec(), open: "" }
}

pub(crate) fn replica(id: &'static str, port: u16, of: &'static str, epoch: u64) -> N {
    N { flags: "slave", primary: of, ..primary(id, port, epoch, &[]) }
}

/// Three primaries `a b c` (epochs 1, 2, 3) with a replica each (`x y z`), seen by `me`.
pub(crate) fn six(me: &'static str) -> Says {
    let nodes = vec![
        primary("a", 1, 1, &[(0, 5460)]),
        primary("b", 2, 2, &[(5461, 10922)]),
        primary("c", 3, 3, &[(10923, 16383)]),
        replica("x", 4, "a", 1),
        replica("y", 5, "b", 2),
        replica("z", 6, "c", 3),
    ];
    Says { me, state: "ok", epoch: 6, nodes }
}

impl Says {
    pub(crate) fn node(&mut self, id: &str) -> &mut N {
        self.nodes.iter_mut().find(|n| n.id == id).unwrap()
    }

    /// Changes one node's line.
    pub(crate) fn with(mut self, id: &str, change: impl FnOnce(&mut N)) -> Self {
        change(self.node(id));
        self
    }

    pub(crate) fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }

    pub(crate) fn without(mut self, id: &str) -> Self {
        self.nodes.retain(|n| n.id != id);
        self
    }

    /// `to` takes over all slots of `from`, which becomes `flags`.
    pub(crate) fn failover(mut self, from: &str, to: &str, epoch: u64, flags: &'static str) -> Self {
        let slots = std::mem::take(&mut self.node(from).slots);
        self.node(from).flags = flags;
        let node = self.node(to);
        (node.slots, node.epoch, node.flags, node.primary) = (slots, epoch, "master", "-");
        self.epoch = epoch;
        self
    }

    pub(crate) fn view(&self) -> View {
        let mut lines = String::new();
        let mut rows = Vec::new();
        for n in &self.nodes {
            let myself = if n.id == self.me { "myself," } else { "" };
            let slots: Vec<String> = n.slots.iter().map(|(a, b)| format!(" {a}-{b}")).collect();
            let open = if n.id == self.me { n.open } else { "" };
            lines += &format!(
                "{} {}@1{} {myself}{} {} 0 0 {} {}{}{open}\n",
                n.id,
                n.addr,
                n.addr.len(),
                n.flags,
                n.primary,
                n.epoch,
                n.link,
                slots.concat()
            );
            let at = addr(&n.addr);
            let node = vec![bulk(&at.host), OwnedFrame::Integer(at.port.into()), bulk(n.id)];
            for (first, last) in &n.slots {
                let (first, last) =
                    (OwnedFrame::Integer((*first).into()), OwnedFrame::Integer((*last).into()));
                rows.push(OwnedFrame::Array(vec![first, last, OwnedFrame::Array(node.clone())]));
            }
        }
        let me = self.nodes.iter().find(|n| n.id == self.me).unwrap();
        let [hello, count] = untold();
        let answers =
            [OwnedFrame::Array(rows), bulk(&lines), info(self.state, self.epoch), server(), hello, count];
        parse_view(&addr(&me.addr), &answers).unwrap()
    }
}
