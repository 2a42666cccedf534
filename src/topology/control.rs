//! The control connection of one node: one per node and process, whatever the number of workers.
//! It keeps itself connected (jittered back-off between attempts), PINGs, notices silence, and
//! carries the questions of refreshes. It reports facts; what follows from them is decided by
//! `health` and `service`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use redis_protocol::resp2::types::OwnedFrame;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};

use super::link::{Link, LinkError, PING, is_usable};
use super::node::{NodeAddr, NodeId};
use super::probe::{Probe, Prober};
use super::replication::Sample;
use super::server::{ROLE, role};
use super::settings::{TopologyConfig, backoff, jitter};
use super::view::View;
use super::wire::{WireError, decode_reply};

/// First wait after a failed attempt; three attempts at a dead port take about 0.1 s.
const BACKOFF_BASE: Duration = Duration::from_millis(50);

/// Questions waiting for one node: a refresh asks one at a time, and a late one may be left over.
const ASKS_MAX: usize = 4;

/// Where the answer to a question goes.
pub(crate) type Ask = oneshot::Sender<Result<View, LinkError>>;

/// A fact about a node.
#[derive(Debug)]
pub(crate) enum Fact {
    /// Connected, and the node answered; `usable` unless it is loading.
    Connected { usable: bool },
    /// The node answered a PING, after so long.
    Alive { usable: bool, after: Duration },
    /// What it says of its data.
    Sample(Box<Sample>),
    /// What it says it is; asked where it is no cluster node.
    Role { primary: bool },
    /// An answer is overdue by two probe intervals.
    Late,
    /// The connection broke.
    Lost(LinkError),
    /// An attempt to connect failed.
    ConnectFailed(LinkError),
    /// Nothing came for `node-silence-timeout` although an answer is owed.
    Silent,
}

/// A fact, and which control connection (ids may start a new one) it comes from.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) node: NodeId,
    pub(crate) serial: u64,
    pub(crate) fact: Fact,
}

/// Handle of a running control connection; dropped, it closes.
pub(crate) struct Control {
    asks: mpsc::Sender<Ask>,
    nudge: Rc<Notify>,
    task: JoinHandle<()>,
}

impl Control {
    /// Starts connecting. `expected` is the cluster id that must answer at `addr`.
    pub(crate) fn start(
        (node, serial): (NodeId, u64),
        addr: NodeAddr,
        expected: String,
        config: Rc<TopologyConfig>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let nudge = Rc::new(Notify::new());
        let runner = Runner { node, serial, addr, expected, config, reports, asked, nudge: nudge.clone() };
        Self { asks, nudge, task: tokio::task::spawn_local(runner.run()) }
    }

    /// Probe now instead of at the next interval.
    pub(crate) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Where to put a question.
    pub(crate) fn asks(&self) -> mpsc::Sender<Ask> {
        self.asks.clone()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Runner {
    node: NodeId,
    serial: u64,
    addr: NodeAddr,
    expected: String,
    config: Rc<TopologyConfig>,
    reports: mpsc::Sender<Report>,
    asked: mpsc::Receiver<Ask>,
    nudge: Rc<Notify>,
}

impl Runner {
    async fn run(mut self) {
        let mut attempt = 0;
        loop {
            match self.connect().await {
                Ok((link, usable)) => {
                    attempt = 0;
                    self.report(Fact::Connected { usable }).await;
                    let mut talk = Talk::new(link);
                    let end = talk.run(&mut self).await;
                    self.report(end).await;
                }
                Err(error) => {
                    self.report(Fact::ConnectFailed(error)).await;
                    // Dropped questions are answered "no answer" by their channel.
                    while self.asked.try_recv().is_ok() {}
                    let wait = backoff(BACKOFF_BASE, attempt, self.config.probe_backoff_max);
                    attempt = attempt.saturating_add(1);
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = self.nudge.notified() => sleep(BACKOFF_BASE).await,
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<(Link, bool), LinkError> {
        let mut link = Link::dial(&self.addr, &self.config).await?;
        let usable = link.ping(&self.config).await?;
        link.check_id(&self.expected, &self.config).await?;
        Ok((link, usable))
    }

    async fn report(&self, fact: Fact) {
        let _ = self.reports.send(Report { node: self.node, serial: self.serial, fact }).await;
    }
}

/// What the node owes, oldest first.
enum Owed {
    Pong,
    Role,
    Probe(Probe),
    View { answers: Vec<OwnedFrame>, ask: Ask },
}

/// One established connection.
struct Talk {
    link: Link,
    owed: VecDeque<(Instant, Owed)>,
    last_byte: Instant,
    next_ping: Instant,
    late_reported: bool,
    prober: Prober,
    /// Facts that came with others in one read.
    facts: VecDeque<Fact>,
}

impl Talk {
    fn new(link: Link) -> Self {
        let now = Instant::now();
        Self {
            link,
            owed: VecDeque::new(),
            last_byte: now,
            next_ping: now,
            late_reported: false,
            prober: Prober::default(),
            facts: VecDeque::new(),
        }
    }

    /// Until the connection ends; the fact says how.
    async fn run(&mut self, runner: &mut Runner) -> Fact {
        loop {
            match self.turn(runner).await {
                Ok(Some(fact)) => {
                    if matches!(fact, Fact::Silent) {
                        return fact;
                    }
                    runner.report(fact).await;
                }
                Ok(None) => {}
                Err(error) => return Fact::Lost(error),
            }
        }
    }

    async fn turn(&mut self, runner: &mut Runner) -> Result<Option<Fact>, LinkError> {
        if let Some(fact) = self.facts.pop_front() {
            return Ok(Some(fact));
        }
        let config = runner.config.clone();
        let silent_at =
            self.owed.front().map(|(sent, _)| *sent.max(&self.last_byte) + config.node_silence_timeout);
        let far = Instant::now() + Duration::from_secs(3_600);
        tokio::select! {
            read = self.link.stream.read_buf(self.link.replies.buffer()) => match read {
                Ok(0) => Err(LinkError::Lost("closed by the node".to_owned())),
                Ok(_) => self.receive(&runner.addr, &config).map(|()| None),
                Err(error) => Err(LinkError::Lost(error.to_string())),
            },
            Some(ask) = runner.asked.recv(), if self.owed.len() < ASKS_MAX => {
                let (questions, owed) = config.upstream.questions();
                self.owed.push_back((Instant::now(), Owed::View { answers: Vec::with_capacity(owed), ask }));
                self.send(questions, &config).await.map(|()| None)
            }
            () = runner.nudge.notified() => self.ping(&config).await,
            () = sleep_until(self.next_ping.into()) => self.ping(&config).await,
            () = sleep_until(silent_at.unwrap_or(far).into()), if silent_at.is_some() => Ok(Some(Fact::Silent)),
        }
    }

    /// PINGs unless a PONG is owed; says so when the oldest answer owed is late.
    async fn ping(&mut self, config: &TopologyConfig) -> Result<Option<Fact>, LinkError> {
        let now = Instant::now();
        self.next_ping = now + jitter(config.probe_interval);
        if let Some((sent, _)) = self.owed.front() {
            let is_late =
                now.saturating_duration_since(*sent.max(&self.last_byte)) >= config.probe_interval * 2;
            let report = is_late && !self.late_reported;
            self.late_reported |= is_late;
            if report
                || self.owed.len() >= ASKS_MAX
                || self.owed.iter().any(|(_, owed)| matches!(owed, Owed::Pong))
            {
                return Ok(report.then_some(Fact::Late));
            }
        }
        self.owed.push_back((now, Owed::Pong));
        let mut questions = PING.to_vec();
        if !config.upstream.is_cluster() && self.owed.len() < ASKS_MAX {
            questions.extend_from_slice(ROLE);
            self.owed.push_back((now, Owed::Role));
        }
        if config.watch_replicas && self.owed.len() < ASKS_MAX {
            let probe = self.prober.ask(&mut questions);
            self.owed.push_back((now, Owed::Probe(probe)));
        }
        self.send(&questions, config).await.map(|()| None)
    }

    /// A few hundred bytes at a time with a bounded number owed: this waits only for a node whose
    /// receive buffer is full, and such a node is silent too.
    async fn send(&mut self, bytes: &[u8], config: &TopologyConfig) -> Result<(), LinkError> {
        timeout(config.node_silence_timeout, self.link.send(bytes)).await.map_err(|_| LinkError::Timeout)?
    }

    fn receive(&mut self, addr: &NodeAddr, config: &TopologyConfig) -> Result<(), LinkError> {
        self.last_byte = Instant::now();
        while let Some(raw) = self.link.replies.next_raw()? {
            let answer = decode_reply(&raw)?;
            match self.owed.pop_front() {
                Some((sent, Owed::Pong)) => {
                    let (usable, after) = (is_usable(&answer)?, sent.elapsed());
                    self.facts.push_back(Fact::Alive { usable, after });
                }
                Some((_, Owed::Role)) => {
                    self.facts.extend(role(&answer).map(|primary| Fact::Role { primary }));
                }
                Some((sent, Owed::Probe(mut probe))) => match self.prober.take(&mut probe, answer, sent) {
                    Some(sample) => self.facts.push_back(Fact::Sample(Box::new(sample))),
                    None => self.owed.push_front((sent, Owed::Probe(probe))),
                },
                Some((sent, Owed::View { mut answers, ask })) => {
                    answers.push(answer);
                    if answers.len() < config.upstream.questions().1 {
                        self.owed.push_front((sent, Owed::View { answers, ask }));
                    } else {
                        let _ = ask.send(config.upstream.view(addr, &answers).map_err(LinkError::from));
                    }
                }
                None => return Err(WireError("an answer that nothing was asked for").into()),
            }
        }
        if self.owed.is_empty() {
            self.late_reported = false;
        }
        Ok(())
    }
}
