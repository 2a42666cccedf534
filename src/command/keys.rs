//! Which arguments of a request are keys.
//!
//! Two rules, both Redis' own. Key specifications (begin_search × find_keys, as COMMAND GETKEYS follows them)
//! decide where they fit the request. Where they do not, Redis asks the command itself, which takes the
//! arguments more leniently; so do we, because a cluster node takes the slot from that answer.

use super::options::OptionScan;
use super::table::Command;
use crate::protocol::request::Args;

/// How the keys of a command are found, by cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// It has no keys.
    None,
    /// Argument 1 is the key and the only one.
    First,
    /// Every `step`-th argument from `first` to `last` (negative: counted from behind the last argument).
    Range {
        /// First key.
        first: u16,
        /// Last key.
        last: i16,
        /// Distance between keys, at least 1.
        step: u16,
    },
    /// Where they are depends on the arguments.
    Specs,
}

/// Why no keys can be named. The texts are those of COMMAND GETKEYS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The command never has any.
    #[error("ERR The command has no key arguments")]
    NoKeys,
    /// The number of arguments is wrong.
    #[error("ERR Invalid number of arguments specified for command")]
    Arity,
    /// The arguments do not fit the command: it will be refused by whichever node gets it.
    #[error("ERR Invalid arguments specified for command")]
    Invalid,
}

/// All key specifications of one command, ready to be followed.
#[derive(Debug, Default)]
pub struct SpecSet {
    /// In the order the server names them.
    pub specs: Vec<Spec>,
    /// The command can be asked itself where they do not fit (flag `movablekeys`).
    pub lenient: bool,
    /// A request without keys is right, too (flag `no_mandatory_keys`).
    pub keys_optional: bool,
}

/// One key specification.
#[derive(Debug)]
pub struct Spec {
    /// Where the search starts.
    pub begin: Start,
    /// Which arguments from there are keys.
    pub find: Pick,
    /// It does not tell all keys; those it tells count only where the key before it is empty.
    pub incomplete: bool,
    /// How the keys are used, in Redis' words.
    pub flags: Vec<String>,
}

/// Where the search for keys starts.
#[derive(Debug)]
pub enum Start {
    /// At this argument.
    Index(usize),
    /// After this word, looked for from this argument on; negative: backwards from the end.
    Keyword(String, i32),
    /// After the last occurrence of an option.
    Option(OptionScan),
}

/// Which arguments are keys, relative to the start.
#[derive(Debug)]
pub enum Pick {
    /// `last` negative: from the end; with `limit` the first 1/limit of the rest.
    Range {
        /// Last key.
        last: i64,
        /// Distance between keys.
        step: usize,
        /// See above; 0 for none.
        limit: usize,
    },
    /// An argument holds the number of keys.
    Keynum {
        /// Which one.
        index: usize,
        /// First key.
        first: usize,
        /// Distance between keys.
        step: usize,
    },
}

/// Appends the argument indices of the keys of `args` to `out`; none is a right answer (EVAL with 0
/// keys). The arity must have been checked.
///
/// # Errors
/// `KeyError::Invalid`, with nothing appended: the request is malformed (a number of keys that is not
/// one, no STREAMS …) and any primary will say so in Redis' words.
#[inline]
pub fn find_keys(command: &Command, args: &Args, out: &mut Vec<u32>) -> Result<(), KeyError> {
    match command.key_rule {
        KeyRule::None => Ok(()),
        KeyRule::First if args.len() > 1 => {
            out.push(1);
            Ok(())
        }
        KeyRule::First => Err(KeyError::Invalid),
        KeyRule::Range { first, last, step } => {
            let end =
                if last < 0 { args.len().wrapping_add_signed(isize::from(last)) } else { last as usize };
            let first = usize::from(first);
            if end < first || end >= args.len() {
                return Err(KeyError::Invalid);
            }
            out.extend((first..=end).step_by(usize::from(step)).map(|index| index as u32));
            Ok(())
        }
        KeyRule::Specs => {
            let before = out.len();
            command.specs.follow(args, |keys, _| {
                match keys {
                    Some(index) => out.push(index),
                    None => out.truncate(before),
                };
            })
        }
    }
}

/// The keys as COMMAND GETKEYS names them: argument index, and how Redis says the key is used.
///
/// # Errors
/// As COMMAND GETKEYS.
pub fn keys_with_use<'c>(command: &'c Command, args: &Args) -> Result<Vec<(u32, &'c [String])>, KeyError> {
    if command.specs.specs.is_empty() {
        return Err(KeyError::NoKeys);
    }
    if !command.arity_fits(args.len()) {
        return Err(KeyError::Arity);
    }
    let mut keys = Vec::new();
    command.specs.follow(args, |index, flags| match index {
        Some(index) => keys.push((index, command.key_use(args).unwrap_or(flags))),
        None => keys.clear(),
    })?;
    Ok(keys)
}

/// What one specification says of a request.
enum Found {
    /// Nothing: its word does not occur.
    Absent,
    /// Arguments first, last, step.
    Keys(usize, usize, usize),
    /// It does not fit the request.
    Misfit,
}

// === impl SpecSet ===

impl SpecSet {
    /// Calls `take` for each key with its index; with `None` to forget those before, where the strict
    /// reading failed half way and the lenient one starts.
    fn follow<'a>(
        &'a self,
        args: &Args,
        mut take: impl FnMut(Option<u32>, &'a [String]),
    ) -> Result<(), KeyError> {
        let count = self.strict(args, &mut take).or_else(|| {
            take(None, &[]);
            if self.lenient { self.lenient(args, &mut take) } else { None }
        });
        match count {
            Some(1..) => Ok(()),
            _ => {
                take(None, &[]);
                if self.keys_optional { Ok(()) } else { Err(KeyError::Invalid) }
            }
        }
    }

    fn strict<'a>(&'a self, args: &Args, take: &mut impl FnMut(Option<u32>, &'a [String])) -> Option<usize> {
        let mut count = 0;
        for spec in &self.specs {
            match spec.locate(args, strict_number) {
                Found::Absent => {}
                Found::Keys(..) if spec.incomplete => return None,
                Found::Keys(first, last, step) => count += spec.hand_over(first, last, step, take),
                Found::Misfit => return None,
            }
        }
        Some(count)
    }

    fn lenient<'a>(&'a self, args: &Args, take: &mut impl FnMut(Option<u32>, &'a [String])) -> Option<usize> {
        let mut count = 0;
        for (position, spec) in self.specs.iter().enumerate() {
            let replaced = self.replaced(position, args);
            let replaces = position > 0 && self.replaced(position - 1, args);
            match spec.locate(args, lenient_number) {
                Found::Keys(..) if spec.incomplete && !replaces => return None,
                Found::Keys(..) if replaced => {}
                Found::Keys(first, last, step) => {
                    // Of keys found this way Redis says how they are used for MIGRATE only.
                    let named = spec.incomplete;
                    let mut take = |index, flags| take(index, if named { flags } else { &[] });
                    count += spec.hand_over(first, last, step, &mut take);
                }
                Found::Misfit if matches!(spec.begin, Start::Index(_)) => return None,
                Found::Absent | Found::Misfit => {}
            }
        }
        Some(count)
    }

    /// MIGRATE's form: an empty key, and the keys after a word further on.
    fn replaced(&self, position: usize, args: &Args) -> bool {
        let empty = match self.specs.get(position).map(|spec| &spec.begin) {
            Some(Start::Index(index)) => args.at(*index).is_empty(),
            _ => false,
        };
        let next = self.specs.get(position + 1).filter(|next| empty && next.incomplete);
        next.is_some_and(|next| matches!(next.locate(args, lenient_number), Found::Keys(..)))
    }
}

// === impl Spec ===

impl Spec {
    fn locate(&self, args: &Args, number: fn(&[u8]) -> Option<usize>) -> Found {
        let argc = args.len();
        let start = match &self.begin {
            Start::Index(index) => *index,
            Start::Keyword(word, from) => match keyword(args, word, *from) {
                Some(index) => index + 1,
                None => return Found::Absent,
            },
            Start::Option(scan) => match scan.last(args) {
                Some(index) if index + 1 < argc => index + 1,
                _ => return Found::Absent,
            },
        };
        let (first, last, step) = match self.find {
            Pick::Range { last, step, limit } if last >= 0 || limit == 0 => {
                let base = if last >= 0 { start } else { argc };
                (start, base.checked_add_signed(last as isize), step)
            }
            Pick::Range { last, step, limit } => {
                let part = argc.saturating_sub(start) / limit;
                (start, (start + part).checked_add_signed(last as isize), step)
            }
            Pick::Keynum { index, first, step } => {
                let Some(count) = args.get(start + index).and_then(number) else { return Found::Misfit };
                let first = start + first;
                // Redis takes the step into account only when it walks the keys.
                (first, first.checked_add(count).and_then(|end| end.checked_sub(1)), step)
            }
        };
        match last {
            Some(last) if last >= first && last < argc && first < argc => Found::Keys(first, last, step),
            _ => Found::Misfit,
        }
    }

    fn hand_over<'a>(
        &'a self,
        first: usize,
        last: usize,
        step: usize,
        take: &mut impl FnMut(Option<u32>, &'a [String]),
    ) -> usize {
        (first..=last).step_by(step.max(1)).map(|index| take(Some(index as u32), &self.flags)).count()
    }
}

/// Index of `word`, looked for as Redis does: forwards to the last argument but one, or backwards to
/// argument 2; a word in the very last (or first) place has nothing after (before) it.
fn keyword(args: &Args, word: &str, from: i32) -> Option<usize> {
    let is = |index: &usize| args.at(*index).eq_ignore_ascii_case(word.as_bytes());
    let argc = args.len();
    if from > 0 {
        (from as usize..argc.saturating_sub(1)).find(is)
    } else {
        let start = argc.checked_add_signed(from as isize)?;
        (2..=start).rev().find(is)
    }
}

/// A number of keys as Redis' string2ll reads it: digits only, no leading zero.
fn strict_number(text: &[u8]) -> Option<usize> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// A number of keys as C's atoi reads it: blanks, a sign, digits, whatever follows; at least 1.
fn lenient_number(text: &[u8]) -> Option<usize> {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()?;
    (number > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::command::table::{CommandTable, Lookup};
    use crate::command::tests::Request;

    fn keys(line: &str) -> Result<Vec<String>, KeyError> {
        let request = Request::of(line);
        let args = request.args();
        let Lookup::Found(command) = CommandTable::builtin().lookup(&args) else { panic!("{line}") };
        let mut out = vec![99];
        let result = find_keys(command, &args, &mut out);
        assert_eq!(out.remove(0), 99);
        result.map(|()| {
            out.iter().map(|&i| String::from_utf8_lossy(args.at(i as usize)).into_owned()).collect()
        })
    }

    fn found(line: &str) -> String {
        keys(line).unwrap().join(" ")
    }

    #[test]
    fn finds_keys_where_they_stand() {
        for (line, expected) in [
            ("GET a", "a"),
            ("mget a b c", "a b c"),
            ("MSET a 1 b 2", "a b"),
            ("RENAME a b", "a b"),
            ("BITOP AND d a b", "d a b"),
            ("PFMERGE d", "d"),
            ("XREAD COUNT 2 streams a b 0 0", "a b"),
            ("XGROUP CREATE s g $", "s"),
            ("OBJECT ENCODING a", "a"),
            ("MEMORY USAGE a SAMPLES 5", "a"),
            ("EVAL return 2 a b c", "a b"),
            ("EVAL return 0 c", ""),
            ("EVAL return x c", ""),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"),
            ("LMPOP 2 a b LEFT", "a b"),
            ("BLMPOP 0 2 a b LEFT", "a b"),
            ("SORT a BY w_* GET store STORE d", "a d"),
            ("SORT a BY store", "a"),
            ("SORT_RO a LIMIT 0 1", "a"),
            ("GEORADIUS g 1 2 3 m STOREDIST d", "g d"),
            ("GEORADIUS g 1 2 3 m", "g"),
            ("MIGRATE h 1 k 0 9", "k"),
            ("MIGRATE h 1  0 9 REPLACE KEYS a b", "a b"),
            ("PING", ""),
        ] {
            assert_eq!(found(line), expected, "{line}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for line in [
            "ZUNIONSTORE d 0 a",
            "ZUNIONSTORE d -1 a",
            "ZUNIONSTORE d 3 a b",
            "ZUNIONSTORE d 99999999999999999999 a",
            "SINTERCARD x a",
            "XREAD COUNT 1 STREAMS",
            "XREAD a b c",
            "MIGRATE h 1 k 0 9 KEYS a",
        ] {
            assert_eq!(keys(line), Err(KeyError::Invalid), "{line}");
        }
    }
}
