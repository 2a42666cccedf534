//! TEMPORARY stand-in until the real service is merged.
pub mod node;
pub mod table;
use arc_swap::ArcSwap;
use node::{Node, NodeAddr, NodeId};
use std::sync::{Arc, Mutex};
use table::{Shard, SlotTable};
use tokio::sync::watch;
#[derive(Debug, Clone, Copy)]
pub enum Trigger {
    Redirect,
    Uncovered,
}
#[derive(Debug, Clone, Copy)]
pub enum Event {
    Refresh(Trigger),
    ConnectFailed(NodeId),
    ConnectionLost(NodeId),
    Connected(NodeId),
}
pub struct Topology {
    table: ArcSwap<SlotTable>,
    tx: watch::Sender<u64>,
    seeds: Vec<NodeAddr>,
    nodes: Mutex<Vec<Arc<Node>>>,
}
impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("T")
    }
}
impl Topology {
    pub fn new(seeds: Vec<NodeAddr>) -> Arc<Self> {
        let t = Arc::new(Self {
            table: ArcSwap::from_pointee(SlotTable::empty()),
            tx: watch::channel(0).0,
            seeds,
            nodes: Mutex::default(),
        });
        t.fetch();
        t
    }
    pub fn table(&self) -> Arc<SlotTable> {
        self.table.load_full()
    }
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.tx.subscribe()
    }
    pub fn round(&self) -> u64 {
        *self.tx.borrow()
    }
    pub fn report(&self, e: Event) {
        if matches!(e, Event::Refresh(_)) {
            self.fetch()
        }
    }
    pub fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        self.nodes.lock().ok()?.get(id.index()).cloned()
    }
    pub fn node_by_addr(&self, host: &str, port: u16) -> Option<NodeId> {
        self.nodes.lock().ok()?.iter().find(|n| n.addr.host == host && n.addr.port == port).map(|n| n.id)
    }
    fn fetch(&self) {
        let _ = self.try_fetch();
    }
    fn try_fetch(&self) -> Option<()> {
        use std::io::{Read, Write};
        let seed = self.seeds.first()?;
        let mut s = std::net::TcpStream::connect((seed.host.as_str(), seed.port)).ok()?;
        s.write_all(b"CLUSTER SLOTS\r\n").ok()?;
        let mut b = Vec::new();
        let mut tmp = [0u8; 65536];
        s.set_read_timeout(Some(std::time::Duration::from_millis(100))).ok()?;
        while let Ok(n) = s.read(&mut tmp) {
            if n == 0 {
                break;
            }
            b.extend_from_slice(&tmp[..n]);
        }
        let (frame, _) = redis_protocol::resp2::decode::decode(&b).ok()??;
        use redis_protocol::resp2::types::OwnedFrame as F;
        let F::Array(rows) = frame else { return None };
        let mut nodes = self.nodes.lock().ok()?;
        let (mut shards, mut ranges) = (Vec::new(), Vec::new());
        for row in rows {
            let F::Array(r) = row else { return None };
            let (F::Integer(a), F::Integer(z), F::Array(p)) = (&r[0], &r[1], &r[2]) else { return None };
            let (F::BulkString(h), F::Integer(port)) = (&p[0], &p[1]) else { return None };
            let addr = NodeAddr { host: String::from_utf8_lossy(h).into_owned(), port: *port as u16 };
            let id = match nodes.iter().find(|n| n.addr == addr) {
                Some(n) => n.id,
                None => {
                    let id = NodeId(nodes.len() as u16);
                    nodes.push(Arc::new(Node::new(id, addr)));
                    id
                }
            };
            ranges.push((*a as u16, *z as u16, shards.len() as u16));
            shards.push(Shard { primary: id, replicas: vec![] });
        }
        let old = self.table.load();
        let t = SlotTable::new(old.epoch() + 1, shards.clone(), &ranges, nodes.clone());
        if (0..16384).any(|s| old.primary(s) != t.primary(s)) {
            self.table.store(Arc::new(t));
        }
        drop(nodes);
        self.tx.send_modify(|g| *g += 1);
        Some(())
    }
}
