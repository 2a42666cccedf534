//! What a fake node says about itself and its cluster: handshake, CLUSTER, INFO. Made to be
//! believed: ids, epochs, slots and run ids are consistent between the questions.

use std::net::SocketAddr;

use super::keys::SLOTS;
use super::node::Seen;
use super::resp::bulk;

/// The slot map the nodes tell.
pub struct Map {
    addrs: Vec<String>,
    /// (first slot, last slot, node), inclusive.
    ranges: Vec<(u16, u16, usize)>,
    epochs: Vec<u64>,
    /// Nodes that say `cluster_state:fail`.
    failing: Vec<usize>,
    /// What each node says of its data.
    data: Vec<Data>,
}

/// What a node says of its data and its place.
#[derive(Clone, Default)]
pub struct Data {
    /// Its primary, for a replica.
    pub replica_of: Option<usize>,
    /// How far it has got in the stream of replication.
    pub offset: u64,
    /// Its link to its primary is broken.
    pub cut: bool,
    /// It loads its data set.
    pub loading: bool,
    /// The other nodes flag it `fail`.
    pub failed: bool,
    /// `availability_zone`.
    pub zone: &'static str,
    /// Slots that are on their way elsewhere, as CLUSTER NODES says it: ` [5->-id]`.
    pub leaving: &'static str,
}

impl Map {
    /// Slots shared evenly, in order.
    pub fn even(addrs: &[SocketAddr]) -> Self {
        let count = addrs.len();
        let bound = |i: usize| (usize::from(SLOTS) * i / count) as u16;
        Self {
            addrs: addrs.iter().map(ToString::to_string).collect(),
            ranges: (0..count).map(|i| (bound(i), bound(i + 1) - 1, i)).collect(),
            epochs: (1..=count as u64).collect(),
            failing: Vec::new(),
            data: vec![Data::default(); count],
        }
    }

    /// The first `primaries` share the slots, the others are their replicas in turn.
    pub fn with_replicas(addrs: &[SocketAddr], primaries: usize) -> Self {
        let (owners, replicas) = addrs.split_at(primaries);
        let mut map = Self::even(owners);
        for (index, addr) in replicas.iter().enumerate() {
            let of = index % primaries;
            map.addrs.push(addr.to_string());
            map.epochs.push(of as u64 + 1);
            map.data.push(Data { replica_of: Some(of), ..Data::default() });
        }
        map
    }

    /// What a node says of its data.
    pub fn data(&mut self, node: usize) -> &mut Data {
        &mut self.data[node]
    }

    fn replicas(&self, primary: usize) -> Vec<usize> {
        (0..self.data.len()).filter(|node| self.data[*node].replica_of == Some(primary)).collect()
    }

    pub fn owner(&self, slot: u16) -> usize {
        self.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map_or(0, |r| r.2)
    }

    /// Gives one slot to `node`, with a higher epoch, as the end of a move does.
    pub fn assign(&mut self, slot: u16, node: usize) {
        let mut ranges = Vec::new();
        for &(first, last, owner) in &self.ranges {
            if !(first..=last).contains(&slot) {
                ranges.push((first, last, owner));
                continue;
            }
            if first < slot {
                ranges.push((first, slot - 1, owner));
            }
            ranges.push((slot, slot, node));
            if slot < last {
                ranges.push((slot + 1, last, owner));
            }
        }
        self.ranges = ranges;
        let highest = self.epochs.iter().max().copied().unwrap_or(0);
        self.epochs[node] = highest + 1;
    }

    /// Tells another `HOST:PORT` for `node`: one that nobody serves, or one without a host.
    pub fn announce(&mut self, node: usize, addr: &str) {
        self.addrs[node] = addr.to_owned();
    }

    /// Whether a node says `cluster_state:fail` of the cluster.
    pub fn fails(&mut self, node: usize, fails: bool) {
        self.failing.retain(|n| *n != node);
        self.failing.extend(fails.then_some(node));
    }

    fn host_port(&self, node: usize) -> (&str, &str) {
        self.addrs[node].rsplit_once(':').unwrap_or(("", "0"))
    }

    fn slots(&self) -> Vec<u8> {
        let mut out = format!("*{}\r\n", self.ranges.len()).into_bytes();
        for &(first, last, node) in &self.ranges {
            let replicas = self.replicas(node);
            out.extend_from_slice(format!("*{}\r\n:{first}\r\n:{last}\r\n", 3 + replicas.len()).as_bytes());
            for node in [node].into_iter().chain(replicas) {
                let (host, port) = self.host_port(node);
                out.extend_from_slice(b"*4\r\n");
                out.extend_from_slice(&bulk(host.as_bytes()));
                out.extend_from_slice(format!(":{port}\r\n").as_bytes());
                out.extend_from_slice(&bulk(id(node).as_bytes()));
                out.extend_from_slice(b"*0\r\n");
            }
        }
        out
    }

    fn nodes(&self, myself: usize) -> String {
        let row = |node: usize| {
            let (host, port) = self.host_port(node);
            let of = self.data[node].replica_of;
            let (role, primary) = of.map_or(("master", "-".to_owned()), |of| ("slave", id(of)));
            let myself_flag = if node == myself { "myself," } else { "" };
            let fail = if self.data[node].failed && node != myself { ",fail" } else { "" };
            let (flags, epoch) = (format!("{myself_flag}{role}{fail}"), self.epochs[node]);
            let bus = port.parse::<u32>().unwrap_or(0) + 10000;
            let mut row = format!("{} {host}:{port}@{bus} {flags} {primary} 0 0 {epoch} connected", id(node));
            for (first, last, _) in self.ranges.iter().filter(|r| r.2 == node) {
                row += &if first == last { format!(" {first}") } else { format!(" {first}-{last}") };
            }
            if node == myself {
                row += self.data[node].leaving;
            }
            row + "\n"
        };
        (0..self.addrs.len()).map(row).collect()
    }

    fn info(&self, myself: usize) -> String {
        let count = self.addrs.len();
        let current = self.epochs.iter().max().copied().unwrap_or(0);
        let state = if self.failing.contains(&myself) { "fail" } else { "ok" };
        format!(
            "cluster_enabled:1\r\ncluster_state:{state}\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
             cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:{count}\r\n\
             cluster_size:{count}\r\ncluster_current_epoch:{current}\r\ncluster_my_epoch:{}\r\n",
            self.epochs[myself]
        )
    }
}

/// INFO, all sections that matter in one.
fn server_info(map: &Map, node: usize) -> String {
    let data = &map.data[node];
    let run_id = format!("{:040x}", node + 0x1d);
    let mut body = format!("# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\nrun_id:{run_id}\r\n");
    if !data.zone.is_empty() {
        body += &format!("availability_zone:{}\r\n", data.zone);
    }
    body += &format!("# Persistence\r\nloading:{}\r\n# Replication\r\n", u8::from(data.loading));
    let history = data.replica_of.unwrap_or(node);
    match data.replica_of {
        None => body += &format!("role:master\r\nconnected_slaves:{}\r\n", map.replicas(node).len()),
        Some(_) => {
            let link = if data.cut { "down" } else { "up" };
            body += &format!(
                "role:slave\r\nmaster_link_status:{link}\r\nmaster_last_io_seconds_ago:0\r\n\
                 master_sync_in_progress:0\r\nslave_repl_offset:{}\r\n",
                data.offset
            );
        }
    }
    body += &format!("master_replid:{history:040x}\r\nmaster_repl_offset:{}\r\n", data.offset);
    body + "# Cluster\r\ncluster_enabled:1\r\n"
}

fn id(node: usize) -> String {
    format!("{:040x}", node + 0xfa4e)
}

fn text(body: &str, resp3: bool) -> Vec<u8> {
    if resp3 { format!("={}\r\ntxt:{body}\r\n", body.len() + 4).into_bytes() } else { bulk(body.as_bytes()) }
}

fn hello(seen: &Seen, resp3: &mut bool) -> Vec<u8> {
    match seen.arg(1).as_str() {
        "" => {}
        "2" => *resp3 = false,
        "3" => *resp3 = true,
        _ => return b"-NOPROTO unsupported protocol version\r\n".to_vec(),
    }
    let (head, proto) = if *resp3 { ("%7", 3) } else { ("*14", 2) };
    let mut out = format!("{head}\r\n").into_bytes();
    for (name, value) in [("server", "redis"), ("version", "7.0.15"), ("mode", "cluster"), ("role", "master")]
    {
        out.extend_from_slice(&bulk(name.as_bytes()));
        out.extend_from_slice(&bulk(value.as_bytes()));
    }
    out.extend_from_slice(&bulk(b"proto"));
    out.extend_from_slice(format!(":{proto}\r\n").as_bytes());
    out.extend_from_slice(&bulk(b"id"));
    out.extend_from_slice(format!(":{}\r\n", seen.connection + 1).as_bytes());
    out.extend_from_slice(&bulk(b"modules"));
    out.extend_from_slice(b"*0\r\n");
    out
}

/// What a healthy node would answer; `+OK` to everything it has no better answer for.
pub fn standard_answer(seen: &Seen, map: &Map, resp3: &mut bool) -> Vec<u8> {
    let second = seen.arg(1).to_uppercase();
    match (seen.name().as_str(), second.as_str()) {
        ("HELLO", _) => hello(seen, resp3),
        ("PING", _) if map.data[seen.node].loading => {
            b"-LOADING Redis is loading the dataset in memory\r\n".to_vec()
        }
        ("PING", _) => b"+PONG\r\n".to_vec(),
        ("CLIENT", "ID") => format!(":{}\r\n", seen.connection + 1).into_bytes(),
        ("CLUSTER", "SLOTS") => map.slots(),
        ("CLUSTER", "NODES") => text(&map.nodes(seen.node), *resp3),
        ("CLUSTER", "INFO") => text(&map.info(seen.node), *resp3),
        ("CLUSTER", "MYID") => bulk(id(seen.node).as_bytes()),
        ("INFO", _) => text(&server_info(map, seen.node), *resp3),
        ("COMMAND", "COUNT") => b":0\r\n".to_vec(),
        ("COMMAND", _) => b"*0\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    }
}
