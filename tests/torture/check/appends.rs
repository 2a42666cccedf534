//! A string with one writer that only appends numbered pieces: all acknowledged ones stand in it, once, in order.

use super::{Finding, Kind, Micros, Status};

#[derive(Debug, Default)]
pub struct Appends {
    pieces: Vec<(Status, Micros)>,
}

impl Appends {
    /// A piece is about to be sent; its number.
    pub fn begin(&mut self) -> usize {
        self.pieces.push((Status::Open, 0));
        self.pieces.len() - 1
    }

    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    pub fn end(&mut self, number: usize, status: Status, now: Micros) {
        self.pieces[number] = (status, now);
    }

    /// The piece with a number, as it is sent.
    pub fn piece(number: usize) -> String {
        format!("{number},")
    }

    /// Judges the whole value, read behind the first `sent` pieces.
    pub fn read(&self, value: &str, sent: usize) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut present = vec![false; self.pieces.len()];
        let mut last = None;
        for word in value.split_terminator(',') {
            let number = word.parse::<usize>().ok().filter(|n| *n < self.pieces.len());
            let Some(number) = number else {
                findings.push(Finding::new(Kind::FromNowhere, format!("piece {word:?} was never sent")));
                continue;
            };
            if std::mem::replace(&mut present[number], true) {
                findings.push(Finding::new(Kind::Twice, format!("piece {number} stands there twice")));
            } else if last.is_some_and(|last| last > number) || number >= sent {
                findings
                    .push(Finding::new(Kind::Order, format!("piece {number} behind {last:?}, {sent} sent")));
            }
            if self.pieces[number].0 == Status::No {
                findings
                    .push(Finding::new(Kind::Untrue, format!("piece {number} was said not to be executed")));
            }
            last = last.max(Some(number));
        }
        let missing = (0..sent).filter(|n| self.pieces[*n].0 == Status::Acked && !present[*n]);
        let missing: Vec<usize> = missing.collect();
        if let Some(first) = missing.first() {
            let text = format!("{} acknowledged pieces are missing, the first is {first}", missing.len());
            findings.push(Finding::missed(Kind::Lost, missing.iter().map(|n| self.pieces[*n].1), text));
        }
        findings
    }
}
