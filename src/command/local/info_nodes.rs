//! What the primaries told in their own INFO, and how several values of a field become one. Pure. Takes nothing on
//! trust: what is no number where one is needed leaves its field out.

use std::collections::BTreeMap;

use super::info_fields::Source;
use super::info_own::human;

/// Names and values of one node's INFO.
type Fields<'a> = BTreeMap<&'a str, &'a str>;

/// INFO of all primaries that answered.
#[derive(Debug, Clone, Default)]
pub struct NodesInfo<'a> {
    nodes: Vec<Fields<'a>>,
    modules: Vec<Vec<&'a str>>,
    whole: bool,
}

impl<'a> NodesInfo<'a> {
    /// Of the replies of the primaries to INFO, in whichever protocol version; `None` or no INFO where one did
    /// not answer.
    pub fn read(replies: impl IntoIterator<Item = Option<&'a [u8]>>) -> Self {
        let mut all = Self { whole: true, ..Self::default() };
        for reply in replies {
            let text = reply.filter(|reply| reply.starts_with(b"$") || reply.starts_with(b"="));
            let Some(text) = text.and_then(|text| std::str::from_utf8(text).ok()) else {
                all.whole = false;
                continue;
            };
            let lines = || text.lines().filter_map(|line| line.split_once(':'));
            all.nodes.push(lines().collect());
            all.modules.push(lines().filter(|(name, _)| *name == "module").map(|(_, value)| value).collect());
        }
        all.whole &= !all.nodes.is_empty();
        all
    }

    /// True if all have answered.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Modules, as one of INFO's lines each, that every primary has.
    pub fn modules(&self) -> Vec<&'a str> {
        let Some((first, others)) = self.modules.split_first().filter(|_| self.whole) else {
            return Vec::new();
        };
        let everywhere = |line: &&&str| others.iter().all(|modules| modules.contains(line));
        first.iter().filter(everywhere).copied().collect()
    }

    /// Per name that begins with `prefix`, which is cut off, all values; empty if not all have answered.
    pub fn by_name(&self, prefix: &str) -> BTreeMap<&'a str, Vec<&'a str>> {
        let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for node in self.nodes.iter().filter(|_| self.whole) {
            for (name, value) in node {
                if let Some(name) = name.strip_prefix(prefix) {
                    all.entry(name).or_default().push(value);
                }
            }
        }
        all
    }

    /// The values of a field, if all have answered and have it.
    fn values(&self, name: &str) -> Option<Vec<&'a str>> {
        let values = self.nodes.iter().map(|node| node.get(name).copied()).collect::<Option<Vec<_>>>();
        values.filter(|_| self.whole)
    }

    fn total(&self, name: &str) -> Option<f64> {
        let numbers = self.values(name)?.into_iter().map(number);
        Some(numbers.collect::<Option<Vec<f64>>>()?.into_iter().sum())
    }

    /// The value of `name` by this rule; `None`: left out.
    pub fn value(&self, name: &str, source: Source) -> Option<String> {
        match source {
            Source::Own(_) => None,
            Source::Sum => sum(&self.values(name)?),
            Source::Max => pick(&self.values(name)?, f64::gt),
            Source::Min => pick(&self.values(name)?, f64::lt),
            Source::Limit => {
                let values = self.values(name)?;
                if values.contains(&"0") { Some("0".to_owned()) } else { sum(&values) }
            }
            Source::Same => {
                let values = self.values(name)?;
                let first = *values.first()?;
                values.iter().all(|value| *value == first).then(|| first.to_owned())
            }
            Source::Worst => {
                let values = self.values(name)?;
                Some((*values.iter().find(|value| **value != "ok").unwrap_or(&"ok")).to_owned())
            }
            Source::Human(bytes) => {
                let rule = if bytes == "maxmemory" { Source::Limit } else { Source::Sum };
                Some(human(self.value(bytes, rule)?.parse().ok()?))
            }
            Source::Ratio(part, whole) => {
                Some(format!("{:.2}", divide(self.total(part)?, self.total(whole)?)?))
            }
            Source::Percent(part, whole) => percent(self.total(part)?, self.total(whole)?),
            Source::Dataset => {
                let used = self.total("used_memory")? - self.total("used_memory_startup")?;
                percent(self.total("used_memory_dataset")?, used)
            }
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn divide(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

fn percent(part: f64, whole: f64) -> Option<String> {
    Some(format!("{:.2}%", divide(part * 100.0, whole)?))
}

/// Whole numbers stay whole; others keep the most digits after the point.
fn sum(values: &[&str]) -> Option<String> {
    if let Some(numbers) = values.iter().map(|text| text.parse::<i128>().ok()).collect::<Option<Vec<_>>>() {
        return Some(numbers.into_iter().fold(0, i128::saturating_add).to_string());
    }
    let digits =
        values.iter().map(|text| text.split_once('.').map_or(0, |(_, digits)| digits.len())).max()?;
    let numbers = values.iter().map(|text| number(text)).collect::<Option<Vec<f64>>>()?;
    Some(format!("{:.*}", digits.min(9), numbers.into_iter().sum::<f64>()))
}

/// The value, as it came, that is `better` than all others.
fn pick(values: &[&str], better: fn(&f64, &f64) -> bool) -> Option<String> {
    let mut best: Option<(f64, &str)> = None;
    for text in values {
        let number = number(text)?;
        if best.is_none_or(|(known, _)| better(&number, &known)) {
            best = Some((number, text));
        }
    }
    best.map(|(_, text)| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn info(text: &str) -> Vec<u8> {
        let text = text.replace('|', "\r\n");
        format!("${}\r\n{text}\r\n", text.len()).into_bytes()
    }

    #[test]
    fn each_rule_joins_as_it_says() {
        let replies = [
            info(
                "# Memory|used_memory:1024|limit:0|cpu:0.25|policy:a|status:ok|perc:1.5|peak:4096|maxmemory:5",
            ),
            info(
                "# Memory|used_memory:2048|limit:7|cpu:1.500|policy:a|status:err|perc:0.10|peak:2048|maxmemory:6",
            ),
        ];
        let nodes = NodesInfo::read(replies.iter().map(|reply| Some(&reply[..])));
        let value = |name: &str, source| nodes.value(name, source);
        let is =
            |name: &str, source, expected: &str| assert_eq!(value(name, source).as_deref(), Some(expected));
        is("used_memory", Source::Sum, "3072");
        is("cpu", Source::Sum, "1.750");
        is("limit", Source::Limit, "0");
        is("maxmemory", Source::Limit, "11");
        is("maxmemory_human", Source::Human("maxmemory"), "11B");
        is("perc", Source::Max, "1.5");
        is("perc", Source::Min, "0.10");
        is("policy", Source::Same, "a");
        is("status", Source::Worst, "err");
        is("x", Source::Human("used_memory"), "3.00K");
        is("x", Source::Ratio("used_memory", "peak"), "0.50");
        is("x", Source::Percent("used_memory", "peak"), "50.00%");
        assert_eq!(value("used_memory", Source::Same), None, "they differ");
        assert_eq!(value("policy", Source::Sum), None, "no number");
        assert_eq!(value("nosuch", Source::Sum), None);
        assert_eq!(value("x", Source::Ratio("used_memory", "limit")).as_deref(), Some("438.86"));
        assert_eq!(value("x", Source::Ratio("used_memory", "nosuch")), None);
    }

    #[test]
    fn what_one_does_not_tell_is_left_out() {
        let (a, b) =
            (info("x:1|only:1|module:name=m,ver=1|module:name=n,ver=1"), info("x:2|module:name=m,ver=1"));
        let both = NodesInfo::read([Some(&a[..]), Some(&b[..])]);
        assert!(both.is_whole());
        assert_eq!(both.value("only", Source::Sum), None);
        assert_eq!(both.modules(), ["name=m,ver=1"]);
        for broken in [None, Some(&b"-NOPERM x\r\n"[..]), Some(b"$1\r\n\xff\r\n")] {
            let one = NodesInfo::read([Some(&a[..]), broken]);
            assert!(!one.is_whole() && one.modules().is_empty() && one.by_name("").is_empty());
            assert_eq!(one.value("x", Source::Sum), None);
        }
        assert!(!NodesInfo::read([]).is_whole());
    }
}
