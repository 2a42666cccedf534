//! HELLO and AUTH: who the client is, and which protocol version it speaks.

use std::hint::black_box;

use super::{After, LocalEnv, SYNTAX_ERROR, Trouble, USER, client, integer, quoted};
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::{ClientState, Resp};

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. \
     Are you sure your configuration is correct?";
const HELLO_NO_AUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
     HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version \
     at the same time";

pub(super) fn auth(env: &LocalEnv<'_>, client: &mut ClientState, args: &Args, out: &mut Vec<u8>) {
    let (user, password) = match args.len() {
        2 if env.password.is_none() => return encode::error(out, NO_PASSWORD),
        2 => (USER, args.at(1)),
        3 => (args.at(1), args.at(2)),
        _ => return encode::error(out, SYNTAX_ERROR),
    };
    if log_in(env, client, user, password) {
        encode::simple(out, "OK");
    } else {
        encode::error(out, WRONG_PASSWORD);
    }
}

pub(super) fn hello(env: &LocalEnv<'_>, client: &mut ClientState, args: &Args, out: &mut Vec<u8>) -> After {
    match take_options(env, client, args) {
        Ok(resp) => client.resp = resp,
        Err(trouble) => return trouble.answer(out),
    }
    let resp = client.resp;
    encode::map(out, resp, 7);
    for (name, value) in [("server", "redis"), ("version", env.facts.redis_version().as_str())] {
        encode::bulk(out, name);
        encode::bulk(out, value);
    }
    encode::bulk(out, "proto");
    encode::integer(out, if resp == Resp::V3 { 3 } else { 2 });
    encode::bulk(out, "id");
    encode::integer(out, client.id as i64);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        encode::bulk(out, name);
        encode::bulk(out, value);
    }
    encode::bulk(out, "modules");
    encode::array(out, 0);
    After::Continue
}

/// As Redis, options take effect one after the other: a wrong one does not undo those before it.
fn take_options(env: &LocalEnv<'_>, client: &mut ClientState, args: &Args) -> Result<Resp, Trouble> {
    let resp = match args.get(1).map(integer) {
        None => client.resp,
        Some(Some(2)) => Resp::V2,
        Some(Some(3)) => Resp::V3,
        Some(Some(_)) => return Err("NOPROTO unsupported protocol version".into()),
        Some(None) => return Err("ERR Protocol version is not an integer or out of range".into()),
    };
    let mut index = 2;
    while let Some(option) = args.get(index) {
        let more = args.len() - 1 - index;
        if option.eq_ignore_ascii_case(b"AUTH") && more >= 2 {
            if !log_in(env, client, args.at(index + 1), args.at(index + 2)) {
                return Err(WRONG_PASSWORD.into());
            }
            index += 3;
        } else if option.eq_ignore_ascii_case(b"SETNAME") && more >= 1 {
            client::set_name(client, args.at(index + 1))?;
            index += 2;
        } else {
            return Err(format!("ERR Syntax error in HELLO option '{}'", quoted(option)).into());
        }
    }
    if client.authenticated { Ok(resp) } else { Err(HELLO_NO_AUTH.into()) }
}

/// A failed attempt leaves the client as it was, as in Redis.
fn log_in(env: &LocalEnv<'_>, client: &mut ClientState, user: &[u8], password: &[u8]) -> bool {
    let right = user == USER && env.password.is_none_or(|expected| same(expected, password));
    client.authenticated |= right;
    right
}

/// Compares in a time that depends on the length of `given` alone.
fn same(expected: &[u8], given: &[u8]) -> bool {
    let mut difference = expected.len() ^ given.len();
    for (index, byte) in given.iter().enumerate() {
        let other = expected.get(index % expected.len().max(1)).copied().unwrap_or_default();
        difference |= usize::from(black_box(byte ^ other));
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_password_is_the_same() {
        assert!(same(b"secret", b"secret"));
        for wrong in [&b""[..], b"secre", b"secrets", b"secretsecret", b"Secret", b"secreu"] {
            assert!(!same(b"secret", wrong));
        }
        assert!(same(b"", b"") && !same(b"", b"x"));
    }
}
