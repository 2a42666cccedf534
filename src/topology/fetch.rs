//! One look at a cluster without a service: what `slotway topology` shows.

use std::rc::Rc;
use std::sync::Arc;

use super::judge::{Asked, judge};
use super::link::{Link, LinkError};
use super::node::NodeAddr;
use super::round::{Plan, Round, failure_rows, run};
use super::settings::TopologyConfig;
use super::snapshot::Snapshot;
use super::table::SLOTS;

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
    Ok(snapshot)
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
