//! Whether one node can be used. A pure state machine: facts in, "did it change" out.
//!
//! - A failed connect counts; `eject_after` in a row take the node out. Any successful connect sets
//!   the count back, and brings a node back that was out (half-open: the probe's own connection is
//!   the trial).
//! - While the control connection stands, failed connects of workers do not take the node out: a
//!   node that is busy in a script, or full (`maxclients`), still serves its open connections, and
//!   a frozen one is told apart only by silence.
//! - Silence beyond `node_silence_timeout`, `-LOADING` and an address that now belongs to another
//!   node take it out at once; so does nothing else.
//! - A node is *suspect* from a lost connection, failed connect or late PONG until the next sign of
//!   life. Suspicion moves no request; it makes refreshes come often.

use std::time::{Duration, Instant};

/// Why a node is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// Connects fail.
    Unreachable,
    /// It answers nothing.
    Silent,
    /// It loads its data set.
    Loading,
    /// Another node answers at its address, or it refuses us.
    Refused,
}

impl Down {
    /// As shown to people.
    pub fn label(self) -> &'static str {
        match self {
            Down::Unreachable => "unreachable",
            Down::Silent => "silent",
            Down::Loading => "loading",
            Down::Refused => "refused",
        }
    }
}

/// Health of one node.
#[derive(Debug)]
pub(crate) struct Health {
    eject_after: u32,
    failures: u32,
    down: Option<Down>,
    connected: bool,
    suspect_since: Option<Instant>,
}

impl Health {
    pub(crate) fn new(eject_after: u32) -> Self {
        Self {
            eject_after: eject_after.max(1),
            failures: 0,
            down: None,
            connected: false,
            suspect_since: None,
        }
    }

    /// Why it is out, if it is.
    pub(crate) fn down(&self) -> Option<Down> {
        self.down
    }

    /// Out, or since when something about it is wrong and not yet cleared up, within `window`.
    pub(crate) fn troubled(&self, now: Instant, window: Duration) -> bool {
        self.suspect_since.is_some_and(|since| now.saturating_duration_since(since) < window)
    }

    /// The node may be asked for its view.
    pub(crate) fn is_askable(&self) -> bool {
        self.connected && matches!(self.down, None | Some(Down::Loading))
    }

    /// Something about it is wrong and not yet cleared up.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect_since.is_some()
    }

    /// The control connection was made and the node answered a PING on it.
    pub(crate) fn control_connected(&mut self, usable: bool) -> bool {
        self.connected = true;
        self.alive(usable)
    }

    /// The node answered a PING; `usable` unless it is loading. True when up or down changed.
    pub(crate) fn alive(&mut self, usable: bool) -> bool {
        let was_down = self.down.is_some();
        (self.failures, self.suspect_since) = (0, None);
        self.down = (!usable).then_some(Down::Loading);
        was_down == usable
    }

    /// The control connection broke.
    pub(crate) fn control_lost(&mut self, now: Instant) {
        self.connected = false;
        self.suspect(now);
    }

    /// A worker lost a connection, or a PONG is late.
    pub(crate) fn suspect(&mut self, now: Instant) {
        self.suspect_since.get_or_insert(now);
    }

    /// A connect failed, ours or a worker's. True when that took the node out.
    pub(crate) fn connect_failed(&mut self, now: Instant) -> bool {
        self.suspect(now);
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.eject_after || self.connected {
            return false;
        }
        self.take_out(Down::Unreachable, now)
    }

    /// Takes the node out at once. True when it was in.
    pub(crate) fn take_out(&mut self, why: Down, now: Instant) -> bool {
        let was_up = self.down.is_none();
        self.connected &= why == Down::Loading;
        self.down = Some(why);
        if was_up {
            // The window of frequent refreshes starts again: only now is it known to be dead.
            self.suspect_since = Some(now);
        }
        was_up
    }

    /// A worker connected: as good as our own probe, but not for what only the probe can see.
    pub(crate) fn worker_connected(&mut self) -> bool {
        self.failures = 0;
        if self.down == Some(Down::Unreachable) {
            self.down = None;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn ejected_after_failures_in_a_row_and_back_at_the_first_success() {
        let (mut health, now) = (Health::new(3), Instant::now());
        assert!(!health.connect_failed(now));
        assert!(health.is_suspect(), "suspect at the first failure");
        assert!(!health.connect_failed(now));
        assert!(!health.worker_connected());
        assert!(!health.connect_failed(now) && !health.connect_failed(now));
        assert!(health.connect_failed(now));
        assert_eq!(health.down(), Some(Down::Unreachable));
        assert!(!health.connect_failed(now), "reported once");
        assert!(health.control_connected(true));
        assert_eq!(health.down(), None);
        assert!(!health.is_suspect());
    }

    #[test]
    fn a_standing_control_connection_keeps_a_busy_node_in() {
        let (mut health, now) = (Health::new(2), Instant::now());
        health.control_connected(true);
        for _ in 0..10 {
            assert!(!health.connect_failed(now));
        }
        health.control_lost(now);
        assert!(health.connect_failed(now), "counted all the same");
    }

    #[test]
    fn silence_and_loading() {
        let (mut health, now) = (Health::new(3), Instant::now());
        health.control_connected(true);
        assert!(health.take_out(Down::Silent, now));
        assert!(!health.is_askable());
        assert!(
            !health.worker_connected(),
            "the kernel of a frozen node accepts: only the probe knows better"
        );
        assert!(!health.control_connected(true) || health.down().is_none());
        assert!(health.alive(false), "loading takes it out");
        assert!(health.is_askable(), "but it can be asked");
        assert!(!health.alive(false));
        assert!(health.alive(true));
        assert!(!health.alive(true));
    }

    #[test]
    fn trouble_ends_with_its_window() {
        let (mut health, now) = (Health::new(3), Instant::now());
        let window = Duration::from_secs(30);
        health.suspect(now);
        assert!(health.troubled(now, window));
        assert!(!health.troubled(now + window, window));
        assert!(health.take_out(Down::Silent, now + window));
        assert!(health.troubled(now + window, window), "being taken out starts it again");
        health.alive(true);
        assert!(!health.troubled(now, window));
    }
}
