//! What one node says about the cluster: the contents of CLUSTER NODES, CLUSTER SLOTS, CLUSTER INFO
//! INFO server, and what tells whether its commands are still the same, asked in one write. Data only; `parse` fills it, `judge` compares it.

use std::collections::BTreeMap;

use super::node::NodeAddr;

/// One node's view.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// The address it was reached at.
    pub dialled: NodeAddr,
    /// Cluster id of the node that was asked.
    pub my_id: String,
    /// Every node it knows, by cluster id.
    pub rows: BTreeMap<String, Row>,
    /// Who owns which slots, as CLUSTER SLOTS says.
    pub claims: Vec<Claim>,
    /// CLUSTER INFO.
    pub cluster: ClusterInfo,
    /// INFO server.
    pub server: ServerInfo,
    /// Differs when the commands of the node may differ.
    pub commands: u64,
}

/// One line of CLUSTER NODES, with the address CLUSTER SLOTS prefers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where to dial it; `None` when no address is known.
    pub addr: Option<NodeAddr>,
    /// Other names of the same address (address and host name).
    pub aliases: Vec<NodeAddr>,
    /// Flags as set.
    pub flags: Flags,
    /// The flags column as written.
    pub flags_text: String,
    /// Cluster id of its primary, for replicas.
    pub primary_id: Option<String>,
    /// Configuration epoch of the node (of its primary, for replicas).
    pub config_epoch: u64,
    /// The cluster-bus link to it stands (always true for the node asked).
    pub link_up: bool,
    /// The line lists slots.
    pub has_slots: bool,
    /// Slots under way, listed only on the line of the node asked.
    pub migrations: Vec<Migration>,
}

/// Flags of a CLUSTER NODES line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub myself: bool,
    pub replica: bool,
    pub pfail: bool,
    pub fail: bool,
    pub handshake: bool,
    pub noaddr: bool,
}

/// One range of CLUSTER SLOTS, bounds inclusive and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub first: u16,
    pub last: u16,
    /// Cluster id of the primary.
    pub owner: String,
}

/// An open migration: `slot` is leaving the line's node to `peer`, or coming from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Migration {
    pub slot: u16,
    pub peer: String,
    /// `[slot->-peer]` (migrating) as opposed to `[slot-<-peer]` (importing).
    pub leaving: bool,
}

/// What is used of CLUSTER INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterInfo {
    pub state_ok: bool,
    pub current_epoch: u64,
    pub slots_assigned: u32,
}

/// What is used of INFO server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerInfo {
    /// `redis_version`; Valkey answers the Redis version it is compatible with.
    pub redis_version: Option<String>,
    /// `valkey_version`, where there is one.
    pub valkey_version: Option<String>,
    /// `run_id`: of this process alone.
    pub run_id: Option<String>,
}

// === impl View ===

impl View {
    /// The row of the node that was asked.
    pub(crate) fn me(&self) -> Option<&Row> {
        self.rows.get(&self.my_id)
    }

    /// How many nodes it knows, itself included.
    pub(crate) fn knows(&self) -> usize {
        self.rows.values().filter(|row| !row.flags.handshake).count()
    }
}

// === impl Row ===

impl Row {
    /// The asked node can talk to this one, as far as it knows.
    pub(crate) fn is_healthy(&self) -> bool {
        let f = self.flags;
        !(f.fail || f.pfail || f.handshake || f.noaddr) && (self.link_up || f.myself) && self.addr.is_some()
    }
}
