//! HELP of every command with subcommands, made from the command table: it lists what works here, and
//! changes with the table.

use crate::command::data::{self, Argument};
use crate::command::{CommandTable, Handling};
use crate::protocol::encode;
use crate::protocol::request::Args;

/// The form is Redis': a headline, then a line for each subcommand and an indented one with what it does.
pub(super) fn reply(table: &CommandTable, args: &Args, out: &mut Vec<u8>) {
    let mut lines = Vec::new();
    let Some(container) = table.by_name(args.at(0)) else { return encode::array(out, 0) };
    for subcommand in container.subcommands.iter().filter_map(|&id| table.get(id)) {
        let name = subcommand.short_name().to_ascii_uppercase();
        if matches!(subcommand.handling, Handling::Refuse(_)) || name == "HELP" {
            continue;
        }
        let docs = data::docs().get(subcommand.name);
        let arguments = docs.map_or_else(Vec::new, |docs| docs.arguments.iter().map(syntax).collect());
        lines.push(std::iter::once(name).chain(arguments).collect::<Vec<_>>().join(" "));
        if let Some(docs) = docs {
            lines.push(format!("    {}.", docs.summary.trim_end_matches('.')));
        }
    }
    lines.extend(["HELP".to_owned(), "    Prints this help.".to_owned()]);
    encode::array(out, lines.len() + 1);
    let name = container.name.to_ascii_uppercase();
    encode::simple(out, &format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| encode::simple(out, line));
}

/// How an argument is written: `<name>`, `TOKEN <name>`, `(A|B)`, `[optional]`, `<name> [<name> ...]`.
fn syntax(argument: &Argument) -> String {
    let has = |flag: &str| argument.flags.iter().any(|f| f == flag);
    let inner = || argument.arguments.iter().map(syntax).collect::<Vec<_>>();
    let value = match argument.kind.as_str() {
        "oneof" if has("optional") => inner().join("|"),
        "oneof" => format!("({})", inner().join("|")),
        "block" => inner().join(" "),
        "pure-token" => String::new(),
        _ => format!("<{}>", argument.display_text.as_ref().unwrap_or(&argument.name)),
    };
    let mut text = match &argument.token {
        Some(token) if value.is_empty() => token.clone(),
        Some(token) => format!("{token} {value}"),
        None => value,
    };
    if has("multiple") {
        text = format!("{text} [{text} ...]");
    }
    if has("optional") { format!("[{text}]") } else { text }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::command::tests::Request;

    fn help(line: &str) -> String {
        let mut out = Vec::new();
        reply(CommandTable::builtin(), &Request::of(line).args(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lists_what_works_with_its_arguments() {
        let text = help("CLIENT HELP");
        for line in [
            "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "GETNAME",
            "    Get the current connection name.",
            "REPLY (ON|OFF|SKIP)",
            "UNBLOCK <client-id> [TIMEOUT|ERROR]",
            "PAUSE <timeout> [WRITE|ALL]",
            "HELP",
        ] {
            assert!(text.contains(&format!("\r\n+{line}\r\n")), "{line}\n{text}");
        }
        assert!(!help("CLUSTER HELP").contains("FAILOVER"));
        let count: usize = text.lines().next().unwrap().strip_prefix('*').unwrap().parse().unwrap();
        assert_eq!(count, text.lines().count() - 1);
    }
}
