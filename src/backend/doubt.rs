//! Errors of scripts that say "not here" or "not now": a script can return any text, after it did its
//! work, so they have to prove themselves against a fresh view of the cluster before the request is sent
//! again. The one place that judges them.

use std::rc::Rc;

use bytes::Bytes;

use super::lane::Lane;
use super::ticket::{Aim, Claim, Doubt, Errand};
use crate::telemetry::CommandClass;
use crate::topology::{Event, Trigger};
use crate::worker::WorkerContext;

/// What a fresh view makes of a claim.
pub(super) enum Verdict {
    /// It is borne out: the request goes there.
    True(Aim),
    /// Not so far, but it may be early: the node concerned knows before the others do.
    Open,
    /// They are a script's own words.
    Untrue,
}

/// How many fresh views more are taken before a claim that could be true counts as a script's own words.
pub(super) const LOOKS: u8 = 8;

impl WorkerContext {
    /// Has the claim looked at when a refresh that begins now is over.
    pub fn in_doubt(&self, lane: &Lane, claim: Claim, frame: &[u8]) -> Aim {
        let round = self.topology.next_round();
        self.topology.report(Event::Refresh(Trigger::Redirect));
        let frame = Bytes::copy_from_slice(frame);
        Aim::IfTrue(Rc::new(Doubt { claim, frame, from: lane.key.node, round, looks: 0 }))
    }

    pub(super) fn look_again_at(&self, doubt: &Doubt) -> Aim {
        let again = Doubt { round: self.topology.next_round(), looks: doubt.looks + 1, ..doubt.clone() };
        self.topology.report(Event::Refresh(Trigger::Redirect));
        Aim::IfTrue(Rc::new(again))
    }

    /// What a claim in doubt comes to under a fresh view. Of a script MOVED is believed when the table now
    /// says the same, ASK and TRYAGAIN when the slot is migrating (ASK also when it has arrived), nothing
    /// when a node names itself, and "not now" when the node is as it says.
    pub(super) fn judge(&self, errand: &Errand, doubt: &Doubt) -> Verdict {
        let migrating = || self.topology.snapshot().migrations.iter().any(|m| m.slot == errand.slot);
        let (target, asking) = match &doubt.claim {
            Claim::TryAgain if migrating() => return Verdict::True(Aim::Table),
            Claim::TryAgain => return Verdict::Untrue,
            Claim::Unable(why) => {
                let (from, slot) = (doubt.from, errand.slot);
                return match self.topology.bears_out(*why, from, slot) {
                    Some(true) => Verdict::True(Aim::Table),
                    _ if self.topology.bore_out_lately(*why, from, slot) => Verdict::True(Aim::Table),
                    Some(false) => Verdict::Untrue,
                    None => Verdict::Open,
                };
            }
            Claim::Moved(target) => (target, false),
            Claim::Ask(target) => (target, true),
        };
        let member = self.topology.node_by_addr(&target.host, target.port);
        if errand.command.class != CommandClass::Script {
            return Verdict::True(member.map_or(Aim::Table, |node| Aim::Node { node, asking }));
        }
        match member.filter(|node| *node != doubt.from) {
            None => Verdict::Untrue,
            Some(node) if self.topology.table().primary(errand.slot) == Some(node) => {
                Verdict::True(Aim::Table)
            }
            Some(node) if asking && migrating() => Verdict::True(Aim::Node { node, asking }),
            Some(_) => Verdict::Open,
        }
    }
}
