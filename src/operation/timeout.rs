//! How long a command may wait: read from its arguments as Redis reads it (`getTimeoutFromObjectOrReply`), and
//! written again with what is left of it. Pure. What Redis would refuse is never judged here: it goes to the
//! node as it is, whose error the client gets.

use super::OwnedRequest;
use crate::command::Command;
use crate::command::overrides::TimeoutUnit;
use crate::protocol::encode;
use crate::protocol::request::Args;

/// Longest wait that is reckoned with, in milliseconds: a year. What is longer has no end for us.
const LONGEST: f64 = 365.0 * 86_400_000.0;

/// How long a client wants to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until there is a reply.
    Forever,
    /// So many milliseconds, at least one.
    For(u64),
    /// The argument is not a number we can read: the node refuses it, or knows better.
    Unknown,
}

/// The timeout of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// What it says.
    pub patience: Patience,
    place: Option<(usize, TimeoutUnit)>,
}

impl Timeout {
    /// As `args` say. A command we know no place of stays `Unknown`.
    pub fn of(command: &Command, args: &Args<'_>) -> Self {
        let place = place(command, args);
        let patience = match place {
            None => Patience::Unknown,
            Some((index, TimeoutUnit::Seconds)) => seconds(args.at(index)),
            Some((index, TimeoutUnit::Milliseconds)) => milliseconds(args.at(index)),
        };
        Self { patience, place }
    }

    /// The argument with `left` milliseconds instead, and its index. Never 0, which means "for ever".
    pub fn argument(&self, left: u64) -> Option<(usize, Vec<u8>)> {
        let Patience::For(_) = self.patience else { return None };
        let (index, unit) = self.place?;
        let left = left.max(1);
        let text = match unit {
            TimeoutUnit::Seconds => format!("{}.{:03}", left / 1000, left % 1000),
            TimeoutUnit::Milliseconds => left.to_string(),
        };
        Some((index, text.into_bytes()))
    }
}

fn place(command: &Command, args: &Args<'_>) -> Option<(usize, TimeoutUnit)> {
    let place = command.decision.timeout?;
    let index = match place.at {
        // Where an option is repeated, Redis takes the last.
        None => command.decision.operation_with.as_ref()?.last(args)? + 1,
        Some(at) if at < 0 => args.len().checked_sub(at.unsigned_abs() as usize)?,
        Some(at) => at as usize,
    };
    Some((index, place.unit))
}

fn seconds(text: &[u8]) -> Patience {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    match number {
        Some(0.0) => Patience::Forever,
        Some(seconds) if seconds > 0.0 => whole((seconds * 1000.0).ceil()),
        _ => Patience::Unknown,
    }
}

fn milliseconds(text: &[u8]) -> Patience {
    let plain = text == b"0" || text.first().is_some_and(|first| (b'1'..=b'9').contains(first));
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    match number.filter(|_| plain) {
        Some(0) => Patience::Forever,
        Some(number) => whole(number as f64),
        None => Patience::Unknown,
    }
}

fn whole(milliseconds: f64) -> Patience {
    if milliseconds <= LONGEST { Patience::For((milliseconds as u64).max(1)) } else { Patience::Unknown }
}

impl OwnedRequest {
    /// The request with other words in some places.
    pub fn with(&self, changes: &[(usize, Vec<u8>)]) -> Vec<u8> {
        let args = self.args();
        let mut out = Vec::with_capacity(self.bytes().len() + 32 * changes.len());
        encode::array(&mut out, args.len());
        for (index, arg) in args.iter().enumerate() {
            let changed = changes.iter().find(|(place, _)| *place == index);
            encode::bulk(&mut out, changed.map_or(arg, |(_, word)| word));
        }
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::command::CommandTable;
    use crate::command::tests::Request;

    fn of(line: &str) -> Timeout {
        let name = line.split(' ').next().unwrap().to_lowercase();
        Timeout::of(CommandTable::builtin().by_name(&name).unwrap(), &Request::of(line).args())
    }

    #[test]
    fn read_as_redis_reads_them() {
        for (line, patience) in [
            ("BLPOP a b 0", Patience::Forever),
            ("BLPOP a 0.0", Patience::Forever),
            ("BLPOP a 1", Patience::For(1000)),
            ("BLPOP a +1e-2", Patience::For(10)),
            ("BLPOP a .0001", Patience::For(1)),
            ("BLPOP a 1.0005", Patience::For(1001)),
            ("BLPOP a -1", Patience::Unknown),
            ("BLPOP a inf", Patience::Unknown),
            ("BLPOP a nan", Patience::Unknown),
            ("BLPOP a 0x10", Patience::Unknown),
            ("BLPOP a 1e13", Patience::Unknown),
            ("BLPOP a ", Patience::Unknown),
            ("BLMOVE a b LEFT RIGHT 2.5", Patience::For(2500)),
            ("BLMPOP 3 1 a LEFT", Patience::For(3000)),
            ("BZMPOP 0 1 a MIN", Patience::Forever),
            ("XREAD block 70 COUNT 1 BLOCK 80 STREAMS block $", Patience::For(80)),
            ("XREAD BLOCK 07 STREAMS s $", Patience::Unknown),
            ("XREAD BLOCK +7 STREAMS s $", Patience::Unknown),
            ("XREADGROUP GROUP BLOCK c BLOCK 0 STREAMS s >", Patience::Forever),
            ("WAIT 1 100", Patience::For(100)),
            ("WAIT 1 1.5", Patience::Unknown),
            ("WAITAOF 1 1 9", Patience::For(9)),
            ("GET a", Patience::Unknown),
        ] {
            assert_eq!(of(line).patience, patience, "{line}");
        }
    }

    #[test]
    fn written_again_but_never_as_for_ever() {
        assert_eq!(of("BLPOP a b 5").argument(1234), Some((3, b"1.234".to_vec())));
        assert_eq!(of("BLPOP a b 5").argument(0), Some((3, b"0.001".to_vec())));
        assert_eq!(of("BLPOP a b 0").argument(5), None);
        assert_eq!(of("XREAD BLOCK 5 STREAMS s $").argument(3), Some((2, b"3".to_vec())));
    }
}
