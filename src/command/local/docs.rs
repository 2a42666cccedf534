//! COMMAND DOCS.

use super::After;
use super::commands::{Catalog, NAMES_MAX, words};
use crate::command::Command;
use crate::command::data::{self, Argument, Docs};
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::Resp;

/// Documentation of the commands named, or of all; names it does not know are left out.
pub(super) fn reply(catalog: Catalog<'_>, resp: Resp, args: &Args, out: &mut Vec<u8>) -> After {
    if args.len() - 2 > NAMES_MAX {
        return After::Error(ProxyError::TooManyNames);
    }
    let commands: Vec<&Command> = match args.len() {
        2 => catalog.top_level().collect(),
        _ => args.iter().skip(2).filter_map(|name| catalog.by_name(name)).collect(),
    };
    let known: Vec<_> =
        commands.into_iter().filter_map(|command| Some((command, docs_of(catalog, command)?))).collect();
    encode::map(out, resp, known.len());
    known.iter().for_each(|(command, docs)| entry(catalog, command, docs, resp, out));
    After::Continue
}

fn docs_of<'a>(catalog: Catalog<'a>, command: &Command) -> Option<&'a Docs> {
    data::docs().get(command.name).or_else(|| catalog.learned.docs(command.name))
}

fn entry(catalog: Catalog<'_>, command: &Command, docs: &Docs, resp: Resp, out: &mut Vec<u8>) {
    let subcommands: Vec<_> = catalog
        .subcommands(command)
        .filter_map(|command| Some((command, docs_of(catalog, command)?)))
        .collect();
    encode::bulk(out, &command.entry.name);
    // A module may say nothing of its commands.
    let heads: Vec<_> = [("summary", &docs.summary), ("since", &docs.since), ("group", &docs.group)]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .collect();
    let texts = [("complexity", &docs.complexity), ("module", &docs.module)];
    let later = [("deprecated_since", &docs.deprecated_since), ("replaced_by", &docs.replaced_by)];
    let lists = [
        docs.doc_flags.is_empty(),
        docs.history.is_empty(),
        docs.arguments.is_empty(),
        subcommands.is_empty(),
    ];
    let given = texts.iter().chain(&later).filter(|(_, text)| text.is_some()).count();
    encode::map(out, resp, heads.len() + given + lists.iter().filter(|empty| !**empty).count());
    heads.iter().for_each(|(name, text)| field(name, text, out));
    texts.iter().for_each(|(name, text)| optional(name, text, out));
    if !docs.doc_flags.is_empty() {
        encode::bulk(out, "doc_flags");
        words(&docs.doc_flags, resp, out);
    }
    later.iter().for_each(|(name, text)| optional(name, text, out));
    if !docs.history.is_empty() {
        encode::bulk(out, "history");
        encode::set(out, resp, docs.history.len());
        for (version, change) in &docs.history {
            encode::array(out, 2);
            encode::bulk(out, version);
            encode::bulk(out, change);
        }
    }
    arguments(&docs.arguments, resp, out);
    if !subcommands.is_empty() {
        encode::bulk(out, "subcommands");
        encode::map(out, resp, subcommands.len());
        for (command, docs) in subcommands {
            self::entry(catalog, command, docs, resp, out);
        }
    }
}

/// The field `arguments`, if there are any.
fn arguments(arguments: &[Argument], resp: Resp, out: &mut Vec<u8>) {
    if arguments.is_empty() {
        return;
    }
    encode::bulk(out, "arguments");
    encode::array(out, arguments.len());
    for argument in arguments {
        let before = [("display_text", &argument.display_text)];
        let after = [
            ("token", &argument.token),
            ("summary", &argument.summary),
            ("since", &argument.since),
            ("deprecated_since", &argument.deprecated_since),
        ];
        let texts = before.iter().chain(&after).filter(|(_, text)| text.is_some()).count();
        let others =
            [argument.key_spec_index.is_some(), !argument.flags.is_empty(), !argument.arguments.is_empty()];
        encode::map(out, resp, 2 + texts + others.iter().filter(|given| **given).count());
        field("name", &argument.name, out);
        field("type", &argument.kind, out);
        before.iter().for_each(|(name, text)| optional(name, text, out));
        if let Some(index) = argument.key_spec_index {
            encode::bulk(out, "key_spec_index");
            encode::integer(out, index);
        }
        after.iter().for_each(|(name, text)| optional(name, text, out));
        if !argument.flags.is_empty() {
            encode::bulk(out, "flags");
            words(&argument.flags, resp, out);
        }
        self::arguments(&argument.arguments, resp, out);
    }
}

fn field(name: &str, text: &str, out: &mut Vec<u8>) {
    encode::bulk(out, name);
    encode::bulk(out, text);
}

fn optional(name: &str, text: &Option<String>, out: &mut Vec<u8>) {
    if let Some(text) = text {
        field(name, text, out);
    }
}
