//! One coarse timer wheel per worker, for deadlines and stalled clients. A session is in it at most
//! once, and only while it owes or is owed something; a request costs no timer of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::session::Session;

/// Length of one turn of the wheel's smallest step: errors come at most this much late.
pub const STEP: Duration = Duration::from_millis(50);
const STEP_MICROS: u64 = STEP.as_micros() as u64;
/// Steps of a full turn; what is farther off is looked at once per turn.
const STEPS: usize = 2048;

/// Who is to be looked at, by time. Sessions are named by place and id, so that the wheel keeps no
/// closed session in memory.
#[derive(Debug)]
pub struct Wheel {
    steps: RefCell<Vec<Vec<(u32, u64)>>>,
    at: Cell<u64>,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { steps: RefCell::new(vec![Vec::new(); STEPS]), at: Cell::new(0) }
    }
}

impl Wheel {
    /// Has `session` looked at, at or shortly after `time` (or after one turn, whichever is first).
    pub fn add(&self, session: &Session, time: u64) {
        let step = (time / STEP_MICROS + 1).clamp(self.at.get() + 1, self.at.get() + STEPS as u64 - 1);
        if let Some(list) = self.steps.borrow_mut().get_mut(step as usize % STEPS) {
            list.push((session.index.get(), session.id));
        }
    }

    /// Everyone whose time has come. `find` gives the session of a place.
    pub fn turn(&self, now: u64, find: impl Fn(u32, u64) -> Option<Rc<Session>>) {
        let target = now / STEP_MICROS;
        while self.at.get() < target {
            let at = self.at.get() + 1;
            self.at.set(at);
            let due = self.steps.borrow_mut().get_mut(at as usize % STEPS).map(std::mem::take);
            for (index, id) in due.into_iter().flatten() {
                let Some(session) = find(index, id) else { continue };
                match session.expire(now) {
                    Some(next) => self.add(&session, next),
                    None => session.unwatch(),
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
