//! The throw-away cluster and the instances of slotway before it: who is primary of what now, and when it is whole.
//! Owns all processes of a run; ends them by their handles only.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::ports::BUS_OFFSET;
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::server::Server;
use crate::support::{check, within};

/// Options of every node. With them a write is on disk before it is acknowledged, and nothing happens by itself.
const OPTIONS: &[&str] = &[
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--auto-aof-rewrite-percentage",
    "0",
    "--cluster-allow-replica-migration",
    "no",
    "--busy-reply-threshold",
    "200",
    "--repl-backlog-size",
    "16mb",
];
/// A cluster that is not whole after this long will not be.
pub const SETTLE: Duration = Duration::from_secs(90);

/// Pause in the move of a slot, after every two keys.
const STEP: Duration = Duration::from_millis(10);

/// A row of CLUSTER NODES.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: String,
    pub addr: SocketAddr,
    pub flags: String,
    /// Id of its primary, `-` for none.
    pub primary: String,
    pub slots: Vec<(u16, u16)>,
}

impl Row {
    /// Reads a row; `None` for one without a usable address.
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let range = |word: &&str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Some(Self {
            id: words.first()?.to_string(),
            addr: words.get(1)?.split('@').next()?.parse().ok()?,
            flags: words.get(2)?.to_string(),
            primary: words.get(3)?.to_string(),
            slots: words.get(8..)?.iter().filter(|w| !w.starts_with('[')).filter_map(range).collect(),
        })
    }

    pub fn is_primary(&self) -> bool {
        self.flags.contains("master")
    }
}

/// A primary with its slots and its replicas, by their places in `Site::nodes`.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    pub primary: usize,
    pub replicas: Vec<usize>,
    pub slots: Vec<(u16, u16)>,
}

pub struct Site {
    pub nodes: Vec<Server>,
    pub proxies: Vec<Proxy>,
    timeout: Duration,
}

impl Site {
    /// Three primaries with a replica each, and so many instances of slotway with their defaults, except that clients
    /// who say READONLY read from replicas.
    pub fn start(timeout: Duration, instances: usize) -> Self {
        let shape = Shape { node_timeout: timeout, options: OPTIONS, ..Shape::default() };
        let RedisCluster { nodes, .. } = RedisCluster::shaped(&shape);
        let seeds: Vec<SocketAddr> = nodes.iter().map(Server::addr).collect();
        let proxy = |place: usize| {
            let reads = if place.is_multiple_of(2) { "prefer-replica" } else { "nearest" };
            Proxy::start(&seeds, &[("workers", "2"), ("read-from-readonly", reads)])
        };
        let proxies = (0..instances).map(proxy).collect();
        Self { nodes, proxies, timeout }
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A node that knows nobody yet.
    pub fn new_node(&self) -> Server {
        Server::cluster_node(self.timeout, OPTIONS)
    }

    /// CLUSTER NODES as one node sees it.
    pub fn rows(&self, node: usize) -> Vec<Row> {
        rows(&mut self.nodes[node].client())
    }

    /// Who is primary of what, as node `seen_by` sees it; shards by their lowest slot, slotless ones last.
    pub fn shards_seen_by(&self, seen_by: usize) -> Vec<Shard> {
        let rows = self.rows(seen_by);
        let place = |row: &Row| self.nodes.iter().position(|n| n.addr() == row.addr);
        let mut shards: Vec<Shard> = Vec::new();
        for row in rows.iter().filter(|r| r.is_primary() && !r.flags.contains("fail")) {
            let Some(primary) = place(row) else { continue };
            let replicas = rows.iter().filter(|r| r.primary == row.id).filter_map(place).collect();
            shards.push(Shard { primary, replicas, slots: row.slots.clone() });
        }
        shards.sort_by_key(|s| s.slots.first().map_or(u16::MAX, |(first, _)| *first));
        shards
    }

    /// Waits until every node sees the same whole cluster and every replica is in sync; who is primary of what then.
    #[track_caller]
    pub fn settle(&self) -> Vec<Shard> {
        within(SETTLE, "the cluster is whole", || {
            let first = self.shards_seen_by(0);
            for node in 0..self.nodes.len() {
                let mut client = Client::try_connect(self.nodes[node].addr()).map_err(|e| e.to_string())?;
                let mut ask = |what: [&str; 2]| {
                    let reply = client.try_raw(&cmd![what[0], what[1]]).map_err(|e| e.to_string())?;
                    Ok::<_, String>(String::from_utf8_lossy(&reply).into_owned())
                };
                let info = ask(["CLUSTER", "INFO"])?;
                let nodes = ask(["CLUSTER", "NODES"])?;
                let replication = ask(["INFO", "replication"])?;
                let synced =
                    replication.contains("role:master") || replication.contains("master_link_status:up");
                let good = info.contains("cluster_state:ok")
                    && !["fail", "handshake", "noaddr", "[", "disconnected"]
                        .iter()
                        .any(|w| nodes.contains(w))
                    && nodes.lines().filter(|l| l.contains("connected")).count() == self.nodes.len();
                check(good && synced, format!("node {node}: {info}{nodes}{replication}"))?;
                let seen = self.shards_seen_by(node);
                check(seen == first, format!("node {node} sees {seen:?}, node 0 {first:?}"))?;
            }
            let paired = first.iter().filter(|s| !s.slots.is_empty()).all(|s| !s.replicas.is_empty());
            check(paired || self.nodes.len() != 6, format!("{first:?}"))?;
            Ok::<_, String>(first)
        })
    }

    /// Waits until each node of `by` sees `node` as a primary with slots.
    #[track_caller]
    pub fn wait_promoted(&self, node: usize, by: &[usize]) {
        for seen_by in by {
            within(SETTLE, "the replica is promoted", || {
                let shards = self.shards_seen_by(*seen_by);
                let promoted = shards.iter().any(|s| s.primary == node && !s.slots.is_empty());
                check(promoted, shards)
            });
        }
    }

    /// All nodes but these.
    pub fn others(&self, but: &[usize]) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| !but.contains(n)).collect()
    }

    pub fn id(&self, node: usize) -> String {
        self.nodes[node].client().call(&cmd!["CLUSTER", "MYID"]).text()
    }

    /// Introduces a node that is not yet a member.
    pub fn meet(&self, node: &Server) {
        let addr = node.addr();
        let bus = (addr.port() + BUS_OFFSET).to_string();
        let meet = cmd!["CLUSTER", "MEET", addr.ip().to_string(), addr.port().to_string(), bus];
        let member = self.nodes.iter().find(|n| n.addr() != addr).expect("another node");
        member.client().ok(&meet);
    }

    /// Moves one slot with its keys, as `redis-cli` does it: SETSLOT, MIGRATE, SETSLOT.
    #[track_caller]
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (mut source, mut target) = (self.nodes[from].client(), self.nodes[to].client());
        let (from_id, to_id, addr) = (self.id(from), self.id(to), self.nodes[to].addr());
        let slot = slot.to_string();
        target.ok(&cmd!["CLUSTER", "SETSLOT", slot, "IMPORTING", from_id]);
        source.ok(&cmd!["CLUSTER", "SETSLOT", slot, "MIGRATING", to_id]);
        let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
        loop {
            // The load finds the slot in every state of its move.
            std::thread::sleep(STEP);
            let keys = source.ok(&cmd!["CLUSTER", "GETKEYSINSLOT", slot, "2"]);
            if keys.items().is_empty() {
                break;
            }
            for key in keys.items() {
                source.ok(&cmd!["MIGRATE", ip, port, key.bytes(), "0", "5000"]);
            }
        }
        // The receiver first: otherwise nobody owns the slot for a moment.
        let give = cmd!["CLUSTER", "SETSLOT", slot, "NODE", to_id];
        target.ok(&give);
        source.ok(&give);
        for shard in self.shards_seen_by(to) {
            if ![from, to].contains(&shard.primary) {
                self.nodes[shard.primary].client().ok(&give);
            }
        }
    }

    /// Waits until all primaries know of the same owners: a slot that moves on before that could be claimed twice.
    #[track_caller]
    pub fn wait_agreement(&self) {
        let primaries: Vec<usize> = self.shards_seen_by(0).iter().map(|s| s.primary).collect();
        within(SETTLE, "the primaries agree", || {
            let view = |node: &usize| {
                let mut client = self.nodes[*node].client();
                let info = client.call(&cmd!["CLUSTER", "INFO"]).text();
                let epoch = info.lines().find(|l| l.starts_with("cluster_current_epoch")).map(str::to_owned);
                (epoch, self.shards_seen_by(*node))
            };
            let views: Vec<_> = primaries.iter().map(view).collect();
            check(views.iter().all(|v| *v == views[0]), views)
        });
    }
}

/// CLUSTER NODES; empty while the node loads its data.
pub fn rows(client: &mut Client) -> Vec<Row> {
    match client.call(&cmd!["CLUSTER", "NODES"]) {
        Value::Bulk(nodes) => String::from_utf8_lossy(&nodes).lines().filter_map(Row::read).collect(),
        _ => Vec::new(),
    }
}
