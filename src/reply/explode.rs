//! A split-able command whose keys of one slot are on both sides of a migration (TRYAGAIN) is sent key
//! by key: each key alone is served by the source, or by the target after ASK.

use std::rc::Rc;

use bytes::Bytes;

use crate::backend::ticket::{Aim, Errand, Parcel};
use crate::command::{Handling, SplitKind};
use crate::protocol::Limits;
use crate::protocol::request::Args;
use crate::protocol::scan::{RequestScanner, Scanned};
use crate::router::split::PartBytes;
use crate::worker::WorkerContext;

/// Replaces a request (or part) with several keys by one part per key. False when the command is not
/// of that kind or has one key only.
pub fn explode(worker: &Rc<WorkerContext>, errand: &Errand, request: &Bytes) -> bool {
    let mut scanner = RequestScanner::new();
    let Ok(Scanned::Request(_)) = scanner.scan(request, &Limits::unlimited(), true) else { return false };
    let args = Args::new(request, scanner.spans());
    let Handling::Split(kind) = errand.command.handling_for(&args) else { return false };
    let step = if kind == SplitKind::AllOk { 2 } else { 1 };
    let keys = (args.len() - 1) / step;
    // MSET of one slot is atomic, and stays so.
    let atomic = kind == SplitKind::AllOk && !errand.split;
    if keys < 2 || atomic || !worker.limits.multi_key_split {
        return false;
    }
    let session = &errand.session;
    let mut inner = session.inner();
    let Some(first) = inner.pending.explode(errand, (kind, keys), worker.limits.merge_reply_bytes) else {
        return false;
    };
    for key in 0..keys {
        let mut bytes = Vec::new();
        PartBytes::one(args, key as u32, step).write(&mut bytes);
        let errand = Errand { part: first + key as u16, split: true, ..errand.clone() };
        inner.hold(Parcel { errand, bytes: bytes.into(), aim: Aim::Table }, 0, worker);
    }
    drop(inner);
    worker.advance_later(session);
    true
}
