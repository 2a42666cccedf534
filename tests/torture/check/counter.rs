//! A counter with one writer: each acknowledged INCR is one more than the one before, plus at most those whose fate
//! was left open.

use super::{Finding, Kind, Micros, Status};

#[derive(Debug, Default)]
pub struct Counter {
    /// Acknowledged values with their times, ascending.
    acked: Vec<(u64, Micros)>,
    /// Open fates since the last acknowledged one.
    maybe: u64,
}

impl Counter {
    /// The value last acknowledged.
    pub fn value(&self) -> u64 {
        self.acked.last().map_or(0, |(value, _)| *value)
    }

    /// An increment without a value: its error said maybe or no.
    pub fn failed(&mut self, status: Status) {
        self.maybe += u64::from(status == Status::Maybe);
    }

    /// An increment's reply.
    pub fn incremented(&mut self, value: u64, now: Micros) -> Option<Finding> {
        let finding = self.judge(value, 1);
        self.adopt(value, now);
        finding
    }

    /// A read's reply; it came behind everything that was sent.
    pub fn read(&mut self, value: u64, now: Micros) -> Option<Finding> {
        let finding = self.judge(value, 0);
        if value > 0 {
            self.adopt(value, now);
        }
        finding
    }

    fn judge(&self, value: u64, step: u64) -> Option<Finding> {
        let (low, high) = (self.value() + step, self.value() + step + self.maybe);
        if value > high {
            let text = format!("{value} where at most {high} were sent");
            return Some(Finding::new(Kind::Twice, text));
        }
        let missed = self.acked.iter().filter(|(acked, _)| acked + step > value).map(|(_, at)| *at);
        let text = format!("{value} where at least {low} were acknowledged");
        (value < low).then(|| Finding::missed(Kind::Lost, missed, text))
    }

    fn adopt(&mut self, value: u64, now: Micros) {
        while self.acked.last().is_some_and(|(acked, _)| *acked >= value) {
            self.acked.pop();
        }
        self.acked.push((value, now));
        self.maybe = 0;
    }
}
