//! A value that several writers change by compare and swap (WATCH): no two of them may win the same number.

use std::collections::BTreeMap;

use super::{Finding, Kind, Micros};

#[derive(Debug, Default)]
pub struct Claims {
    won: BTreeMap<u64, (String, Micros)>,
}

impl Claims {
    /// A transaction was acknowledged that made the value `number`.
    pub fn win(&mut self, number: u64, who: &str, now: Micros) -> Option<Finding> {
        let before = self.won.insert(number, (who.to_owned(), now))?;
        let text = format!("{who} and {} both made it {number}", before.0);
        Some(Finding::missed(Kind::Lost, [before.1], text))
    }

    /// Judges the value at the end, when nobody writes any more.
    pub fn read(&self, number: u64) -> Option<Finding> {
        let missed: Vec<Micros> = self.won.range(number + 1..).map(|(_, (_, at))| *at).collect();
        let text = format!("{number} is behind what was acknowledged");
        (!missed.is_empty()).then(|| Finding::missed(Kind::Lost, missed, text))
    }
}
