//! One key with one writer: every read must see the newest acknowledged write, or one still under way, and nothing older
//! than what a read before it has shown.

use super::{Finding, Kind, Micros, Span, Status};

/// Not shown yet.
const NEVER: Micros = Micros::MAX;

/// One write: a value with its number, or a removal.
#[derive(Clone, Copy, Debug)]
struct Version {
    removal: bool,
    done: Micros,
    status: Status,
    /// Some read saw it, beyond doubt.
    seen: bool,
    /// When the first read ended that showed it, or could only be explained by it or a later one.
    shown: Micros,
    /// A replica had it, by WAIT: no failover loses it.
    copied: bool,
}

impl Version {
    fn new(removal: bool, status: Status) -> Self {
        Self { removal, done: 0, status, seen: false, shown: NEVER, copied: false }
    }

    /// When it was first known to be there.
    fn known(&self) -> Micros {
        if self.status == Status::Acked { self.shown.min(self.done) } else { self.shown }
    }

    /// The moment a loss would have to explain.
    fn lost(&self) -> Micros {
        if self.copied { 0 } else { self.known() }
    }
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
        Self { versions: vec![Version::new(true, Status::Acked)] }
    }
}

impl Register {
    /// A write is about to be sent; its number.
    pub fn begin(&mut self, removal: bool) -> usize {
        self.versions.push(Version::new(removal, Status::Open));
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

    /// WAIT said that the replicas have this write.
    pub fn copied(&mut self, number: usize) {
        self.versions[number].copied = true;
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
        let due =
            |v: &Version| v.known() < read.span.from || (read.after.is_some() && v.status == Status::Acked);
        let least = (0..=upper).rev().find(|n| due(&self.versions[*n])).unwrap_or(0);
        let (number, oldest) = match read.seen {
            Some(number) => (number, number),
            None => self.removals(least, upper),
        };
        let Some(version) = self.versions.get_mut(number).filter(|v| v.removal == read.seen.is_none()) else {
            return Some(Finding::new(Kind::FromNowhere, format!("write {number} was never sent")));
        };
        version.seen |= number == oldest;
        if version.status == Status::No {
            return Some(Finding::new(
                Kind::Untrue,
                format!("write {number}, said not to be executed, was read"),
            ));
        }
        if number > upper {
            return Some(Finding::new(Kind::Order, format!("read behind write {upper} shows {number}")));
        }
        let shown = &mut self.versions[oldest].shown;
        *shown = read.span.to.min(*shown);
        let missed: Vec<Micros> = self
            .versions
            .get(number + 1..=upper)
            .unwrap_or_default()
            .iter()
            .filter(|v| due(v))
            .map(Version::lost)
            .collect();
        let shown = read.seen.map_or("nil".to_owned(), |n| format!("write {n}"));
        let text = format!("{shown}, though one up to {upper} was acknowledged or read before");
        (!missed.is_empty()).then(|| Finding::missed(Kind::Stale, missed, text))
    }

    /// The newest removal that can explain a nil, and the oldest one that can: neither is older than `least` unless
    /// there is none.
    fn removals(&self, least: usize, upper: usize) -> (usize, usize) {
        let possible = |n: &usize| self.versions[*n].removal && self.versions[*n].status != Status::No;
        let newest = (0..=upper).rev().find(possible).unwrap_or(0);
        (newest, (least..=newest).find(possible).unwrap_or(newest))
    }

    /// Judges a read that a replica may have answered, of a key that is never removed: it shows at least `least`, which
    /// its connection has written or seen, and what was there `lag` before it began.
    pub fn read_behind(&mut self, read: &Read, least: usize, lag: Micros) -> Option<Finding> {
        let (upper, number) = (read.after.unwrap_or(self.last()), read.seen.unwrap_or(0));
        let Some(version) = self.versions.get_mut(number) else {
            return Some(Finding::new(Kind::FromNowhere, format!("write {number} was never sent")));
        };
        version.seen = true;
        version.shown = version.shown.min(read.span.to);
        if version.status == Status::No {
            return Some(Finding::new(
                Kind::Untrue,
                format!("write {number}, said not to be executed, was read"),
            ));
        }
        if number > upper {
            return Some(Finding::new(Kind::Order, format!("read behind write {upper} shows {number}")));
        }
        let due = |n: &usize| {
            let known = self.versions[*n].known();
            known != NEVER && (*n <= least || known.saturating_add(lag) < read.span.from)
        };
        let missed: Vec<usize> = (number + 1..=upper).filter(due).collect();
        let newest = missed.last()?;
        let why = if *newest <= least { "this connection wrote" } else { "was there long before" };
        let text = format!(
            "{}, though {newest} {why}",
            read.seen.map_or("nil".to_owned(), |n| format!("write {n}"))
        );
        Some(Finding::missed(Kind::Stale, missed.iter().map(|n| self.versions[*n].lost()), text))
    }
}
