//! The topology task: takes events and facts, decides when to refresh, adopts what a round agreed
//! on, and keeps one control connection per node of the table. It owns everything the shared handle
//! shows. It must never wait for a node: all waiting is in rounds and control connections.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::agreed::Agreed;
use super::control::{Fact, Report};
use super::handle::{Event, Topology};
use super::health::Down;
use super::learn::Learner;
use super::link::LinkError;
use super::node::{NodeAddr, NodeId};
use super::publish::Publisher;
use super::round::{Plan, Round, failure_rows, run};
use super::schedule::Schedule;
use super::sentinel::Sentinels;
use super::settings::TopologyConfig;
use super::snapshot::Snapshot;
use super::stats::{RefreshResult, Trigger};
use super::table::SLOTS;
use super::watch::{WatchList, Watched};

/// How many known nodes a round asks at first.
const ASK_FIRST: usize = 5;

/// How many more it asks before it goes to the seeds' views alone.
const ASK_REST: usize = 32;

/// How long something wrong makes refreshes come often: longer than a failover takes with Redis'
/// default `cluster-node-timeout` of 15 s, counted from when the node was found dead.
const URGENT_WINDOW: Duration = Duration::from_secs(30);

/// How often what replicas say of themselves is shown to people.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Reports of control connections waiting for the task.
const REPORTS_MAX: usize = 256;

/// The topology service; [`run`](Self::run) it on a current-thread tokio `LocalRuntime`.
pub struct TopologyTask {
    config: Rc<TopologyConfig>,
    shared: Arc<Topology>,
    events: mpsc::Receiver<Event>,
    reports: mpsc::Receiver<Report>,
    publisher: Publisher,
    schedule: Schedule,
    agreed: Option<Rc<Agreed>>,
    watched: WatchList,
    sentinels: Sentinels,
    learner: Learner,
    round: Option<(Trigger, JoinHandle<Round>)>,
    uncovered_since: Option<Instant>,
    /// Base of the snapshot: agreed part and views, without health.
    last: Snapshot,
    /// When people were last shown something.
    shown: Instant,
}

impl TopologyTask {
    /// The service and its shared handle. Nothing happens until it runs.
    pub fn new(config: TopologyConfig) -> (Arc<Topology>, Self) {
        let (shared, events) = Topology::channel();
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let config = Rc::new(config);
        let now = Instant::now();
        let schedule = Schedule::new(
            config.refresh_interval,
            config.refresh_min_interval,
            config.probe_backoff_max,
            now,
        );
        let task = Self {
            config: config.clone(),
            shared: shared.clone(),
            events,
            reports,
            publisher: Publisher::default(),
            schedule,
            agreed: None,
            watched: WatchList::new(config.clone(), sender),
            sentinels: Sentinels::new(&config),
            learner: Learner::new(config, shared.clone()),
            round: None,
            uncovered_since: None,
            last: Snapshot::default(),
            shown: now,
        };
        (shared, task)
    }

    /// Runs until it is dropped; dropped, it closes every control connection.
    pub async fn run(mut self) {
        loop {
            let due = self.schedule.due();
            let at = due.map_or_else(|| Instant::now() + Duration::from_secs(3_600), |(at, _)| at);
            tokio::select! {
                Some(event) = self.events.recv() => self.on_event(event),
                Some(report) = self.reports.recv() => self.on_report(report),
                round = finished(&mut self.round) => self.on_round(round),
                () = self.sentinels.announced() => self.schedule.request(Trigger::Sentinel),
                () = self.learner.step() => self.show(),
                () = sleep_until(at.into()), if due.is_some() => {
                    if let Some((_, trigger)) = due {
                        self.start_round(trigger);
                    }
                }
            }
            self.update_urgency();
        }
    }

    // === events and facts ===

    fn on_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Refresh(trigger) => self.schedule.request(trigger),
            Event::ConnectionLost(id) => {
                self.request_unless_suspect(id, Trigger::ConnectionLost);
                self.change(id, |watched| {
                    watched.suspect(now);
                    false
                });
            }
            Event::ConnectFailed(id) => {
                self.request_unless_suspect(id, Trigger::ConnectFailed);
                self.change(id, |watched| {
                    watched.suspect(now);
                    watched.health.connect_failed(now)
                });
            }
            Event::Connected(id) => self.change(id, |watched| watched.health.worker_connected()),
            Event::Moving(id) => self.watched.replicas.unsettle(id),
            Event::Refused(id) => self.watched.replicas.doubt(id),
        }
    }

    /// The first of several signs asks for a refresh; what comes after it is up to the urgency.
    fn request_unless_suspect(&mut self, id: NodeId, trigger: Trigger) {
        if self.watched.get(id).is_none_or(|watched| !watched.health.is_suspect()) {
            self.schedule.request(trigger);
        }
    }

    fn on_report(&mut self, report: Report) {
        if self.watched.see_left(&report) {
            self.shared.bump();
        }
        let Report { node, serial, fact } = report;
        let Some(watched) = self.watched.get(node).filter(|w| w.serial == serial) else { return };
        let now = Instant::now();
        let was_suspect = watched.health.is_suspect();
        let failed = matches!(fact, Fact::ConnectFailed(_));
        if let Fact::Lost(why) | Fact::ConnectFailed(why) = &fact {
            tracing::debug!(node = %watched.node.addr, %why, "control connection failed");
        }
        match fact {
            Fact::Connected { usable } => {
                self.schedule.encourage(now);
                if self
                    .agreed
                    .as_ref()
                    .is_some_and(|agreed| agreed.compared < ASK_FIRST.min(self.watched.len()))
                {
                    // Few views got us here; compare them with more as soon as there are more.
                    self.schedule.request(Trigger::Start);
                }
                self.change(node, |w| w.health.control_connected(usable));
            }
            Fact::Alive { usable, after } => self.change(node, |w| {
                w.note_distance(after);
                w.health.alive(usable)
            }),
            Fact::Sample(sample) => {
                if self.watched.see(node, *sample) {
                    self.schedule.request(Trigger::Moving);
                }
                if self.shown.elapsed() >= SHOW_EVERY {
                    self.show();
                }
            }
            Fact::Role { primary } => {
                if self.watched.get_mut(node).is_some_and(|watched| watched.note_role(primary)) {
                    self.schedule.request(Trigger::Role);
                }
            }
            Fact::Late => self.change(node, |w| {
                w.health.suspect(now);
                false
            }),
            Fact::Lost(_) => self.change(node, |w| {
                w.health.control_lost(now);
                false
            }),
            Fact::ConnectFailed(LinkError::OtherNode) => {
                self.change(node, |w| w.health.take_out(Down::Refused, now))
            }
            Fact::ConnectFailed(_) => self.change(node, |w| w.health.connect_failed(now)),
            Fact::Silent => self.change(node, |w| w.health.take_out(Down::Silent, now)),
        }
        let is_suspect = self.watched.get(node).is_some_and(|w| w.health.is_suspect());
        if is_suspect && !was_suspect {
            self.schedule.request(if failed { Trigger::ConnectFailed } else { Trigger::ConnectionLost });
        }
    }

    /// Changes the health of a node; when that takes it out or in, everybody is told.
    fn change(&mut self, id: NodeId, apply: impl FnOnce(&mut Watched) -> bool) {
        let Some(watched) = self.watched.get_mut(id) else { return };
        let changed = apply(watched);
        self.watched.settle(id);
        let Some(watched) = self.watched.get(id).filter(|_| changed) else { return };
        let (down, addr) = (watched.health.down(), &watched.node.addr);
        watched.node.set_up(down.is_none());
        match down {
            Some(why) => {
                tracing::warn!(node = %addr, why = why.label(), "node taken out");
                self.shared.stats().count_ejection();
                self.schedule.request(Trigger::ConnectFailed);
            }
            None => tracing::info!(node = %addr, "node is back"),
        }
        self.show();
        self.shared.bump();
    }

    /// While a primary is in trouble or slots are uncovered, refresh often, but not for ever.
    fn update_urgency(&mut self) {
        let now = Instant::now();
        let troubled = self.watched.is_troubled(now, URGENT_WINDOW);
        let uncovered = self.uncovered_since.is_some_and(|since| now - since < URGENT_WINDOW);
        let held = self.agreed.as_ref().is_some_and(|agreed| agreed.held_rounds > 0);
        self.schedule.set_urgent(if troubled {
            Some(Trigger::ConnectionLost)
        } else if uncovered {
            Some(Trigger::Uncovered)
        } else {
            held.then_some(Trigger::Redirect)
        });
    }

    // === rounds ===

    fn start_round(&mut self, trigger: Trigger) {
        let trigger = if self.agreed.is_none() { Trigger::Start } else { trigger };
        let now = Instant::now();
        self.schedule.begin(now);
        self.shared.round_started();
        let mut known = self.watched.askable(self.agreed.as_deref()).into_iter();
        let lost = !self.watched.is_any_askable();
        let plan = Plan {
            first: known.by_ref().take(ASK_FIRST).collect(),
            rest: known.take(ASK_REST).collect(),
            sentinels: self.sentinels.askable(),
            believed: self.sentinels.known(lost),
            current: self.agreed.clone(),
            lost,
            config: self.config.clone(),
        };
        self.round = Some((trigger, tokio::task::spawn_local(run(plan))));
    }

    /// `None`: the round's task ended without a result, which counts as no answer.
    fn on_round(&mut self, (trigger, round): (Trigger, Option<Round>)) {
        self.round = None;
        let now = Instant::now();
        let Some(mut round) = round else {
            self.over(trigger, RefreshResult::Failed, now);
            return;
        };
        let answered = round.answered;
        let mut failures = failure_rows(&round);
        self.sentinels.fit(std::mem::take(&mut round.sentinels));
        self.shared.no_cluster.store(round.is_no_cluster(), Ordering::Relaxed);
        let no_answer = if answered { String::new() } else { round.no_answer(&self.config) };
        let result = match round.judgement.outcome {
            Ok(agreed) => {
                self.last = Snapshot::of(&agreed, |_| "").with_views(&round.views, &round.judgement.verdicts);
                self.learner.see(&round.views, &round.judgement.verdicts, &agreed, now);
                self.adopt(agreed, now)
            }
            Err(why) => {
                self.last =
                    std::mem::take(&mut self.last).with_views(&round.views, &round.judgement.verdicts);
                self.refused(if answered { why } else { no_answer });
                if answered { RefreshResult::Rejected } else { RefreshResult::Failed }
            }
        };
        self.last.failures.clear();
        self.last.failures.append(&mut failures);
        self.last.views.append(&mut round.beside);
        let node_of = |addr: &NodeAddr| self.shared.node_by_addr(&addr.host, addr.port);
        self.watched.answered(round.views.iter().filter_map(|view| node_of(&view.dialled)));
        let before = self.shared.heard.load();
        let heard = before.and_now(&round.views, &round.judgement.verdicts, node_of, now);
        self.shared.heard.store(Arc::new(heard));
        self.over(trigger, result, now);
    }

    fn over(&mut self, trigger: Trigger, result: RefreshResult, now: Instant) {
        self.shared.stats().count_refresh(trigger, result);
        let is_whole = |agreed: &Rc<Agreed>| !agreed.tentative && !agreed.lacks_nodes();
        let settled = self.shared.ready() && self.agreed.as_ref().is_some_and(is_whole);
        self.schedule.finish(result, settled, now);
        self.show();
        self.shared.round_finished();
    }

    fn adopt(&mut self, agreed: Agreed, now: Instant) -> RefreshResult {
        if self.agreed.as_ref().is_none_or(|before| before.migrations != agreed.migrations) {
            self.shared.migrations.fetch_add(1, Ordering::AcqRel);
        }
        let (changed, wanted) = self.publisher.publish(&agreed, &self.shared, now);
        let covered = self.shared.slots_covered();
        let complete = usize::from(covered) == SLOTS;
        if complete {
            self.uncovered_since = None;
        } else {
            self.uncovered_since.get_or_insert(now);
        }
        if changed {
            tracing::info!(epoch = self.publisher.epoch(), covered, base = %agreed.base, "new slot table");
        }
        if !self.shared.ready() && !agreed.tentative && (complete || agreed.state_ok) && covered > 0 {
            self.shared.ready.store(true, Ordering::Release);
            self.shared.reason.store(None);
            tracing::info!("the cluster is known, ready");
        } else if !self.shared.ready() {
            self.refused(format!("{covered} of {SLOTS} slots have a reachable owner"));
        }
        self.shared.version.store(agreed.server.redis_version.clone().map(Arc::new));
        let agreed = self.agreed.insert(Rc::new(agreed));
        if self.watched.fit(wanted, agreed) {
            self.shared.bump();
        }
        if changed { RefreshResult::Changed } else { RefreshResult::Same }
    }

    /// Remembers why we are not ready, and says so once.
    fn refused(&self, why: String) {
        if self.shared.reason.load().as_deref() != Some(&why) {
            tracing::warn!(reason = %why, "no new picture of the cluster");
            self.shared.reason.store(Some(Arc::new(why)));
        }
    }

    /// Publishes the snapshot with the health of now.
    fn show(&mut self) {
        let mut snapshot = self.last.clone();
        snapshot.table_epoch = self.publisher.epoch();
        self.watched.describe(&mut snapshot);
        self.shown = Instant::now();
        self.shared.snapshot.store(Arc::new(snapshot));
    }
}

impl Drop for TopologyTask {
    fn drop(&mut self) {
        if let Some((_, round)) = &self.round {
            round.abort();
        }
    }
}

/// The round under way, once it is over; never, without one.
async fn finished(round: &mut Option<(Trigger, JoinHandle<Round>)>) -> (Trigger, Option<Round>) {
    match round {
        Some((trigger, task)) => (*trigger, task.await.ok()),
        None => std::future::pending().await,
    }
}
