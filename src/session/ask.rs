//! Commands learned from the cluster: routed by the keys their key specifications tell; where those do
//! not tell, a node is asked with COMMAND GETKEYS first, and the session takes no further request until the
//! one in question is answered. What even the node cannot tell is refused: no shard is ever guessed.

use std::rc::Rc;

use bytes::Bytes;

use super::dispatch::Frame;
use super::pending::CellState;
use super::route::{CrossSlot, common_slot, forward};
use super::{OTHER_LANE, Session, SessionInner};
use crate::backend::ticket::{Aim, Errand, NO_SLOT, Parcel};
use crate::command::errors::wrong_arity;
use crate::command::learned::key_question;
use crate::command::{Command, find_keys};
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::request::Args;

/// A request that waits in its cell until a node has told its keys.
#[derive(Debug)]
pub struct Asking {
    /// What it is.
    pub command: &'static Command,
    /// The request.
    pub bytes: Bytes,
}

/// Sends a learned command to the owner of its keys. `asks`: its specifications are of no use.
pub fn route(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    (command, asks): (&'static Command, bool),
    frame: Frame<'_>,
    args: &Args<'_>,
) {
    if !asks {
        let mut keys = session.worker().key_indexes.borrow_mut();
        keys.clear();
        let told = find_keys(command, args, &mut keys);
        let slot = common_slot(keys.iter().map(|&index| args.at(index as usize)));
        drop(keys);
        match (told, slot) {
            (Err(_), _) => {}
            (Ok(()), Err(CrossSlot)) => return inner.reply_error(session, ProxyError::CrossSlot),
            (Ok(()), Ok(NO_SLOT)) if !command.is_read_only() => {
                return inner.reply_error(session, ProxyError::KeysUnknown);
            }
            (Ok(()), Ok(slot)) => return forward(session, inner, command, frame, slot),
        }
    }
    if args.len() < command.first_key_arguments() {
        return inner.reply_text(session, wrong_arity(command));
    }
    ask(session, inner, command, frame, args);
}

/// Asks any primary which arguments are keys. The request waits in its cell.
fn ask(
    session: &Rc<Session>,
    inner: &mut SessionInner,
    command: &'static Command,
    frame: Frame<'_>,
    args: &Args<'_>,
) {
    let worker = session.worker();
    let rest = memchr::memchr(b'\n', frame.bytes).and_then(|end| frame.bytes.get(end + 1..)).unwrap_or(&[]);
    let mut question = Vec::with_capacity(rest.len() + 48);
    encode::array(&mut question, args.len() + 2);
    encode::bulk(&mut question, "COMMAND");
    encode::bulk(&mut question, "GETKEYS");
    question.extend_from_slice(rest);
    let limits = &worker.limits;
    if args.len() as u64 + 2 > limits.protocol.elements
        || question.len() as u64 > limits.protocol.request_bytes
    {
        // The node would hang up, on everybody.
        return inner.reply_error(session, ProxyError::KeysUnknown);
    }
    let bytes = frame.shared.cloned().unwrap_or_else(|| Bytes::copy_from_slice(frame.bytes));
    let alone = bytes.len() >= limits.dedicated_request;
    let seq = inner.expect(session, command, NO_SLOT, CellState::Waiting);
    inner.pending.ask(seq, Asking { command, bytes });
    let errand = Errand {
        session: Rc::clone(session),
        seq,
        part: 0,
        split: false,
        slot: NO_SLOT,
        command: key_question(),
        resp: inner.client.resp,
        redirects: 0,
        waiting_since: 0,
    };
    // Nobody knows yet with which request it may not change places.
    inner.epoch = OTHER_LANE;
    if alone {
        worker.send_dedicated(inner, errand, question.into());
    } else {
        worker.send_new(inner, errand, None, question.len(), |run| run.extend_from_slice(&question));
    }
}

/// The node's answer to the question for the keys of a request: now it can be sent, or is refused.
#[cold]
pub fn answered(session: &Rc<Session>, question: &Errand, frame: &[u8]) {
    let worker = session.worker();
    let mut inner = session.inner();
    let Some(Asking { command, bytes }) = inner.pending.asked(question.seq) else { return };
    let told = slot_told(frame, command);
    let slot = told.as_ref().map_or(NO_SLOT, |slot| *slot);
    let errand = Errand { slot, command, redirects: 0, waiting_since: 0, ..question.clone() };
    if let Err(error) = told {
        return inner.fail(session, &errand, error);
    }
    if let Some(cell) = inner.pending.cell(question.seq) {
        cell.slot = slot;
    }
    if bytes.len() >= worker.limits.dedicated_request {
        // A request of this size was alone from the start.
        return worker.send_dedicated(&mut inner, errand, bytes);
    }
    // Behind whatever of this session is at a node for the same slot.
    inner.hold(Parcel { errand, bytes, aim: Aim::Table }, worker.clock.now(), worker);
    drop(inner);
    worker.advance_later(session);
}

/// The slot of the keys a node named. A request without keys goes to any primary only if it reads; so
/// does one that the node cannot make sense of: its own words are the best error.
fn slot_told(frame: &[u8], command: &Command) -> Result<u16, ProxyError> {
    let keyless = || if command.is_read_only() { Ok(NO_SLOT) } else { Err(ProxyError::KeysUnknown) };
    let senseless: [&[u8]; 2] = [b"-ERR Invalid arguments", b"-ERR The command has no key"];
    if senseless.iter().any(|text| frame.starts_with(text)) {
        return keyless();
    }
    match keys_told(frame) {
        None => Err(ProxyError::KeysUnknown),
        Some(keys) if keys.is_empty() => keyless(),
        Some(keys) => common_slot(keys.into_iter()).map_err(|CrossSlot| ProxyError::CrossSlot),
    }
}

/// The elements of an array of bulk strings; `None` for anything else.
fn keys_told(frame: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = frame;
    let count = header(&mut rest, b'*')?;
    let mut keys = Vec::new();
    for _ in 0..count {
        let len = header(&mut rest, b'$')?;
        let (key, after) = rest.split_at_checked(len)?;
        rest = after.strip_prefix(b"\r\n")?;
        keys.push(key);
    }
    rest.is_empty().then_some(keys)
}

fn header(rest: &mut &[u8], kind: u8) -> Option<usize> {
    let end = memchr::memchr(b'\n', rest)?;
    let line = rest.get(..end)?.strip_suffix(b"\r")?.strip_prefix(&[kind])?;
    *rest = rest.get(end + 1..)?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_an_array_of_bulk_strings_only() {
        assert_eq!(keys_told(b"*2\r\n$1\r\na\r\n$4\r\n\r\n\0b\r\n"), Some(vec![&b"a"[..], b"\r\n\0b"]));
        assert_eq!(keys_told(b"*0\r\n"), Some(vec![]));
        for other in [
            &b"-ERR x\r\n"[..],
            b"*-1\r\n",
            b"$1\r\na\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n*1\r\n$1\r\na\r\n",
            b"*1\r\n$9999999999999999999\r\na\r\n",
            b"*1000000000\r\n$1\r\na\r\n",
            b"*1\r\n$1\r\na\r\n$1\r\nb\r\n",
            b"*1\r\n$2\r\na\r\n",
            b"",
        ] {
            assert_eq!(keys_told(other), None, "{}", other.escape_ascii());
        }
    }
}
