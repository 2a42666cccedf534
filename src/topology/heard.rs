//! What nodes said of themselves in the last round: the evidence for an error by which a node claims that
//! it cannot serve. Such an error from a script may be the script's own words, after it was executed. The
//! evidence is never used to route.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::handle::Topology;
use super::judge::Verdict;
use super::node::{NodeAddr, NodeId};
use super::table::SLOTS;
use super::view::View;
use crate::telemetry::clock_ms;

/// How long a round's evidence holds for errors that came after it: while something is wrong rounds
/// start every 100 to 200 ms.
const RECENT: Duration = Duration::from_millis(500);
/// Most rounds that are kept.
const ROUNDS: usize = 8;

/// Why a node says that it cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unable {
    /// CLUSTERDOWN: the cluster is down for it, or it knows no owner of the slot.
    Cluster,
    /// READONLY, MASTERDOWN: it is a replica.
    Replica,
    /// LOADING: it loads its data set.
    Loading,
}

/// What one node said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OwnWord {
    state_ok: bool,
    is_replica: bool,
    /// Slots without an owner, inclusive.
    unowned: Vec<(u16, u16)>,
}

/// What all nodes said that the last round asked, and the rounds just before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// The last round first; the others only while they are recent.
    rounds: VecDeque<Round>,
}

#[derive(Clone, Debug)]
struct Round {
    at: Instant,
    nodes: HashMap<NodeId, OwnWord>,
    /// Some node said `cluster_state:fail`.
    any_fails: bool,
}

impl Heard {
    /// Adds a round by its views; those of another cluster say nothing about this one.
    pub(crate) fn and_now(
        &self,
        views: &[View],
        verdicts: &[Verdict],
        node_of: impl Fn(&NodeAddr) -> Option<NodeId>,
        now: Instant,
    ) -> Self {
        let ours = views.iter().zip(verdicts).filter(|(_, verdict)| **verdict != Verdict::Foreign);
        let mut round = Round { at: now, nodes: HashMap::new(), any_fails: false };
        for (view, _) in ours {
            round.any_fails |= !view.cluster.state_ok;
            if let Some(node) = node_of(&view.dialled) {
                round.nodes.insert(node, OwnWord::of(view));
            }
        }
        let recent = self.rounds.iter().filter(|earlier| now.duration_since(earlier.at) < RECENT);
        Self { rounds: std::iter::once(round).chain(recent.cloned()).take(ROUNDS).collect() }
    }

    /// What the last round is worth for a node's claim.
    fn says(&self, unable: Unable, node: NodeId, slot: u16) -> Option<bool> {
        self.rounds.front()?.says(unable, node, slot)
    }

    /// True when a recent round bears the claim out.
    fn said_lately(&self, unable: Unable, node: NodeId, slot: u16) -> bool {
        self.recent().any(|round| round.says(unable, node, slot) == Some(true))
    }

    fn recent(&self) -> impl Iterator<Item = &Round> {
        self.rounds.iter().filter(|round| round.at.elapsed() < RECENT)
    }
}

impl Round {
    /// What the node's own word is worth for its claim; `None` when it was not heard.
    fn says(&self, unable: Unable, node: NodeId, slot: u16) -> Option<bool> {
        let word = self.nodes.get(&node);
        let owns_none = |word: &OwnWord| word.unowned.iter().any(|(a, b)| (*a..=*b).contains(&slot));
        match unable {
            Unable::Cluster => {
                let own = word.map(|word| !word.state_ok || owns_none(word));
                own.or(self.any_fails.then_some(true))
            }
            Unable::Replica => word.map(|word| word.is_replica),
            // A node that loads does not tell its view.
            Unable::Loading => None,
        }
    }
}

impl OwnWord {
    fn of(view: &View) -> Self {
        let mut owned: Vec<(u16, u16)> = view.claims.iter().map(|claim| (claim.first, claim.last)).collect();
        owned.sort_unstable();
        let (mut next, mut unowned) = (0, Vec::new());
        for (first, last) in owned {
            if next < first {
                unowned.push((next, first - 1));
            }
            next = next.max(last + 1);
        }
        if usize::from(next) < SLOTS {
            unowned.push((next, SLOTS as u16 - 1));
        }
        let is_replica = view.me().is_some_and(|me| me.flags.replica);
        Self { state_ok: view.cluster.state_ok, is_replica, unowned }
    }
}

impl Topology {
    /// Whether what is known now bears out that `node` cannot serve `slot`; `None` when that is not known.
    /// A `slot` beyond the last one stands for a request without keys.
    pub fn bears_out(&self, unable: Unable, node: NodeId, slot: u16) -> Option<bool> {
        if self.is_known(unable, node, slot) {
            return Some(true);
        }
        self.heard.load().says(unable, node, slot)
    }

    /// The same by what is known and was known just before now: a node may recover between its answer and the round
    /// that would bear it out. What it said of a command that is no script counts as well.
    pub fn bore_out_lately(&self, unable: Unable, node: NodeId, slot: u16) -> bool {
        let heard = self.heard.load();
        // A node's health is kept all the time.
        let is_fresh = heard.recent().next().is_some() || unable == Unable::Loading;
        let told = || self.node(node).is_some_and(|node| node.was_unable(unable, clock_ms(), RECENT));
        (is_fresh && self.is_known(unable, node, slot)) || heard.said_lately(unable, node, slot) || told()
    }

    /// What table and health say.
    fn is_known(&self, unable: Unable, node: NodeId, slot: u16) -> bool {
        let table = self.table();
        match unable {
            Unable::Cluster => usize::from(slot) < SLOTS && table.primary(slot).is_none(),
            Unable::Replica => table.shards().iter().any(|shard| shard.replicas.contains(&node)),
            Unable::Loading => table.node(node).is_some_and(|node| !node.is_up()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::table::{Shard, SlotTable};
    use super::super::testkit::{Says, six};
    use super::*;
    use crate::topology::node::Node;
    use std::sync::Arc;

    /// The node at port n has the id n.
    fn heard(views: &[Says], verdict: Verdict) -> Heard {
        let views: Vec<View> = views.iter().map(Says::view).collect();
        let verdicts = vec![verdict; views.len()];
        Heard::default().and_now(&views, &verdicts, |addr| Some(NodeId(addr.port)), Instant::now())
    }

    fn failing(mut says: Says) -> Says {
        says.state = "fail";
        says
    }

    #[test]
    fn a_nodes_own_word_counts_more_than_what_others_say() {
        let heard = heard(&[six("a"), failing(six("b")), six("x")], Verdict::Compared);
        let says = |unable, node| heard.says(unable, NodeId(node), 7);
        assert_eq!([1, 2, 3].map(|node| says(Unable::Cluster, node)), [Some(false), Some(true), Some(true)]);
        assert_eq!([1, 4, 3].map(|node| says(Unable::Replica, node)), [Some(false), Some(true), None]);
        assert_eq!(says(Unable::Loading, 1), None);
    }

    #[test]
    fn a_slot_its_node_knows_no_owner_of() {
        let holes = [(100, 199), (16000, 16383)];
        let view = six("a").with("a", |n| n.slots = vec![(0, 99), (200, 5460)]);
        let view = view.with("c", |n| n.slots = vec![(10923, 15999)]);
        assert_eq!(OwnWord::of(&view.view()).unowned, holes);
        let heard = heard(&[view], Verdict::Compared);
        let says = |slot| heard.says(Unable::Cluster, NodeId(1), slot).unwrap();
        assert_eq!([99, 100, 199, 200, 16000, 16383].map(says), [false, true, true, false, true, true]);
        assert!(!says(u16::MAX), "no keys");
    }

    #[test]
    fn what_was_true_a_moment_ago_is_remembered_for_that_long() {
        let now = Instant::now();
        let and = |heard: &Heard, says: Says, at| {
            heard.and_now(&[says.view()], &[Verdict::Compared], |addr| Some(NodeId(addr.port)), at)
        };
        let down = |at| and(&Heard::default(), failing(six("a")), at);
        let lately = |heard: &Heard| heard.said_lately(Unable::Cluster, NodeId(1), 7);
        let up = and(&down(now), six("a"), now);
        assert_eq!((up.says(Unable::Cluster, NodeId(1), 7), lately(&up)), (Some(false), true));
        let then = now.checked_sub(RECENT).unwrap();
        assert!(!lately(&and(&down(then), six("a"), now)) && !lately(&down(then)));
        let many = (0..3 * ROUNDS).fold(down(now), |heard, _| and(&heard, six("a"), now));
        assert!(many.rounds.len() == ROUNDS && !lately(&many));
    }

    #[test]
    fn another_cluster_says_nothing() {
        let heard = heard(&[failing(six("a"))], Verdict::Foreign);
        assert_eq!(heard.says(Unable::Cluster, NodeId(1), 7), None);
    }

    #[test]
    fn what_the_table_knows_needs_no_word() {
        let (topology, _events) = Topology::channel();
        let node = |id| Arc::new(Node::new(NodeId(id), NodeAddr { host: "h".to_owned(), port: id }));
        let nodes: Vec<Arc<Node>> = (0..3).map(node).collect();
        let shard = Shard { primary: NodeId(0), replicas: vec![NodeId(1)] };
        topology.cell.store(Arc::new(SlotTable::new(1, vec![shard], &[(0, 99, 0)], nodes.clone())));
        let known = |unable, node, slot| topology.bears_out(unable, NodeId(node), slot);
        assert_eq!([99, 100, u16::MAX].map(|slot| known(Unable::Cluster, 0, slot)), [None, Some(true), None]);
        assert_eq!([0, 1].map(|node| known(Unable::Replica, node, 7)), [None, Some(true)]);
        assert_eq!(known(Unable::Loading, 0, 7), None);
        nodes[0].set_up(false);
        assert_eq!(known(Unable::Loading, 0, 7), Some(true));
        assert!(topology.bore_out_lately(Unable::Loading, NodeId(0), 7));
        assert!(!topology.bore_out_lately(Unable::Cluster, NodeId(0), 100), "no round was lately");
        topology.heard.store(Arc::new(heard(&[failing(six("a"))], Verdict::StateFail)));
        assert!(topology.bore_out_lately(Unable::Cluster, NodeId(1), 7));
    }

    #[test]
    fn what_a_node_says_of_plain_commands_is_evidence_for_a_while() {
        let node = Node::new(NodeId(0), NodeAddr { host: "h".to_owned(), port: 1 });
        node.note_unable(Unable::Cluster, 1_000);
        let until = 1_000 + RECENT.as_millis() as u64;
        let was = |why, at| node.was_unable(why, at, RECENT);
        assert_eq!([1_000, until, until + 1].map(|at| was(Unable::Cluster, at)), [true, true, false]);
        assert!(!was(Unable::Loading, 1_000) && !was(Unable::Replica, 0));
    }
}
