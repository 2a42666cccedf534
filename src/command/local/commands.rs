//! COMMAND and its subcommands, from the command table: every command, also those refused here, because
//! clients look up where keys stand. Learned commands are among them; what their keys are the nodes know best.

use super::{After, LocalEnv, SYNTAX_ERROR, docs, glob};
use crate::command::data::{Begin, Find, KeySpec};
use crate::command::keys::{KeyError, keys_with_use};
use crate::command::{Command, CommandTable, LearnedTable, Lookup};
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::Resp;

/// Names one COMMAND INFO or COMMAND DOCS may ask for: each name can make a reply a hundred times its size.
pub(super) const NAMES_MAX: usize = 4096;

/// All commands there are, built in and learned.
#[derive(Clone, Copy)]
pub(super) struct Catalog<'a> {
    pub table: &'a CommandTable,
    pub learned: &'a LearnedTable,
}

impl<'a> Catalog<'a> {
    /// What COMMAND counts and lists: everything but subcommands.
    pub fn top_level(self) -> impl Iterator<Item = &'a Command> {
        self.all().filter(|command| command.container.is_none())
    }

    /// All of them, subcommands too.
    fn all(self) -> impl Iterator<Item = &'a Command> {
        self.table.iter().chain(self.learned.iter().map(|command| -> &'a Command { command }))
    }

    /// A command by its full name.
    pub fn by_name(self, name: &[u8]) -> Option<&'a Command> {
        self.table.by_name(name).or_else(|| self.learned.by_name(name))
    }

    /// The subcommands of a container.
    pub fn subcommands(self, container: &'a Command) -> impl Iterator<Item = &'a Command> {
        let built_in = container.subcommands.iter().filter_map(move |&id| self.table.get(id));
        let learned = self.learned.subcommands(container.name);
        built_in.chain(learned.map(|command| -> &'a Command { command }))
    }
}

pub(super) fn reply(env: &LocalEnv<'_>, resp: Resp, args: &Args, out: &mut Vec<u8>) -> After {
    let catalog = Catalog { table: env.table, learned: env.learned };
    let is = |word: &str| args.at(1).eq_ignore_ascii_case(word.as_bytes());
    if args.len() == 1 {
        all(catalog, resp, out);
    } else if is("COUNT") {
        encode::integer(out, catalog.top_level().count() as i64);
    } else if is("INFO") {
        return info(catalog, resp, args, out);
    } else if is("DOCS") {
        return docs::reply(catalog, resp, args, out);
    } else if is("LIST") {
        list(catalog, args, out);
    } else if is("GETKEYS") {
        return keys(env, None, args, out);
    } else {
        // GETKEYSANDFLAGS; the table lets no other name through.
        return keys(env, Some(resp), args, out);
    }
    After::Continue
}

fn all(catalog: Catalog<'_>, resp: Resp, out: &mut Vec<u8>) {
    encode::array(out, catalog.top_level().count());
    catalog.top_level().for_each(|command| entry(catalog, command, resp, out));
}

fn info(catalog: Catalog<'_>, resp: Resp, args: &Args, out: &mut Vec<u8>) -> After {
    match args.len() - 2 {
        0 => all(catalog, resp, out),
        count if count > NAMES_MAX => return After::Error(ProxyError::TooManyNames),
        count => {
            encode::array(out, count);
            for name in args.iter().skip(2) {
                match catalog.by_name(name) {
                    Some(command) => entry(catalog, command, resp, out),
                    None => encode::null(out, resp),
                }
            }
        }
    }
    After::Continue
}

fn entry(catalog: Catalog<'_>, command: &Command, resp: Resp, out: &mut Vec<u8>) {
    let entry = &command.entry;
    encode::array(out, 10);
    encode::bulk(out, &entry.name);
    encode::integer(out, entry.arity.into());
    words(&entry.flags, resp, out);
    for number in [entry.range.0, entry.range.1, entry.range.2] {
        encode::integer(out, number.into());
    }
    words(&entry.acl, resp, out);
    encode::set(out, resp, entry.tips.len());
    entry.tips.iter().for_each(|tip| encode::bulk(out, tip));
    encode::set(out, resp, entry.keys.len());
    entry.keys.iter().for_each(|spec| key_spec(spec, resp, out));
    // Redis sends the empty list of subcommands as a set, any other as an array.
    match catalog.subcommands(command).count() {
        0 => encode::set(out, resp, 0),
        count => encode::array(out, count),
    }
    for subcommand in catalog.subcommands(command) {
        self::entry(catalog, subcommand, resp, out);
    }
}

/// A set of words, each a simple string.
pub(super) fn words(words: &[String], resp: Resp, out: &mut Vec<u8>) {
    encode::set(out, resp, words.len());
    words.iter().for_each(|word| encode::simple(out, word));
}

fn key_spec(spec: &KeySpec, resp: Resp, out: &mut Vec<u8>) {
    encode::map(out, resp, 3 + usize::from(spec.notes.is_some()));
    if let Some(notes) = &spec.notes {
        encode::bulk(out, "notes");
        encode::bulk(out, notes);
    }
    encode::bulk(out, "flags");
    words(&spec.flags, resp, out);
    encode::bulk(out, "begin_search");
    match &spec.begin {
        Begin::Index(index) => part("index", &[("index", *index)], resp, out),
        Begin::Unknown => part("unknown", &[], resp, out),
        Begin::Keyword(word, from) => {
            part_header("keyword", 2, resp, out);
            encode::bulk(out, "keyword");
            encode::bulk(out, word);
            number("startfrom", *from, out);
        }
    }
    encode::bulk(out, "find_keys");
    match spec.find {
        Find::Range(last, step, limit) => {
            part("range", &[("lastkey", last), ("keystep", step), ("limit", limit)], resp, out);
        }
        Find::Keynum(index, first, step) => {
            part("keynum", &[("keynumidx", index), ("firstkey", first), ("keystep", step)], resp, out);
        }
        Find::Unknown => part("unknown", &[], resp, out),
    }
}

fn part(kind: &str, numbers: &[(&str, i32)], resp: Resp, out: &mut Vec<u8>) {
    part_header(kind, numbers.len(), resp, out);
    numbers.iter().for_each(|&(name, value)| number(name, value, out));
}

fn part_header(kind: &str, fields: usize, resp: Resp, out: &mut Vec<u8>) {
    encode::map(out, resp, 2);
    encode::bulk(out, "type");
    encode::bulk(out, kind);
    encode::bulk(out, "spec");
    encode::map(out, resp, fields);
}

fn number(name: &str, value: i32, out: &mut Vec<u8>) {
    encode::bulk(out, name);
    encode::integer(out, value.into());
}

/// All names, subcommands too, unless a filter leaves some out.
fn list(catalog: Catalog<'_>, args: &Args, out: &mut Vec<u8>) {
    let (by, value) = (args.at(3), args.at(4));
    let filter: &dyn Fn(&Command) -> bool = match args.len() {
        2 => &|_| true,
        5 if args.at(2).eq_ignore_ascii_case(b"FILTERBY") => match () {
            () if by.eq_ignore_ascii_case(b"MODULE") => &|command| {
                let module = catalog.learned.docs(command.name).and_then(|docs| docs.module.as_ref());
                module.is_some_and(|module| module.as_bytes().eq_ignore_ascii_case(value))
            },
            () if by.eq_ignore_ascii_case(b"PATTERN") => {
                &|command| glob::matches(value, command.name.as_bytes())
            }
            () if by.eq_ignore_ascii_case(b"ACLCAT") => &|command| {
                let mut categories = command.entry.acl.iter();
                categories.any(|name| name.get(1..).is_some_and(|n| n.as_bytes().eq_ignore_ascii_case(value)))
            },
            () => return encode::error(out, SYNTAX_ERROR),
        },
        _ => return encode::error(out, SYNTAX_ERROR),
    };
    let names: Vec<&str> =
        catalog.all().filter(|command| filter(command)).map(|command| command.entry.name.as_str()).collect();
    encode::array(out, names.len());
    names.iter().for_each(|name| encode::bulk(out, name));
}

/// True for GETKEYS of a learned command, which any node can answer and nobody else.
pub fn asks_node(env: &LocalEnv<'_>, args: &Args) -> bool {
    let inner = Args::new(args.frame(), args.spans().get(2..).unwrap_or_default());
    let is = |word: &str| args.at(1).eq_ignore_ascii_case(word.as_bytes());
    match env.table.lookup(&inner) {
        _ if !is("GETKEYS") && !is("GETKEYSANDFLAGS") => false,
        Lookup::Found(_) => false,
        missing => matches!(env.learned.lookup(missing, &inner), Lookup::Found(_)),
    }
}

/// GETKEYS; with `flags` in that version GETKEYSANDFLAGS.
fn keys(env: &LocalEnv<'_>, flags: Option<Resp>, args: &Args, out: &mut Vec<u8>) -> After {
    let inner = Args::new(args.frame(), args.spans().get(2..).unwrap_or_default());
    if asks_node(env, args) {
        return After::AskNode;
    }
    let Lookup::Found(command) = env.table.lookup(&inner) else {
        encode::error(out, "ERR Invalid command specified");
        return After::Continue;
    };
    let keys = match keys_with_use(command, &inner) {
        Ok(keys) => keys,
        Err(error @ (KeyError::NoKeys | KeyError::Arity | KeyError::Invalid)) => {
            encode::error(out, error.to_string());
            return After::Continue;
        }
    };
    encode::array(out, keys.len());
    for (index, how) in keys {
        if let Some(resp) = flags {
            encode::array(out, 2);
            encode::bulk(out, inner.at(index as usize));
            words(how, resp, out);
        } else {
            encode::bulk(out, inner.at(index as usize));
        }
    }
    After::Continue
}
