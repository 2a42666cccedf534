//! Which suspicions a fault of the run excuses. Every excuse needs the right shard, the right time and the right kind.

use super::{Excuse, Micros, Slots, Span, Suspicion};

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
    /// A replica took over without asking, so that the shard had two primaries.
    pub two_primaries: bool,
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
            Excuse::Loss(all) => all.iter().all(|at| self.may_lose(&suspicion.slots, *at)),
            Excuse::LossOfOne(all) => all.iter().any(|(slot, at)| self.may_lose(&Slots::one(*slot), *at)),
            Excuse::Busy => {
                self.busy && self.span.meets(suspicion.span) && suspicion.slots.meets(&self.slots)
            }
            Excuse::TwoPrimaries => {
                self.two_primaries && self.span.holds(suspicion.span) && suspicion.slots.meets(&self.slots)
            }
            Excuse::Broken => {
                let then = self.broken.is_some_and(|span| span.meets(suspicion.span));
                then && suspicion.slots.meets(&self.slots)
            }
        }
    }

    /// True when the cluster may have lost what was acknowledged at that moment.
    pub fn may_lose(&self, slots: &Slots, acked: Micros) -> bool {
        self.lost.is_some_and(|lost| lost.holds(Span::new(acked, acked))) && slots.meets(&self.slots)
    }
}

/// The suspicions that no fault excuses. What is missing may have been lost in several.
pub fn judge<'a>(suspicions: &'a [Suspicion], windows: &[Window]) -> Vec<&'a Suspicion> {
    let excused = |s: &Suspicion| match &s.excuse {
        Excuse::Loss(all) => all.iter().all(|at| windows.iter().any(|w| w.may_lose(&s.slots, *at))),
        _ => windows.iter().any(|w| w.excuses(s)),
    };
    suspicions.iter().filter(|s| !excused(s)).collect()
}
