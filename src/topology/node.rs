//! The nodes this process has heard of. An address is interned once and keeps its `NodeId` (see
//! `NodeRegistry` for how long), so that a `Vec` index replaces a map look-up on the path of a request.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::heard::Unable;

/// Index of a node address. Not used for another address before the first has been out of the cluster
/// for an hour and thousands of others came after it (`NodeRegistry`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u16);

impl NodeId {
    /// As an index into per-node vectors.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Host (name, IPv4 or IPv6 without brackets) and port, as the cluster announces it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeAddr {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for NodeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One node address and what is known of its reachability.
#[derive(Debug)]
pub struct Node {
    /// Its index.
    pub id: NodeId,
    /// Where to dial it.
    pub addr: NodeAddr,
    up: AtomicBool,
    /// It owes an answer for longer than it should, or a connection to it broke, and no PING has cleared that up.
    late: AtomicBool,
    keyless_scripts: AtomicUsize,
    /// When it last said of a command that is no script that it cannot serve, by the reason, in milliseconds of the
    /// process' clock, plus one.
    unable: [AtomicU64; 3],
    /// As a replica it has what its primary had at this time, in milliseconds of the process' clock, plus
    /// one; 0 while nothing is known.
    as_of: AtomicU64,
    /// How long it takes to answer, in microseconds; 0 while that is not known.
    distance: AtomicU32,
    /// It is in our own zone.
    near: AtomicBool,
}

impl Node {
    /// A node is taken to be reachable until something says otherwise.
    pub fn new(id: NodeId, addr: NodeAddr) -> Self {
        Self {
            id,
            addr,
            up: AtomicBool::new(true),
            late: AtomicBool::new(false),
            as_of: AtomicU64::new(0),
            distance: AtomicU32::new(0),
            near: AtomicBool::new(false),
            keyless_scripts: AtomicUsize::new(0),
            unable: Default::default(),
        }
    }

    /// False while the node is ejected: nothing dials it but the probe of the control connection.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Written by the topology task only; says whether that changed anything.
    pub fn set_up(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::Relaxed) != up
    }

    /// True while something is wrong with it that no answer to a PING has cleared up yet.
    pub fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    pub(super) fn set_late(&self, late: bool) {
        self.late.store(late, Ordering::Relaxed);
    }

    /// When its primary had no more than it has, at least: nothing a client was answered before that time
    /// (`telemetry::clock_ms`) is missing here. `None` while it is not to be read from.
    #[inline]
    pub fn as_of(&self) -> Option<u64> {
        self.as_of.load(Ordering::Relaxed).checked_sub(1)
    }

    /// It cannot serve, in its own words: not those of a script.
    pub(crate) fn note_unable(&self, why: Unable, now_ms: u64) {
        if let Some(last) = self.unable.get(why as usize) {
            last.store(now_ms + 1, Ordering::Relaxed);
        }
    }

    /// True when it said so less than `recent` ago.
    pub(crate) fn was_unable(&self, why: Unable, now_ms: u64, recent: Duration) -> bool {
        let last = self.unable.get(why as usize).map_or(0, |last| last.load(Ordering::Relaxed));
        last > 0 && u128::from(now_ms.saturating_sub(last)) < recent.as_millis()
    }

    /// How long it takes to answer, smoothed, in microseconds; 0 while that is not known.
    pub fn distance(&self) -> u32 {
        self.distance.load(Ordering::Relaxed)
    }

    /// True if it is in our own zone.
    pub fn is_near(&self) -> bool {
        self.near.load(Ordering::Relaxed)
    }

    /// Written by the topology task only, as all of these.
    pub(super) fn set_as_of(&self, at: Option<u64>) {
        self.as_of.store(at.map_or(0, |at| at + 1), Ordering::Relaxed);
    }

    pub(crate) fn set_distance(&self, micros: u32) {
        self.distance.store(micros, Ordering::Relaxed);
    }

    pub(crate) fn set_near(&self, near: bool) {
        self.near.store(near, Ordering::Relaxed);
    }

    /// Scripts without keys that this process has sent it and that it has not answered: see
    /// `script::keyless`, which counts them.
    pub(crate) fn keyless_scripts(&self) -> &AtomicUsize {
        &self.keyless_scripts
    }
}
