//! INFO: the proxy in the form of a standalone Redis server. What concerns clients is the proxy's own, what
//! concerns data is that of all primaries; `info_fields` says so for every field. Never made up: what is not
//! known is left out.

use std::fmt::Write as _;

use super::info_fields::{LEFT_OUT, SECTIONS, Section, Source};
use super::info_own::Own;
use super::{LocalEnv, NodesInfo};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::Resp;

/// Whether the nodes have something to say in this INFO.
pub(super) fn wants_nodes(args: &Args) -> bool {
    sections(args).any(Section::is_of_nodes)
}

/// The INFO that makes a node of any version tell all that this INFO needs: 6.2 takes one section at a time.
pub fn question(args: &Args) -> Vec<u8> {
    let asked: Vec<&Section> = sections(args).filter(|section| section.is_of_nodes()).collect();
    let section = match asked.as_slice() {
        [one] => one.name,
        several if several.iter().all(|section| section.shown) => "default",
        _ => "all",
    };
    let mut out = Vec::new();
    encode::array(&mut out, 2);
    encode::bulk(&mut out, "INFO");
    encode::bulk(&mut out, section);
    out
}

/// Sections named in any letter case; `default` or no name: those a server shows unasked; `all`, `everything`:
/// every section.
fn sections<'a>(args: &'a Args) -> impl Iterator<Item = &'static Section> + 'a {
    let named = |name: &str| args.iter().skip(1).any(|arg| arg.eq_ignore_ascii_case(name.as_bytes()));
    let default = args.len() == 1 || named("default");
    let every = ["all", "everything"].into_iter().any(named);
    SECTIONS.iter().filter(move |section| every || (default && section.shown) || named(section.name))
}

/// Answers INFO. `nodes`: what the primaries said.
pub fn reply(env: &LocalEnv<'_>, resp: Resp, args: &Args, nodes: Option<&NodesInfo<'_>>, out: &mut Vec<u8>) {
    let own = Own { env, gauges: env.facts.gauges() };
    let mut text = String::new();
    for section in sections(args) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "# {}\r\n", section.name);
        for (name, source) in section.fields {
            let value = match source {
                Source::Own(value) => Some(value(&own)),
                of_nodes => nodes.and_then(|nodes| nodes.value(name, *of_nodes)),
            };
            if let Some(value) = value {
                let _ = write!(text, "{name}:{value}\r\n");
            }
        }
        if let Some((lines, _)) = section.lines {
            lines(&own, nodes, &mut text);
        }
    }
    encode::verbatim(out, resp, &text);
}

impl Section {
    fn is_of_nodes(&self) -> bool {
        self.lines.is_some() || self.fields.iter().any(|(_, source)| !matches!(source, Source::Own(_)))
    }
}

impl Source {
    /// For the README.
    fn words(self) -> &'static str {
        match self {
            Self::Own(_) => "slotway's own",
            Self::Sum => "primaries, added",
            Self::Max => "the highest of all primaries",
            Self::Min => "the lowest of all primaries",
            Self::Same => "primaries, where all say the same",
            Self::Worst => "`ok` if all primaries say so",
            Self::Limit => "primaries, added; 0 where one has no limit",
            Self::Human(_) | Self::Ratio(..) | Self::Percent(..) | Self::Dataset => "computed from the sums",
        }
    }
}

/// A Markdown table: every field and where its value comes from.
pub fn readme_table() -> String {
    let mut text = String::from("| section | value | fields |\n|---|---|---|\n");
    for section in SECTIONS {
        let mut rules: Vec<&str> = section.fields.iter().map(|(_, source)| source.words()).collect();
        let mut seen = std::collections::HashSet::new();
        rules.retain(|words| seen.insert(*words));
        for words in rules {
            let fields = section.fields.iter().filter(|(_, source)| source.words() == words);
            let names: Vec<&str> = fields.map(|(name, _)| *name).collect();
            let _ = writeln!(text, "| {} | {words} | {} |", section.name, names.join(", "));
        }
        if let Some((_, from)) = section.lines {
            let _ = writeln!(text, "| {} | {from} | one line each |", section.name);
        }
    }
    let mut reasons: Vec<&str> = LEFT_OUT.iter().map(|(_, why)| *why).collect();
    reasons.dedup();
    for why in reasons {
        let names = LEFT_OUT.iter().filter(|(_, other)| *other == why).map(|(name, _)| *name);
        let _ = writeln!(text, "| | left out: {why} | {} |", names.collect::<Vec<_>>().join(", "));
    }
    text
}
