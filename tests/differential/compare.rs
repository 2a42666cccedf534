//! When two replies are the same. Byte for byte; what is unordered, random or a time by nature is
//! compared as strictly as its nature allows. The table's tips say which replies those are.

use slotway::command::Command;

use super::shape::Shape;
use crate::support::keys::slot;
use crate::support::resp::{Value, parse};

/// How the replies of a request are compared where they are not equal.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// They must be equal.
    Exact,
    /// Elements (of this many values each) in any order, at every level.
    Sorted(usize),
    /// Integers, and texts that are integers, may differ by this much; a negative one may not.
    Near(i64),
    /// As `Sorted` if it is the whole collection, else the same form.
    Scan(usize),
    /// A cursor and elements.
    Part,
    /// As many random members of the collection that the request before asked for.
    Random,
    /// The same form: types and lengths of aggregates.
    Form,
    /// The same type at the top.
    Kind,
    /// This form, whatever the single server says.
    Shaped(Shape),
    /// Equal as the rule says, or one of these errors in its place.
    Refused(&'static [&'static str], Box<Rule>),
    /// As the rule says, but the script may be known.
    Known(Box<Rule>),
    /// EXEC: element by element.
    Each(Vec<Rule>),
}

/// Commands whose replies depend on more than the tips tell, or on less.
const RULES: &[(&str, Rule)] = &[
    // The tip says it may change between versions; here both are one version.
    ("object|encoding", Rule::Exact),
    ("object|refcount", Rule::Exact),
    ("xtrim", Rule::Exact),
    ("ttl", Rule::Near(30)),
    ("pttl", Rule::Near(30_000)),
    ("expiretime", Rule::Near(30)),
    ("pexpiretime", Rule::Near(30_000)),
    ("object|idletime", Rule::Near(30)),
    ("object|freq", Rule::Near(255)),
    ("time", Rule::Near(i64::MAX)),
    ("xpending", Rule::Near(30_000)),
    ("xinfo|consumers", Rule::Near(30_000)),
    ("xinfo|stream", Rule::Near(30_000)),
    ("xclaim", Rule::Exact),
    ("xautoclaim", Rule::Exact),
    ("hgetall", Rule::Sorted(2)),
    ("hscan", Rule::Scan(2)),
    ("zscan", Rule::Scan(2)),
    ("sscan", Rule::Scan(1)),
    ("scan", Rule::Scan(1)),
    // Libraries in the order of a hash table.
    ("function|dump", Rule::Kind),
    // Of calls and of memory.
    ("latency|histogram", Rule::Kind),
    ("memory|stats", Rule::Kind),
    // How many replicas said in time that they have everything; the single server has none.
    ("wait", Rule::Near(1)),
    ("spop", Rule::Random),
    ("srandmember", Rule::Random),
    ("hrandfield", Rule::Random),
    ("zrandmember", Rule::Random),
    ("randomkey", Rule::Random),
    // Random drawings.
    ("lolwut", Rule::Kind),
    ("acl|genpass", Rule::Form),
    ("config|get", Rule::Sorted(2)),
    ("pubsub|channels", Rule::Sorted(1)),
    ("pubsub|shardchannels", Rule::Sorted(1)),
    // Without names: one reply for each subscription, in the order of a hash table.
    ("unsubscribe", Rule::Form),
    ("punsubscribe", Rule::Form),
    ("sunsubscribe", Rule::Form),
    ("client|trackinginfo", Rule::Sorted(1)),
];

/// What the cluster's nodes answer to scripts that reach beyond the keys they were given.
const FOREIGN_KEY: &str = "ERR Script attempted to access a non local key in a cluster node";
const LONG_NAME: &str = "ERR slotway: names longer than 4096 bytes";

/// How far a documented difference of `name` may go; every such command has its own line here.
fn difference(name: &str, args: &[Vec<u8>], usual: Rule) -> Option<Rule> {
    let refused = |texts: &'static [&'static str]| Rule::Refused(texts, Box::new(usual));
    Some(match name {
        // A skiplist's levels are random, and with them what it takes.
        "memory|usage" => Rule::Near(i64::MAX),
        "client|setname" => refused(&[LONG_NAME]),
        "hello" => Rule::Refused(&[LONG_NAME], Box::new(Rule::Near(i64::MAX))),
        "client|id" | "publish" | "spublish" => Rule::Near(i64::MAX),
        "info" => Rule::Kind,
        "scan" => refused(&["ERR invalid cursor"]),
        "select" => refused(&["ERR SELECT is not allowed in cluster mode"]),
        "copy" => refused(&["ERR Copying to another database is not allowed in cluster mode"]),
        "sort" | "sort_ro" => refused(&[
            "ERR BY option of SORT denied in Cluster mode.",
            "ERR GET option of SORT denied in Cluster mode.",
        ]),
        "evalsha" | "evalsha_ro" => Rule::Known(Box::new(refused(&[FOREIGN_KEY]))),
        "eval" | "eval_ro" | "fcall" | "fcall_ro" => refused(&[FOREIGN_KEY]),
        "command|count" => Rule::Near(10),
        "command" | "command|info" | "command|list" | "acl|cat" => Rule::Shaped(Shape::Contains),
        "client|info" | "client|list" => Rule::Shaped(Shape::Fields),
        "client|kill" => Rule::Shaped(Shape::Killed),
        "config|get" => Rule::Shaped(Shape::Settings),
        "slowlog|get" => Rule::Shaped(Shape::SlowLog),
        "latency|reset" => Rule::Near(i64::MAX),
        "latency|doctor" | "latency|graph" | "memory|doctor" | "memory|malloc-stats" => Rule::Kind,
        "debug" => Rule::Shaped(Shape::Refusal),
        "save" | "bgsave" | "bgrewriteaof" => Rule::Shaped(Shape::Status),
        "asking" | "readonly" | "readwrite" => Rule::Shaped(Shape::Done),
        "cluster|info" => Rule::Shaped(Shape::ClusterInfo),
        "cluster|keyslot" => {
            let slot = i64::from(slot(&args[2]));
            Rule::Shaped(Shape::Number(slot, slot))
        }
        "cluster|links" => Rule::Shaped(Shape::Nothing),
        "cluster|myid" => Rule::Shaped(Shape::Id),
        "cluster|nodes" => Rule::Shaped(Shape::ClusterNodes),
        "cluster|shards" => Rule::Shaped(Shape::ClusterShards),
        "cluster|slots" => Rule::Shaped(Shape::ClusterSlots),
        "cluster|replicas" | "cluster|slaves" | "cluster|count-failure-reports" => {
            Rule::Shaped(Shape::OfNode)
        }
        "cluster|countkeysinslot" => {
            Rule::Refused(SLOT_ERRORS, Box::new(Rule::Shaped(Shape::Number(0, i64::MAX))))
        }
        "cluster|getkeysinslot" => Rule::Refused(SLOT_ERRORS, Box::new(Rule::Shaped(Shape::Strings))),
        _ if name.ends_with("|help") => Rule::Shaped(Shape::Help),
        _ => return None,
    })
}

/// What a node says to the wrong number of a slot, or of keys.
const SLOT_ERRORS: &[&str] =
    &["ERR Invalid slot", "ERR value is not an integer", "ERR Invalid number of keys"];

impl Rule {
    /// For a request of `command` whose reply differs as documented.
    pub fn of_difference(command: &Command, args: &[Vec<u8>]) -> Rule {
        let rule = difference(command.name, args, Rule::of(command, args));
        rule.unwrap_or_else(|| panic!("{}: how far may it differ?", command.name))
    }

    /// For a request of `command`.
    pub fn of(command: &Command, args: &[Vec<u8>]) -> Rule {
        if let Some((_, rule)) = RULES.iter().find(|(name, _)| *name == command.name) {
            let cursor = args.get(if command.name == "scan" { 1 } else { 2 });
            return match rule {
                // Nobody gave that cursor out: it means something else to each server.
                Rule::Scan(_) if cursor.is_some_and(|cursor| cursor != b"0") => Rule::Part,
                rule => rule.clone(),
            };
        }
        let has = |word: &str| args.iter().any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
        match command.name {
            "xadd" if !has("*") => Rule::Exact,
            // A set that is not sorted comes in the order of its hash table, a part of it is any part.
            "sort" | "sort_ro" if has("BY") && has("LIMIT") => Rule::Form,
            "sort" | "sort_ro" if has("BY") => Rule::Sorted(1),
            _ => {
                let tip = |wanted: &str| command.entry.tips.iter().any(|tip| tip == wanted);
                match (tip("nondeterministic_output"), tip("nondeterministic_output_order")) {
                    (_, true) => Rule::Sorted(1),
                    (true, _) => Rule::Form,
                    (false, false) => Rule::Exact,
                }
            }
        }
    }

    /// True if `got` is not the same as `want`; `whole` is the collection random members come from.
    pub fn differs(&self, want: &[u8], got: &[u8], whole: Option<&[u8]>) -> bool {
        want != got && !self.same(&parse(want), &parse(got), whole)
    }

    fn same(&self, want: &Value, got: &Value, whole: Option<&[u8]>) -> bool {
        match self {
            _ if want == got => true,
            Rule::Shaped(shape) => shape.fits(want, got),
            Rule::Refused(texts, rule) => {
                let refused =
                    matches!(got, Value::Error(error) if texts.iter().any(|t| error.starts_with(t)));
                refused || rule.same(want, got, whole)
            }
            Rule::Known(rule) => {
                let unknown = matches!(want, Value::Error(error) if error.starts_with("NOSCRIPT "));
                unknown || rule.same(want, got, whole)
            }
            Rule::Each(rules) => match (want, got) {
                (Value::Array(want), Value::Array(got)) => {
                    want.len() == got.len()
                        && want.len() == rules.len()
                        && (0..want.len()).all(|i| rules[i].same(&want[i], &got[i], None))
                }
                _ => false,
            },
            // An error is no reply of the command's: there is nothing unordered or random in it.
            _ if want.is_error() || got.is_error() => false,
            Rule::Exact => false,
            Rule::Sorted(group) => sorted(want, *group) == sorted(got, *group),
            Rule::Near(limit) => near(want, got, *limit),
            Rule::Scan(group) => scans(want, got, *group),
            Rule::Part => page(want).is_some() && page(got).is_some(),
            Rule::Random => random(want, got, whole),
            Rule::Form => alike(want, got),
            Rule::Kind => std::mem::discriminant(want) == std::mem::discriminant(got),
        }
    }
}

/// The value with everything unordered put in order, so that order counts no more.
fn sorted(value: &Value, group: usize) -> String {
    let all = |items: &[Value]| -> Vec<String> {
        let whole = if group > 1 && items.len().is_multiple_of(group) { group } else { 1 };
        let mut texts: Vec<String> = items
            .chunks(whole)
            .map(|chunk| chunk.iter().map(|item| sorted(item, group)).collect::<Vec<_>>().join(" "))
            .collect();
        texts.sort();
        texts
    };
    match value {
        Value::Array(items) => format!("array{:?}", all(items)),
        Value::Set(items) => format!("set{:?}", all(items)),
        Value::Push(items) => format!("push{:?}", all(items)),
        Value::Map(pairs) => {
            let mut texts: Vec<String> =
                pairs.iter().map(|(k, v)| format!("{}: {}", sorted(k, group), sorted(v, group))).collect();
            texts.sort();
            format!("map{texts:?}")
        }
        other => format!("{other:?}"),
    }
}

/// The elements of an aggregate, flat for maps; `None` for what is none.
fn elements(value: &Value) -> Option<Vec<&Value>> {
    match value {
        Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items.iter().collect()),
        Value::Map(pairs) => Some(pairs.iter().flat_map(|(k, v)| [k, v]).collect()),
        _ => None,
    }
}

fn pairwise(want: &Value, got: &Value, same: impl Fn(&Value, &Value) -> bool) -> bool {
    if std::mem::discriminant(want) != std::mem::discriminant(got) {
        return false;
    }
    match (elements(want), elements(got)) {
        (Some(want), Some(got)) => {
            want.len() == got.len() && want.iter().zip(&got).all(|(want, got)| same(want, got))
        }
        _ => false,
    }
}

fn near(want: &Value, got: &Value, limit: i64) -> bool {
    let number = |value: &Value| match value {
        Value::Int(number) => Some(*number),
        Value::Bulk(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    };
    match (number(want), number(got)) {
        (Some(want), Some(got)) => {
            want == got || (want >= 0 && got >= 0 && want.abs_diff(got) <= limit.unsigned_abs())
        }
        _ => want == got || pairwise(want, got, |want, got| near(want, got, limit)),
    }
}

/// The same types and lengths at every level; what the leaves say does not count.
fn alike(want: &Value, got: &Value) -> bool {
    if elements(want).is_some() {
        return pairwise(want, got, alike);
    }
    std::mem::discriminant(want) == std::mem::discriminant(got)
}

/// Cursor and elements of a scan.
fn page(value: &Value) -> Option<(&[u8], &Value)> {
    match elements(value)?.as_slice() {
        [Value::Bulk(cursor), page @ Value::Array(_)] => Some((cursor, page)),
        _ => None,
    }
}

/// A whole scan has the same elements, a part of one some elements.
fn scans(want: &Value, got: &Value, group: usize) -> bool {
    match (page(want), page(got)) {
        (Some((b"0", want)), Some((b"0", got))) => sorted(want, group) == sorted(got, group),
        (want, got) => want.is_some() && got.is_some(),
    }
}

fn leaves(value: &Value, into: &mut Vec<Vec<u8>>) {
    match (elements(value), value) {
        (Some(items), _) => items.iter().for_each(|item| leaves(item, into)),
        (None, Value::Bulk(text)) => into.push(text.clone()),
        (None, Value::Double(text)) => into.push(text.clone().into_bytes()),
        _ => {}
    }
}

/// As many as asked for, all of them from the collection; none twice where none was twice.
fn random(want: &Value, got: &Value, whole: Option<&[u8]>) -> bool {
    let (mut expected, mut picked, mut members) = (Vec::new(), Vec::new(), Vec::new());
    leaves(want, &mut expected);
    leaves(got, &mut picked);
    if let Some(whole) = whole {
        leaves(&parse(whole), &mut members);
    }
    alike(want, got) && picked.len() == expected.len() && picked.iter().all(|p| members.contains(p))
}

/// True if the request may leave different data on both servers, so that its keys must go.
pub fn leaves_chance(args: &[Vec<u8>]) -> bool {
    let name = args[0].to_ascii_lowercase();
    let has = |word: &str| args.iter().any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    super::expect::may_differ(args)
        || name == b"spop"
        || (name == b"xadd" && has("*"))
        || (name == b"sort" && has("BY"))
}

#[cfg(test)]
mod tests {
    use slotway::command::CommandTable;

    use super::*;

    /// "Anything" is no comparison.
    #[test]
    fn every_documented_difference_has_its_bounds() {
        for name in super::super::expect::documented() {
            let command = CommandTable::builtin().by_name(name).expect("a command");
            let args: Vec<Vec<u8>> =
                ["CLUSTER", "KEYSLOT", "key"].map(|word| word.as_bytes().to_vec()).into();
            Rule::of_difference(command, &args);
        }
    }
}
