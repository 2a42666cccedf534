//! All lanes of one worker. Look-up on the path of a request is two indexes into vectors.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::lane::{Lane, LaneKey};
use crate::session::state::Resp;
use crate::topology::node::{Node, NodeId};

/// Versions of the protocol.
const VERSIONS: usize = 2;

/// The lanes, by key; those of ordinary requests also by node.
#[derive(Debug, Default)]
pub struct Lanes {
    /// Of each node: for ordinary requests, then for reads at a replica, each by version of the protocol.
    shared: Vec<[Option<Rc<Lane>>; 2 * VERSIONS]>,
    all: HashMap<LaneKey, Rc<Lane>>,
}

impl Lanes {
    /// The lane of ordinary requests to `node`, if it was ever needed.
    #[inline]
    pub fn get(&self, node: NodeId, resp: Resp) -> Option<&Rc<Lane>> {
        self.shared.get(node.index())?.get(resp as usize)?.as_ref()
    }

    /// The lane for reads at the replica `node`, if it was ever needed.
    pub fn reading(&self, node: NodeId, resp: Resp) -> Option<&Rc<Lane>> {
        self.shared.get(node.index())?.get(VERSIONS + resp as usize)?.as_ref()
    }

    /// Adds a lane without a connection.
    pub fn add(&mut self, key: LaneKey, node: Arc<Node>) -> Rc<Lane> {
        let lane = Lane::new(key, node);
        let place = match key {
            _ if key == LaneKey::shared(key.node, key.resp) => Some(key.resp as usize),
            _ if key == LaneKey::reading(key.node, key.resp) => Some(VERSIONS + key.resp as usize),
            _ => None,
        };
        if let Some(place) = place {
            let index = key.node.index();
            if self.shared.len() <= index {
                self.shared.resize_with(index + 1, Default::default);
            }
            if let Some(place) = self.shared.get_mut(index).and_then(|lanes| lanes.get_mut(place)) {
                *place = Some(Rc::clone(&lane));
            }
        }
        self.all.insert(key, Rc::clone(&lane));
        lane
    }

    /// The lane of a key.
    pub fn by_key(&self, key: &LaneKey) -> Option<&Rc<Lane>> {
        self.all.get(key)
    }

    /// The dedicated connections to `node`.
    pub fn dedicated(&self, node: NodeId) -> impl Iterator<Item = &Rc<Lane>> {
        self.all.values().filter(move |lane| lane.key.node == node && lane.key.dedicated > 0)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Lane>> {
        self.all.values()
    }

    /// Forgets lanes that are idle and whose node `keep` does not know any more.
    pub fn retain(&mut self, keep: impl Fn(&Lane) -> bool) {
        self.all.retain(|_, lane| keep(lane));
        for place in self.shared.iter_mut().flatten() {
            if place.as_ref().is_some_and(|lane| !self.all.contains_key(&lane.key)) {
                *place = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::node::NodeAddr;

    fn node(id: u16) -> Arc<Node> {
        Arc::new(Node::new(NodeId(id), NodeAddr { host: "h".to_owned(), port: id }))
    }

    #[test]
    fn lanes_by_node_and_version() {
        let mut lanes = Lanes::default();
        let shared = LaneKey::shared(NodeId(3), Resp::V3);
        let lane = lanes.add(shared, node(3));
        let replica = lanes.add(LaneKey::reading(NodeId(3), Resp::V3), node(3));
        let found = |lanes: &Lanes, id, resp| lanes.get(NodeId(id), resp).map(|lane| lane.key);
        assert_eq!(found(&lanes, 3, Resp::V3), Some(lane.key), "not the one for reads at a replica");
        assert_eq!(found(&lanes, 3, Resp::V2), None);
        assert_eq!((found(&lanes, 2, Resp::V3), found(&lanes, 9, Resp::V3)), (None, None));
        let reading = |lanes: &Lanes, resp| lanes.reading(NodeId(3), resp).map(|lane| lane.key);
        assert_eq!([reading(&lanes, Resp::V3), reading(&lanes, Resp::V2)], [Some(replica.key), None]);
        assert_eq!(lanes.iter().count(), 2);
        lanes.retain(|lane| lane.key.read_only);
        assert_eq!(found(&lanes, 3, Resp::V3), None);
        assert!(lanes.iter().all(|kept| Rc::ptr_eq(kept, &replica)));
        let again = lanes.add(shared, node(3));
        assert!(lanes.get(NodeId(3), Resp::V3).is_some_and(|kept| Rc::ptr_eq(kept, &again)));
    }
}
