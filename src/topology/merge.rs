//! Makes one picture of the views that count: per slot the claim with the highest config epoch, as
//! the nodes themselves decide it. Pure; the rule and its reasons stand in the module doc of
//! `topology`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::agreed::{Agreed, AgreedNode, Ignored, OpenMigration};
use super::node::NodeAddr;
use super::table::SLOTS;
use super::view::{Row, View};

/// A lower claim that all views share is taken after this many rounds, also without its loser's
/// word.
const HELD_ROUNDS_MAX: u32 = 3;

const NOBODY: u16 = u16::MAX;

/// Merges at least one view. `guard` is the current picture, which older claims cannot undo.
pub(crate) fn merge(fit: &[&View], guard: Option<&Agreed>, tentative: bool) -> Agreed {
    let mut claims = Claims::of(fit, guard);
    let mut slots = Vec::with_capacity(SLOTS);
    let mut held = false;
    for slot in 0..SLOTS {
        let (owner, kept) = claims.owner(slot, guard);
        held |= kept;
        slots.push(owner);
    }
    let owners = std::mem::take(&mut claims.ids);
    let serving: BTreeSet<&str> =
        slots.iter().flatten().filter_map(|(i, _)| owners.get(usize::from(*i))).map(String::as_str).collect();
    let base = base(fit);
    let nodes = merge_nodes(fit, base, guard, &serving);
    Agreed {
        nodes,
        migrations: migrations(fit),
        base: base.map_or_else(|| NodeAddr { host: String::new(), port: 0 }, |view| view.dialled.clone()),
        current_epoch: fit.iter().map(|v| v.cluster.current_epoch).max().unwrap_or(0),
        state_ok: fit.iter().any(|v| v.cluster.state_ok),
        server: base.map(|view| view.server.clone()).unwrap_or_default(),
        tentative,
        compared: fit.len(),
        held_rounds: if held { guard.map_or(0, |g| g.held_rounds).saturating_add(1) } else { 0 },
        before: Vec::new(),
        owners,
        slots,
    }
}

/// The view that details are taken from: the newest, then the most complete. Deterministic, so that
/// equal clusters give equal tables whoever answers first.
fn base<'a>(fit: &[&'a View]) -> Option<&'a View> {
    let rank = |view: &&&View| {
        let cluster = view.cluster;
        (
            cluster.current_epoch,
            cluster.state_ok,
            cluster.slots_assigned,
            view.knows(),
            Reverse(view.my_id.clone()),
        )
    };
    fit.iter().max_by_key(rank).copied()
}

fn migrations(fit: &[&View]) -> Vec<OpenMigration> {
    let mut open = BTreeSet::new();
    for view in fit {
        for m in view.me().map_or(&[][..], |me| &me.migrations) {
            let (from, to) = if m.leaving { (&view.my_id, &m.peer) } else { (&m.peer, &view.my_id) };
            open.insert(OpenMigration { slot: m.slot, from: from.clone(), to: to.clone() });
        }
    }
    open.into_iter().collect()
}

// === slots ===

/// Who claims what, as indices.
struct Claims<'a> {
    fit: &'a [&'a View],
    ids: Vec<String>,
    /// Per view: owner of each slot.
    owner: Vec<Vec<u16>>,
    /// Per view: config epoch it knows of each id.
    epoch: Vec<Vec<u64>>,
    /// Per id: its own view, if it is among `fit`.
    own_view: Vec<Option<usize>>,
    /// Per id: no view knows it as anything but failed.
    gone: Vec<bool>,
    /// Per index into the guard's owners: the id here.
    guard_ids: Vec<u16>,
    /// Lower claims that all share may be taken now.
    patience_over: bool,
}

#[derive(Clone, Copy)]
struct Candidate {
    id: u16,
    epoch: u64,
    /// The owner itself is among those who say so.
    own_word: bool,
    votes: usize,
}

impl<'a> Claims<'a> {
    fn of(fit: &'a [&'a View], guard: Option<&Agreed>) -> Self {
        let mut ids: Vec<String> = Vec::new();
        let mut index: HashMap<String, u16> = HashMap::new();
        let mut intern = |id: &str| {
            *index.entry(id.to_owned()).or_insert_with(|| {
                ids.push(id.to_owned());
                // A cluster has at most 16384 owners, so all views together stay far below.
                u16::try_from(ids.len() - 1).unwrap_or(NOBODY)
            })
        };
        let mut owner = Vec::with_capacity(fit.len());
        for view in fit {
            let mut slots = vec![NOBODY; SLOTS];
            for claim in &view.claims {
                if let Some(range) = slots.get_mut(usize::from(claim.first)..=usize::from(claim.last)) {
                    range.fill(intern(&claim.owner));
                }
            }
            owner.push(slots);
        }
        let guard_ids = guard.map_or(Vec::new(), |g| g.owners.iter().map(|id| intern(id)).collect());
        let epochs =
            |view: &&View| ids.iter().map(|id| view.rows.get(id).map_or(0, |r| r.config_epoch)).collect();
        let epoch = fit.iter().map(epochs).collect();
        let own_view = ids.iter().map(|id| fit.iter().position(|view| view.my_id == *id)).collect();
        let gone = |id: &String| fit.iter().all(|view| view.rows.get(id).is_none_or(|row| row.flags.fail));
        let gone = ids.iter().map(gone).collect();
        let patience_over = guard.is_some_and(|g| g.held_rounds >= HELD_ROUNDS_MAX);
        Self { fit, owner, epoch, own_view, gone, guard_ids, patience_over, ids }
    }

    /// The owner of `slot`, and whether that is only because a lower claim was held back.
    fn owner(&self, slot: usize, guard: Option<&Agreed>) -> (Option<(u16, u64)>, bool) {
        let current = guard.and_then(|g| g.slots.get(slot).copied().flatten());
        let current = current.and_then(|(i, epoch)| Some((*self.guard_ids.get(usize::from(i))?, epoch)));
        let (best, unanimous) = self.best(slot, current.map(|(id, _)| id));
        let Some((id, epoch)) = current else { return (best.map(|b| (b.id, b.epoch)), false) };
        match best {
            Some(best) if best.id == id => (Some((id, epoch.max(best.epoch))), false),
            Some(best) if best.epoch >= epoch => (Some((best.id, best.epoch)), false),
            lower => {
                let at = usize::from(id);
                let has_spoken = self.own_view.get(at).copied().flatten().is_some();
                let gone = self.gone.get(at).copied().unwrap_or(true);
                if has_spoken || gone || (unanimous && self.patience_over) {
                    (lower.map(|b| (b.id, b.epoch)), false)
                } else {
                    (Some((id, epoch)), true)
                }
            }
        }
    }

    /// The strongest claim on `slot`, and whether all views say the same.
    fn best(&self, slot: usize, current: Option<u16>) -> (Option<Candidate>, bool) {
        let mut candidates: Vec<Candidate> = Vec::with_capacity(2);
        let mut silent = 0;
        for (view, owners) in self.owner.iter().enumerate() {
            let id = owners.get(slot).copied().unwrap_or(NOBODY);
            if id == NOBODY || self.disowned(slot, view, id) {
                silent += 1;
                continue;
            }
            let epoch = self.known_epoch(view, id);
            let own_word = self.own_view.get(usize::from(id)).copied().flatten() == Some(view);
            match candidates.iter_mut().find(|c| c.id == id) {
                Some(c) => {
                    (c.epoch, c.own_word, c.votes) = (c.epoch.max(epoch), c.own_word | own_word, c.votes + 1);
                }
                None => candidates.push(Candidate { id, epoch, own_word, votes: 1 }),
            }
        }
        let unanimous = candidates.len() + usize::from(silent > 0) == 1;
        let name = |c: &Candidate| self.ids.get(usize::from(c.id)).map(String::as_str).map(Reverse);
        let rank = |c: &Candidate| (c.epoch, c.own_word, c.votes, Some(c.id) == current, name(c));
        (candidates.iter().max_by(|a, b| rank(a).cmp(&rank(b))).copied(), unanimous)
    }

    /// Nobody owns a slot against its own word, unless that word is from an older epoch.
    fn disowned(&self, slot: usize, view: usize, id: u16) -> bool {
        let Some(own) = self.own_view.get(usize::from(id)).copied().flatten() else { return false };
        let claims_it = self.owner.get(own).and_then(|owners| owners.get(slot)) == Some(&id);
        let own_epoch = self.fit.get(own).map_or(0, |v| v.cluster.current_epoch);
        !claims_it && own_epoch >= self.known_epoch(view, id)
    }

    fn known_epoch(&self, view: usize, id: u16) -> u64 {
        self.epoch.get(view).and_then(|e| e.get(usize::from(id))).copied().unwrap_or(0)
    }
}

// === nodes ===

fn merge_nodes(
    fit: &[&View],
    base: Option<&View>,
    guard: Option<&Agreed>,
    serving: &BTreeSet<&str>,
) -> BTreeMap<String, AgreedNode> {
    let ids: BTreeSet<&String> = fit.iter().flat_map(|view| view.rows.keys()).collect();
    let mut nodes = BTreeMap::new();
    for id in ids {
        let newest =
            fit.iter().filter(|v| v.rows.contains_key(id)).max_by_key(|v| v.cluster.current_epoch).copied();
        let of = base.filter(|view| view.rows.contains_key(id)).or(newest);
        let Some(row) = of.and_then(|view| view.rows.get(id)) else { continue };
        let votes = Votes::count(fit, id);
        let current = guard.and_then(|g| g.nodes.get(id)).and_then(|node| node.addr.as_ref());
        let addr = address(fit, id, current, row.addr.as_ref());
        let owns = serving.contains(id.as_str());
        let ignored = ignored(row, &votes, addr.is_some(), owns, serving);
        let aliases = fit.iter().filter_map(|view| view.rows.get(id)).filter(|r| r.addr == addr);
        let aliases: BTreeSet<&NodeAddr> = aliases.flat_map(|r| r.aliases.iter()).collect();
        let node = AgreedNode {
            addr,
            aliases: aliases.into_iter().cloned().collect(),
            flags_text: row.flags_text.replace("myself,", ""),
            replica: row.flags.replica && !owns,
            primary_id: row.primary_id.clone(),
            config_epoch: row.config_epoch,
            ignored,
        };
        nodes.insert(id.clone(), node);
    }
    nodes
}

/// What the other nodes think of one; its own view has no vote.
struct Votes {
    views: usize,
    others: usize,
    fail: usize,
    healthy: usize,
    known: usize,
}

impl Votes {
    fn count(fit: &[&View], id: &str) -> Self {
        let mut votes = Votes { views: fit.len(), others: 0, fail: 0, healthy: 0, known: 0 };
        for view in fit {
            let Some(row) = view.rows.get(id) else { continue };
            votes.known += 1;
            if view.my_id != id {
                votes.others += 1;
                votes.fail += usize::from(row.flags.fail);
                votes.healthy += usize::from(row.is_healthy());
            }
        }
        votes
    }
}

fn ignored(
    row: &Row,
    votes: &Votes,
    has_addr: bool,
    owns: bool,
    serving: &BTreeSet<&str>,
) -> Option<Ignored> {
    let of_serving = row.primary_id.as_deref().is_some_and(|id| serving.contains(id));
    if row.flags.handshake {
        Some(Ignored::Handshake)
    } else if !has_addr {
        Some(Ignored::NoAddr)
    } else if votes.fail * 2 > votes.others {
        Some(Ignored::Fail)
    } else if owns {
        None
    } else if votes.known * 2 < votes.views {
        Some(Ignored::Unknown)
    } else if !row.flags.replica || !of_serving {
        Some(Ignored::Slotless)
    } else if votes.healthy * 2 <= votes.others && votes.others > 0 {
        Some(Ignored::Unhealthy)
    } else {
        None
    }
}

/// Where to dial a node: what most of the others say, for a node may not know its own new address.
/// Without others, its own word. Ties: the address in use, then the base view's.
fn address(
    fit: &[&View],
    id: &str,
    current: Option<&NodeAddr>,
    based: Option<&NodeAddr>,
) -> Option<NodeAddr> {
    let said = |own: bool| {
        let views = fit.iter().filter(move |view| (view.my_id == id) == own);
        views.filter_map(|view| view.rows.get(id)?.addr.as_ref())
    };
    let mut count: BTreeMap<&NodeAddr, usize> = BTreeMap::new();
    said(false).for_each(|addr| *count.entry(addr).or_default() += 1);
    if count.is_empty() {
        said(true).for_each(|addr| *count.entry(addr).or_default() += 1);
    }
    let rank = |(addr, n): &(&&NodeAddr, &usize)| (**n, Some(**addr) == current, Some(**addr) == based);
    count.iter().max_by_key(rank).map(|(addr, _)| (*addr).clone())
}
