//! EVAL and EVALSHA on their way to a node: bodies are remembered, and a node that has not heard of a script
//! gets it in front of the EVALSHA, in the same push. What a node knows is remembered per connection: a node
//! that restarted empty has a new one. Must never run a script again that was executed, nor behind a later request
//! on its keys.

use std::collections::HashSet;
use std::rc::Rc;

use bytes::Bytes;

use super::{Session, SessionInner, show};
use crate::backend::lane::Lane;
use crate::backend::ticket::{Aim, Errand, Parcel};
use crate::command::{Command, CommandClass};
use crate::protocol::Limits;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::protocol::scan::{RequestScanner, Scanned};
use crate::script::{Sha, parse_sha, sha_of};
use crate::worker::WorkerContext;

/// Scripts remembered per connection.
const REMEMBERED: usize = 4096;
/// For so long a worker need not tell the cache of bodies that it uses the same script still, in microseconds.
const TOLD: u64 = 100_000;
/// How often a request may have gone again before a script that a node does not have is sent to it no more.
pub(super) const REPAIRS: u8 = 4;
/// What a node says that does not have the script.
const UNKNOWN: &[u8] = b"-NOSCRIPT No matching script";

/// How we spell LOAD, so that MONITOR can tell our SCRIPT LOAD from a client's.
pub const OWN_LOAD: &[u8] = b"lOAD";

/// Which scripts the node at the other end of a connection has.
#[derive(Debug, Default)]
pub struct Loaded {
    generation: u64,
    scripts: HashSet<Sha>,
}

/// The script of which a worker told the cache of bodies last.
#[derive(Clone, Copy, Debug)]
pub struct LastScript {
    sha: Sha,
    /// On the worker's clock.
    told: u64,
    /// Bodies given up until then: it was not among them.
    removals: u64,
}

/// Notes the body of an EVAL, or has the script of an EVALSHA sent in front of it.
#[cold]
pub fn prepare(session: &Rc<Session>, inner: &SessionInner, command: &Command, args: &Args<'_>, slot: u16) {
    let worker = session.worker();
    match command.name {
        "eval" | "eval_ro" => worker.note_script(args.at(1)),
        "evalsha" | "evalsha_ro" => {
            if let Some(lane) = worker.ready_lane(slot, session, inner.client.resp) {
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
    /// A script is used, and this is its body. The cache hears of it unless it just did, of the same one: what
    /// is used stays, what was given up comes back.
    pub fn note_script(&self, body: &[u8]) {
        let sha = sha_of(body);
        if !self.has_just_told(&sha) {
            let removals = self.process.scripts.note(sha, body);
            self.last_script.set(Some(LastScript { sha, told: self.clock.now(), removals }));
        }
    }

    /// A script is used, whatever its body.
    fn touch_script(&self, sha: &Sha) {
        if !self.has_just_told(sha)
            && let Some(removals) = self.process.scripts.touch(sha)
        {
            self.last_script.set(Some(LastScript { sha: *sha, told: self.clock.now(), removals }));
        }
    }

    fn has_just_told(&self, sha: &Sha) -> bool {
        self.last_script.get().is_some_and(|last| {
            last.sha == *sha
                && last.removals == self.process.scripts.removals()
                && self.clock.now().saturating_sub(last.told) < TOLD
        })
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
            return self.touch_script(&sha);
        }
        if let Some(body) = self.process.scripts.body(&sha)
            && lane.call(self, &script_load(&body), 1).is_some()
        {
            loaded.scripts.insert(sha);
        }
    }

    /// The SCRIPT LOADs that the EVALSHAs of a transaction may need, one request each.
    pub fn script_loads(&self, push: &[u8]) -> Vec<Vec<u8>> {
        let bodies = scripts_in(push).into_iter().filter_map(|sha| self.process.scripts.body(&sha));
        bodies.map(|body| script_load(&body)).collect()
    }

    /// Scripts of a transaction that nobody here has seen, where nodes may tell them.
    pub fn scripts_to_ask_for(&self, push: &[u8]) -> Vec<Sha> {
        if !self.may_ask_for_scripts() {
            return Vec::new();
        }
        scripts_in(push).into_iter().filter(|sha| self.process.scripts.body(sha).is_none()).collect()
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

/// What the EVALSHAs of a transaction name, each once.
fn scripts_in(push: &[u8]) -> Vec<Sha> {
    let mut scanner = RequestScanner::new();
    let (mut scripts, mut rest) = (Vec::new(), push);
    let mut seen = HashSet::new();
    while let Ok(Scanned::Request(len)) = scanner.scan(rest, &Limits::unlimited(), true) {
        let args = Args::new(rest, scanner.spans());
        let sha = parse_sha(args.at(1)).filter(|_| is_evalsha(&args));
        scripts.extend(sha.filter(|sha| seen.insert(*sha)));
        rest = rest.get(len..).unwrap_or(&[]);
        scanner.reset();
    }
    scripts
}

fn is_evalsha(args: &Args<'_>) -> bool {
    ["evalsha", "evalsha_ro"].iter().any(|name| args.at(0).eq_ignore_ascii_case(name.as_bytes()))
}

fn script_load(body: &[u8]) -> Vec<u8> {
    let mut request = Vec::with_capacity(body.len() + 40);
    encode::array(&mut request, 3);
    for word in [&b"SCRIPT"[..], OWN_LOAD, body] {
        encode::bulk(&mut request, word);
    }
    request
}

/// A node says NOSCRIPT (it was restarted, or somebody flushed its scripts): the request goes again with the
/// script in front, if none after it on its keys was executed meanwhile. False when the client gets `frame`.
#[cold]
pub fn repair(
    worker: &Rc<WorkerContext>,
    lane: &Rc<Lane>,
    errand: &Errand,
    request: &Bytes,
    frame: &[u8],
) -> bool {
    let ours = errand.command.class == CommandClass::Script && frame.starts_with(UNKNOWN);
    if !ours || errand.redirects >= REPAIRS {
        return false;
    }
    let mut scanner = RequestScanner::new();
    let Ok(Scanned::Request(_)) = scanner.scan(request, &Limits::unlimited(), true) else { return false };
    let args = Args::new(request, scanner.spans());
    let Some(sha) = parse_sha(args.at(1)).filter(|_| is_evalsha(&args)) else { return false };
    lane.loaded.borrow_mut().scripts.remove(&sha);
    let (session, mut errand) = (Rc::clone(&errand.session), errand.clone());
    errand.redirects += 1;
    let aim = Aim::WithScript(Bytes::copy_from_slice(frame));
    let parcel = Parcel { errand, bytes: request.clone(), aim };
    match worker.process.scripts.body(&sha) {
        Some(body) if could_say_so(&body, request) => return false,
        Some(_) => session.inner().hold(parcel, worker.clock.now(), worker),
        None if worker.may_ask_for_scripts() => {
            show::hold(worker, &mut session.inner(), parcel, vec![sha]);
        }
        None => return false,
    }
    worker.advance_later(&session);
    true
}

/// True when NOSCRIPT may be what the script itself says, after it did its work: it, or what it is given, has
/// the word in it.
pub(super) fn could_say_so(body: &[u8], request: &[u8]) -> bool {
    [body, request].iter().any(|text| memchr::memmem::find(text, b"NOSCRIPT").is_some())
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
    worker.process.scripts.forget(&sha);
}
