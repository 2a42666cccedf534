//! One refresh: whom to ask, and what their views come to.
//!
//! First some known nodes, all at once, over their control connections. If their views can be taken
//! that is all. Otherwise every other known node that is reachable, and the seeds, whose names are
//! resolved anew and all of whose addresses are asked on connections of their own.
//!
//! A node that does not answer must not delay a failover by its deadline: once half of those asked
//! have answered, the others get a short grace (`gather`). Only the verdict "this is another cluster
//! now" waits for everybody.
//!
//! Sentinels and standalone servers are asked in their own way: `sentinel`, `standalone`.

use std::collections::BTreeSet;
use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::agreed::Agreed;
use super::control::Ask;
use super::gather::Gather;
use super::judge::{Asked, Judgement, judge};
use super::link::{LinkError, ask_once};
use super::node::NodeAddr;
use super::parse::ParseError;
use super::sentinel::{self, Asker, Told};
use super::settings::{TopologyConfig, Upstream};
use super::snapshot::{FailureSnapshot, ViewSnapshot};
use super::standalone;
use super::view::View;

/// A known node that can be asked over its control connection.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) addr: NodeAddr,
    pub(crate) asks: mpsc::Sender<Ask>,
}

/// Whom to ask.
pub(crate) struct Plan {
    pub(crate) first: Vec<Known>,
    pub(crate) rest: Vec<Known>,
    /// Connected sentinels.
    pub(crate) sentinels: Vec<Asker>,
    /// Ids of the sentinels that were believed before.
    pub(crate) believed: BTreeSet<String>,
    pub(crate) current: Option<Rc<Agreed>>,
    /// No known node is connected.
    pub(crate) lost: bool,
    pub(crate) config: Rc<TopologyConfig>,
}

/// What a round found.
pub(crate) struct Round {
    pub(crate) views: Vec<View>,
    pub(crate) failures: Vec<(NodeAddr, LinkError)>,
    pub(crate) judgement: Judgement,
    /// Somebody whose word counts has answered.
    pub(crate) answered: bool,
    /// What sentinels said, as shown to people.
    pub(crate) beside: Vec<ViewSnapshot>,
    /// Sentinels there are.
    pub(crate) sentinels: Vec<Told>,
}

impl Round {
    /// One in which nodes alone were asked.
    pub(crate) fn of_nodes(
        views: Vec<View>,
        failures: Vec<(NodeAddr, LinkError)>,
        judgement: Judgement,
    ) -> Self {
        let answered = !views.is_empty();
        Self { views, failures, judgement, answered, beside: Vec::new(), sentinels: Vec::new() }
    }

    /// Why there is nothing: no word came, for what this says most about.
    pub(crate) fn no_answer(&self, config: &TopologyConfig) -> String {
        no_answer(config, &self.failures)
    }

    /// Nothing came but that a server is no cluster node.
    pub(crate) fn is_no_cluster(&self) -> bool {
        let worst = worst(&self.failures);
        !self.answered && matches!(worst, Some((_, LinkError::Answer(ParseError::ClusterDisabled))))
    }
}

/// Asks and compares. Ends within a few deadlines, whatever the nodes do.
pub(crate) async fn run(plan: Plan) -> Round {
    match plan.config.clone().upstream {
        Upstream::Cluster => cluster(plan).await,
        Upstream::Sentinel(ref settings) => sentinel::run(plan, settings).await,
        Upstream::Standalone => standalone::run(plan).await,
    }
}

async fn cluster(plan: Plan) -> Round {
    let Plan { first, rest, current, lost, config, .. } = plan;
    // The same node under two addresses (a seed and a known one) has one voice.
    let mut gather: Gather<View> = Gather::new(|a, b| a.my_id == b.my_id);
    known(&mut gather, first, &config);
    gather.until_enough().await;
    if !gather.found.is_empty() {
        let judgement = judge(&gather.found, current.as_deref(), Asked::default());
        if judgement.outcome.is_ok() {
            return Round::of_nodes(gather.found, gather.failures, judgement);
        }
    }
    known(&mut gather, rest, &config);
    let asker = config.clone();
    gather.seeds(&config.seeds, move |address| {
        let config = asker.clone();
        async move { ask_once(address, &config).await }
    });
    gather.until_enough().await;
    let asked = Asked { all: gather.is_complete(), lost };
    let mut judgement = judge(&gather.found, current.as_deref(), asked);
    if judgement.outcome.is_err() && !gather.is_complete() {
        gather.until_all().await;
        judgement = judge(&gather.found, current.as_deref(), Asked { all: true, lost });
    }
    Round::of_nodes(gather.found, gather.failures, judgement)
}

fn known(gather: &mut Gather<View>, nodes: Vec<Known>, config: &Rc<TopologyConfig>) {
    for node in nodes {
        let config = config.clone();
        gather.ask(node.addr, async move { ask_over(&node.asks, &config).await });
    }
}

/// Asks whoever is at the other end of a connection that stands.
pub(crate) async fn ask_over<T>(
    asks: &mpsc::Sender<oneshot::Sender<Result<T, LinkError>>>,
    config: &TopologyConfig,
) -> Result<T, LinkError> {
    let (ask, answer) = oneshot::channel();
    if asks.try_send(ask).is_err() {
        return Err(LinkError::Timeout);
    }
    match timeout(config.connect_timeout, answer).await {
        Ok(Ok(said)) => said,
        Ok(Err(_)) => Err(LinkError::Lost("connection closed".to_owned())),
        Err(_) => Err(LinkError::Timeout),
    }
}

/// The failures as shown to people.
pub(crate) fn failure_rows(round: &Round) -> Vec<FailureSnapshot> {
    let each = round.failures.iter();
    each.map(|(addr, error)| FailureSnapshot { addr: addr.to_string(), error: error.to_string() }).collect()
}

/// The failure that explains most.
fn worst(failures: &[(NodeAddr, LinkError)]) -> Option<&(NodeAddr, LinkError)> {
    failures.iter().max_by_key(|(_, error)| error.weight())
}

/// One sentence for a round without any view: the reason that explains most, or all of them.
fn no_answer(config: &TopologyConfig, failures: &[(NodeAddr, LinkError)]) -> String {
    match worst(failures) {
        None if config.seeds.is_empty() => "no seeds are configured".to_owned(),
        None => "no seed is reachable".to_owned(),
        Some((addr, error)) if error.weight() > 3 => format!("{addr}: {error}"),
        Some(_) => {
            let mut each: Vec<String> =
                failures.iter().map(|(addr, error)| format!("{addr}: {error}")).collect();
            // Sorted, so that the same failure is the same sentence and is logged once.
            each.sort();
            each.truncate(4);
            format!("no seed is reachable ({})", each.join("; "))
        }
    }
}
