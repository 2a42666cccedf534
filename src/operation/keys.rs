//! Asks a node with COMMAND GETKEYS which arguments of a learned command are keys, and then sends the command
//! like any other. The question has no effect: until the command itself is sent, it was not executed.

use bytes::Bytes;

use super::Operation;
use crate::backend::call::CallError;
use crate::backend::ticket::NO_SLOT;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::router::slot::KeySlots;
use crate::session::route::{CrossSlot, common_slot};

/// How often the question is repeated after its connection was lost.
const REPEATS: usize = 3;

/// The slot of the request's keys; [`NO_SLOT`] for one that reads and has none.
///
/// # Errors
/// The node cannot tell, the keys are in several slots, or no node answers.
pub async fn slot(operation: &Operation) -> Result<u16, ProxyError> {
    let args = operation.request.args();
    let question = question(&args);
    let limits = &operation.worker.limits.protocol;
    if args.len() as u64 + 2 > limits.elements || question.len() as u64 > limits.request_bytes {
        // The node would hang up, on everybody.
        return Err(ProxyError::KeysUnknown);
    }
    let answer = ask(operation, &question).await?;
    slot_told(&answer, operation.command.is_read_only(), operation.worker.limits.key_slots)
}

fn question(args: &Args<'_>) -> Vec<u8> {
    let mut question = Vec::with_capacity(args.frame().len() + 48);
    encode::array(&mut question, args.len() + 2);
    encode::bulk(&mut question, "COMMAND");
    encode::bulk(&mut question, "GETKEYS");
    args.iter().for_each(|arg| encode::bulk(&mut question, arg));
    question
}

async fn ask(operation: &Operation, question: &[u8]) -> Result<Bytes, ProxyError> {
    for _ in 0..REPEATS {
        let node = operation.owner(NO_SLOT).await?;
        match operation.inquire(node, question).await {
            Ok(answer) => return Ok(answer),
            Err(CallError::Unsent | CallError::Lost | CallError::NoNode) => {}
            Err(CallError::TooLarge) => return Err(ProxyError::KeysUnknown),
            Err(error @ (CallError::QueueFull | CallError::Late)) => return Err(error.into()),
        }
    }
    Err(ProxyError::LostUnsent)
}

/// What the node's answer says. A request without keys goes to any primary only if it reads; so does
/// one that the node cannot make sense of: its own words are the best error.
fn slot_told(answer: &[u8], reads: bool, key_slots: KeySlots) -> Result<u16, ProxyError> {
    let keyless = if reads { Ok(NO_SLOT) } else { Err(ProxyError::KeysUnknown) };
    let senseless: [&[u8]; 2] = [b"-ERR Invalid arguments", b"-ERR The command has no key"];
    if senseless.iter().any(|text| answer.starts_with(text)) {
        return keyless;
    }
    match keys_told(answer) {
        None => Err(ProxyError::KeysUnknown),
        Some(keys) if keys.is_empty() => keyless,
        Some(keys) => common_slot(key_slots, keys.into_iter()).map_err(|CrossSlot| ProxyError::CrossSlot),
    }
}

/// The elements of an array of bulk strings; `None` for anything else.
fn keys_told(answer: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = answer;
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
    use crate::router::slot::slot_of;

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

    #[test]
    fn no_shard_is_guessed_for_a_write() {
        let slot_told = |answer: &[u8], reads| slot_told(answer, reads, KeySlots::Hashed);
        assert_eq!(slot_told(b"*1\r\n$1\r\na\r\n", false), Ok(slot_of(b"a")));
        assert_eq!(slot_told(b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", true), Err(ProxyError::CrossSlot));
        for keyless in [
            &b"*0\r\n"[..],
            b"-ERR Invalid arguments specified for command\r\n",
            b"-ERR The command has no key arguments\r\n",
        ] {
            assert_eq!(slot_told(keyless, true), Ok(NO_SLOT));
            assert_eq!(slot_told(keyless, false), Err(ProxyError::KeysUnknown));
        }
        for nothing in [&b"-NOPERM no\r\n"[..], b"-ERR Invalid command specified\r\n", b"+OK\r\n"] {
            assert_eq!(slot_told(nothing, true), Err(ProxyError::KeysUnknown));
        }
        let two = b"*2\r\n$1\r\na\r\n$1\r\nb\r\n";
        assert_eq!(super::slot_told(two, true, KeySlots::One), Ok(0), "one server has both");
    }
}
