//! CLUSTER KEYSLOT and HELP. The others are refused before they come here.

use super::help;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::router::slot::slot_of;

const HELP: &[&str] = &["KEYSLOT <key>", "    The hash slot of a key."];

pub(super) fn reply(args: &Args, out: &mut Vec<u8>) {
    if args.at(1).eq_ignore_ascii_case(b"KEYSLOT") {
        encode::integer(out, i64::from(slot_of(args.at(2))));
    } else {
        help(out, "CLUSTER", HELP);
    }
}
