//! Who is subscribed to what in the whole process: clients, and the connections on which workers subscribe for
//! them. Nodes count connections; with these numbers PUBLISH and PUBSUB can say how many clients there are.
//! Changed when a subscription begins or ends, read by PUBLISH and PUBSUB only.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use smallvec::SmallVec;

use super::{Kind, Name};
use crate::command::local::glob;
use crate::topology::node::NodeId;

/// The numbers.
#[derive(Debug, Default)]
pub struct Counts {
    names: [DashMap<Name, Count>; 3],
    entries: AtomicUsize,
}

/// Of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Clients of this process that are subscribed.
    pub clients: usize,
    /// Connections of this process that are subscribed, by node.
    links: SmallVec<[(NodeId, usize); 2]>,
}

impl Count {
    /// Connections of this process that are subscribed at `node`.
    pub fn links_at(&self, node: NodeId) -> usize {
        self.links.iter().find(|(at, _)| *at == node).map_or(0, |(_, count)| *count)
    }

    fn is_nothing(&self) -> bool {
        self.clients == 0 && self.links.is_empty()
    }
}

impl Counts {
    /// A client subscribed, or is not subscribed any more.
    pub fn client(&self, kind: Kind, name: &Name, joined: bool) {
        self.change(kind, name, |count| {
            count.clients = if joined { count.clients + 1 } else { count.clients.saturating_sub(1) };
        });
    }

    /// A connection's subscription stands, or the node has said that it ended.
    pub fn link(&self, kind: Kind, name: &Name, node: NodeId, stands: bool) {
        self.change(kind, name, |count| {
            let at = count.links.iter().position(|(at, _)| *at == node);
            match at.and_then(|at| count.links.get_mut(at)) {
                Some((_, links)) if stands => *links += 1,
                Some((_, links)) => *links = links.saturating_sub(1),
                None if stands => count.links.push((node, 1)),
                None => {}
            }
            count.links.retain(|(_, links)| *links > 0);
        });
    }

    fn change(&self, kind: Kind, name: &Name, change: impl FnOnce(&mut Count)) {
        let Some(names) = self.names.get(kind.index()) else { return };
        let mut count = names.entry(name.clone()).or_insert_with(|| {
            self.entries.fetch_add(1, Ordering::Relaxed);
            Count::default()
        });
        change(&mut count);
        let nothing = count.is_nothing();
        drop(count);
        if nothing && names.remove_if(&name[..], |_, count| count.is_nothing()).is_some() {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// True when nobody in this process is subscribed to anything.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.entries.load(Ordering::Relaxed) == 0
    }

    /// What is known of one name.
    pub fn of(&self, kind: Kind, name: &[u8]) -> Count {
        self.names
            .get(kind.index())
            .and_then(|names| names.get(name).map(|count| count.clone()))
            .unwrap_or_default()
    }

    /// How many receivers a message has if `node` says `said`, which counts our connections instead of our
    /// clients. No fewer than our clients: a connection that the node has let go is counted here until it says so.
    pub fn receivers(&self, kind: Kind, channel: &[u8], (node, said): (NodeId, i64)) -> i64 {
        let (mut clients, mut links) = (0, 0);
        let mut add = |count: &Count| {
            clients += count.clients as i64;
            links += count.links_at(node) as i64;
        };
        add(&self.of(kind, channel));
        if kind == Kind::Channel
            && let Some(patterns) = self.names.get(Kind::Pattern.index())
        {
            let matching = patterns.iter().filter(|entry| glob::matches_exact(entry.key(), channel));
            matching.for_each(|entry| add(entry.value()));
        }
        said.saturating_sub(links).max(0).saturating_add(clients)
    }

    /// How many different channels or patterns clients of this process are subscribed to.
    pub fn names(&self, kind: Kind) -> usize {
        let names = self.names.get(kind.index());
        names.map_or(0, |names| names.iter().filter(|entry| entry.clients > 0).count())
    }

    /// How many different patterns this process is subscribed to at `node`.
    pub fn patterns_at(&self, node: NodeId) -> usize {
        let patterns = self.names.get(Kind::Pattern.index());
        patterns.map_or(0, |patterns| patterns.iter().filter(|entry| entry.links_at(node) > 0).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn clients_for_connections() {
        let counts = Counts::default();
        let (channel, pattern) = (Name::from_static(b"news"), Name::from_static(b"n*"));
        assert!(counts.is_idle());
        for _ in 0..3 {
            counts.client(Kind::Channel, &channel, true);
        }
        counts.link(Kind::Channel, &channel, A, true);
        counts.link(Kind::Channel, &channel, A, true);
        counts.client(Kind::Pattern, &pattern, true);
        counts.link(Kind::Pattern, &pattern, B, true);
        let receivers = |kind, channel: &[u8], said| counts.receivers(kind, channel, said);
        assert_eq!(receivers(Kind::Channel, b"news", (A, 7)), 7 - 2 + 3 + 1);
        assert_eq!(receivers(Kind::Channel, b"news", (B, 7)), 7 - 1 + 3 + 1);
        assert_eq!(receivers(Kind::Channel, b"news", (A, 1)), 3 + 1, "one of ours has just gone");
        assert_eq!(
            (receivers(Kind::Channel, b"other", (A, 7)), receivers(Kind::Shard, b"news", (A, 7))),
            (7, 7)
        );
        assert_eq!((counts.names(Kind::Pattern), counts.patterns_at(A), counts.patterns_at(B)), (1, 0, 1));
        assert_eq!(counts.of(Kind::Channel, b"news").links_at(A), 2);
        for _ in 0..3 {
            counts.client(Kind::Channel, &channel, false);
        }
        for _ in 0..2 {
            counts.link(Kind::Channel, &channel, A, false);
        }
        assert!(!counts.is_idle());
        counts.client(Kind::Pattern, &pattern, false);
        counts.link(Kind::Pattern, &pattern, B, false);
        counts.link(Kind::Pattern, &pattern, B, false);
        assert!(counts.is_idle(), "nothing stays behind");
    }
}
