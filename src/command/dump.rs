//! The command table for people and scripts: `slotway commands`.

use std::fmt::Write as _;

use serde::Serialize;

use super::keys::{KeyRule, Pick, Spec, Start};
use super::overrides::Refusal;
use super::table::{Command, CommandTable};
use super::{Handling, SplitKind};

pub use super::fetch::fetch;

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    arity: i32,
    class: &'static str,
    handling: &'static str,
    keys: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedicated_with: Option<&'a [String]>,
    /// May be read at replicas, where reads go there.
    replicas: bool,
    flags: &'a [String],
}

/// The built-in table: name, arity, handling, keys and reason as text columns, or all of it as JSON.
/// In the JSON, `error` is what a client gets where the command is refused.
pub fn print_table(json: bool) -> String {
    let rows: Vec<Row> = CommandTable::builtin().iter().map(row).collect();
    if json {
        let lines: Vec<String> = rows.iter().filter_map(|row| serde_json::to_string(row).ok()).collect();
        return format!("[\n{}\n]\n", lines.join(",\n"));
    }
    let mut text = String::new();
    line(&mut text, ["COMMAND", "ARITY", "HANDLING", "KEYS", "REASON"]);
    for row in rows {
        let mut reason = row.reason.unwrap_or_default().to_owned();
        if let Some(options) = row.dedicated_with {
            reason = format!("with {} on a dedicated connection: {reason}", options.join(" or "));
        }
        line(&mut text, [row.name, &row.arity.to_string(), row.handling, &row.keys, &reason]);
    }
    text
}

fn line(out: &mut String, columns: [&str; 5]) {
    let [name, arity, handling, keys, reason] = columns;
    let start = out.len();
    // Writing to a String cannot fail.
    let _ = write!(out, "{name:<28}{arity:>6}  {handling:<20}{keys:<28}{reason}");
    out.truncate(start + out.get(start..).map_or(0, |line| line.trim_end().len()));
    out.push('\n');
}

fn row(command: &Command) -> Row<'_> {
    let decision = &command.decision;
    let error = match command.handling {
        Handling::Refuse(error) if command.subcommands.is_empty() => Some(error),
        _ => None,
    };
    Row {
        name: command.name,
        arity: command.entry.arity,
        class: command.class.label(),
        handling: words(command),
        keys: keys(command),
        reason: decision.reason.as_deref(),
        error,
        dedicated_with: decision.operation_with.as_ref().map(|option| option.any.as_slice()),
        replicas: command.reads_at_replicas,
        flags: &command.entry.flags,
    }
}

/// How a command is handled, in few words. A container alone is refused by everybody, for the number of
/// its arguments.
pub(super) fn words(command: &Command) -> &'static str {
    match (command.handling, command.decision.refuse) {
        (Handling::Refuse(_) | Handling::Route, _) if !command.subcommands.is_empty() => "container",
        (Handling::Route, _) if command.key_rule == KeyRule::None => "any primary",
        (Handling::Route, _) => "route by key",
        (Handling::Learned { .. }, _) => "route by key, learned",
        (Handling::Split(SplitKind::ByPosition), _) => "split, by position",
        (Handling::Split(SplitKind::Sum), _) => "split, sum",
        (Handling::Split(SplitKind::AllOk), _) => "split, all OK",
        (Handling::Local(_), _) => "local",
        (Handling::Operation(kind), _) => kind.words(),
        (Handling::Transaction(_), _) => "transaction",
        (Handling::PubSub(kind), _) => kind.words(),
        (Handling::Refuse(_), Some(Refusal::Node)) => "refused: node",
        (Handling::Refuse(_), Some(Refusal::Cluster)) => "refused: cluster",
        (Handling::Refuse(_), _) => "refused: later",
    }
}

/// Where the keys stand: argument numbers; `#2` is a number of keys in argument 2.
fn keys(command: &Command) -> String {
    match command.key_rule {
        KeyRule::None => "-".to_owned(),
        KeyRule::First => "1".to_owned(),
        KeyRule::Range { first, last, step: 1 } => format!("{first}..{last}"),
        KeyRule::Range { first, last, step } => format!("{first}..{last} step {step}"),
        KeyRule::Specs => command.specs.specs.iter().map(spec).collect::<Vec<_>>().join(", "),
    }
}

fn spec(spec: &Spec) -> String {
    let start = match &spec.begin {
        Start::Index(index) => index.to_string(),
        Start::Keyword(word, _) => format!("after {word}"),
        Start::Option(scan) => format!("after {}", scan.any.join("/")),
    };
    match spec.find {
        Pick::Range { last: 0, .. } => start,
        Pick::Range { last, limit: 0, .. } => format!("{start}..{last}"),
        Pick::Range { limit, .. } => format!("{start}, 1/{limit} of the rest"),
        Pick::Keynum { index, .. } => match spec.begin {
            Start::Index(begin) => format!("#{}", begin + index),
            _ => format!("#{start}"),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn prints_every_command() {
        let text = print_table(false);
        assert_eq!(text.lines().count(), CommandTable::builtin().len() + 1);
        for expected in [
            "get                              2  route by key        1",
            "mset                            -3  split, all OK       1..-1 step 2",
            "eval                            -3  route by key        #2",
            "sort                            -2  route by key        1, after STORE",
            "multi                            1  transaction         -                           all keys",
        ] {
            assert!(text.lines().any(|l| l.starts_with(expected)), "{expected}\n{text}");
        }
        assert!(
            text.lines().any(|l| l.starts_with("acl                             -2  container")),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&print_table(true)).unwrap();
        let rows = json.as_array().unwrap();
        assert_eq!(rows.len(), CommandTable::builtin().len());
        let swapdb = rows.iter().find(|r| r["name"] == "swapdb").unwrap();
        assert_eq!(
            swapdb["error"],
            "ERR slotway: 'swapdb' cannot work on a cluster: a cluster has one database"
        );
    }
}
