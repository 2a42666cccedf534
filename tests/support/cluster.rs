//! A real Redis Cluster of redis-server processes on loopback ports. Owns its processes; formed by
//! raw CLUSTER commands, every condition awaited.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::client::Client;
use super::keys::SLOTS;
use super::ports::{BUS_OFFSET, own_address};
use super::server::{Server, USUAL_TIMEOUT};
use super::{check, eventually};

/// The cluster: nodes `0..primaries` were created as primaries, the rest as their replicas in turn.
#[derive(Debug)]
pub struct RedisCluster {
    pub nodes: Vec<Server>,
    ids: Vec<String>,
    primaries: usize,
}

/// How to build one.
pub struct Shape<'a> {
    pub primaries: usize,
    pub replicas_per: usize,
    pub node_timeout: Duration,
    /// Further options of every node.
    pub options: &'a [&'a str],
    /// Every node has an address of its own, from which its connections come, too.
    pub apart: bool,
}

impl Default for Shape<'_> {
    fn default() -> Self {
        Self { primaries: 3, replicas_per: 1, node_timeout: USUAL_TIMEOUT, options: &[], apart: false }
    }
}

impl Shape<'_> {
    #[track_caller]
    fn node(&self) -> Server {
        if !self.apart {
            return Server::cluster_node(self.node_timeout, self.options);
        }
        let ip = own_address();
        let source = ip.to_string();
        let options = [self.options, &["--bind-source-addr", &source]].concat();
        Server::cluster_node_at(ip, self.node_timeout, &options)
    }
}

impl RedisCluster {
    #[track_caller]
    pub fn start(primaries: usize, replicas_per: usize) -> Self {
        Self::shaped(&Shape { primaries, replicas_per, ..Shape::default() })
    }

    /// Returns when every node says the cluster is complete and every replica is in sync.
    #[track_caller]
    pub fn shaped(shape: &Shape) -> Self {
        let count = shape.primaries * (1 + shape.replicas_per);
        let nodes: Vec<Server> = (0..count).map(|_| shape.node()).collect();
        let ids = nodes.iter().map(|n| n.client().call(&cmd!["CLUSTER", "MYID"]).text()).collect();
        let cluster = Self { nodes, ids, primaries: shape.primaries };
        for index in 0..count {
            let mut client = cluster.client(index);
            client.ok(&cmd!["CLUSTER", "SET-CONFIG-EPOCH", (index + 1).to_string()]);
            if index < cluster.primaries {
                let (first, last) = cluster.initial_range(index);
                client.ok(&cmd!["CLUSTER", "ADDSLOTSRANGE", first.to_string(), last.to_string()]);
            }
        }
        cluster.meet_all();
        cluster.replicate();
        cluster.wait_healthy();
        cluster
    }

    /// The slots primary `index` was given.
    pub fn initial_range(&self, index: usize) -> (u16, u16) {
        let bound = |i: usize| (usize::from(SLOTS) * i / self.primaries) as u16;
        (bound(index), bound(index + 1) - 1)
    }

    /// The primary that was given `slot`.
    pub fn initial_owner(&self, slot: u16) -> usize {
        (0..self.primaries).find(|&i| slot <= self.initial_range(i).1).expect("a slot")
    }

    /// A slot primary `index` was given, the same every time.
    pub fn slot_of(&self, index: usize) -> u16 {
        self.initial_range(index).0 + 100
    }

    pub fn primaries(&self) -> usize {
        self.primaries
    }

    #[track_caller]
    pub fn client(&self, index: usize) -> Client {
        self.nodes[index].client()
    }

    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Server::addr).collect()
    }

    /// The first replica given to primary `index`.
    pub fn replica_of(&self, index: usize) -> usize {
        self.primaries + index
    }

    /// After a node was started empty, and has another id.
    #[track_caller]
    pub fn relearn_ids(&mut self) {
        self.ids = self.nodes.iter().map(|n| n.client().call(&cmd!["CLUSTER", "MYID"]).text()).collect();
    }

    /// Makes every pair of nodes meet; also how nodes that all moved find each other again.
    #[track_caller]
    pub fn meet_all(&self) {
        for index in 0..self.nodes.len() {
            let mut last_meet: Option<Instant> = None;
            eventually("every node knows where every other is", || {
                let mut client = self.client(index);
                let nodes = client.call(&cmd!["CLUSTER", "NODES"]).text();
                let strangers: Vec<usize> =
                    (0..self.nodes.len()).filter(|i| !self.placed(&nodes, *i)).collect();
                // A MEET that came too early is forgotten by the node: say it again now and then.
                if !strangers.is_empty() && last_meet.is_none_or(|t| t.elapsed() > Duration::from_secs(1)) {
                    last_meet = Some(Instant::now());
                    for addr in strangers.iter().map(|i| self.nodes[*i].addr()) {
                        let bus = (addr.port() + BUS_OFFSET).to_string();
                        client.ok(&cmd![
                            "CLUSTER",
                            "MEET",
                            addr.ip().to_string(),
                            addr.port().to_string(),
                            bus
                        ]);
                    }
                }
                check(strangers.is_empty(), nodes)
            });
        }
    }

    /// True when the rows of CLUSTER NODES place node `index` where it is.
    fn placed(&self, nodes: &str, index: usize) -> bool {
        let want = format!("{} {}@", self.ids[index], self.nodes[index].addr());
        nodes.lines().any(|l| l.starts_with(&want) && !l.contains("handshake"))
    }

    fn replicate(&self) {
        for index in self.primaries..self.nodes.len() {
            let primary = (index - self.primaries) % self.primaries;
            self.client(index).ok(&cmd!["CLUSTER", "REPLICATE", self.ids[primary]]);
        }
    }

    /// Waits until every node sees a complete cluster and every replica is in sync.
    #[track_caller]
    pub fn wait_healthy(&self) {
        for index in 0..self.nodes.len() {
            eventually("the cluster is complete", || {
                let mut client = self.client(index);
                // One that loads its data set says so instead.
                let mut ask = |request: Vec<u8>| match client.call(&request) {
                    said if said.is_error() => Err(said.error().to_owned()),
                    said => Ok(said.text()),
                };
                let (info, nodes) = (ask(cmd!["CLUSTER", "INFO"])?, ask(cmd!["CLUSTER", "NODES"])?);
                let replication = ask(cmd!["INFO", "replication"])?;
                let synced =
                    replication.contains("role:master") || replication.contains("master_link_status:up");
                let good = info.contains("cluster_state:ok")
                    && !nodes.contains("fail")
                    && !nodes.contains("handshake")
                    && self.roles_known(&nodes)
                    && synced;
                check(good, format!("{info}\n{nodes}\n{replication}"))
            });
        }
    }

    /// True when every node created as a replica is seen as one, or was promoted by a failover.
    fn roles_known(&self, nodes: &str) -> bool {
        let replicas = nodes.lines().filter(|l| l.contains("slave")).count();
        replicas == self.nodes.len() - self.primaries
    }

    /// Address of the primary of `slot` as node `seen_by` knows it.
    #[track_caller]
    pub fn owner_seen_by(&self, seen_by: usize, slot: u16) -> Option<SocketAddr> {
        let slots = self.client(seen_by).call(&cmd!["CLUSTER", "SLOTS"]);
        let row = slots.items().iter().find(|row| {
            let row = row.items();
            (row[0].int()..=row[1].int()).contains(&i64::from(slot))
        })?;
        let node = row.items()[2].items();
        let ip: IpAddr = node[0].text().parse().ok()?;
        Some(SocketAddr::new(ip, node[1].int() as u16))
    }

    /// Marks `slot` as moving between two primaries; keys stay where they are.
    #[track_caller]
    pub fn open_slot(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        self.client(to).ok(&cmd!["CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[from]]);
        self.client(from).ok(&cmd!["CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[to]]);
    }

    /// Moves single keys of an open slot.
    #[track_caller]
    pub fn move_keys(&self, from: usize, to: usize, keys: &[Vec<u8>]) {
        let target = self.nodes[to].addr();
        let mut source = self.client(from);
        for key in keys {
            let (ip, port) = (target.ip().to_string(), target.port().to_string());
            source.ok(&cmd!["MIGRATE", ip, port, key, "0", "5000"]);
        }
    }

    /// Gives an open slot to its new owner, for all to see.
    #[track_caller]
    pub fn close_slot(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        // The receiver first, as redis-cli does: otherwise nobody owns the slot for a moment.
        let others = (0..self.primaries).filter(|i| *i != to && *i != from);
        for index in [to, from].into_iter().chain(others) {
            self.client(index).ok(&cmd!["CLUSTER", "SETSLOT", slot, "NODE", self.ids[to]]);
        }
        self.wait_agreement();
    }

    /// Waits until every primary has the same epoch and the same owners. A slot that moves on before
    /// its new owner's epoch is known would be claimed by two nodes with one epoch.
    #[track_caller]
    pub fn wait_agreement(&self) {
        eventually("the primaries agree", || {
            let view = |index: usize| {
                let mut client = self.client(index);
                let info = client.call(&cmd!["CLUSTER", "INFO"]).text();
                let epoch = info.lines().find(|l| l.starts_with("cluster_current_epoch")).map(str::to_owned);
                let nodes = client.call(&cmd!["CLUSTER", "NODES"]).text();
                (epoch, owners(&nodes))
            };
            let views: Vec<_> = (0..self.primaries).map(view).collect();
            check(views.iter().all(|v| *v == views[0]), views)
        });
    }

    /// The whole life of a slot's move, as redis-cli does it.
    #[track_caller]
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.open_slot(slot, from, to);
        let mut source = self.client(from);
        loop {
            let keys = source.ok(&cmd!["CLUSTER", "GETKEYSINSLOT", slot.to_string(), "100"]);
            let keys: Vec<Vec<u8>> = keys.items().iter().map(|k| k.bytes().to_vec()).collect();
            if keys.is_empty() {
                break;
            }
            self.move_keys(from, to, &keys);
        }
        self.close_slot(slot, from, to);
    }

    /// A node more, without slots, that all primaries know.
    #[track_caller]
    pub fn join(&self) -> Server {
        let node = Server::cluster_node(USUAL_TIMEOUT, &[]);
        let addr = node.addr();
        let id = node.client().call(&cmd!["CLUSTER", "MYID"]).text();
        let bus = (addr.port() + BUS_OFFSET).to_string();
        self.client(0).ok(&cmd!["CLUSTER", "MEET", addr.ip().to_string(), addr.port().to_string(), bus]);
        for index in 0..self.primaries {
            eventually("the newcomer is known", || {
                let nodes = self.client(index).call(&cmd!["CLUSTER", "NODES"]).text();
                let known = nodes.lines().any(|l| l.starts_with(&id) && !l.contains("handshake"));
                check(known, nodes)
            });
        }
        eventually("the newcomer knows all", || {
            let info = node.client().call(&cmd!["CLUSTER", "INFO"]).text();
            check(info.contains("cluster_state:ok"), info)
        });
        node
    }

    /// Marks `slot` as moving to a node that joined, and moves its first `most` keys.
    #[track_caller]
    pub fn open_slot_to(&self, slot: u16, from: usize, to: &Server, most: usize) {
        let (slot, mut target, mut source) = (slot.to_string(), to.client(), self.client(from));
        let id = target.call(&cmd!["CLUSTER", "MYID"]).text();
        target.ok(&cmd!["CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[from]]);
        source.ok(&cmd!["CLUSTER", "SETSLOT", slot, "MIGRATING", id]);
        let keys = source.ok(&cmd!["CLUSTER", "GETKEYSINSLOT", slot, most.to_string()]);
        let (ip, port) = (to.addr().ip().to_string(), to.addr().port().to_string());
        for key in keys.items() {
            source.ok(&cmd!["MIGRATE", ip, port, key.bytes(), "0", "5000"]);
        }
    }

    /// Gives `slot` with its keys to a node that joined, for all primaries to see.
    #[track_caller]
    pub fn move_slot_to(&self, slot: u16, from: usize, to: &Server) {
        self.open_slot_to(slot, from, to, usize::from(u16::MAX));
        let id = to.client().call(&cmd!["CLUSTER", "MYID"]).text();
        let give = cmd!["CLUSTER", "SETSLOT", slot.to_string(), "NODE", id];
        to.client().ok(&give);
        [from].into_iter().chain((0..self.primaries).filter(|i| *i != from)).for_each(|index| {
            self.client(index).ok(&give);
        });
    }

    /// Sum over the primaries of a counter in `INFO errorstats`, such as `MOVED`.
    pub fn errors_sent(&self, prefix: &str) -> u64 {
        let of = |index: usize| {
            let stats = self.client(index).call(&cmd!["INFO", "errorstats"]).text();
            let line = stats
                .lines()
                .find_map(|l| l.strip_prefix(&format!("errorstat_{prefix}:count=")).map(str::to_owned));
            line.and_then(|l| l.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        (0..self.primaries).map(of).sum()
    }

    /// Kills every node and starts it again at `127.0.0.<last>`, all at once, then lets them meet.
    #[track_caller]
    pub fn move_all_to(&mut self, last: u8) {
        for node in &mut self.nodes {
            node.kill();
        }
        for node in &mut self.nodes {
            node.restart_at(SocketAddr::new(IpAddr::from([127, 0, 0, last]), node.addr().port()));
        }
        self.meet_all();
        self.wait_healthy();
    }
}

/// (id, epoch, slots) of every row of CLUSTER NODES that has slots; open slots are left out.
fn owners(nodes: &str) -> Vec<String> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let slots = words.get(8..)?.iter().filter(|w| !w.starts_with('['));
        Some(format!("{} {} {}", words[0], words[6], slots.copied().collect::<Vec<_>>().join(" ")))
    };
    let mut rows: Vec<String> = nodes.lines().filter_map(row).collect();
    rows.sort();
    rows
}
