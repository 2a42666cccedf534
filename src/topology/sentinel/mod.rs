//! An upstream with sentinels: they say which server is the primary, and it owns every slot. A refresh asks
//! the sentinels first and then the servers they name what role they have.
//!
//! Sentinels can contradict each other: one may be cut off, restarted with an old configuration, or not have
//! heard of a failover yet. As they settle it between themselves, the highest config epoch wins; a server that
//! says it is a replica is no primary, whoever names it; and against a picture of a higher epoch, whose primary
//! still stands, a lower one needs most sentinels and some patience. A primary that is named but cannot be
//! reached is believed all the same once there is a picture: the one before it may still take writes that would
//! be lost, and no connection carries a request before the server at its other end said that it is a primary.
//! What a sentinel of another deployment says is not listened to: see `kin`.

mod decide;
mod kin;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
mod watch;
mod word;

use std::rc::Rc;

use self::decide::{decide, without_words};
use self::kin::{Sorted, sort};
pub(super) use self::watch::{Asker, Sentinels, Told};
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
    let heard = hear(&plan, settings).await;
    let Plan { first, rest, believed, current, config, .. } = plan;
    let Sorted { ours: words, strangers } = sort(heard.found, current.as_deref(), &believed);
    let mut failures = heard.failures;
    failures.extend(strangers.into_iter().map(|word| (word.dialled, LinkError::Stranger)));
    let known: Vec<Known> = first.into_iter().chain(rest).collect();
    let asked = servers(&words, current.as_deref(), known, &config).await;
    let views = asked.found;
    let outcome = if words.is_empty() {
        without_words(&views, current.as_deref())
    } else {
        decide(&words, &views, &asked.failures, current.as_deref())
    };
    failures.extend(asked.failures);
    let beside = rows(&words, outcome.as_ref().ok());
    let judgement = Judgement { verdicts: verdicts(&views, &outcome), outcome };
    Round { views, failures, judgement, answered: !words.is_empty(), beside, sentinels: told(&words) }
}

/// The sentinels that speak, and those they list.
fn told(words: &[Word]) -> Vec<Told> {
    let listed = words.iter().flat_map(|word| &word.sentinels).map(|addr| (addr.clone(), None));
    words.iter().map(|word| (word.dialled.clone(), Some(word.id.clone()))).chain(listed).collect()
}

/// Asks the sentinels that are connected; where most of them do not answer, or not about our servers, also the
/// seeds.
async fn hear(plan: &Plan, settings: &SentinelSettings) -> Gather<Word> {
    let Plan { sentinels: connected, current, believed, config, .. } = plan;
    // The same sentinel under two addresses has one voice.
    let mut gather: Gather<Word> = Gather::new(|a, b| a.id == b.id);
    let known = connected.len();
    for Asker { addr, asks } in connected {
        let (addr, asks) = (addr.clone(), asks.clone());
        let config = Rc::clone(config);
        gather.ask(addr, async move { ask_over(&asks, &config).await });
    }
    gather.until_enough().await;
    if sort(gather.found.clone(), current.as_deref(), believed).ours.len() * 2 > known {
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
