//! At which nodes a topic is subscribed and whose messages count. Decides; asks nobody. Pure.

use smallvec::SmallVec;

use crate::topology::node::NodeId;

/// Neither the old home nor the new may have brought a message for this long before the home changes, in
/// microseconds: longer than the cluster bus takes, so that no message is still on one of two ways.
pub const QUIET: u64 = 100_000;

/// How far a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// To be asked for, once there is a connection.
    Wanted,
    /// Asked for.
    Asked,
    /// Stands since this time of the worker's clock.
    Confirmed(u64),
}

#[derive(Clone, Copy, Debug)]
struct Place {
    node: NodeId,
    state: State,
}

/// The places of one topic.
#[derive(Debug, Default)]
pub struct Places {
    list: SmallVec<[Place; 1]>,
    home: Option<NodeId>,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// Messages still come from it, if it is not where the topic should be.
    pub well: bool,
    /// When a PING was sent that it answered, and when the answer came; of the last one.
    pub answered: Option<(u64, u64)>,
}

/// What is to be done after a look at the places.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes that are to be asked.
    pub ask: SmallVec<[NodeId; 1]>,
    /// Nodes where a subscription that stands, or was asked for, is to be ended. `true`: it stands.
    pub leave: SmallVec<[(NodeId, bool); 1]>,
    /// Look again soon: the home waits for a quiet moment.
    pub restless: bool,
    /// Nodes that are to show by a PING that their silence means something.
    pub prove: SmallVec<[NodeId; 2]>,
    /// The home has changed in a quiet moment: no message is under way.
    pub quiet: bool,
}

/// What a look at the places goes by.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Where the topic should be, the best home first. Empty when nobody knows: everything stays.
    pub desired: &'a [NodeId],
    /// The worker's clock.
    pub now: u64,
    /// When a message last came from any place.
    pub heard: u64,
    /// A message comes from one place (but around a failover): the home need not wait for a quiet moment.
    pub exclusive: bool,
}

impl Places {
    /// The node whose messages count, if there is one.
    #[inline]
    pub fn home(&self) -> Option<NodeId> {
        self.home
    }

    /// Nodes with a place.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.list.iter().map(|place| place.node)
    }

    /// How far the place at `node` is.
    pub fn state(&self, node: NodeId) -> Option<State> {
        self.list.iter().find(|place| place.node == node).map(|place| place.state)
    }

    /// True when the subscription at `node` stands.
    pub fn is_confirmed(&self, node: NodeId) -> bool {
        matches!(self.state(node), Some(State::Confirmed(_)))
    }

    /// Changes the place at `node`, if there is one; what it was.
    pub fn set(&mut self, node: NodeId, state: State) -> Option<State> {
        let place = self.list.iter_mut().find(|place| place.node == node)?;
        Some(std::mem::replace(&mut place.state, state))
    }

    /// The place at `node` is gone, without anybody ending it; what it was.
    pub fn lost(&mut self, node: NodeId) -> Option<State> {
        let at = self.list.iter().position(|place| place.node == node)?;
        Some(self.list.swap_remove(at).state)
    }

    /// Brings the places in line with where they should be.
    pub fn plan(&mut self, view: View<'_>, standing: impl Fn(NodeId) -> Standing) -> Plan {
        let mut plan = Plan::default();
        for &node in view.desired {
            if self.state(node).is_none() {
                self.list.push(Place { node, state: State::Wanted });
            }
        }
        self.settle_home(view, standing, &mut plan);
        let home = self.home;
        self.list.retain(|place| {
            let keep =
                view.desired.is_empty() || view.desired.contains(&place.node) || home == Some(place.node);
            if !keep && place.state != State::Wanted {
                plan.leave.push((place.node, matches!(place.state, State::Confirmed(_))));
            }
            keep
        });
        let wanted = self.list.iter().filter(|place| place.state == State::Wanted);
        plan.ask.extend(wanted.map(|place| place.node));
        plan
    }

    fn settle_home(&mut self, view: View<'_>, standing: impl Fn(NodeId) -> Standing, plan: &mut Plan) {
        let since = |places: &Self, node| match places.state(node) {
            Some(State::Confirmed(since)) => Some(since),
            _ => None,
        };
        let successor = view.desired.iter().find_map(|&node| since(self, node).map(|since| (node, since)));
        let Some(home) = self.home.filter(|&home| self.is_confirmed(home)) else {
            let any = || self.nodes().find(|&node| self.is_confirmed(node));
            self.home = successor.map(|(node, _)| node).or_else(any);
            return;
        };
        if view.desired.contains(&home) {
            return;
        }
        if let Some((node, since)) = successor {
            let silent = view.heard.max(since);
            // A node that stands still is silent, too, and when it goes on it tells what the other has told
            // already. An answer to a PING of this silence shows that it had caught up.
            let answered = |node| standing(node).answered.filter(|(sent, _)| *sent >= silent);
            let quiet = |node| answered(node).is_some_and(|(_, at)| view.now.saturating_sub(at) >= QUIET);
            let is_quiet = quiet(home) && quiet(node);
            if is_quiet || view.exclusive || !standing(home).well {
                self.home = Some(node);
                plan.quiet = is_quiet;
                return;
            }
            plan.restless = true;
            if view.now.saturating_sub(silent) >= QUIET {
                plan.prove.extend([home, node].into_iter().filter(|node| answered(*node).is_none()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn well() -> Standing {
        Standing { well: true, answered: None }
    }

    fn view(desired: &[NodeId], now: u64, heard: u64) -> View<'_> {
        View { desired, now, heard, exclusive: false }
    }

    fn at_home(node: NodeId) -> Places {
        let mut places = Places::default();
        let plan = places.plan(view(&[node], 0, 0), |_| well());
        assert_eq!(plan.ask.as_slice(), [node]);
        assert_eq!(places.set(node, State::Confirmed(0)), Some(State::Wanted));
        assert_eq!(places.plan(view(&[node], 0, 0), |_| well()), Plan::default());
        assert_eq!(places.home(), Some(node));
        places
    }

    #[test]
    fn moves_in_a_quiet_moment() {
        let mut places = at_home(A);
        assert_eq!(places.plan(view(&[B], 1, 0), |_| well()).ask.as_slice(), [B]);
        places.set(B, State::Asked);
        assert_eq!(places.plan(view(&[B], 2, 0), |_| well()), Plan::default(), "A stays until B stands");
        places.set(B, State::Confirmed(1_000_000));
        let soon = places.plan(view(&[B], 1_000_000 + QUIET - 1, 0), |_| well());
        assert!(soon.restless && soon.prove.is_empty() && places.home() == Some(A));
        let loud = places.plan(view(&[B], 2_000_000, 1_950_000), |_| well());
        assert!(loud.restless && loud.prove.is_empty() && loud.leave.is_empty());
        let silent = view(&[B], 2_000_000, 1_900_000);
        let unproven = places.plan(silent, |_| well());
        assert_eq!((unproven.prove.as_slice(), unproven.restless), (&[A, B][..], true));
        let answered = |sent, at| move |_| Standing { well: true, answered: Some((sent, at)) };
        let half = |node| Standing { well: true, answered: (node == A).then_some((1_900_000, 1_900_000)) };
        assert_eq!(places.plan(silent, half).prove.as_slice(), [B], "it may stand still");
        assert_eq!(places.plan(silent, answered(1_899_999, 1_900_000)).prove.len(), 2, "of another silence");
        assert_eq!(places.plan(silent, answered(1_900_000, 1_900_001)).leave.len(), 0, "not long enough ago");
        let quiet = places.plan(silent, answered(1_900_000, 1_900_000));
        assert_eq!((quiet.leave.as_slice(), quiet.restless, quiet.quiet), (&[(A, true)][..], false, true));
        assert_eq!(places.home(), Some(B));
        assert_eq!(places.nodes().collect::<Vec<_>>(), [B]);
    }

    #[test]
    fn does_not_wait_for_a_home_that_is_lost_or_left() {
        for is_well in [true, false] {
            let mut places = at_home(A);
            places.plan(view(&[B], 1, 1), |_| well());
            places.set(B, State::Confirmed(1));
            if is_well {
                assert_eq!(places.lost(A), Some(State::Confirmed(0)));
            }
            let plan = places.plan(view(&[B], 2, 2), |_| Standing { well: is_well, answered: None });
            assert_eq!((places.home(), plan.restless, plan.quiet), (Some(B), false, false));
        }
    }

    #[test]
    fn goes_back_without_a_trace() {
        let mut places = at_home(A);
        places.plan(view(&[B], 1, 1), |_| well());
        places.set(B, State::Asked);
        let back = places.plan(view(&[A], 2, 2), |_| well());
        assert_eq!(back.leave.as_slice(), [(B, false)]);
        assert_eq!(places.home(), Some(A));
    }

    #[test]
    fn everywhere_has_one_home() {
        let mut places = Places::default();
        assert_eq!(places.plan(view(&[A, B, C], 0, 0), |_| well()).ask.len(), 3);
        for node in [B, C, A] {
            places.set(node, State::Confirmed(0));
            places.plan(view(&[A, B, C], 0, 0), |_| well());
        }
        assert_eq!(places.home(), Some(B), "the first that stood stays");
        places.lost(B);
        assert_eq!(places.plan(view(&[A, C], 0, 0), |_| well()), Plan::default());
        assert_eq!(places.home(), Some(A));
    }

    #[test]
    fn nothing_is_given_up_while_nobody_knows_better() {
        let mut places = at_home(A);
        assert_eq!(places.plan(view(&[], 9, 9), |_| well()), Plan::default());
        assert_eq!(places.home(), Some(A));
    }
}
