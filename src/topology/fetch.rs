//! One look at a cluster without a service: what `slotway topology` shows.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use redis_protocol::resp2::types::Resp2Frame;
use tokio::time::timeout;

use super::agreed::Agreed;
use super::judge::{Asked, judge};
use super::link::{Link, LinkError};
use super::node::NodeAddr;
use super::probe::INFO_REPLICATION;
use super::replication::{Replication, Standing};
use super::round::{Plan, Round, failure_rows, run};
use super::settings::TopologyConfig;
use super::snapshot::Snapshot;
use super::table::SLOTS;
use super::view::View;
use super::wire::decode_reply;
use super::zone::ZoneRule;

/// Most nodes asked beside those that the seeds are.
const NODES_MAX: usize = 16;

/// Why there is nothing to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// No node answered; the text says which was asked and what it said.
    #[error("{0}")]
    NoAnswer(String),
    /// Nodes answered, but their views say nothing usable.
    #[error("{0}")]
    NoView(String),
}

/// Asks the seeds, then the nodes they name, and compares their views.
///
/// Must run on a `LocalRuntime` (or in a `LocalSet`): it spawns local tasks.
pub async fn fetch_once(config: TopologyConfig) -> Result<Snapshot, TopologyError> {
    let config = Rc::new(config);
    let plan = Plan {
        first: Vec::new(),
        rest: Vec::new(),
        sentinels: Vec::new(),
        believed: BTreeSet::new(),
        current: None,
        lost: true,
        config: config.clone(),
    };
    let mut round = run(plan).await;
    if !round.answered {
        return Err(TopologyError::NoAnswer(round.no_answer(&config)));
    }
    if let Ok(agreed) = &round.judgement.outcome
        && config.upstream.is_cluster()
    {
        let asked: Vec<&String> = round.views.iter().map(|view| &view.my_id).collect();
        let others = agreed.nodes.iter().filter(|(id, node)| node.ignored.is_none() && !asked.contains(id));
        let others: Vec<NodeAddr> =
            others.filter_map(|(_, node)| node.addr.clone()).take(NODES_MAX).collect();
        ask_others(others, &config, &mut round).await;
        round.judgement = judge(&round.views, None, Asked { all: true, lost: true });
    }
    let failures = failure_rows(&round);
    let agreed = round.judgement.outcome.map_err(TopologyError::NoView)?;
    let down: Arc<[String]> = failures.iter().map(|f| f.addr.clone()).collect();
    let views: Vec<String> = round.views.iter().map(|view| view.dialled.to_string()).collect();
    let health = |addr: &NodeAddr| {
        let addr = addr.to_string();
        if down.contains(&addr) {
            "unreachable"
        } else if views.contains(&addr) {
            "up"
        } else {
            "unknown"
        }
    };
    let mut snapshot = Snapshot::of(&agreed, health).with_views(&round.views, &round.judgement.verdicts);
    snapshot.ready = usize::from(snapshot.slots_covered) == SLOTS || (agreed.state_ok && !agreed.tentative);
    snapshot.failures = failures;
    snapshot.views.append(&mut round.beside);
    show_zones(&mut snapshot, &agreed, &round.views, &config);
    let addrs = agreed.nodes.into_iter().filter_map(|(id, node)| Some((id, node.addr?)));
    show_replication(&mut snapshot, addrs.collect(), &config).await;
    Ok(snapshot)
}

/// Where nodes are: by the configuration, else by their own word.
fn show_zones(snapshot: &mut Snapshot, agreed: &Agreed, views: &[View], config: &TopologyConfig) {
    for node in snapshot.nodes_mut() {
        let known = agreed.nodes.get(&node.id).into_iter();
        let names = known.flat_map(|node| node.addr.iter().chain(&node.aliases));
        let names: Vec<String> = names.map(|addr| addr.host.clone()).collect();
        let by_rule = ZoneRule::zone_of(&config.node_zones, &names).map(str::to_owned);
        let said = || views.iter().find(|view| view.my_id == node.id)?.server.zone.clone();
        node.zone = by_rule.or_else(said);
    }
}

/// Asks primaries with replicas, and those, how far they are.
async fn show_replication(
    snapshot: &mut Snapshot,
    addrs: HashMap<String, NodeAddr>,
    config: &Rc<TopologyConfig>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    let shards = snapshot.shards.iter().filter(|shard| !shard.replicas.is_empty());
    for node in shards.flat_map(|shard| std::iter::once(&shard.primary).chain(&shard.replicas)) {
        let Some(addr) = addrs.get(&node.id).cloned() else { continue };
        let (id, config) = (node.id.clone(), config.clone());
        tasks.spawn_local(async move {
            let mut link = Link::dial(&addr, &config).await.ok()?;
            let said = timeout(config.connect_timeout, async {
                link.send(INFO_REPLICATION).await?;
                Ok::<_, LinkError>(decode_reply(&link.reply().await?)?)
            });
            let said = said.await.ok()?.ok()?;
            Some((id, Replication::parse(said.as_str()?)?))
        });
    }
    let mut said = HashMap::new();
    while let Some(done) = tasks.join_next().await {
        said.extend(done.ok().flatten());
    }
    for shard in &mut snapshot.shards {
        let primary = said.get(&shard.primary.id);
        for replica in &mut shard.replicas {
            let is_up = replica.health == "up";
            replica.stand(&Standing::at_once(said.get(&replica.id), primary), is_up);
        }
    }
}

async fn ask_others(others: Vec<NodeAddr>, config: &Rc<TopologyConfig>, round: &mut Round) {
    let mut tasks = tokio::task::JoinSet::new();
    for addr in others {
        let config = config.clone();
        tasks.spawn_local(async move {
            let view = async {
                let mut link = Link::dial(&addr, &config).await?;
                link.ask(&addr, &config).await
            };
            let view: Result<_, LinkError> = view.await;
            (addr, view)
        });
    }
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok((_, Ok(view))) if round.views.iter().any(|other| other.my_id == view.my_id) => {}
            Ok((_, Ok(view))) => round.views.push(view),
            Ok((addr, Err(error))) => round.failures.push((addr, error)),
            Err(_) => {}
        }
    }
}
