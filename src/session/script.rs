//! EVAL and EVALSHA on their way to a node: bodies are remembered, and a node that has not heard of a script
//! gets it in front of the EVALSHA, in the same push. What a node knows is remembered per connection: a node
//! that restarted empty has a new one. Must never send a script again behind a later request on its keys.

use std::collections::HashSet;
use std::rc::Rc;

use bytes::Bytes;

use super::cell::CellState;
use super::{Session, SessionInner};
use crate::backend::lane::Lane;
use crate::backend::ticket::{Errand, NO_SLOT, Parcel};
use crate::command::{Command, CommandClass};
use crate::protocol::Limits;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::protocol::scan::{RequestScanner, Scanned};
use crate::script::{Sha, parse_sha, sha_of};
use crate::worker::WorkerContext;

/// Scripts remembered per connection, and bodies a worker knows to be in the cache.
const REMEMBERED: usize = 4096;
/// How often a script that a node does not have is sent to it for one request.
const REPAIRS: u8 = 2;

/// Which scripts the node at the other end of a connection has.
#[derive(Debug, Default)]
pub struct Loaded {
    generation: u64,
    scripts: HashSet<Sha>,
}

/// Notes the body of an EVAL, or has the script of an EVALSHA sent in front of it.
#[cold]
pub fn prepare(session: &Rc<Session>, inner: &SessionInner, command: &Command, args: &Args<'_>, slot: u16) {
    let worker = session.worker();
    match command.name {
        "eval" | "eval_ro" => worker.note_script(args.at(1)),
        "evalsha" | "evalsha_ro" => {
            if let Some(lane) = worker.ready_lane(slot, session.id, inner.client.resp) {
                worker.load_script(&lane, args);
            }
        }
        _ => {}
    }
}

/// The same for one that is queued in a transaction: its script is sent in front of all of it.
pub fn prepare_queued(session: &Rc<Session>, command: &Command, args: &Args<'_>) {
    if matches!(command.name, "eval" | "eval_ro") {
        session.worker().note_script(args.at(1));
    }
}

impl WorkerContext {
    /// Remembers a body; most are known already.
    pub fn note_script(&self, body: &[u8]) {
        let sha = sha_of(body);
        let mut noted = self.noted_scripts.borrow_mut();
        let generation = self.process.scripts.generation();
        if noted.generation != generation || noted.scripts.len() >= REMEMBERED {
            *noted = Loaded { generation, scripts: HashSet::new() };
        }
        if noted.scripts.insert(sha) {
            self.process.scripts.note(sha, body);
        }
    }

    /// Sends the script of an EVALSHA on `lane`, unless the node has it.
    fn load_script(&self, lane: &Rc<Lane>, args: &Args<'_>) {
        let Some(sha) = parse_sha(args.at(1)) else { return };
        let generation = self.process.scripts.generation();
        let mut loaded = lane.loaded.borrow_mut();
        if loaded.generation != generation || loaded.scripts.len() >= REMEMBERED {
            *loaded = Loaded { generation, scripts: HashSet::new() };
        }
        if loaded.scripts.contains(&sha) {
            return;
        }
        if let Some(body) = self.process.scripts.body(&sha)
            && lane.call(self, &script_load(&body), 1).is_some()
        {
            loaded.scripts.insert(sha);
        }
    }

    /// The SCRIPT LOADs that the EVALSHAs of a transaction may need, one request each.
    pub fn script_loads(&self, push: &[u8]) -> Vec<Vec<u8>> {
        let mut scanner = RequestScanner::new();
        let (mut loads, mut rest) = (Vec::new(), push);
        while let Ok(Scanned::Request(len)) = scanner.scan(rest, &Limits::unlimited(), true) {
            let args = Args::new(rest, scanner.spans());
            let sha = parse_sha(args.at(1)).filter(|_| is_evalsha(&args));
            loads.extend(sha.and_then(|sha| self.process.scripts.body(&sha)).map(|body| script_load(&body)));
            rest = rest.get(len..).unwrap_or(&[]);
            scanner.reset();
        }
        loads
    }

    /// The same for a request that is about to be sent (again), be it an EVALSHA or a transaction with some.
    #[cold]
    pub fn load_scripts_of(&self, lane: &Rc<Lane>, errand: &Errand, request: &[u8]) {
        let mut scanner = RequestScanner::new();
        let mut rest = request;
        while let Ok(Scanned::Request(len)) = scanner.scan(rest, &Limits::unlimited(), true) {
            let args = Args::new(rest, scanner.spans());
            if is_evalsha(&args) {
                self.load_script(lane, &args);
            }
            if errand.before == 0 {
                return;
            }
            rest = rest.get(len..).unwrap_or(&[]);
            scanner.reset();
        }
    }
}

fn is_evalsha(args: &Args<'_>) -> bool {
    ["evalsha", "evalsha_ro"].iter().any(|name| args.at(0).eq_ignore_ascii_case(name.as_bytes()))
}

fn script_load(body: &[u8]) -> Vec<u8> {
    let mut request = Vec::with_capacity(body.len() + 40);
    encode::array(&mut request, 3);
    for word in [&b"SCRIPT"[..], b"LOAD", body] {
        encode::bulk(&mut request, word);
    }
    request
}

/// A node says NOSCRIPT although we know the body (somebody flushed its scripts): the request goes again with
/// the script in front, if nothing after it can have touched its keys. False when the client gets the error.
#[cold]
pub fn repair(worker: &Rc<WorkerContext>, lane: &Rc<Lane>, errand: &Errand, request: &Bytes) -> bool {
    if errand.command.class != CommandClass::Script || errand.redirects >= REPAIRS {
        return false;
    }
    let mut scanner = RequestScanner::new();
    let Ok(Scanned::Request(_)) = scanner.scan(request, &Limits::unlimited(), true) else { return false };
    let args = Args::new(request, scanner.spans());
    let Some(sha) = parse_sha(args.at(1)).filter(|_| is_evalsha(&args)) else { return false };
    lane.loaded.borrow_mut().scripts.remove(&sha);
    if worker.process.scripts.body(&sha).is_none() || errand.session.inner().has_later(errand) {
        return false;
    }
    let mut errand = errand.clone();
    errand.redirects += 1;
    let session = Rc::clone(&errand.session);
    let aim = worker.aim_again(lane, &errand);
    let parcel = Parcel { errand, bytes: request.clone(), aim };
    session.inner().hold(parcel, worker.clock.now(), worker);
    worker.advance_later(&session);
    true
}

/// A node could not compile the body of an EVAL: it is no script, and EVALSHA must not find it.
#[cold]
pub fn forget(worker: &WorkerContext, errand: &Errand, request: &[u8]) {
    let mut scanner = RequestScanner::new();
    if !matches!(errand.command.name, "eval" | "eval_ro")
        || !matches!(scanner.scan(request, &Limits::unlimited(), true), Ok(Scanned::Request(_)))
    {
        return;
    }
    let sha = sha_of(Args::new(request, scanner.spans()).at(1));
    worker.noted_scripts.borrow_mut().scripts.remove(&sha);
    worker.process.scripts.forget(&sha);
}

impl SessionInner {
    /// True when a later request may have touched the keys of this one.
    fn has_later(&self, errand: &Errand) -> bool {
        self.pending.iter().any(|(seq, cell)| {
            let later = (seq.wrapping_sub(errand.seq) as i32) > 0;
            let elsewhere = cell.slot != errand.slot && cell.slot != NO_SLOT;
            let local = cell.slot == NO_SLOT && matches!(cell.state, CellState::Stashed { .. });
            later && !elsewhere && !local
        })
    }
}
