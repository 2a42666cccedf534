//! When the next refresh starts. Pure: it is told what happened and when, and answers with a time.
//!
//! One round at a time. A request during a round is remembered and leads to another round, for the
//! round under way may have asked before the event. Starts are at least `min_interval` apart; rounds
//! that fail back off; while something is wrong (a primary suspect or out, slots uncovered, a lower
//! claim held back) a round starts every 100–200 ms, as long as the service says so (30 s at most). A change seldom
//! comes alone: after a failover it takes nodes a second to tell each other who replicates whom now, and no request
//! shows what a replica has become. So after each
//! one the timer has a short time, and waits as long again as the change is ago.

use std::time::{Duration, Instant};

use super::settings::{backoff, jitter};
use super::stats::{RefreshResult, Trigger};

/// Least spacing of rounds asked for only because slots are uncovered, once the time of frequent
/// refreshes is over: requests for such slots may come for days.
const UNCOVERED_SPACING: Duration = Duration::from_secs(1);

/// Back-off of rounds that fail while something is wrong.
const URGENT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The timer's shortest time after a change.
const AFTER_CHANGE: Duration = Duration::from_millis(500);

/// First wait after a failed round.
const BACKOFF_BASE: Duration = Duration::from_millis(100);

/// State of the refresh timer.
#[derive(Debug)]
pub(crate) struct Schedule {
    interval: Duration,
    /// When a round last changed something.
    changed: Option<Instant>,
    min_interval: Duration,
    backoff_max: Duration,
    pending: Option<Trigger>,
    urgent: Option<Trigger>,
    in_flight: bool,
    failed: u32,
    /// Not before this, whatever the reason.
    earliest: Instant,
    /// Start of the last round.
    started: Option<Instant>,
    urgent_at: Instant,
    timer_at: Instant,
}

impl Schedule {
    /// The first round is due at once.
    pub(crate) fn new(
        interval: Duration,
        min_interval: Duration,
        backoff_max: Duration,
        now: Instant,
    ) -> Self {
        Self {
            interval,
            changed: None,
            min_interval,
            backoff_max,
            pending: Some(Trigger::Start),
            urgent: None,
            in_flight: false,
            failed: 0,
            earliest: now,
            started: None,
            urgent_at: now,
            timer_at: now + jitter(interval),
        }
    }

    /// Somebody wants a refresh. The first reason stands, but uncovered slots, which can wait, do
    /// not hide another.
    pub(crate) fn request(&mut self, trigger: Trigger) {
        if self.pending.is_none_or(|p| p == Trigger::Uncovered) {
            self.pending = Some(trigger);
        }
    }

    /// Something answers again: do not wait for the back-off.
    pub(crate) fn encourage(&mut self, now: Instant) {
        if self.failed > 0 {
            self.failed = 0;
            self.earliest = self.started.map_or(now, |s| s + self.min_interval);
        }
    }

    /// Sets or ends the time of frequent refreshes.
    pub(crate) fn set_urgent(&mut self, why: Option<Trigger>) {
        self.urgent = why;
    }

    /// When the next round is due and why; `None` while one is under way.
    pub(crate) fn due(&self) -> Option<(Instant, Trigger)> {
        if self.in_flight {
            return None;
        }
        let mut due = (self.timer_at, Trigger::Timer);
        if self.failed > 0 {
            due = (self.earliest, self.pending.unwrap_or(Trigger::Timer));
        }
        if let Some(why) = self.urgent.filter(|_| self.urgent_at < due.0) {
            due = (self.urgent_at, why);
        }
        if let Some(why) = self.pending {
            let spaced = why == Trigger::Uncovered && self.urgent.is_none();
            let at = match self.started.filter(|_| spaced) {
                Some(started) => started + UNCOVERED_SPACING,
                None => self.earliest,
            };
            if at <= due.0 {
                due = (at, why);
            }
        }
        Some((due.0.max(self.earliest), due.1))
    }

    /// A round starts.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.in_flight = true;
        self.pending = None;
        self.started = Some(now);
        self.earliest = now + self.min_interval;
    }

    /// The round is over; `settled` when what the last views came to is a cluster at work with all its nodes. One
    /// that is still being built, or waits for a node to come back, is looked at more often.
    pub(crate) fn finish(&mut self, result: RefreshResult, settled: bool, now: Instant) {
        self.in_flight = false;
        let ok = matches!(result, RefreshResult::Changed | RefreshResult::Same);
        let longest = if settled { self.interval } else { self.interval.min(self.backoff_max) };
        if result == RefreshResult::Changed {
            self.changed = Some(now);
        }
        let ago = self.changed.map_or(longest, |at| now.saturating_duration_since(at));
        self.timer_at = now + jitter(ago.max(AFTER_CHANGE).min(longest));
        let started = self.started.unwrap_or(now);
        let spread = Duration::from_millis(100 + fastrand::u64(0..=100));
        self.urgent_at = started + self.min_interval.max(spread);
        if ok {
            self.failed = 0;
            return;
        }
        let cap =
            if self.urgent.is_some() { self.backoff_max.min(URGENT_BACKOFF_MAX) } else { self.backoff_max };
        let wait = backoff(BACKOFF_BASE, self.failed, cap);
        self.failed = self.failed.saturating_add(1);
        self.earliest = (started + self.min_interval).max(now + wait);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use RefreshResult::{Changed, Failed, Same};

    const MS: Duration = Duration::from_millis(1);

    fn schedule(now: Instant) -> Schedule {
        Schedule::new(MS * 15_000, MS * 100, MS * 5_000, now)
    }

    #[test]
    fn timer_with_jitter() {
        let now = Instant::now();
        let mut s = schedule(now);
        assert_eq!(s.due(), Some((now, Trigger::Start)));
        s.begin(now);
        assert_eq!(s.due(), None, "one at a time");
        s.finish(Same, true, now);
        let (at, why) = s.due().unwrap();
        assert_eq!(why, Trigger::Timer);
        assert!(at >= now + MS * 12_000 && at <= now + MS * 18_000);
    }

    #[test]
    fn a_cluster_still_being_built_is_looked_at_more_often() {
        let now = Instant::now();
        let mut s = schedule(now);
        s.begin(now);
        s.finish(Same, false, now);
        assert!(s.due().unwrap().0 <= now + MS * 6_000);
    }

    #[test]
    fn after_a_change_the_timer_begins_with_a_short_time() {
        let mut now = Instant::now();
        let mut s = schedule(now);
        for result in [Changed, Same, Changed, Same, Same, Same, Same, Same, Same] {
            s.begin(now);
            s.finish(result, true, now);
            let ago = now - s.changed.unwrap();
            let pause = s.due().unwrap().0 - now;
            let mean = ago.clamp(MS * 500, MS * 15_000);
            assert!(pause >= mean * 4 / 5 && pause <= mean * 6 / 5, "{pause:?} when it is {ago:?} ago");
            now += mean;
        }
        assert_eq!(now - s.changed.unwrap(), MS * 31_000);
    }

    #[test]
    fn events_are_coalesced_and_spaced() {
        let now = Instant::now();
        let mut s = schedule(now);
        s.begin(now);
        s.request(Trigger::Uncovered);
        s.request(Trigger::Redirect);
        s.request(Trigger::ConnectionLost);
        s.finish(Same, true, now + MS);
        assert_eq!(
            s.due(),
            Some((now + MS * 100, Trigger::Redirect)),
            "an event during a round starts another"
        );
        s.begin(now + MS * 100);
        s.finish(Same, true, now + MS * 101);
        assert_eq!(s.due().unwrap().1, Trigger::Timer);
    }

    #[test]
    fn urgent_rounds_come_every_100_to_200_ms() {
        let now = Instant::now();
        let mut s = schedule(now);
        s.begin(now);
        s.finish(Same, true, now);
        s.set_urgent(Some(Trigger::ConnectionLost));
        let (at, why) = s.due().unwrap();
        assert_eq!(why, Trigger::ConnectionLost);
        assert!(at >= now + MS * 100 && at <= now + MS * 200);
        s.set_urgent(None);
        assert_eq!(s.due().unwrap().1, Trigger::Timer);
    }

    #[test]
    fn uncovered_slots_alone_are_asked_about_once_a_second() {
        let now = Instant::now();
        let mut s = schedule(now);
        s.begin(now);
        s.finish(Same, true, now);
        s.request(Trigger::Uncovered);
        assert_eq!(s.due(), Some((now + MS * 1_000, Trigger::Uncovered)));
        s.set_urgent(Some(Trigger::Uncovered));
        assert!(s.due().unwrap().0 <= now + MS * 200);
    }

    #[test]
    fn failed_rounds_back_off_and_never_stop() {
        let mut now = Instant::now();
        let mut s = schedule(now);
        let mut waits = Vec::new();
        for _ in 0..20 {
            s.begin(now);
            s.finish(Failed, true, now);
            s.request(Trigger::Redirect);
            let (at, _) = s.due().unwrap();
            waits.push(at - now);
            now = at;
        }
        assert!(waits[0] <= MS * 101, "{waits:?}");
        assert!(waits.iter().all(|w| *w >= MS * 50 && *w <= MS * 5_000), "{waits:?}");
        assert!(waits[19] >= MS * 2_500, "{waits:?}");
        s.encourage(now);
        assert!(s.due().unwrap().0 <= now + MS * 100, "an answer ends the back-off");
    }
}
