//! From bytes to requests. Bytes are read into the worker's scratch buffer and handled there; only a
//! request that is not whole, or may not be handled yet, is copied into a buffer of the session's own,
//! so that an idle client holds no buffer at all.

use std::rc::Rc;

use super::dispatch::{Frame, dispatch};
use super::{Partial, Session, SessionInner};
use crate::protocol::ProtocolError;
use crate::protocol::request::Args;
use crate::protocol::scan::{RequestScanner, Scanned};
use crate::telemetry::{CloseReason, CommandClass};
use crate::worker::outgoing::{CHUNK, LARGE, is_small_part, unpinned};

/// Handles what was read into the scratch buffer; what is left of it goes into a partial.
#[inline]
pub fn take_scratch(session: &Rc<Session>, inner: &mut SessionInner, data: &[u8]) {
    let mut scanner = session.worker().scanner.take();
    let mut pos = 0;
    let mut wanted = 0;
    while inner.may_take(session.worker()) {
        let rest = data.get(pos..).unwrap_or(&[]);
        if rest.is_empty() {
            break;
        }
        let scanned = scan_one(session, inner, &mut scanner, rest);
        if session.worker().pause.is_on() && postpone(session, inner, &scanned, &mut scanner, rest) {
            break;
        }
        match scanned {
            // Bytes that go alone are kept, not copied twice.
            Ok(Scanned::Request(len)) if len >= session.worker().limits.dedicated_request => {
                let partial = Partial { buffer: rest.into(), ..Partial::default() };
                inner.partial = Some(Box::new(partial));
                return take_partial(session, inner);
            }
            Ok(Scanned::Request(len)) => {
                let bytes = rest.get(..len).unwrap_or(&[]);
                dispatch(session, inner, Frame { bytes, shared: None }, scanner.spans());
                pos += len;
                scanner.reset();
            }
            Ok(Scanned::Inline(len)) => {
                dispatch(
                    session,
                    inner,
                    Frame { bytes: scanner.inline_frame(), shared: None },
                    scanner.spans(),
                );
                pos += len;
                scanner.reset();
            }
            Ok(Scanned::Nothing(len)) => {
                pos += len;
                scanner.reset();
            }
            Ok(Scanned::More(bytes)) => {
                wanted = bytes;
                break;
            }
            Err(error) => return refuse(session, inner, error),
        }
    }
    let rest = data.get(pos..).unwrap_or(&[]);
    if rest.is_empty() {
        session.worker().scanner.replace(scanner);
    } else if inner.closing.is_none() {
        keep(session, inner, Box::new(Partial { buffer: rest.into(), scanner, wanted }));
    }
}

/// Keeps bytes for later. If it is the session that may not go on, not the request that is not whole, it
/// is paused from now on: the reply that makes room may come before its task looks again.
fn keep(session: &Rc<Session>, inner: &mut SessionInner, partial: Box<Partial>) {
    inner.partial = Some(partial);
    inner.paused = !inner.may_take(session.worker());
    session.watch();
}

/// Handles what stands in the session's own buffer, and gives the buffer back when it is empty.
pub fn take_partial(session: &Rc<Session>, inner: &mut SessionInner) {
    let Some(mut partial) = inner.partial.take() else { return };
    let (room, read) = (partial.buffer.capacity(), partial.buffer.len());
    while inner.may_take(session.worker()) && !partial.buffer.is_empty() {
        let Partial { buffer, scanner, wanted } = &mut *partial;
        let scanned = scan_one(session, inner, scanner, buffer);
        if session.worker().pause.is_on() && postpone(session, inner, &scanned, scanner, buffer) {
            break;
        }
        match scanned {
            Ok(Scanned::Request(len))
                if len >= session.worker().limits.dedicated_request && inner.pending.open() > 0 =>
            {
                // The scanner stays where it is and says the same again.
                inner.alone = true;
            }
            Ok(Scanned::Request(len)) => {
                inner.alone = false;
                let bytes = buffer.split_to(len).freeze();
                let shared = (len >= LARGE).then(|| unpinned(bytes.clone(), room));
                dispatch(session, inner, Frame { bytes: &bytes, shared: shared.as_ref() }, scanner.spans());
                scanner.reset();
            }
            Ok(Scanned::Inline(len)) => {
                dispatch(
                    session,
                    inner,
                    Frame { bytes: scanner.inline_frame(), shared: None },
                    scanner.spans(),
                );
                let _ = buffer.split_to(len);
                scanner.reset();
            }
            Ok(Scanned::Nothing(len)) => {
                let _ = buffer.split_to(len);
                scanner.reset();
            }
            Ok(Scanned::More(bytes)) => {
                *wanted = bytes;
                break;
            }
            Err(error) => return refuse(session, inner, error),
        }
    }
    if !partial.buffer.is_empty() && inner.closing.is_none() {
        let left = partial.buffer.len();
        if left < read && room > CHUNK && is_small_part(left, room) {
            partial.buffer = partial.buffer.as_ref().into();
        }
        keep(session, inner, partial);
    }
}

#[inline]
fn scan_one(
    session: &Rc<Session>,
    inner: &SessionInner,
    scanner: &mut RequestScanner,
    bytes: &[u8],
) -> Result<Scanned, ProtocolError> {
    let limits = &session.worker().limits;
    match inner.client.authenticated {
        true => scanner.scan(bytes, &limits.protocol, true),
        false => scanner.scan(bytes, &limits.protocol_unauthenticated, false),
    }
}

/// Whether CLIENT PAUSE holds the request at hand back; the session takes nothing more then. The scanner says
/// the same again when it goes on.
#[cold]
fn postpone(
    session: &Session,
    inner: &mut SessionInner,
    scanned: &Result<Scanned, ProtocolError>,
    scanner: &mut RequestScanner,
    bytes: &[u8],
) -> bool {
    let frame = match scanned {
        Ok(Scanned::Request(_)) => bytes,
        Ok(Scanned::Inline(_)) => scanner.inline_frame(),
        _ => return false,
    };
    let args = Args::new(frame, scanner.spans());
    inner.postponed = session.worker().is_paused(&args, inner);
    if inner.postponed && matches!(scanned, Ok(Scanned::Inline(_))) {
        scanner.reset();
    }
    inner.postponed
}

/// Broken input: Redis' own error behind the replies still owed, then the connection is closed.
#[cold]
fn refuse(session: &Rc<Session>, inner: &mut SessionInner, error: ProtocolError) {
    let mut frame = Vec::new();
    crate::protocol::encode::error(&mut frame, format!("ERR Protocol error: {error}"));
    session.worker().counters.in_flight(1);
    inner.reply(session, CommandClass::Other, &frame);
    inner.closing = Some(CloseReason::Protocol);
    inner.partial = None;
    inner.wake();
}
