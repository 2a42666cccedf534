//! Looks for an option among a command's arguments, knowing which options take values, so that a
//! value that happens to spell an option is not taken for one.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::protocol::request::Args;

/// Which options to look for, and how to step over the others. Letter case is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionScan {
    /// The options looked for.
    pub any: Vec<String>,
    /// First argument that may be an option.
    pub from: usize,
    /// How many values each option takes; none where it is not listed.
    #[serde(default)]
    pub values: BTreeMap<String, usize>,
    /// The search ends at this word.
    #[serde(default)]
    pub until: Option<String>,
}

impl OptionScan {
    /// Index of the first option found.
    pub fn first(&self, args: &Args) -> Option<usize> {
        self.scan(args, false)
    }

    /// Index of the last option found: where an option is repeated, Redis takes the last.
    pub fn last(&self, args: &Args) -> Option<usize> {
        self.scan(args, true)
    }

    fn scan(&self, args: &Args, to_the_end: bool) -> Option<usize> {
        let is = |arg: &[u8], word: &str| arg.eq_ignore_ascii_case(word.as_bytes());
        let mut found = None;
        let mut index = self.from;
        while let Some(arg) = args.get(index) {
            if self.until.as_deref().is_some_and(|word| is(arg, word)) {
                break;
            }
            if self.any.iter().any(|word| is(arg, word)) {
                found = Some(index);
                if !to_the_end {
                    break;
                }
            }
            let values = self.values.iter().find(|(word, _)| is(arg, word)).map_or(0, |(_, count)| *count);
            index += 1 + values;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::Request;

    fn scan() -> OptionScan {
        let values = [("COUNT".to_owned(), 1), ("GROUP".to_owned(), 2), ("BLOCK".to_owned(), 1)].into();
        OptionScan { any: vec!["BLOCK".into()], from: 1, values, until: Some("STREAMS".into()) }
    }

    fn first(line: &str) -> Option<usize> {
        scan().first(&Request::of(line).args())
    }

    #[test]
    fn finds_an_option_and_not_a_value() {
        assert_eq!(first("XREAD block 0 STREAMS s $"), Some(1));
        assert_eq!(first("XREAD COUNT 1 BlOcK 0 STREAMS s $"), Some(3));
        assert_eq!(first("XREAD COUNT block STREAMS s $"), None);
        assert_eq!(first("XREADGROUP GROUP block block COUNT 2 STREAMS s >"), None);
        assert_eq!(first("XREAD STREAMS BLOCK 0"), None);
        assert_eq!(first("XREAD"), None);
        assert_eq!(scan().last(&Request::of("X BLOCK 1 BLOCK 2").args()), Some(3));
    }
}
