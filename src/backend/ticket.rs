//! What a lane owes for one request it sent: whose reply comes next and how many frames of it. A
//! ticket that is dropped without having been answered answers itself with an error, so no path can
//! lose a reply.

use std::rc::Rc;

use bytes::Bytes;

use super::call::{Call, CallError};
use super::lane::LaneKey;
use crate::command::Command;
use crate::error::ProxyError;
use crate::script::keyless::KeylessScript;
use crate::session::Session;
use crate::session::state::Resp;
use crate::telemetry::CommandClass;
use crate::topology::Unable;
use crate::topology::node::{NodeAddr, NodeId};

/// `slot` of a request without keys: any primary will do.
pub const NO_SLOT: u16 = u16::MAX;

/// Which request of which session, and what may be done with it.
#[derive(Clone, Debug)]
pub struct Errand {
    /// Whose request it is.
    pub session: Rc<Session>,
    /// Number of the request within its session.
    pub seq: u32,
    /// Number of the part, for a split command; 0 else.
    pub part: u16,
    /// The request is a part of a split command.
    pub split: bool,
    /// Slot of its keys, or [`NO_SLOT`].
    pub slot: u16,
    /// What it is.
    pub command: &'static Command,
    /// The version its client spoke when it sent the request: a later HELLO does not change the reply.
    pub resp: Resp,
    /// How often it was redirected.
    pub redirects: u8,
    /// Since when it has met "not now".
    pub met: Met,
    /// Frames the node sends before the reply, which are swallowed: what MULTI and the queued commands of
    /// a transaction say, or the reply to a SCRIPT LOAD sent in front.
    pub before: u32,
    /// What is done for it beside sending it.
    pub beside: Beside,
}

/// What is done for a request beside sending it; seldom anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// CLIENT CACHING, YES or NO, is said in front of it.
    Caching(bool),
    /// Its reply counts receivers, and this process' own connections among them: see `pubsub::publish`.
    Receivers,
}

/// Why a request is sent again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its keys are on both sides of a migration: TRYAGAIN.
    Migration,
    /// The node or the cluster cannot serve it: CLUSTERDOWN, LOADING, MASTERDOWN, READONLY.
    Unable,
}

/// When a request first met each [`Cause`], so that neither uses up the time allowed for the other. In
/// milliseconds of the worker's clock modulo 2^32 (50 days, more than any request lasts), 0 for never:
/// every request carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    migration: u32,
    unable: u32,
}

impl Met {
    /// The request meets `cause` at `now` on the worker's clock; how long ago it did so first. Both in
    /// microseconds.
    pub fn waited(&mut self, cause: Cause, now: u64) -> u64 {
        let now = (now / 1_000) as u32;
        let first = match cause {
            Cause::Migration => &mut self.migration,
            Cause::Unable => &mut self.unable,
        };
        if *first == 0 {
            *first = now.max(1);
        }
        u64::from(now.max(1).wrapping_sub(*first)) * 1_000
    }
}

impl Errand {
    /// A request of `session` that nobody has sent yet.
    #[inline]
    pub fn new(session: &Rc<Session>, seq: u32, slot: u16, command: &'static Command, resp: Resp) -> Self {
        Self {
            session: Rc::clone(session),
            seq,
            part: 0,
            split: false,
            slot,
            command,
            resp,
            redirects: 0,
            met: Met::default(),
            before: 0,
            beside: Beside::Nothing,
        }
    }

    /// Part `part` of it, for keys in `slot`.
    #[inline]
    pub fn part(mut self, part: u16, slot: u16) -> Self {
        (self.part, self.slot, self.split) = (part, slot, true);
        self
    }
}

/// What a frame is for its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nobody's reply.
    Swallowed,
    /// One of the reply's frames, not the last.
    Between,
    /// The last one.
    Last,
}

/// Who gets the reply.
#[derive(Debug)]
enum Owner {
    /// Nobody any more.
    Nobody,
    /// A request of a session.
    Errand(Errand),
    /// An operation of the proxy's own.
    Call(Rc<Call>),
}

/// What few tickets have.
#[derive(Debug, Default)]
struct Aside {
    /// The first error among the frames that were swallowed.
    trouble: Option<Box<[u8]>>,
    /// Counted as a script without keys.
    script: Option<KeylessScript>,
}

/// An errand or a call in a lane's queue.
#[derive(Debug)]
pub struct Ticket {
    owner: Owner,
    /// One frame for an errand, nothing before it: the usual case, told by one look.
    pub plain: bool,
    /// Frames still to be swallowed before the reply.
    pub skip: u32,
    /// Frames the reply still consists of.
    pub frames: u16,
    aside: Option<Box<Aside>>,
    /// Stream position of the request's first byte.
    pub start: u64,
    /// Length of the request in bytes, without an ASKING before it.
    pub len: usize,
    /// When it was queued, on the worker's clock in microseconds.
    pub queued: u64,
}

impl Ticket {
    /// A ticket for a request that begins at `start` in the lane's stream and is answered by one frame.
    #[inline]
    pub fn new(errand: Errand, start: u64, len: usize, queued: u64) -> Self {
        Self {
            plain: errand.before == 0 && errand.beside != Beside::Receivers,
            skip: errand.before,
            owner: Owner::Errand(errand),
            frames: 1,
            aside: None,
            start,
            len,
            queued,
        }
    }

    /// The same behind an ASKING, whose `+OK` is swallowed.
    pub fn after_asking(mut self) -> Self {
        self.skip += 1;
        self.plain = false;
        self
    }

    /// Counts a frame that came for it, when it is not `plain`.
    pub fn count(&mut self, frame: &[u8]) -> Turn {
        if self.skip > 0 {
            self.skip -= 1;
            if frame.first() == Some(&b'-') {
                self.aside.get_or_insert_default().trouble.get_or_insert_with(|| frame.into());
            }
            return Turn::Swallowed;
        }
        if self.frames > 1 {
            self.frames -= 1;
            return Turn::Between;
        }
        Turn::Last
    }

    /// The first error among the frames that were swallowed.
    pub fn take_trouble(&mut self) -> Option<Box<[u8]>> {
        self.aside.as_mut()?.trouble.take()
    }

    /// True for a script (or function, or a transaction that may hold some) without any key.
    #[inline]
    pub fn is_keyless_script(&self) -> bool {
        self.errand().is_some_and(|errand| {
            errand.slot == NO_SLOT && (errand.command.class == CommandClass::Script || errand.before > 0)
        })
    }

    /// As long as this ticket lives, `script` counts.
    #[cold]
    pub fn keep(&mut self, script: KeylessScript) {
        self.aside.get_or_insert_default().script = Some(script);
    }

    /// A ticket for a call that is answered by `frames` frames.
    pub fn of_call(call: Rc<Call>, frames: u16, (start, len): (u64, usize), queued: u64) -> Self {
        Self { owner: Owner::Call(call), plain: false, skip: 0, frames, aside: None, start, len, queued }
    }

    /// The call, if it is one's.
    pub fn call(&self) -> Option<&Rc<Call>> {
        match &self.owner {
            Owner::Call(call) => Some(call),
            _ => None,
        }
    }

    /// The errand; from now on the caller owes the answer.
    #[inline]
    pub fn take(&mut self) -> Option<Errand> {
        match std::mem::replace(&mut self.owner, Owner::Nobody) {
            Owner::Errand(errand) => Some(errand),
            other => {
                self.owner = other;
                None
            }
        }
    }

    /// The errand, still owed by this ticket.
    #[inline]
    pub fn errand(&self) -> Option<&Errand> {
        match &self.owner {
            Owner::Errand(errand) => Some(errand),
            _ => None,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.owner, Owner::Nobody) {
            Owner::Errand(errand) => {
                let worker = Rc::clone(errand.session.worker());
                worker.orphaned(errand);
            }
            Owner::Call(call) => call.fail(CallError::Lost),
            Owner::Nobody => {}
        }
    }
}

/// What an error by which a node sends a request away claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The slot belongs to this node.
    Moved(NodeAddr),
    /// The slot is on its way to this node.
    Ask(NodeAddr),
    /// The slot is on its way, and its keys are on both sides.
    TryAgain,
    /// The node cannot serve it now.
    Unable(Unable),
}

/// A claim that has to prove itself against a fresh view of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What it says.
    pub claim: Claim,
    /// The error as it came.
    pub frame: Bytes,
    /// The node that said it.
    pub from: NodeId,
    /// The first refresh that began after it came, or after the last look.
    pub round: u64,
    /// How often a fresh view did not bear it out yet.
    pub looks: u8,
}

/// Where an errand goes when it is sent (again).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// To whom the table says.
    Table,
    /// To this node, which a redirect named; with ASKING before it.
    Node {
        /// The node.
        node: NodeId,
        /// Send ASKING first.
        asking: bool,
    },
    /// To whom the table says, on this dedicated connection.
    Dedicated(LaneKey),
    /// Where a redirect points (or again later), if a fresh view of the cluster bears it out: it named a
    /// node that does not belong to the cluster as we know it, or it came from a script, which can say
    /// anything.
    IfTrue(Rc<Doubt>),
    /// To whom the table says, with its script in front: the node did not have it, in these words. They are the
    /// reply if it may not go again.
    WithScript(Bytes),
}

/// An errand with its bytes, outside any lane.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Whose request it is.
    pub errand: Errand,
    /// The request.
    pub bytes: Bytes,
    /// Where to.
    pub aim: Aim,
}

impl Parcel {
    /// True while nobody knows whether a script was redirected or executed, and said so itself.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self.aim, Aim::IfTrue(_)) && self.errand.command.class == CommandClass::Script
    }
}

/// The error for an errand whose connection was lost after it was sent.
pub fn lost_error(errand: &Errand) -> ProxyError {
    if errand.split && !errand.command.is_read_only() {
        ProxyError::PartlyFailed
    } else {
        ProxyError::ConnectionLost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_time_of_its_own() {
        let mut met = Met::default();
        assert_eq!(met.waited(Cause::Unable, 0), 0, "from the first moment of the clock");
        assert_eq!(met.waited(Cause::Unable, 7_000_000), 6_999_000);
        assert_eq!(met.waited(Cause::Migration, 7_000_000), 0);
        assert_eq!(met.waited(Cause::Migration, 9_000_500), 2_000_000);
        assert_eq!(met.waited(Cause::Unable, 9_000_500), 8_999_000);
        let late = ((1 << 32) - 5) * 1_000;
        let mut met = Met::default();
        assert_eq!([late, late + 10_000].map(|now| met.waited(Cause::Unable, now)), [0, 10_000]);
    }

    /// Every request in flight has one.
    #[test]
    fn an_errand_is_small() {
        assert!(size_of::<Errand>() <= 40, "{} bytes", size_of::<Errand>());
    }
}
