//! CLIENT: ID, GETNAME, SETNAME, SETINFO, INFO, LIST, HELP. The others are refused before they come here.

use super::client_list::ListFilter;
use super::{After, help, quoted};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::{ClientNames, ClientState};

/// Names are kept for every client, so they are bounded.
const NAME_BYTES_MAX: usize = 4096;

const HELP: &[&str] = &[
    "GETNAME",
    "    The name this connection gave itself.",
    "ID",
    "    The id of this connection, unique across instances of slotway.",
    "INFO",
    "    What is known of this connection.",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] | [ID <client-id> [<client-id> ...]]",
    "    What is known of the connections of this instance.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Tells which library this connection uses.",
    "SETNAME <name>",
    "    Gives this connection a name.",
];

pub(super) fn reply(client: &mut ClientState, args: &Args, out: &mut Vec<u8>) -> After {
    let is = |word: &str| args.at(1).eq_ignore_ascii_case(word.as_bytes());
    if is("LIST") {
        match ListFilter::parse(args) {
            Ok(filter) => return After::ListClients(filter),
            Err(error) => encode::error(out, error),
        }
    } else if is("INFO") {
        return After::ListClients(ListFilter::Ids(vec![client.id]));
    } else if is("ID") {
        encode::integer(out, client.id as i64);
    } else if is("GETNAME") {
        match client.names.as_ref().filter(|names| !names.name.is_empty()) {
            Some(names) => encode::bulk(out, &names.name),
            None => encode::null(out, client.resp),
        }
    } else if is("SETNAME") {
        done(set_name(client, args.at(2)), out);
    } else if is("SETINFO") {
        done(set_info(client, args.at(2), args.at(3)), out);
    } else {
        help(out, "CLIENT", HELP);
    }
    After::Continue
}

fn done(result: Result<(), String>, out: &mut Vec<u8>) {
    match result {
        Ok(()) => encode::simple(out, "OK"),
        Err(error) => encode::error(out, error),
    }
}

/// CLIENT SETNAME; an empty name takes the name away.
pub(super) fn set_name(client: &mut ClientState, name: &[u8]) -> Result<(), String> {
    let name = printable(name, "Client names")?;
    if client.names.is_some() || !name.is_empty() {
        names(client).name = name;
    }
    Ok(())
}

fn set_info(client: &mut ClientState, attribute: &[u8], value: &[u8]) -> Result<(), String> {
    let is = |word: &str| attribute.eq_ignore_ascii_case(word.as_bytes());
    if is("LIB-NAME") {
        names(client).lib_name = printable(value, &quoted(attribute))?;
    } else if is("LIB-VER") {
        names(client).lib_ver = printable(value, &quoted(attribute))?;
    } else {
        return Err(format!("ERR Unrecognized option '{}'", quoted(attribute)));
    }
    Ok(())
}

fn names(client: &mut ClientState) -> &mut ClientNames {
    client.names.get_or_insert_default()
}

/// Names appear in CLIENT LIST, where blanks part the fields.
fn printable(value: &[u8], what: &str) -> Result<String, String> {
    match std::str::from_utf8(value) {
        Ok(text) if value.iter().all(u8::is_ascii_graphic) => {
            if value.len() > NAME_BYTES_MAX {
                return Err(format!("ERR slotway: {what} longer than {NAME_BYTES_MAX} bytes are not kept"));
            }
            Ok(text.to_owned())
        }
        _ => Err(format!("ERR {what} cannot contain spaces, newlines or special characters.")),
    }
}
