//! Who claims slots under which config epoch, by cluster id: what the slot table leaves out because no
//! request is routed by it. Immutable; replaced by every round that was agreed on.

use std::collections::BTreeMap;

use super::node::NodeId;

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardClaim {
    /// Its primary.
    pub node: NodeId,
    /// The primary's cluster id. A promoted replica has another.
    pub id: String,
    /// The config epoch it claims its slots with.
    pub epoch: u64,
}

/// All shards, ordered by their first slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Those whose primary may get traffic.
    pub shards: Vec<ShardClaim>,
    /// Every slot is among theirs.
    pub complete: bool,
    /// Nodes by cluster id, also those without slots: keys of a running migration may be there.
    pub members: BTreeMap<String, NodeId>,
}
