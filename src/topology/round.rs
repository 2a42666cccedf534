//! One refresh: whom to ask, how long to wait, and what their views come to.
//!
//! First some known nodes, all at once, over their control connections. If their views can be taken
//! that is all. Otherwise every other known node that is reachable, and the seeds, whose names are
//! resolved anew and all of whose addresses are asked on connections of their own.
//!
//! A node that does not answer must not delay a failover by its deadline: once half of those asked
//! have answered, the others get a short grace. Only the verdict "this is another cluster now"
//! waits for everybody.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::agreed::Agreed;
use super::control::Ask;
use super::judge::{Asked, Judgement, judge};
use super::link::{LinkError, ask_once, resolve};
use super::node::NodeAddr;
use super::settings::TopologyConfig;
use super::snapshot::FailureSnapshot;
use super::view::View;

/// How long the slower half is waited for.
const GRACE: Duration = Duration::from_millis(50);

/// A known node that can be asked over its control connection.
pub(crate) struct Known {
    pub(crate) addr: NodeAddr,
    pub(crate) asks: mpsc::Sender<Ask>,
}

/// Whom to ask.
pub(crate) struct Plan {
    pub(crate) first: Vec<Known>,
    pub(crate) rest: Vec<Known>,
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
}

/// Asks and compares. Ends within a few deadlines, whatever the nodes do.
pub(crate) async fn run(plan: Plan) -> Round {
    let Plan { first, rest, current, lost, config } = plan;
    let mut gather = Gather::new(config.clone());
    gather.known(first);
    gather.until_enough().await;
    if !gather.views.is_empty() {
        let judgement = judge(&gather.views, current.as_deref(), Asked::default());
        if judgement.outcome.is_ok() {
            return gather.into_round(judgement);
        }
    }
    gather.known(rest);
    gather.seeds();
    gather.until_enough().await;
    let asked = Asked { all: gather.is_complete(), lost };
    let mut judgement = judge(&gather.views, current.as_deref(), asked);
    if judgement.outcome.is_err() && !gather.is_complete() {
        gather.until_all().await;
        judgement = judge(&gather.views, current.as_deref(), Asked { all: true, lost });
    }
    gather.into_round(judgement)
}

type Answer = (NodeAddr, Result<View, LinkError>);

/// Answers under way and come in.
struct Gather {
    config: Rc<TopologyConfig>,
    tasks: JoinSet<()>,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    /// Addresses asked so far; grows while seeds are resolved.
    asked: Rc<Cell<usize>>,
    views: Vec<View>,
    failures: Vec<(NodeAddr, LinkError)>,
}

impl Gather {
    fn new(config: Rc<TopologyConfig>) -> Self {
        let (asked, answers) = (Rc::new(Cell::new(0)), mpsc::channel(64));
        Self { config, tasks: JoinSet::new(), answers, asked, views: Vec::new(), failures: Vec::new() }
    }

    fn known(&mut self, nodes: Vec<Known>) {
        for node in nodes {
            self.asked.set(self.asked.get() + 1);
            let (config, to) = (self.config.clone(), self.answers.0.clone());
            self.tasks.spawn_local(async move {
                let answer = ask_known(&node, &config).await;
                let _ = to.send((node.addr, answer)).await;
            });
        }
    }

    fn seeds(&mut self) {
        for seed in self.config.seeds.clone() {
            let (config, to, asked) = (self.config.clone(), self.answers.0.clone(), self.asked.clone());
            self.tasks.spawn_local(async move {
                match resolve(&seed).await {
                    Err(error) => {
                        asked.set(asked.get() + 1);
                        let _ = to.send((seed, Err(error))).await;
                    }
                    Ok(addresses) => {
                        asked.set(asked.get() + addresses.len());
                        ask_all(addresses, &config, &to).await;
                    }
                }
            });
        }
    }

    /// Half of those asked gave a view, and the others had their grace; or all have answered.
    async fn until_enough(&mut self) {
        let mut grace_ends = None;
        while !self.is_complete() {
            let half = !self.views.is_empty() && self.views.len() * 2 >= self.asked.get();
            if half && grace_ends.is_none() {
                grace_ends = Some(Instant::now() + GRACE);
            }
            if !self.one_more(grace_ends).await {
                return;
            }
        }
    }

    async fn until_all(&mut self) {
        while self.one_more(None).await {}
    }

    /// Waits for one answer; false when there is none to come, or none until `deadline`.
    async fn one_more(&mut self, deadline: Option<Instant>) -> bool {
        if self.is_complete() {
            return false;
        }
        let until = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
        tokio::select! {
            Some((addr, answer)) = self.answers.1.recv() => self.take(addr, answer),
            // A task that ends has sent its answers before.
            Some(_) = self.tasks.join_next() => {}
            () = sleep_until(until.into()) => return false,
        }
        while let Ok((addr, answer)) = self.answers.1.try_recv() {
            self.take(addr, answer);
        }
        true
    }

    fn take(&mut self, addr: NodeAddr, answer: Result<View, LinkError>) {
        match answer {
            // The same node under two addresses (a seed and a known one) has one voice.
            Ok(view) if self.views.iter().any(|other| other.my_id == view.my_id) => {}
            Ok(view) => self.views.push(view),
            Err(error) => self.failures.push((addr, error)),
        }
    }

    /// Nothing is under way.
    fn is_complete(&self) -> bool {
        self.tasks.is_empty() && self.answers.1.is_empty()
    }

    fn into_round(self, judgement: Judgement) -> Round {
        Round { views: self.views, failures: self.failures, judgement }
    }
}

async fn ask_known(node: &Known, config: &TopologyConfig) -> Result<View, LinkError> {
    let (ask, answer) = oneshot::channel();
    if node.asks.try_send(ask).is_err() {
        return Err(LinkError::Timeout);
    }
    match timeout(config.connect_timeout, answer).await {
        Ok(Ok(view)) => view,
        Ok(Err(_)) => Err(LinkError::Lost("connection closed".to_owned())),
        Err(_) => Err(LinkError::Timeout),
    }
}

async fn ask_all(addresses: Vec<SocketAddr>, config: &Rc<TopologyConfig>, to: &mpsc::Sender<Answer>) {
    let mut tasks = JoinSet::new();
    for address in addresses {
        let (config, to) = (config.clone(), to.clone());
        tasks.spawn_local(async move {
            let answer = ask_once(address, &config).await;
            let addr = NodeAddr { host: address.ip().to_string(), port: address.port() };
            let _ = to.send((addr, answer)).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// The failures as shown to people.
pub(crate) fn failure_rows(round: &Round) -> Vec<FailureSnapshot> {
    let each = round.failures.iter();
    each.map(|(addr, error)| FailureSnapshot { addr: addr.to_string(), error: error.to_string() }).collect()
}

/// One sentence for a round without any view: the reason that explains most, or all of them.
pub(crate) fn no_answer(config: &TopologyConfig, failures: &[(NodeAddr, LinkError)]) -> String {
    let worst = failures.iter().max_by_key(|(_, error)| error.weight());
    match worst {
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
