//! CLIENT: what concerns the asking connection is done here, what concerns others is read here and handed to
//! the session as a `ClientsRequest`. CLIENT TRACKING itself is an operation.

use std::time::Duration;

use super::client_filter::{ClientFilter, KillFilter};
use super::{After, SYNTAX_ERROR, Trouble, integer, quoted};
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::{ClientNames, ClientState, Replies};

/// Names are kept for every client, so they are bounded.
const NAME_BYTES_MAX: usize = 4096;

/// What is asked of the clients of all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientsRequest {
    /// CLIENT LIST: a line for each.
    List(ClientFilter),
    /// CLIENT KILL: close them.
    Kill(KillFilter),
    /// CLIENT PAUSE: take no more of these requests for so long.
    Pause(PauseMode, Duration),
    /// CLIENT UNPAUSE.
    Unpause,
    /// CLIENT UNBLOCK: end this client's wait.
    Unblock(u64, Unblock),
}

/// Which requests are held back by CLIENT PAUSE; the later, the more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PauseMode {
    /// None.
    #[default]
    Off,
    /// Those that may change data.
    Write,
    /// All.
    All,
}

/// How a wait ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unblock {
    /// As if its time were over.
    Timeout,
    /// With the error `UNBLOCKED`.
    Error,
}

type Done = Result<After, Trouble>;

pub(super) fn reply(client: &mut ClientState, args: &Args, out: &mut Vec<u8>) -> After {
    let name = args.at(1).to_ascii_lowercase();
    let done = match name.as_slice() {
        b"list" => ClientFilter::parse(args)
            .map(|filter| After::Clients(ClientsRequest::List(filter)))
            .map_err(Trouble::from),
        b"info" => Ok(After::Describe),
        b"kill" => KillFilter::parse(args, client.id)
            .map(|filter| After::Clients(ClientsRequest::Kill(filter)))
            .map_err(Trouble::from),
        b"pause" => pause(args),
        b"unpause" => Ok(After::Clients(ClientsRequest::Unpause)),
        b"unblock" => unblock(args),
        b"reply" => replies(args, out),
        b"no-evict" => switch(args, &mut client.settings.no_evict, out),
        b"no-touch" => switch(args, &mut client.settings.no_touch, out),
        b"setname" => ok(set_name(client, args.at(2)), out),
        b"setinfo" => ok(set_info(client, args.at(2), args.at(3)), out),
        b"getname" => {
            match client.names.as_ref().filter(|names| !names.name.is_empty()) {
                Some(names) => encode::bulk(out, &names.name),
                None => encode::null(out, client.resp),
            }
            Ok(After::Continue)
        }
        b"caching" => {
            let state = client.tracking.as_deref_mut();
            ok(crate::tracking::options::caching(state, args.at(2)).map_err(Trouble::from), out)
        }
        b"getredir" => {
            encode::integer(out, crate::tracking::options::redirection(client.tracking.as_deref()));
            Ok(After::Continue)
        }
        b"trackinginfo" => {
            crate::tracking::options::info(client.tracking.as_deref(), client.resp, out);
            Ok(After::Continue)
        }
        // CLIENT ID; the table lets no other name through.
        _ => {
            encode::integer(out, client.id as i64);
            Ok(After::Continue)
        }
    };
    done.unwrap_or_else(|trouble| trouble.answer(out))
}

fn ok(result: Result<(), Trouble>, out: &mut Vec<u8>) -> Done {
    result.map(|()| {
        encode::simple(out, "OK");
        After::Continue
    })
}

/// The subcommand exists, the number of its arguments is wrong in a way the table cannot say.
pub(super) fn wrong_form(container: &str, args: &Args) -> String {
    let name = quoted(args.at(1));
    format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} HELP.")
}

fn pause(args: &Args) -> Done {
    let mode = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        _ if args.len() > 4 => return Err(wrong_form("CLIENT", args).into()),
        None | Some(b"all") => PauseMode::All,
        Some(b"write") => PauseMode::Write,
        Some(_) => return Err("ERR CLIENT PAUSE mode must be WRITE or ALL".into()),
    };
    match integer(args.at(2)) {
        None => Err("ERR timeout is not an integer or out of range".into()),
        Some(..0) => Err("ERR timeout is negative".into()),
        Some(millis) => {
            let time = Duration::from_millis(millis.unsigned_abs());
            Ok(After::Clients(ClientsRequest::Pause(mode, time)))
        }
    }
}

fn unblock(args: &Args) -> Done {
    let how = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        _ if args.len() > 4 => return Err(wrong_form("CLIENT", args).into()),
        None | Some(b"timeout") => Unblock::Timeout,
        Some(b"error") => Unblock::Error,
        Some(_) => return Err("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR".into()),
    };
    let id = integer(args.at(2)).ok_or("ERR value is not an integer or out of range")?;
    // No client has an id below 1.
    Ok(After::Clients(ClientsRequest::Unblock(id.try_into().unwrap_or(0), how)))
}

/// CLIENT REPLY. The session throws the `OK` away where it is not wanted.
fn replies(args: &Args, out: &mut Vec<u8>) -> Done {
    let replies = match args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => Replies::On,
        b"off" => Replies::Off,
        b"skip" => Replies::SkipTwo,
        _ => return Err(SYNTAX_ERROR.into()),
    };
    encode::simple(out, "OK");
    Ok(After::Replies(replies))
}

/// A setting that is `on` or `off`.
fn switch(args: &Args, setting: &mut bool, out: &mut Vec<u8>) -> Done {
    *setting = match args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => true,
        b"off" => false,
        _ => return Err(SYNTAX_ERROR.into()),
    };
    ok(Ok(()), out)
}

/// CLIENT SETNAME; an empty name takes the name away.
pub(super) fn set_name(client: &mut ClientState, name: &[u8]) -> Result<(), Trouble> {
    let name = printable(name, "Client names")?;
    if client.names.is_some() || !name.is_empty() {
        names(client).name = name;
    }
    Ok(())
}

fn set_info(client: &mut ClientState, attribute: &[u8], value: &[u8]) -> Result<(), Trouble> {
    let is = |word: &str| attribute.eq_ignore_ascii_case(word.as_bytes());
    if is("LIB-NAME") {
        names(client).lib_name = printable(value, &quoted(attribute))?;
    } else if is("LIB-VER") {
        names(client).lib_ver = printable(value, &quoted(attribute))?;
    } else {
        return Err(format!("ERR Unrecognized option '{}'", quoted(attribute)).into());
    }
    Ok(())
}

fn names(client: &mut ClientState) -> &mut ClientNames {
    client.names.get_or_insert_default()
}

/// Names appear in CLIENT LIST, where blanks part the fields.
fn printable(value: &[u8], what: &str) -> Result<String, Trouble> {
    match std::str::from_utf8(value) {
        Ok(text) if value.iter().all(u8::is_ascii_graphic) => {
            if value.len() > NAME_BYTES_MAX {
                return Err(Trouble::Ours(ProxyError::NameTooLong));
            }
            Ok(text.to_owned())
        }
        _ => Err(format!("ERR {what} cannot contain spaces, newlines or special characters.").into()),
    }
}
