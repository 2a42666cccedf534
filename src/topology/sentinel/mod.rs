//! An upstream with sentinels: they say which server is the primary, and it owns every slot. A refresh asks
//! the sentinels first and then the servers they name what role they have.
//!
//! Sentinels can contradict each other: one may be cut off, restarted with an old configuration, or not have
//! heard of a failover yet. As they settle it between themselves, the highest config epoch wins; a server that
//! says it is a replica is no primary, whoever names it; and against a picture of a higher epoch, whose primary
//! still stands, a lower one needs most sentinels and some patience. A primary that is named but cannot be
//! reached is believed all the same once there is a picture: the one before it may still take writes that would
//! be lost, and no connection carries a request before the server at its other end said that it is a primary.

mod decide;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
mod watch;
mod word;

use std::rc::Rc;

use self::decide::decide;
pub(super) use self::watch::{Asker, Sentinels};
use self::word::{Word, ask_address};
use super::agreed::Agreed;
use super::gather::Gather;
use super::judge::{Judgement, Verdict};
use super::link::{Link, LinkError};
use super::node::NodeAddr;
use super::round::{Known, Plan, Round, ask_over};
use super::server::verdicts;
use super::settings::{SentinelSettings, TopologyConfig};
use super::snapshot::ViewSnapshot;
use super::view::View;

/// Asks the sentinels, then the servers, and compares.
pub(super) async fn run(plan: Plan, settings: &SentinelSettings) -> Round {
    let Plan { first, rest, sentinels, current, config, .. } = plan;
    let heard = hear(sentinels, settings, &config).await;
    let (words, mut failures) = (heard.found, heard.failures);
    if words.is_empty() {
        let judgement = Judgement { verdicts: Vec::new(), outcome: Err(String::new()) };
        return Round::of_nodes(Vec::new(), failures, judgement);
    }
    let known: Vec<Known> = first.into_iter().chain(rest).collect();
    let asked = servers(&words, current.as_deref(), known, &config).await;
    let views = asked.found;
    let outcome = decide(&words, &views, &asked.failures, current.as_deref());
    failures.extend(asked.failures);
    let beside = rows(&words, outcome.as_ref().ok());
    let listed = words.iter().flat_map(|word| std::iter::once(&word.dialled).chain(&word.sentinels));
    let sentinels = listed.cloned().collect();
    let judgement = Judgement { verdicts: verdicts(&views, &outcome), outcome };
    Round { views, failures, judgement, answered: true, beside, sentinels }
}

/// Asks the sentinels that are connected; where most of them do not answer also the seeds.
async fn hear(
    connected: Vec<Asker>,
    settings: &SentinelSettings,
    config: &Rc<TopologyConfig>,
) -> Gather<Word> {
    // The same sentinel under two addresses has one voice.
    let mut gather: Gather<Word> = Gather::new(|a, b| a.id == b.id);
    let known = connected.len();
    for Asker { addr, asks } in connected {
        let config = Rc::clone(config);
        gather.ask(addr, async move { ask_over(&asks, &config).await });
    }
    gather.until_enough().await;
    if gather.found.len() * 2 > known {
        return gather;
    }
    let (config_of, settings) = (Rc::new(settings.links(config)), Rc::new(settings.clone()));
    gather.seeds(&config.seeds, move |address| {
        let (config, settings) = (Rc::clone(&config_of), Rc::clone(&settings));
        async move { ask_address(address, &settings, &config).await }
    });
    gather.until_enough().await;
    gather
}

/// Asks every server that some sentinel names as the primary, the one we have, and all we know.
async fn servers(
    words: &[Word],
    current: Option<&Agreed>,
    known: Vec<Known>,
    config: &Rc<TopologyConfig>,
) -> Gather<View> {
    let mut gather: Gather<View> = Gather::new(|a, b| a.dialled == b.dialled);
    let mut open: Vec<NodeAddr> = Vec::new();
    let named = words.iter().map(|word| &word.primary).chain(current.and_then(Agreed::sole_primary));
    for addr in named.filter(|addr| !known.iter().any(|known| known.addr == **addr)) {
        if !open.contains(addr) {
            open.push(addr.clone());
        }
    }
    for node in known {
        let config = Rc::clone(config);
        gather.ask(node.addr, async move { ask_over(&node.asks, &config).await });
    }
    for addr in open {
        let config = Rc::clone(config);
        gather.ask(addr.clone(), async move { ask_server(&addr, &config).await });
    }
    gather.until_enough().await;
    gather
}

async fn ask_server(addr: &NodeAddr, config: &TopologyConfig) -> Result<View, LinkError> {
    Link::dial(addr, config).await?.ask(addr, config).await
}

fn rows(words: &[Word], agreed: Option<&Agreed>) -> Vec<ViewSnapshot> {
    let verdict = |word: &Word| match agreed {
        Some(agreed) if agreed.base == word.dialled => Verdict::Taken,
        Some(agreed) if word.epoch < agreed.current_epoch => Verdict::Older,
        _ => Verdict::Compared,
    };
    let row = |word: &Word| ViewSnapshot {
        addr: word.dialled.to_string(),
        id: word.id.clone(),
        current_epoch: word.epoch,
        verdict: format!("sentinel, {}", verdict(word).label()),
    };
    words.iter().map(row).collect()
}

impl SentinelSettings {
    /// Settings of connections to sentinels: as those to nodes, but for user and password.
    fn links(&self, config: &TopologyConfig) -> TopologyConfig {
        TopologyConfig { credentials: self.credentials.clone(), ..config.clone() }
    }
}
