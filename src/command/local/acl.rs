//! ACL WHOAMI, CAT, GENPASS and USERS, for the one user there is. Rights are the nodes' business; the
//! subcommands about them are refused before they come here.

use std::fs::File;
use std::io::Read;

use super::client::wrong_form;
use super::{After, Trouble, USER, integer, quoted};
use crate::command::CommandTable;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::request::Args;

/// Redis' categories in its order.
const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Bits of a password when none are asked for, and the most there are.
const PASSWORD_BITS: i64 = 256;
const PASSWORD_BITS_MAX: i64 = 4096;

pub(super) fn reply(table: &CommandTable, args: &Args, out: &mut Vec<u8>) -> After {
    let is = |word: &str| args.at(1).eq_ignore_ascii_case(word.as_bytes());
    if is("WHOAMI") {
        encode::bulk(out, USER);
    } else if is("USERS") {
        encode::array(out, 1);
        encode::bulk(out, USER);
    } else if args.len() > 3 {
        encode::error(out, wrong_form("ACL", args));
    } else if is("CAT") {
        categories(table, args, out);
    } else {
        return generate(args, out).map_or_else(|trouble| trouble.answer(out), |()| After::Continue);
    }
    After::Continue
}

fn categories(table: &CommandTable, args: &Args, out: &mut Vec<u8>) {
    let Some(wanted) = args.get(2) else {
        encode::array(out, CATEGORIES.len());
        return CATEGORIES.iter().for_each(|name| encode::bulk(out, name));
    };
    let Some(category) = CATEGORIES.iter().find(|name| name.as_bytes().eq_ignore_ascii_case(wanted)) else {
        return encode::error(out, format!("ERR Unknown category '{}'", quoted(wanted)));
    };
    let is_in = |acl: &[String]| acl.iter().any(|name| name.strip_prefix('@') == Some(*category));
    let names: Vec<&str> =
        table.iter().filter(|command| is_in(&command.entry.acl)).map(|command| command.name).collect();
    encode::array(out, names.len());
    names.iter().for_each(|name| encode::bulk(out, name));
}

/// A password of the operating system's randomness, a hexadecimal digit for each four bits begun.
fn generate(args: &Args, out: &mut Vec<u8>) -> Result<(), Trouble> {
    let bits = match args.get(2).map(integer) {
        None => PASSWORD_BITS,
        Some(Some(bits @ 1..=PASSWORD_BITS_MAX)) => bits,
        Some(None) => return Err("ERR value is not an integer or out of range".into()),
        Some(Some(_)) => {
            let text = "ERR ACL GENPASS argument must be the number of bits for the output password, a positive \
                        number up to 4096";
            return Err(text.into());
        }
    };
    let digits = (bits as usize).div_ceil(4);
    let mut random = vec![0; digits.div_ceil(2)];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(|_| Trouble::Ours(ProxyError::NoRandomNumbers))?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    encode::bulk(out, text.get(..digits).unwrap_or(&text));
    Ok(())
}
