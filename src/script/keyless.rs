//! Scripts and functions that name no keys, while a node owes their reply. They belong to no shard, so that one that
//! runs too long is the whole data's affair, as in a single Redis: PING says so (`operation::ping`). One that names
//! keys is its shard's, and the others work on. Owns the count; a [`KeylessScript`] is one of them, and lives in the
//! ticket by which its reply is owed, so that no end of it is missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::topology::node::Node;

/// How many there are at all nodes.
#[derive(Debug, Default)]
pub struct KeylessScripts(AtomicUsize);

/// One of them; until it is dropped.
#[derive(Debug)]
pub struct KeylessScript {
    all: Arc<KeylessScripts>,
    node: Arc<Node>,
}

impl KeylessScripts {
    /// False while no node owes the reply of one: all that PING asks ordinarily.
    #[inline]
    pub fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// True while `node` owes the reply of one.
    pub fn is_at(node: &Node) -> bool {
        node.keyless_scripts().load(Ordering::Relaxed) > 0
    }
}

impl KeylessScript {
    /// One is on its way to `node`.
    pub fn new(all: &Arc<KeylessScripts>, node: &Arc<Node>) -> Self {
        all.0.fetch_add(1, Ordering::Relaxed);
        node.keyless_scripts().fetch_add(1, Ordering::Relaxed);
        Self { all: Arc::clone(all), node: Arc::clone(node) }
    }
}

impl Drop for KeylessScript {
    fn drop(&mut self) {
        self.node.keyless_scripts().fetch_sub(1, Ordering::Relaxed);
        self.all.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::node::{NodeAddr, NodeId};

    #[test]
    fn they_are_counted_by_node_and_together() {
        let node = |id| Arc::new(Node::new(NodeId(id), NodeAddr { host: "h".to_owned(), port: id }));
        let (all, here, there) = (Arc::new(KeylessScripts::default()), node(1), node(2));
        let first = KeylessScript::new(&all, &here);
        let second = KeylessScript::new(&all, &here);
        assert!(all.is_any() && KeylessScripts::is_at(&here) && !KeylessScripts::is_at(&there));
        drop(first);
        assert!(all.is_any() && KeylessScripts::is_at(&here));
        drop(second);
        assert!(!all.is_any() && !KeylessScripts::is_at(&here));
    }
}
