//! Which suspicions a fault of the run excuses. Every excuse needs the right shard, the right time and the right kind.

use super::{Excuse, Kind, Micros, Slots, Span, Suspicion};

/// What a fault does to the ownership of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    #[default]
    None,
    /// A replica takes over with its primary's help: which answers reads until it hears that it was replaced.
    HandOver,
    /// A replica takes over without.
    TakeOver,
    /// Slots move to another shard.
    Move,
}

/// What an injected fault allows, and for whom.
#[derive(Clone, Debug)]
pub struct Window {
    /// From just before the fault until the cluster had settled.
    pub span: Span,
    /// The slots of the shards it hit.
    pub slots: Vec<(u16, u16)>,
    /// The cluster may have lost what was acknowledged then: replication is asynchronous, and the old primary still
    /// answered. It ends before anything can be acknowledged by the new primary alone.
    pub lost: Option<Span>,
    /// What became of its slots.
    pub change: Change,
    /// A script kept its node busy.
    pub busy: bool,
    /// Requests in flight in this stretch may have been cut off from their reply.
    pub broken: Option<Span>,
}

impl Window {
    /// True when this fault explains the suspicion.
    pub fn excuses(&self, suspicion: &Suspicion) -> bool {
        match &suspicion.excuse {
            Excuse::None => false,
            Excuse::Loss(all) => {
                let lost = all.iter().all(|at| self.may_lose(&suspicion.slots, *at));
                lost || self.was_behind(suspicion, all)
            }
            Excuse::LossOfOne(all) => all.iter().any(|(slot, at)| self.may_lose(&Slots::one(*slot), *at)),
            Excuse::Busy => {
                self.busy && self.span.meets(suspicion.span) && suspicion.slots.meets(&self.slots)
            }
            Excuse::OwnerChanged => self.change != Change::None && self.concerns(suspicion),
            Excuse::MovedAway(otherwise) => {
                let other = Suspicion { excuse: (**otherwise).clone(), ..suspicion.clone() };
                (self.change == Change::Move && self.concerns(suspicion)) || self.excuses(&other)
            }
            Excuse::Broken => {
                let then = self.broken.is_some_and(|span| span.meets(suspicion.span));
                then && suspicion.slots.meets(&self.slots)
            }
        }
    }

    fn concerns(&self, suspicion: &Suspicion) -> bool {
        self.span.holds(suspicion.span) && suspicion.slots.meets(&self.slots)
    }

    /// True for a read that a primary may have answered which did not know yet that it was replaced: of nothing but
    /// what the new one acknowledged in that very moment.
    fn was_behind(&self, suspicion: &Suspicion, missed: &[Micros]) -> bool {
        let then = missed.iter().all(|at| self.span.holds(Span::new(*at, *at)));
        self.change == Change::HandOver && suspicion.kind == Kind::Stale && then && self.concerns(suspicion)
    }

    /// True when the cluster may have lost what was acknowledged at that moment.
    pub fn may_lose(&self, slots: &Slots, acked: Micros) -> bool {
        self.lost.is_some_and(|lost| lost.holds(Span::new(acked, acked))) && slots.meets(&self.slots)
    }
}

/// The suspicions that no fault excuses. What is missing may have been lost in several.
pub fn judge<'a>(suspicions: &'a [Suspicion], windows: &[Window]) -> Vec<&'a Suspicion> {
    let excused = |s: &Suspicion| match &s.excuse {
        Excuse::Loss(all) => {
            let lost = all.iter().all(|at| windows.iter().any(|w| w.may_lose(&s.slots, *at)));
            lost || windows.iter().any(|w| w.excuses(s))
        }
        _ => windows.iter().any(|w| w.excuses(s)),
    };
    suspicions.iter().filter(|s| !excused(s)).collect()
}
