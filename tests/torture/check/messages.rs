//! What one subscription hears of one channel with one publisher: numbers that only grow, none from nowhere.

use super::{Finding, Kind};

#[derive(Debug, Default)]
pub struct Messages {
    last: Option<u64>,
}

impl Messages {
    /// A message came; `sent` is how many were sent or are being sent.
    pub fn heard(&mut self, number: u64, sent: u64) -> Option<Finding> {
        let last = self.last;
        self.last = last.max(Some(number));
        if number >= sent {
            return Some(Finding::new(Kind::FromNowhere, format!("message {number}, only {sent} were sent")));
        }
        match last {
            Some(last) if number == last => {
                Some(Finding::new(Kind::Twice, format!("message {number} again")))
            }
            Some(last) if number < last => {
                Some(Finding::new(Kind::Order, format!("message {number} behind {last}")))
            }
            _ => None,
        }
    }
}
