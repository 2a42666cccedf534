//! The README's tables of commands and of differences, generated from the command table.

use std::collections::BTreeMap;

use super::Handling;
use super::data;
use super::dump::words;
use super::overrides::{NotInMulti, Refusal};
use super::table::{Command, CommandTable};

/// A Markdown table: every command, how it is handled and why, those handled alike in one row.
pub fn readme_table() -> String {
    let table = CommandTable::builtin();
    let mut rows: BTreeMap<(u8, String, String), Vec<String>> = BTreeMap::new();
    for command in table.iter() {
        if let Some(name) = display_name(table, command) {
            let option = command.decision.operation_with.as_ref().map(|option| option.any.join(", "));
            if let (Some(option), Some(kind)) = (&option, command.decision.operation) {
                let reason = command.decision.reason.clone().unwrap_or_default();
                let name = format!("{name} (with {option})");
                rows.entry((3, kind.words().to_owned(), reason)).or_default().push(name);
            }
            let name = option.map_or(name.clone(), |option| format!("{name} (without {option})"));
            rows.entry(row(command)).or_default().push(name);
        }
    }
    let mut text = String::from("| handling | which | commands |\n|---|---|---|\n");
    for ((_, handling, which), names) in rows {
        text.push_str(&format!("| {handling} | {which} | {} |\n", names.join(", ")));
    }
    text
}

/// A Markdown table: what is different from a single Redis, in replies or in effect. What is refused stands in
/// the other table, with the reason.
pub fn differences_table() -> String {
    let mut rows: BTreeMap<(u8, &str), Vec<String>> = BTreeMap::new();
    for command in CommandTable::builtin().iter() {
        let decision = &command.decision;
        let name = command.name.to_ascii_uppercase().replace('|', " ");
        let name = match decision.differs_with.as_ref().or(decision.operation_with.as_ref()) {
            Some(option) => format!("{name} (with {})", option.any.join(", ")),
            None => name,
        };
        if let Some(what) = difference(command) {
            rows.entry((row(command).0, what)).or_default().push(name);
        }
    }
    let mut text = String::from("| commands | what differs |\n|---|---|\n");
    for ((_, what), names) in rows {
        text.push_str(&format!("| {} | {what} |\n", names.join(", ")));
    }
    text
}

/// A Markdown table: what is refused inside a transaction, and why.
pub fn transactions_table() -> String {
    let mut rows: BTreeMap<NotInMulti, Vec<String>> = BTreeMap::new();
    for command in CommandTable::builtin().iter().filter(|command| !is_refused(command)) {
        if let Some(why) = command.not_in_multi {
            rows.entry(why).or_default().push(command.name.to_ascii_uppercase().replace('|', " "));
        }
    }
    let mut text = String::from("| refused inside a transaction | why |\n|---|---|\n");
    for (why, names) in rows {
        text.push_str(&format!("| {} | {} |\n", names.join(", "), why.words()));
    }
    text
}

/// A Markdown table: reads that stay at the primary, and why.
pub fn primary_reads_table() -> String {
    let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for command in CommandTable::builtin().iter() {
        if let Some(why) = &command.decision.at_primary {
            rows.entry(why).or_default().push(command.name.to_ascii_uppercase().replace('|', " "));
        }
    }
    let mut text = String::from("| commands | why |\n|---|---|\n");
    for (why, names) in rows {
        text.push_str(&format!("| {} | {why} |\n", names.join(", ")));
    }
    text
}

fn is_refused(command: &Command) -> bool {
    matches!(command.handling, Handling::Refuse(_))
}

/// What differs in its replies; else, where slotway does more than send it on, what it does.
fn difference(command: &Command) -> Option<&str> {
    let decision = &command.decision;
    let sent_on = matches!(command.handling, Handling::Route | Handling::Learned { .. });
    let ours = (!sent_on || decision.operation.is_some()) && !matches!(command.handling, Handling::Refuse(_));
    let reason = decision.reason.as_deref().filter(|reason| ours && !reason.starts_with("as Redis"));
    decision.differs.as_deref().or(reason)
}

/// Rank, handling and what the commands of a row have in common.
fn row(command: &Command) -> (u8, String, String) {
    let reason = command.decision.reason.clone().unwrap_or_default();
    let handling = words(command).to_owned();
    match (command.handling, command.decision.refuse) {
        (Handling::Route, _) if handling == "any primary" => (1, handling, "no key".to_owned()),
        (Handling::Route, _) if handling == "route by slot" => (1, handling, reason),
        (Handling::Route | Handling::Learned { .. }, _) => (0, handling, group(command)),
        (Handling::Split(_), _) => (2, "split".to_owned(), reason),
        (Handling::Operation(_) | Handling::Transaction(_) | Handling::PubSub(_), _) => (3, handling, reason),
        (Handling::Local(_), _) => (4, "answered by slotway".to_owned(), reason),
        (Handling::Refuse(_), Some(refusal)) => {
            let rank = match refusal {
                Refusal::Later => 5,
                Refusal::Node => 6,
                Refusal::Cluster => 7,
            };
            (rank, format!("refused: {}", refusal.words().trim_start_matches("is ")), reason)
        }
        (Handling::Refuse(_), None) => (8, handling, reason),
    }
}

/// Redis' group of the command.
fn group(command: &Command) -> String {
    data::docs().get(command.name).map_or_else(String::new, |docs| docs.group.clone())
}

/// As a user types it; `None` for what another name in the table already says.
fn display_name(table: &CommandTable, command: &Command) -> Option<String> {
    let name = command.name.to_ascii_uppercase().replace('|', " ");
    let alike = |other: &Command| row(other).0 == row(command).0 && row(other).2 == row(command).2;
    if let Some(container) = command.container.and_then(|id| table.get(id)) {
        let told = alike(container) && container.handling != Handling::Route;
        return (!told).then_some(name);
    }
    let subcommands: Vec<&Command> = command.subcommands.iter().filter_map(|&id| table.get(id)).collect();
    if subcommands.is_empty() {
        return Some(name);
    }
    match subcommands.iter().filter(|sub| alike(sub)).count() {
        _ if command.handling == Handling::Route => None,
        0 => None,
        n if n == subcommands.len() => Some(name),
        _ => Some(format!("{name} (other subcommands)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_every_difference() {
        let text = differences_table();
        for command in CommandTable::builtin().iter().filter(|command| command.decision.differs.is_some()) {
            let name = command.name.to_ascii_uppercase().replace('|', " ");
            assert!(text.contains(&name), "{name}\n{text}");
        }
        assert!(text.contains("COPY (with DB) | ") && text.contains("| MSET | "), "{text}");
        assert!(!text.contains("| GET |") && !text.contains("| QUIT |"), "{text}");
    }

    #[test]
    fn names_every_command_once() {
        let text = readme_table();
        let mut names: Vec<&str> = Vec::new();
        for line in text.lines().skip(2) {
            let cells: Vec<&str> = line.split(" | ").collect();
            assert_eq!(cells.len(), 3, "{line}");
            names.extend(cells.iter().skip(2).flat_map(|c| c.trim_end_matches(" |").split(", ")));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in [
            "GET",
            "OBJECT ENCODING",
            "CLUSTER (other subcommands)",
            "ACL (other subcommands)",
            "XREAD (without BLOCK)",
            "XREAD (with BLOCK)",
            "MEMORY USAGE",
        ] {
            assert!(names.contains(&name), "{name}\n{text}");
        }
        assert!(!names.contains(&"OBJECT") && !names.contains(&"ACL LOG"), "{text}");
    }
}
