//! What one subscription hears of one channel with one publisher: numbers that only grow, none from nowhere.

use std::collections::BTreeSet;

use super::{Finding, Kind};

#[derive(Debug, Default)]
pub struct Messages {
    last: Option<u64>,
    /// Heard behind later ones.
    late: BTreeSet<u64>,
}

impl Messages {
    /// A message came; `sent` is how many were sent or are being sent. `open` for one whose PUBLISH ended in an error
    /// that leaves its fate open: a frozen node executes it when it wakes up, behind all that was sent elsewhere since.
    pub fn heard(&mut self, number: u64, sent: u64, open: bool) -> Option<Finding> {
        let last = self.last;
        self.last = last.max(Some(number));
        if number >= sent {
            return Some(Finding::new(Kind::FromNowhere, format!("message {number}, only {sent} were sent")));
        }
        let last = last.filter(|last| number <= *last)?;
        if number == last || (open && !self.late.insert(number)) {
            return Some(Finding::new(Kind::Twice, format!("message {number} again")));
        }
        (!open).then(|| Finding::new(Kind::Order, format!("message {number} behind {last}")))
    }
}
