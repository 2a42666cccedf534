//! Whose word is about the deployment that is known here. Names such as `mymaster` are everybody's, and addresses
//! are given to others: a sentinel of another deployment may answer where one of ours was, with whatever epoch.
//! Its servers must not even be dialled. Pure.
//!
//! A word is one of ours if it names a server that is known, as the primary or as a replica, or one that such a
//! word names: sentinels go on listing the primary that was. Others are believed only if they are most of the
//! sentinels there are, and as long as one of ours speaks only those count that were believed before. At the
//! start nothing is known; then most of those that are about the same servers are believed.

use std::collections::BTreeSet;

use super::word::Word;
use crate::topology::agreed::Agreed;
use crate::topology::node::NodeAddr;

/// What several sentinels said.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Believed.
    pub(super) ours: Vec<Word>,
    /// About servers that nobody here knows.
    pub(super) strangers: Vec<Word>,
}

/// `believed`: ids of the sentinels that were believed before.
pub(super) fn sort(words: Vec<Word>, current: Option<&Agreed>, believed: &BTreeSet<String>) -> Sorted {
    let known = current.map(Agreed::servers).unwrap_or_default();
    let is_start = known.is_empty();
    let mut ours = related(&words, known);
    let others = largest(&words, &ours);
    let speaks = ours.contains(&true);
    let counts = |word: &Word| !speaks || believed.contains(&word.id);
    let votes = chosen(&words, &others).filter(|word| counts(word)).count();
    if votes > 0 && (is_start || votes * 2 > believed.len().max(words.len())) {
        ours = others;
    }
    let mut sorted = Sorted::default();
    for (word, is_ours) in words.into_iter().zip(ours) {
        if is_ours { sorted.ours.push(word) } else { sorted.strangers.push(word) }
    }
    sorted
}

/// Of those not `taken`, the most that are about the same servers; of equally many those with the highest epoch.
fn largest(words: &[Word], taken: &[bool]) -> Vec<bool> {
    let open = words.iter().zip(taken).filter(|(_, taken)| !**taken);
    let groups = open.map(|(word, _)| related(words, servers(word).cloned().collect()));
    let weight = |group: &Vec<bool>| {
        let epoch = chosen(words, group).map(|word| word.epoch).max();
        (chosen(words, group).count(), epoch)
    };
    groups.max_by_key(weight).unwrap_or_else(|| vec![false; words.len()])
}

/// Which words name one of these servers, or one that such a word names.
fn related(words: &[Word], mut servers_of_ours: BTreeSet<NodeAddr>) -> Vec<bool> {
    let mut ours = vec![false; words.len()];
    loop {
        let before = ours.clone();
        for (word, is_ours) in words.iter().zip(&mut ours) {
            if !*is_ours && servers(word).any(|addr| servers_of_ours.contains(addr)) {
                *is_ours = true;
                servers_of_ours.extend(servers(word).cloned());
            }
        }
        if ours == before {
            return ours;
        }
    }
}

fn servers(word: &Word) -> impl Iterator<Item = &NodeAddr> {
    std::iter::once(&word.primary).chain(word.replicas.iter().map(|replica| &replica.addr))
}

fn chosen<'a>(words: &'a [Word], of: &[bool]) -> impl Iterator<Item = &'a Word> {
    words.iter().zip(of).filter(|(_, is_one)| **is_one).map(|(word, _)| word)
}
