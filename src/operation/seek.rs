//! Where a request on a line of its own goes: to the owner of its slot, where a redirect points, or to the same node
//! again after a while. Owns the count of hops and the time that "not now" may last. A redirect edits no table.

use std::time::Duration;

use super::Operation;
use crate::backend::line::{Line, LineError};
use crate::error::ProxyError;
use crate::reply::redirect::{Redirect, Target};
use crate::telemetry::RedirectKind;
use crate::topology::node::{NodeAddr, NodeId};
use crate::topology::{Event, Trigger};

/// ASKING as a request.
pub const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";
/// Shortest and longest pause before another try, in microseconds.
pub const PAUSE_MIN: u64 = 2_000;
const PAUSE_MAX: u64 = 100_000;
/// How often a wait for the topology looks again, should no event tell.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where the next try goes.
#[derive(Clone, Debug)]
enum Aim {
    /// To the slot's owner by the table.
    Owner,
    /// To this node, with ASKING or without.
    Node(NodeId, bool),
    /// To the node at this address, which the topology learns of in this round at the latest.
    Refreshed(NodeAddr, bool, u64),
}

/// The way of one request.
pub struct Seek<'a> {
    operation: &'a Operation,
    slot: u16,
    aim: Aim,
    /// Redirects and lost connections in a row.
    hops: usize,
    /// Since when nodes have had nothing to say but "not now".
    trouble: Option<u64>,
}

impl<'a> Seek<'a> {
    /// For keys in `slot`.
    pub fn new(operation: &'a Operation, slot: u16) -> Self {
        Self { operation, slot, aim: Aim::Owner, hops: 0, trouble: None }
    }

    /// A line to the node that is next, in `pause` microseconds, and whether ASKING has to be said there.
    ///
    /// # Errors
    /// `dedicated-max-per-node` is used up, or no owner could be reached within `owner-wait`.
    pub async fn line(&mut self, pause: u64) -> Result<(Line, bool), ProxyError> {
        let worker = &self.operation.worker;
        if pause > 0 {
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        loop {
            let (node, asking) = self.node().await?;
            // The time until a connection stands counts only if none does in the end.
            let trouble = self.trouble;
            self.trouble.get_or_insert(worker.clock.tick());
            match worker.check_out(node, self.operation.resp).await {
                Ok(line) => {
                    self.trouble = trouble;
                    return Ok((line, asking));
                }
                Err(LineError::Full) => return Err(ProxyError::DedicatedFull),
                Err(LineError::Connect(_) | LineError::Gone) => {}
            }
            self.aim = Aim::Owner;
            worker.topology.report(Event::Refresh(Trigger::Redirect));
            let pause = self.pause(worker.limits.owner_wait).ok_or(ProxyError::ClusterDown)?;
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }

    async fn node(&mut self) -> Result<(NodeId, bool), ProxyError> {
        let worker = &self.operation.worker;
        if let Aim::Refreshed(addr, asking, round) = self.aim.clone() {
            let until = worker.clock.tick() + worker.limits.owner_wait;
            loop {
                let adopted = worker.adopted.notified();
                if worker.topology.round() >= round || worker.clock.tick() >= until {
                    break;
                }
                let _looked = tokio::time::timeout(LOOK_AGAIN, adopted).await;
            }
            let node = worker.topology.node_by_addr(&addr.host, addr.port);
            self.aim = node.map_or(Aim::Owner, |node| Aim::Node(node, asking));
        }
        match self.aim {
            Aim::Node(node, asking) => Ok((node, asking)),
            _ => Ok((self.operation.owner(self.slot).await?, false)),
        }
    }

    /// A try was answered, or ended: the next one goes to the owner, unless a redirect is followed.
    pub fn arrived(&mut self) {
        self.aim = Aim::Owner;
    }

    /// What came before is no trouble any more.
    pub fn settled(&mut self) {
        (self.hops, self.trouble) = (0, None);
    }

    /// Follows what the node at the other end of `line` said: the pause before the next try, or `None` when the
    /// redirect is what the client gets.
    ///
    /// # Errors
    /// There were too many.
    pub fn follow(&mut self, redirect: &Redirect<'_>, line: &Line) -> Result<Option<u64>, ProxyError> {
        let worker = &self.operation.worker;
        let limits = &worker.limits;
        match redirect {
            Redirect::Moved { slot, .. } | Redirect::Ask { slot, .. } if *slot != self.slot => Ok(None),
            Redirect::Moved { target, .. } => {
                worker.counters.redirect(RedirectKind::Moved);
                worker.topology.report(Event::Refresh(Trigger::Redirect));
                self.go_to(*target, false, line)
            }
            Redirect::Ask { target, .. } => {
                worker.counters.redirect(RedirectKind::Ask);
                self.go_to(*target, true, line)
            }
            Redirect::TryAgain => {
                worker.counters.redirect(RedirectKind::TryAgain);
                // An ASK on the way to the right node each time is no redirecting without end.
                self.hops = 0;
                Ok(self.pause(limits.tryagain_wait))
            }
            Redirect::Unable(_) => {
                worker.counters.redirect(RedirectKind::ClusterDown);
                worker.topology.report(Event::Refresh(Trigger::Redirect));
                Ok(self.pause(limits.owner_wait))
            }
        }
    }

    fn go_to(&mut self, target: Target<'_>, asking: bool, line: &Line) -> Result<Option<u64>, ProxyError> {
        let topology = &self.operation.worker.topology;
        self.hop().ok_or(ProxyError::RedirectLimit)?;
        let host = match target.host {
            "" | "?" => topology.node(line.node).map(|node| node.addr.host.clone()).unwrap_or_default(),
            host => host.to_owned(),
        };
        self.aim = match topology.node_by_addr(&host, target.port) {
            Some(node) => Aim::Node(node, asking),
            None => {
                let round = topology.next_round();
                topology.report(Event::Refresh(Trigger::Redirect));
                Aim::Refreshed(NodeAddr { host, port: target.port }, asking, round)
            }
        };
        // Two nodes that both point at the other will agree soon: go slower each time.
        Ok(Some(match self.hops {
            0..=2 => 0,
            hops => (1_000u64 << (hops - 2).min(9)).min(PAUSE_MAX),
        }))
    }

    /// Counts a hop; `None` when there were too many.
    pub fn hop(&mut self) -> Option<()> {
        self.hops += 1;
        (self.hops <= self.operation.worker.limits.redirects).then_some(())
    }

    /// How long to wait before another try; `None` when there was trouble for `limit` already.
    fn pause(&mut self, limit: u64) -> Option<u64> {
        let now = self.operation.worker.clock.tick();
        let troubled = now - *self.trouble.get_or_insert(now);
        (troubled < limit).then(|| (troubled / 4).clamp(PAUSE_MIN, PAUSE_MAX))
    }
}
