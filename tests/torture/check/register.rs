//! One key with one writer: every read must see the newest acknowledged write, or one still under way.

use super::{Finding, Kind, Micros, Span, Status};

/// One write: a value with its number, or a removal.
#[derive(Clone, Copy, Debug)]
struct Version {
    removal: bool,
    done: Micros,
    status: Status,
    /// Some read saw it.
    seen: bool,
}

/// All writes of a key in the order sent; number 0 is "not there", before the run.
#[derive(Debug)]
pub struct Register {
    versions: Vec<Version>,
}

/// One reply to a read.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The number in the value, or nil.
    pub seen: Option<usize>,
    /// From sending to reply.
    pub span: Span,
    /// For a read on the writer's own connection: the last write sent before it.
    pub after: Option<usize>,
}

impl Default for Register {
    fn default() -> Self {
        Self { versions: vec![Version { removal: true, done: 0, status: Status::Acked, seen: false }] }
    }
}

impl Register {
    /// A write is about to be sent; its number.
    pub fn begin(&mut self, removal: bool) -> usize {
        self.versions.push(Version { removal, done: 0, status: Status::Open, seen: false });
        self.versions.len() - 1
    }

    /// The number of the last write sent.
    pub fn last(&self) -> usize {
        self.versions.len() - 1
    }

    /// A write was answered.
    pub fn end(&mut self, number: usize, status: Status, now: Micros) -> Option<Finding> {
        let version = &mut self.versions[number];
        (version.status, version.done) = (status, now);
        (status == Status::No && version.seen)
            .then(|| Finding::new(Kind::Untrue, format!("write {number} was read, then called not executed")))
    }

    /// The key's state when it is certain: `Some(true)` for there, `Some(false)` for not there.
    pub fn exists(&self) -> Option<bool> {
        let last = self.versions.iter().rev().find(|v| v.status != Status::No)?;
        (last.status == Status::Acked).then_some(!last.removal)
    }

    /// When the last certain write was acknowledged.
    pub fn acked_at(&self) -> Micros {
        self.versions.iter().rev().find(|v| v.status == Status::Acked).map_or(0, |v| v.done)
    }

    /// Judges a read at the moment its reply is in.
    pub fn read(&mut self, read: &Read) -> Option<Finding> {
        let upper = read.after.unwrap_or(self.last());
        let number = match read.seen {
            Some(number) => number,
            None => self.removal_up_to(upper),
        };
        let Some(version) = self.versions.get_mut(number).filter(|v| v.removal == read.seen.is_none()) else {
            return Some(Finding::new(Kind::FromNowhere, format!("write {number} was never sent")));
        };
        version.seen = true;
        if version.status == Status::No {
            return Some(Finding::new(
                Kind::Untrue,
                format!("write {number}, said not to be executed, was read"),
            ));
        }
        if number > upper {
            return Some(Finding::new(Kind::Order, format!("read behind write {upper} shows {number}")));
        }
        let missed = self.versions[number + 1..=upper]
            .iter()
            .filter(|v| v.status == Status::Acked && (read.after.is_some() || v.done < read.span.from));
        let lost = Span::around(missed.map(|v| v.done))?;
        let shown = read.seen.map_or("nil".to_owned(), |n| format!("write {n}"));
        let text = format!("{shown}, though one up to {upper} was acknowledged before");
        Some(Finding::missed(Kind::Stale, lost, text))
    }

    fn removal_up_to(&self, upper: usize) -> usize {
        let possible = |n: &usize| self.versions[*n].removal && self.versions[*n].status != Status::No;
        (0..=upper).rev().find(possible).unwrap_or(0)
    }
}
