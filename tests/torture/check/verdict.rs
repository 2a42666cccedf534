//! Which suspicions a fault of the run excuses. Every excuse needs the right shard, the right time and the right kind.

use super::{Excuse, Slots, Span, Suspicion};

/// What an injected fault allows, and for whom.
#[derive(Clone, Debug)]
pub struct Window {
    /// From just before the fault until the cluster had settled.
    pub span: Span,
    /// The slots of the shards it hit.
    pub slots: Vec<(u16, u16)>,
    /// The cluster may have lost what was acknowledged within `span`: replication is asynchronous.
    pub lossy: bool,
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
            Excuse::Loss => suspicion.slots.meets(&self.slots) && self.may_lose(suspicion.span),
            Excuse::LossOfOne(all) => {
                let lost = |(slot, at): &(u16, u64)| {
                    Slots::one(*slot).meets(&self.slots) && self.may_lose(Span::new(*at, *at))
                };
                all.iter().any(lost)
            }
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

    /// True when the cluster may have lost what was acknowledged then.
    pub fn may_lose(&self, acked: Span) -> bool {
        self.lossy && self.span.holds(acked)
    }
}

/// The suspicions that no fault excuses.
pub fn judge<'a>(suspicions: &'a [Suspicion], windows: &[Window]) -> Vec<&'a Suspicion> {
    suspicions.iter().filter(|s| !windows.iter().any(|w| w.excuses(s))).collect()
}
