//! A list that some push to and others pop from: each element comes out once, or is still there.

use std::collections::BTreeMap;

use super::{Finding, Kind, Micros, Status};

#[derive(Debug, Default)]
pub struct Queue {
    /// Elements by number: fate and time of the push, time of the pop.
    elements: BTreeMap<u64, (Status, Micros, Option<Micros>)>,
    /// Pops that may have taken an element nobody got.
    blind: usize,
}

impl Queue {
    /// An element is about to be pushed; its number.
    pub fn begin(&mut self) -> u64 {
        let number = self.elements.len() as u64;
        self.elements.insert(number, (Status::Open, 0, None));
        number
    }

    pub fn end(&mut self, number: u64, status: Status, now: Micros) -> Option<Finding> {
        let element = self.elements.get_mut(&number)?;
        (element.0, element.1) = (status, now);
        let untrue = status == Status::No && element.2.is_some();
        untrue.then(|| {
            Finding::new(Kind::Untrue, format!("element {number} came out, then its push was denied"))
        })
    }

    /// A pop ended in an error that leaves open whether it took something.
    pub fn blind_pop(&mut self) {
        self.blind += 1;
    }

    /// An element came out.
    pub fn popped(&mut self, number: u64, now: Micros) -> Option<Finding> {
        let Some(element) = self.elements.get_mut(&number) else {
            return Some(Finding::new(Kind::FromNowhere, format!("element {number} was never pushed")));
        };
        let before = element.2.replace(now);
        if let Some(before) = before {
            let text = format!("element {number} came out twice");
            return Some(Finding::missed(Kind::Twice, [before], text));
        }
        (element.0 == Status::No).then(|| {
            Finding::new(Kind::Untrue, format!("element {number} came out, though its push was denied"))
        })
    }

    /// Judges the whole, once the list was emptied by `popped`. `excused` tells whether the cluster may have lost a
    /// push that was acknowledged at that moment.
    pub fn emptied(&self, excused: impl Fn(Micros) -> bool) -> Vec<Finding> {
        let missing = self.elements.iter().filter(|(_, (status, at, popped))| {
            *status == Status::Acked && popped.is_none() && !excused(*at)
        });
        // Each blind pop may have taken one; which of them is unknown.
        let finding = |(number, (_, at, _)): (&u64, &(Status, Micros, Option<Micros>))| {
            Finding::missed(Kind::Lost, [*at], format!("element {number} is gone"))
        };
        missing.skip(self.blind).map(finding).collect()
    }
}
