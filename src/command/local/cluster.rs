//! CLUSTER, READONLY, READWRITE and ASKING: to a cluster-aware client the proxy is a cluster of one node that
//! owns every slot. It never redirects, so such a client sends everything here.
//!
//! Where the node can be reached is `announce-address`, else the address the asking client dialled.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{LocalEnv, quoted};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::router::slot::slot_of;
use crate::session::state::{ClientState, ReadChoice, Resp};
use crate::topology::table::SLOTS;

const LAST_SLOT: i64 = SLOTS as i64 - 1;

/// The one node.
struct VirtualNode {
    id: String,
    host: String,
    port: u16,
}

pub(super) fn reply(env: &LocalEnv<'_>, client: &ClientState, args: &Args, out: &mut Vec<u8>) {
    let node = VirtualNode::new(env, client);
    let name = args.at(1).to_ascii_lowercase();
    match name.as_slice() {
        b"slots" => node.slots(client.resp, out),
        b"shards" => node.shards(client.resp, out),
        b"nodes" => encode::verbatim(out, client.resp, &node.line()),
        b"info" => encode::verbatim(out, client.resp, &info(env.facts.gauges().slots_covered)),
        b"myid" => encode::bulk(out, &node.id),
        b"myshardid" => encode::bulk(out, stable_id(&node.id)),
        b"links" => encode::array(out, 0),
        // The other subcommands about a node: it has no replicas, and nobody calls it failed.
        b"replicas" | b"slaves" | b"count-failure-reports" => {
            if args.at(2) != node.id.as_bytes() {
                encode::error(out, format!("ERR Unknown node {}", quoted(args.at(2))));
            } else if name == b"count-failure-reports" {
                encode::integer(out, 0);
            } else {
                encode::array(out, 0);
            }
        }
        // CLUSTER KEYSLOT; the table lets no other name through.
        _ => encode::integer(out, i64::from(slot_of(args.at(2)))),
    }
}

/// READONLY and READWRITE choose where reads go; ASKING is without effect where one node owns every slot.
pub(super) fn mode(client: &mut ClientState, args: &Args, out: &mut Vec<u8>) {
    match args.at(0).to_ascii_lowercase().as_slice() {
        b"readonly" => client.settings.reads = ReadChoice::ReadOnly,
        b"readwrite" => client.settings.reads = ReadChoice::ReadWrite,
        _ => {}
    }
    encode::simple(out, "OK");
}

/// CLUSTER INFO. A slot that has no owner in the real cluster is shown as failed; while any slot has one, the
/// whole is `ok`, for clients stop sending at `fail`.
fn info(covered: u16) -> String {
    let state = if covered > 0 { "ok" } else { "fail" };
    let fields = [
        ("cluster_state", state.to_owned()),
        ("cluster_slots_assigned", SLOTS.to_string()),
        ("cluster_slots_ok", covered.to_string()),
        ("cluster_slots_pfail", "0".to_owned()),
        ("cluster_slots_fail", (SLOTS - usize::from(covered)).to_string()),
        ("cluster_known_nodes", "1".to_owned()),
        ("cluster_size", "1".to_owned()),
        ("cluster_current_epoch", "0".to_owned()),
        ("cluster_my_epoch", "0".to_owned()),
        ("cluster_stats_messages_sent", "0".to_owned()),
        ("cluster_stats_messages_received", "0".to_owned()),
        ("total_cluster_links_buffer_limit_exceeded", "0".to_owned()),
    ];
    fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect()
}

// === impl VirtualNode ===

impl VirtualNode {
    /// With an announced address the id is made from it: all instances behind it are the same node.
    fn new(env: &LocalEnv<'_>, client: &ClientState) -> Self {
        if let Some(announced) = &env.config.announce_address {
            let (host, port) = (announced.host.clone(), announced.port);
            return Self { id: stable_id(&announced.to_string()), host, port };
        }
        let dialled = client.local.unwrap_or_else(|| reachable(env.config.listen));
        Self { id: env.facts.run_id(), host: dialled.ip().to_string(), port: dialled.port() }
    }

    /// Announced by name, not by address.
    fn is_named(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }

    fn slots(&self, resp: Resp, out: &mut Vec<u8>) {
        encode::array(out, 1);
        encode::array(out, 3);
        encode::integer(out, 0);
        encode::integer(out, LAST_SLOT);
        encode::array(out, 4);
        encode::bulk(out, &self.host);
        encode::integer(out, self.port.into());
        encode::bulk(out, &self.id);
        encode::map(out, resp, 0);
    }

    fn shards(&self, resp: Resp, out: &mut Vec<u8>) {
        encode::array(out, 1);
        encode::map(out, resp, 2);
        encode::bulk(out, "slots");
        encode::array(out, 2);
        encode::integer(out, 0);
        encode::integer(out, LAST_SLOT);
        encode::bulk(out, "nodes");
        encode::array(out, 1);
        encode::map(out, resp, 7 + usize::from(self.is_named()));
        text(out, "id", &self.id);
        encode::bulk(out, "port");
        encode::integer(out, self.port.into());
        text(out, "ip", if self.is_named() { "" } else { &self.host });
        text(out, "endpoint", &self.host);
        if self.is_named() {
            text(out, "hostname", &self.host);
        }
        text(out, "role", "master");
        encode::bulk(out, "replication-offset");
        encode::integer(out, 0);
        text(out, "health", "online");
    }

    /// CLUSTER NODES. There is no cluster bus: its port is 0.
    fn line(&self) -> String {
        let Self { id, host, port } = self;
        let name = if self.is_named() { format!(",{host}") } else { String::new() };
        format!("{id} {host}:{port}@0{name} myself,master - 0 0 0 connected 0-{LAST_SLOT}\n")
    }
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    encode::bulk(out, name);
    encode::bulk(out, value);
}

/// For a client of a Unix socket, which is on this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip().is_unspecified() {
        true => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port()),
        false => listen,
    }
}

/// 40 hexadecimal digits, always the same for the same text.
fn stable_id(text: &str) -> String {
    (0u64..5).map(|word| format!("{:08x}", mix(text, word))).collect()
}

/// FNV-1a over `text`, started differently for each `word`, then stirred as splitmix64 does it.
fn mix(text: &str, word: u64) -> u32 {
    let start = 0xcbf2_9ce4_8422_2325 ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut hash =
        text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_differ() {
        let id = stable_id("slotway:6379");
        assert_eq!(id, stable_id("slotway:6379"));
        assert!(id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
        assert_ne!(id, stable_id("slotway:6380"));
        assert_ne!(id, stable_id(&id));
    }
}
