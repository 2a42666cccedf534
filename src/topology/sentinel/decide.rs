//! Which server is the primary, by the words of the sentinels, the servers' own and the picture in use. Pure;
//! the rule and its reasons stand in the module doc.

use std::collections::BTreeMap;

use super::word::Word;
use crate::topology::agreed::{Agreed, Ignored};
use crate::topology::link::LinkError;
use crate::topology::node::NodeAddr;
use crate::topology::server::{Picture, says_primary};
use crate::topology::view::View;

/// After so many rounds a lower epoch that most sentinels share is taken.
const HELD_ROUNDS_MAX: u32 = 3;

/// One server that is named as the primary.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    addr: &'a NodeAddr,
    epoch: u64,
    votes: usize,
}

/// At least one word. `failures`: servers that were asked and did not answer.
pub(super) fn decide(
    words: &[Word],
    views: &[View],
    failures: &[(NodeAddr, LinkError)],
    current: Option<&Agreed>,
) -> Result<Agreed, String> {
    let present = current.and_then(Agreed::sole_primary);
    let candidates = candidates(words, present);
    let fit = candidates.iter().find(|candidate| says_primary(views, candidate.addr) != Some(false));
    let Some(best) = fit else {
        let named: Vec<String> = candidates.iter().map(|c| c.addr.to_string()).collect();
        let refusal = format!("{}, which the sentinels call the primary, is a replica", named.join(", "));
        let demoted = present.is_some_and(|addr| says_primary(views, addr) == Some(false));
        // Nothing may be sent there any more: its slots have no owner until the sentinels name another.
        return if demoted { Ok(ownerless(words, views, current)) } else { Err(refusal) };
    };
    let is_silent = says_primary(views, best.addr).is_none();
    let most = best.votes * 2 > sentinels(words);
    let (Some(agreed), Some(present)) = (current, present) else {
        if is_silent {
            let why =
                failures.iter().find(|(addr, _)| addr == best.addr).map(|(_, error)| format!(": {error}"));
            let why = why.unwrap_or_default();
            return Err(format!("{}, which the sentinels call the primary, does not answer{why}", best.addr));
        }
        if current.is_some_and(|agreed| best.epoch < agreed.current_epoch) && !most {
            return Err(format!(
                "{}, which a sentinel calls the primary, was that before another",
                best.addr
            ));
        }
        return Ok(picture(words, Some(best)).agreed(views));
    };
    if best.epoch >= agreed.current_epoch || (best.addr == present && most) {
        return Ok(picture(words, Some(best)).agreed(views));
    }
    if best.addr == present {
        let stays = Candidate { epoch: agreed.current_epoch, ..*best };
        return Ok(picture(words, Some(&stays)).agreed(views));
    }
    let gives_way = match says_primary(views, present) {
        Some(false) => most,
        Some(true) => most && agreed.held_rounds >= HELD_ROUNDS_MAX,
        None => most && !is_silent,
    };
    if gives_way {
        return Ok(picture(words, Some(best)).agreed(views));
    }
    if says_primary(views, present) == Some(false) {
        return Ok(ownerless(words, views, current));
    }
    let stays = Candidate { addr: present, epoch: agreed.current_epoch, votes: 0 };
    let mut held = picture(words, Some(&stays));
    // Rounds come often while it is above zero: a few times, not for as long as an old sentinel is there.
    held.held_rounds = (agreed.held_rounds + 1) % (HELD_ROUNDS_MAX + 1);
    if most {
        held.held_rounds = agreed.held_rounds + 1;
    }
    Ok(held.agreed(views))
}

/// No sentinel says anything that counts: what we have stands, unless its primary says that it is none.
pub(super) fn without_words(views: &[View], current: Option<&Agreed>) -> Result<Agreed, String> {
    let present = current.and_then(Agreed::sole_primary);
    let demoted = present.is_some_and(|addr| says_primary(views, addr) == Some(false));
    if demoted { Ok(ownerless(&[], views, current)) } else { Err(String::new()) }
}

/// The picture without a primary. What was known of the deployment is remembered: its epoch, so that nobody turns
/// the clock back meanwhile, and its servers.
fn ownerless(words: &[Word], views: &[View], current: Option<&Agreed>) -> Agreed {
    let mut picture = picture(words, None);
    if let Some(agreed) = current {
        picture.epoch = picture.epoch.max(agreed.current_epoch);
        picture.before = agreed.servers().into_iter().collect();
        picture.base = picture.base.or_else(|| Some(agreed.base.clone()));
    }
    picture.agreed(views)
}

/// The strongest first: highest epoch, most votes, the one in use.
fn candidates<'a>(words: &'a [Word], present: Option<&NodeAddr>) -> Vec<Candidate<'a>> {
    let mut by_addr: BTreeMap<&NodeAddr, Candidate<'a>> = BTreeMap::new();
    for word in words {
        let addr = &word.primary;
        let candidate = by_addr.entry(addr).or_insert(Candidate { addr, epoch: 0, votes: 0 });
        candidate.epoch = candidate.epoch.max(word.epoch);
        candidate.votes += 1;
    }
    let mut all: Vec<Candidate<'a>> = by_addr.into_values().collect();
    all.sort_by_key(|c| std::cmp::Reverse((c.epoch, c.votes, Some(c.addr) == present)));
    all
}

/// How many sentinels there are, as far as one of them knows.
fn sentinels(words: &[Word]) -> usize {
    words.iter().map(|word| word.sentinels.len() + 1).max().unwrap_or(0).max(words.len())
}

/// The picture with this primary. Replicas are those that the words with the highest epoch list.
fn picture(words: &[Word], primary: Option<&Candidate<'_>>) -> Picture {
    let addr = primary.map(|primary| primary.addr);
    let epoch = primary.map_or_else(|| highest(words), |primary| primary.epoch);
    let base = words.iter().filter(|word| addr.is_none_or(|addr| word.primary == *addr));
    let base = base.max_by_key(|word| (word.epoch, std::cmp::Reverse(&word.dialled)));
    Picture {
        primary: addr.cloned(),
        others: replicas(words, addr),
        base: base.map(|word| word.dialled.clone()),
        epoch,
        compared: words.len(),
        held_rounds: 0,
        before: Vec::new(),
    }
}

fn highest(words: &[Word]) -> u64 {
    words.iter().map(|word| word.epoch).max().unwrap_or(0)
}

/// Those that a sentinel lists which has the same primary. A replica is well if most that list it say so.
fn replicas(words: &[Word], primary: Option<&NodeAddr>) -> Vec<(NodeAddr, String, Option<Ignored>)> {
    let same = |word: &&Word| Some(&word.primary) == primary;
    let told = words.iter().filter(same);
    let mut votes: BTreeMap<&NodeAddr, (usize, usize, &str, Option<Ignored>)> = BTreeMap::new();
    for replica in told.flat_map(|word| &word.replicas).filter(|replica| Some(&replica.addr) != primary) {
        let (listed, well, flags, ignored) =
            votes.entry(&replica.addr).or_insert((0, 0, &replica.flags, replica.ignored));
        *listed += 1;
        if replica.ignored.is_none() {
            *well += 1;
        } else {
            (*flags, *ignored) = (&replica.flags, replica.ignored);
        }
    }
    let each = votes.into_iter().map(|(addr, (listed, well, flags, ignored))| {
        (addr.clone(), flags.to_owned(), ignored.filter(|_| well * 2 <= listed))
    });
    each.collect()
}
