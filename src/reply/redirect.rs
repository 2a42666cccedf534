//! Errors by which a node says "not here" or "not now": MOVED, ASK, TRYAGAIN, CLUSTERDOWN, LOADING,
//! MASTERDOWN, READONLY. All mean that the request was not executed, so it may be sent again (Redis
//! Cluster specification, "Redirection and resharding"). Scripts can return any error text, so a
//! redirect is followed only if its slot is the request's and its target belongs to the cluster, and
//! whatever comes from a script has to be borne out by a fresh view of the cluster. A redirect never edits
//! the slot table.

use std::rc::Rc;

use bytes::Bytes;

use super::explode::explode;
use crate::backend::lane::Lane;
use crate::backend::ticket::{Aim, Cause, Claim, Errand, NO_SLOT, Parcel};
use crate::error::ProxyError;
use crate::telemetry::{CommandClass, ReadRole, RedirectKind, clock_ms};
use crate::topology::node::{NodeAddr, NodeId};
use crate::topology::{Event, Trigger, Unable};
use crate::worker::WorkerContext;

/// Shortest and longest pause before a request that met "not now" is sent again, in microseconds.
const PAUSE_MIN: u64 = 2_000;
const PAUSE_MAX: u64 = 100_000;
/// Longest pause between two redirects of one request, in microseconds: with the default `redirects-max`
/// they span about three seconds, more than nodes take to agree on a slot.
const REDIRECT_PAUSE_MAX: u64 = 400_000;

/// What a node said instead of executing the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect<'a> {
    /// The slot has another owner.
    Moved {
        /// The slot.
        slot: u16,
        /// Its owner.
        target: Target<'a>,
    },
    /// The key may be at the node that imports the slot.
    Ask {
        /// The slot.
        slot: u16,
        /// The importing node.
        target: Target<'a>,
    },
    /// Keys of the request are on both sides of a migration.
    TryAgain,
    /// CLUSTERDOWN, LOADING, MASTERDOWN, READONLY: this node can't, for now.
    Unable(Unable),
}

/// `host:port` of a redirect; an empty host means the node that said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Host, `?` and empty meaning "the one you asked".
    pub host: &'a str,
    /// Port.
    pub port: u16,
}

/// Reads an error reply; `None` for one that is meant for the client.
pub fn parse(frame: &[u8]) -> Option<Redirect<'_>> {
    let line = frame.strip_prefix(b"-")?.strip_suffix(b"\r\n")?;
    let (code, rest) = match line.iter().position(|&b| b == b' ') {
        Some(at) => (line.get(..at)?, line.get(at + 1..)?),
        None => (line, &[][..]),
    };
    match code {
        b"MOVED" => parse_target(rest).map(|(slot, target)| Redirect::Moved { slot, target }),
        b"ASK" => parse_target(rest).map(|(slot, target)| Redirect::Ask { slot, target }),
        b"TRYAGAIN" => Some(Redirect::TryAgain),
        b"CLUSTERDOWN" => Some(Redirect::Unable(Unable::Cluster)),
        b"MASTERDOWN" | b"READONLY" => Some(Redirect::Unable(Unable::Replica)),
        b"LOADING" => Some(Redirect::Unable(Unable::Loading)),
        _ => None,
    }
}

fn parse_target(rest: &[u8]) -> Option<(u16, Target<'_>)> {
    let mut words = std::str::from_utf8(rest).ok()?.split(' ');
    let (slot, addr) = (words.next()?.parse().ok()?, words.next()?);
    let (host, port) = addr.rsplit_once(':')?;
    words.next().is_none().then_some((slot, Target { host, port: port.parse().ok()? }))
}

/// Sends the request on to where it belongs, or again later. False when `frame` is what the client
/// gets.
#[cold]
pub fn follow(
    worker: &Rc<WorkerContext>,
    lane: &Rc<Lane>,
    errand: &Errand,
    request: &Bytes,
    frame: &[u8],
) -> bool {
    if lane.key.read_only {
        return leave_replica(worker, lane, errand, request, frame);
    }
    let Some(redirect) = parse(frame) else { return false };
    let is_script = errand.command.class == CommandClass::Script;
    match redirect {
        Redirect::Moved { slot, target } | Redirect::Ask { slot, target } => {
            if slot != errand.slot || errand.slot == NO_SLOT {
                return does_not_fit(errand);
            }
            let asking = matches!(redirect, Redirect::Ask { .. });
            worker.counters.redirect(if asking { RedirectKind::Ask } else { RedirectKind::Moved });
            worker.slots_move(lane.key.node);
            if !asking || worker.is_news_to_trackers(slot) {
                worker.topology.report(Event::Refresh(Trigger::Redirect));
            }
            go_to(worker, (lane, errand), request, (target, asking), frame)
        }
        Redirect::TryAgain => {
            worker.counters.redirect(RedirectKind::TryAgain);
            worker.slots_move(lane.key.node);
            let aim = if is_script { worker.in_doubt(lane, Claim::TryAgain, frame) } else { Aim::Table };
            explode(worker, errand, request) || again_later(worker, errand, request, aim, Cause::Migration)
        }
        Redirect::Unable(why) => {
            worker.counters.redirect(RedirectKind::ClusterDown);
            if !is_script {
                lane.node.note_unable(why, clock_ms());
            }
            // A node that recovers between its answer and the fresh view is not to be called a liar.
            let known = !is_script || worker.topology.bore_out_lately(why, lane.key.node, errand.slot);
            let aim = if known {
                worker.topology.report(Event::Refresh(Trigger::Redirect));
                Aim::Table
            } else {
                worker.in_doubt(lane, Claim::Unable(why), frame)
            };
            again_later(worker, errand, request, aim, Cause::Unable)
        }
    }
}

/// What a replica says instead of answering: its view may be behind, its data not ready. The read was not
/// executed, or did nothing; the primary answers it, or, where it may only be read at replicas, another of them,
/// or this one after a while.
fn leave_replica(
    worker: &Rc<WorkerContext>,
    lane: &Rc<Lane>,
    errand: &Errand,
    request: &Bytes,
    frame: &[u8],
) -> bool {
    let kind = match parse(frame) {
        Some(Redirect::Moved { .. }) => RedirectKind::Moved,
        Some(Redirect::Ask { .. }) => RedirectKind::Ask,
        Some(Redirect::TryAgain) => RedirectKind::TryAgain,
        Some(Redirect::Unable(_)) => RedirectKind::ClusterDown,
        // A script that does not end holds the replica, not its primary.
        None if frame.starts_with(b"-BUSY ") => RedirectKind::ClusterDown,
        None => return false,
    };
    worker.counters.redirect(kind);
    worker.counters.read_from(ReadRole::Again);
    match kind {
        RedirectKind::Moved => worker.topology.report(Event::Refresh(Trigger::Redirect)),
        _ => worker.topology.report(Event::Refused(lane.key.node)),
    }
    let aim = worker.aim_again(lane, errand);
    if aim == Aim::Replica && kind == RedirectKind::ClusterDown {
        if !again_later(worker, errand, request, aim, Cause::Unable) {
            errand.session.fail(errand, ProxyError::NoReplica);
        }
        return true;
    }
    let mut errand = errand.clone();
    errand.redirects = errand.redirects.saturating_add(1);
    if usize::from(errand.redirects) > worker.limits.redirects {
        errand.session.fail(&errand, ProxyError::RedirectLimit);
        return true;
    }
    let pause = if aim == Aim::Replica { pause_after(errand.redirects) } else { 0 };
    hold(worker, Parcel { errand, bytes: request.clone(), aim }, pause);
    true
}

/// Two nodes that both point at the other will agree within milliseconds: slower each time.
fn pause_after(redirects: u8) -> u64 {
    match redirects {
        0..=2 => 0,
        n => (1_000u64 << (n - 2).min(9)).min(REDIRECT_PAUSE_MAX),
    }
}

impl WorkerContext {
    /// A primary sent a request elsewhere: its replicas may lack keys that exist.
    fn slots_move(&self, node: NodeId) {
        if self.limits.reads_replicas {
            self.topology.report(Event::Moving(node));
        }
    }
}

/// A redirect of another slot, or of a request without keys, which no node sends. Of a script (or a
/// transaction, whose reply says only that it was given up) it is the reply; no other client sees one.
fn does_not_fit(errand: &Errand) -> bool {
    let is_reply = errand.command.class == CommandClass::Script || errand.before > 0;
    if !is_reply {
        errand.session.fail(errand, ProxyError::BadReply);
    }
    !is_reply
}

fn go_to(
    worker: &Rc<WorkerContext>,
    (lane, errand): (&Rc<Lane>, &Errand),
    request: &Bytes,
    (target, asking): (Target<'_>, bool),
    frame: &[u8],
) -> bool {
    let mut errand = errand.clone();
    errand.redirects = errand.redirects.saturating_add(1);
    if usize::from(errand.redirects) > worker.limits.redirects {
        errand.session.fail(&errand, ProxyError::RedirectLimit);
        return true;
    }
    let pause = pause_after(errand.redirects);
    let host = if matches!(target.host, "" | "?") { lane.node.addr.host.as_str() } else { target.host };
    let aim = match worker.topology.node_by_addr(host, target.port) {
        Some(node) if errand.command.class != CommandClass::Script => Aim::Node { node, asking },
        _ => {
            let target = NodeAddr { host: host.to_owned(), port: target.port };
            worker.in_doubt(lane, if asking { Claim::Ask(target) } else { Claim::Moved(target) }, frame)
        }
    };
    hold(worker, Parcel { errand, bytes: request.clone(), aim }, pause);
    true
}

/// Sends the request again after a while. False when it has met `cause` for as long as it may.
fn again_later(worker: &Rc<WorkerContext>, errand: &Errand, request: &Bytes, aim: Aim, cause: Cause) -> bool {
    let limit = match cause {
        Cause::Migration => worker.limits.tryagain_wait,
        Cause::Unable => worker.limits.owner_wait,
    };
    let mut errand = errand.clone();
    let waited = errand.met.waited(cause, worker.clock.now());
    if waited >= limit {
        return false;
    }
    if cause == Cause::Migration {
        // It was at the right node: an ASK on the way there each time is no redirecting without end.
        errand.redirects = 0;
    }
    let pause = (waited / 4).clamp(PAUSE_MIN, PAUSE_MAX);
    hold(worker, Parcel { errand, bytes: request.clone(), aim }, pause);
    true
}

fn hold(worker: &Rc<WorkerContext>, parcel: Parcel, pause: u64) {
    let session = Rc::clone(&parcel.errand.session);
    session.inner().hold(parcel, worker.clock.now() + pause, worker);
    worker.advance_later(&session);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_redirects_and_leaves_other_errors() {
        let target = |host, port| Target { host, port };
        assert_eq!(
            parse(b"-MOVED 3999 127.0.0.1:6381\r\n"),
            Some(Redirect::Moved { slot: 3999, target: target("127.0.0.1", 6381) })
        );
        assert_eq!(parse(b"-ASK 1 ::1:7\r\n"), Some(Redirect::Ask { slot: 1, target: target("::1", 7) }));
        assert_eq!(parse(b"-MOVED 1 :7\r\n"), Some(Redirect::Moved { slot: 1, target: target("", 7) }));
        assert_eq!(parse(b"-TRYAGAIN Multiple keys request\r\n"), Some(Redirect::TryAgain));
        assert_eq!(parse(b"-READONLY You can't\r\n"), Some(Redirect::Unable(Unable::Replica)));
        assert_eq!(parse(b"-CLUSTERDOWN\r\n"), Some(Redirect::Unable(Unable::Cluster)));
        for other in [
            &b"-ERR x\r\n"[..],
            b"-MOVED\r\n",
            b"-MOVED x y:1\r\n",
            b"-MOVED 1 host\r\n",
            b"-MOVED 1 a:1 b\r\n",
        ] {
            assert_eq!(parse(other), None);
        }
    }
}
