//! PING, ECHO, QUIT, RESET, SELECT, ROLE, TIME.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{After, LocalEnv, integer};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::{ClientState, ReadChoice, Resp, SessionMode};

/// PING, by a proxy or server that is not busy.
pub fn ping(args: &Args, out: &mut Vec<u8>) {
    match args.get(1) {
        _ if args.len() > 2 => encode::error(out, "ERR wrong number of arguments for 'ping' command"),
        Some(text) => encode::bulk(out, text),
        None => encode::simple(out, "PONG"),
    }
}

pub(super) fn echo(args: &Args, out: &mut Vec<u8>) {
    encode::bulk(out, args.at(1));
}

pub(super) fn quit(out: &mut Vec<u8>) -> After {
    encode::simple(out, "OK");
    After::Close
}

/// Back to how the connection was when it was accepted; the library's name and CLIENT NO-EVICT stay, as in
/// Redis 7.0.
pub(super) fn reset(env: &LocalEnv<'_>, client: &mut ClientState, out: &mut Vec<u8>) {
    client.mode = SessionMode::Normal;
    client.resp = Resp::V2;
    client.settings.reads = ReadChoice::Usual;
    client.settings.no_touch = false;
    client.authenticated = env.password.is_none();
    if let Some(names) = &mut client.names {
        names.name.clear();
    }
    encode::simple(out, "RESET");
}

/// A cluster has one database, 0. The errors are a cluster node's.
pub(super) fn select(args: &Args, out: &mut Vec<u8>) {
    match integer(args.at(1)) {
        Some(0) => encode::simple(out, "OK"),
        None => encode::error(out, "ERR value is not an integer or out of range"),
        Some(number) if i32::try_from(number).is_err() => {
            let (min, max) = (i32::MIN, i32::MAX);
            encode::error(out, format!("ERR value is out of range, value must between {min} and {max}"));
        }
        Some(_) => encode::error(out, "ERR SELECT is not allowed in cluster mode"),
    }
}

/// As INFO has it: a primary that has sent nothing to any replica.
pub(super) fn role(out: &mut Vec<u8>) {
    encode::array(out, 3);
    encode::bulk(out, "master");
    encode::integer(out, 0);
    encode::array(out, 0);
}

pub(super) fn time(out: &mut Vec<u8>) {
    // A clock before 1970 reads as 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    encode::array(out, 2);
    encode::bulk(out, itoa::Buffer::new().format(now.as_secs()));
    encode::bulk(out, itoa::Buffer::new().format(now.subsec_micros()));
}
