//! Connections to the sentinels: each has one for questions and one on which it announces what happens. An
//! announcement is only a reason to ask at once; nothing is believed because of it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};

use super::word::Word;
use crate::backend::handshake::push_command;
use crate::topology::link::{Link, LinkError, PING};
use crate::topology::node::NodeAddr;
use crate::topology::parse::array;
use crate::topology::settings::{SentinelSettings, TopologyConfig, Upstream, backoff, jitter};
use crate::topology::wire::decode_reply;

/// First wait after a failed attempt, or a lost connection.
const BACKOFF_BASE: Duration = Duration::from_millis(50);

/// Questions waiting for one sentinel: a refresh asks one at a time, and a late one may be left over.
const ASKS_MAX: usize = 4;

/// Most sentinels that are kept connected.
const SENTINELS_MAX: usize = 32;

/// A sentinel that no other lists and that is not connected is forgotten after this time. Counted while others
/// say something: when all connections break at once nobody is forgotten for it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// What may change the answer to a question: the end of a failover, the moment in it from which the new primary is
/// named, and replicas that come, go or return.
const EVENTS: [&str; 7] = [
    "+switch-master",
    "+failover-state-reconf-slaves",
    "+promoted-slave",
    "+convert-to-slave",
    "+slave",
    "+sdown",
    "-sdown",
];

type Ask = oneshot::Sender<Result<Word, LinkError>>;

/// A connected sentinel that can be asked.
pub(crate) struct Asker {
    pub(crate) addr: NodeAddr,
    pub(crate) asks: mpsc::Sender<Ask>,
}

/// A sentinel that a believed word tells of: where it is, and its id if it spoke itself.
pub(crate) type Told = (NodeAddr, Option<String>);

/// All sentinels known. None, and nothing to do, where there are no sentinels upstream.
pub(crate) struct Sentinels {
    config: Rc<TopologyConfig>,
    settings: Option<Rc<SentinelSettings>>,
    announced: Rc<Notify>,
    each: BTreeMap<NodeAddr, Watched>,
    /// When one was last believed.
    believed: Instant,
}

struct Watched {
    asks: mpsc::Sender<Ask>,
    connected: Rc<Cell<bool>>,
    /// Its id, once its own word was believed.
    id: Option<String>,
    /// Since when it is neither listed nor connected.
    missing: Option<Instant>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sentinels {
    /// Knows none yet.
    pub(crate) fn new(config: &TopologyConfig) -> Self {
        let settings = match &config.upstream {
            Upstream::Sentinel(settings) => Some(Rc::new(settings.clone())),
            Upstream::Cluster | Upstream::Standalone => None,
        };
        let config = settings.as_ref().map_or_else(|| config.clone(), |settings| settings.links(config));
        let (announced, each, believed) = (Rc::default(), BTreeMap::new(), Instant::now());
        Self { config: Rc::new(config), settings, announced, each, believed }
    }

    /// Keeps those that are `told` connected, those that still are, and for a while those that were. A sentinel
    /// that was reset knows the others again only after a while. A round without a word tells of nobody, which is
    /// no reason to forget anybody.
    pub(crate) fn fit(&mut self, told: Vec<Told>) {
        let Some(settings) = self.settings.as_ref().filter(|_| !told.is_empty()) else { return };
        let now = Instant::now();
        self.believed = now;
        for (addr, watched) in &mut self.each {
            let is_there = watched.connected.get() || told.iter().any(|(other, _)| other == addr);
            watched.missing = if is_there { None } else { watched.missing.or(Some(now)) };
        }
        self.each.retain(|_, watched| watched.missing.is_none_or(|since| now - since < FORGOTTEN_AFTER));
        for (addr, id) in told {
            if let Some(watched) = self.each.get_mut(&addr) {
                watched.id = id.or(watched.id.take());
                continue;
            }
            if self.each.len() >= SENTINELS_MAX {
                continue;
            }
            let (asks, asked) = mpsc::channel(ASKS_MAX);
            let connected = Rc::new(Cell::new(false));
            let runner = Runner {
                addr: addr.clone(),
                config: Rc::clone(&self.config),
                settings: Rc::clone(settings),
                announced: Rc::clone(&self.announced),
                connected: Rc::clone(&connected),
                asked,
            };
            let task = tokio::task::spawn_local(runner.run());
            self.each.insert(addr, Watched { asks, connected, id, missing: None, task });
        }
    }

    /// Those that are connected.
    pub(crate) fn askable(&self) -> Vec<Asker> {
        let connected = self.each.iter().filter(|(_, watched)| watched.connected.get());
        connected.map(|(addr, watched)| Asker { addr: addr.clone(), asks: watched.asks.clone() }).collect()
    }

    /// Ids of those that were believed. None once none has been for long while nothing else of what we know is
    /// there either (`lost`): then it may all have been built anew.
    pub(crate) fn known(&self, lost: bool) -> BTreeSet<String> {
        if lost && self.believed.elapsed() > FORGOTTEN_AFTER {
            return BTreeSet::new();
        }
        self.each.values().filter_map(|watched| watched.id.clone()).collect()
    }

    /// Waits until one of them announced something, or was connected.
    pub(crate) async fn announced(&self) {
        self.announced.notified().await;
    }
}

struct Runner {
    addr: NodeAddr,
    config: Rc<TopologyConfig>,
    settings: Rc<SentinelSettings>,
    announced: Rc<Notify>,
    connected: Rc<Cell<bool>>,
    asked: mpsc::Receiver<Ask>,
}

/// The two connections.
struct Links {
    questions: Link,
    news: Link,
}

impl Runner {
    async fn run(mut self) {
        let mut attempt = 0;
        loop {
            let begun = Instant::now();
            let error = match self.connect().await {
                Ok(links) => {
                    self.connected.set(true);
                    // It may know more than those that were asked without it.
                    self.announced.notify_one();
                    let error = self.talk(links).await;
                    self.connected.set(false);
                    error
                }
                Err(error) => error,
            };
            tracing::debug!(sentinel = %self.addr, %error, "no connection to a sentinel");
            // Dropped questions are answered "no answer" by their channel.
            while self.asked.try_recv().is_ok() {}
            if begun.elapsed() > self.config.probe_backoff_max {
                attempt = 0;
            }
            sleep(backoff(BACKOFF_BASE, attempt, self.config.probe_backoff_max)).await;
            attempt = attempt.saturating_add(1);
        }
    }

    async fn connect(&self) -> Result<Links, LinkError> {
        let questions = Link::dial(&self.addr, &self.config).await?;
        let mut news = Link::dial(&self.addr, &self.config).await?;
        let mut request = Vec::new();
        push_command(&mut request, &[&["SUBSCRIBE"], &EVENTS[..]].concat());
        self.send(&mut news, &request).await?;
        Ok(Links { questions, news })
    }

    async fn send(&self, link: &mut Link, request: &[u8]) -> Result<(), LinkError> {
        timeout(self.config.connect_timeout, link.send(request)).await.map_err(|_| LinkError::Timeout)?
    }

    /// Until one of the connections ends, or the sentinel falls silent.
    async fn talk(&mut self, mut links: Links) -> LinkError {
        let (mut last_byte, mut next_ping) = (Instant::now(), Instant::now());
        loop {
            let silent_at = last_byte + self.config.node_silence_timeout;
            let news = &mut links.news;
            let result = tokio::select! {
                read = news.stream.read_buf(news.replies.buffer()) => match read {
                    Ok(0) => Err(LinkError::Lost("closed by the sentinel".to_owned())),
                    Ok(_) => {
                        last_byte = Instant::now();
                        self.receive(news)
                    }
                    Err(error) => Err(LinkError::Lost(error.to_string())),
                },
                Some(ask) = self.asked.recv() => self.answer(ask, &mut links.questions).await,
                () = sleep_until(next_ping.into()) => {
                    next_ping = Instant::now() + jitter(self.config.probe_interval);
                    self.send(&mut links.news, PING).await
                }
                () = sleep_until(silent_at.into()) => Err(LinkError::Timeout),
            };
            if let Err(error) = result {
                return error;
            }
        }
    }

    /// Looks at what came on the connection for announcements: confirmations and PONGs say nothing.
    fn receive(&self, news: &mut Link) -> Result<(), LinkError> {
        while let Some(raw) = news.replies.next_raw()? {
            let frame = decode_reply(&raw)?;
            if let OwnedFrame::Error(text) = frame {
                return Err(LinkError::Lost(text));
            }
            if is_about(&frame, &self.settings.master) {
                self.announced.notify_one();
            }
        }
        Ok(())
    }

    /// An answer that makes no word leaves the connection as it is; without an answer it is of no more use.
    async fn answer(&self, ask: Ask, questions: &mut Link) -> Result<(), LinkError> {
        let word = questions.ask_sentinel(&self.addr, &self.settings, &self.config).await;
        let error = word.as_ref().err().filter(|error| !matches!(error, LinkError::Answer(_))).cloned();
        let _ = ask.send(word);
        error.map_or(Ok(()), Err)
    }
}

/// True for a message whose text names the master.
pub(super) fn is_about(frame: &OwnedFrame, master: &str) -> bool {
    let word = |index: usize| array(frame).and_then(|items| items.get(index)?.as_str());
    word(0) == Some("message") && word(2).is_some_and(|text| text.split(' ').any(|word| word == master))
}
