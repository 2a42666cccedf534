//! Learns commands from the cluster: reads COMMAND from one node of each kind (same version, same modules)
//! and publishes what all of them together have beyond the built-in table.
//!
//! Each reading has a connection of its own, so that no answer, however large or broken, can cost a node its
//! health. Must never wait for a node: readings are tasks. What of an answer is believed is decided by
//! `command::trust`.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking, spawn_local};
use tokio::time::timeout;

use super::agreed::Agreed;
use super::handle::Topology;
use super::judge::Verdict;
use super::link::{Link, LinkError};
use super::node::NodeAddr;
use super::settings::{TopologyConfig, backoff};
use super::view::View;
use super::wire::{Replies, WireError, decode_reply};
use crate::command::answers::{collect_docs, fit_commands};
use crate::command::data::{Docs, Entry};
use crate::command::learned::{Names, Store};
use crate::command::{CommandTable, LearnedTable, trust};
use crate::protocol::encode;

/// Kinds of nodes told apart at a time. More are left unread until others are gone.
const KINDS_MAX: usize = 8;

/// Nesting of COMMAND DOCS: a subcommand's arguments stand five deep and nest by two.
const DEPTH_MAX: usize = 32;

/// Wait after a reading that failed; doubled each time.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// What a node's COMMAND came to.
struct Announcement {
    /// Commands the built-in table does not have.
    entries: Vec<Entry>,
    /// Entries of no known form.
    unfit: usize,
    /// Entries beyond `learned-commands-max`.
    over: usize,
}

type Reading = Result<Announcement, LinkError>;

/// Nodes whose commands are the same.
struct Kind {
    /// Where one of them was reached last.
    addr: NodeAddr,
    /// What they have; `None` until it was read.
    names: Option<Names>,
    failures: u32,
    /// Not read before.
    not_before: Option<Instant>,
}

/// Part of the topology task.
pub(crate) struct Learner {
    config: Rc<TopologyConfig>,
    shared: Arc<Topology>,
    store: Store,
    /// Kind of each node, by cluster id.
    nodes: HashMap<String, u64>,
    kinds: BTreeMap<u64, Kind>,
    reading: Option<(u64, JoinHandle<Reading>)>,
}

impl Learner {
    pub(crate) fn new(config: Rc<TopologyConfig>, shared: Arc<Topology>) -> Self {
        let store = Store::new(config.learned_max, config.learned_bytes);
        if config.learned_max == 0 {
            shared.commands_read.store(true, Ordering::Release);
        }
        Self { config, shared, store, nodes: HashMap::new(), kinds: BTreeMap::new(), reading: None }
    }

    /// Takes note of what the nodes of an adopted round told about their commands.
    pub(crate) fn see(&mut self, views: &[View], verdicts: &[Verdict], agreed: &Agreed, now: Instant) {
        if self.config.learned_max == 0 {
            return;
        }
        self.nodes.retain(|id, _| agreed.nodes.contains_key(id));
        for (view, verdict) in views.iter().zip(verdicts) {
            if matches!(verdict, Verdict::Taken | Verdict::Compared | Verdict::Older) {
                self.nodes.insert(view.my_id.clone(), view.commands);
            }
        }
        let known = self.kinds.len();
        self.kinds.retain(|kind, _| self.nodes.values().any(|other| other == kind));
        let gone = known > self.kinds.len();
        for view in views.iter().filter(|view| self.nodes.get(&view.my_id) == Some(&view.commands)) {
            let room = self.kinds.len() < KINDS_MAX;
            match self.kinds.get_mut(&view.commands) {
                Some(kind) => kind.addr.clone_from(&view.dialled),
                None if room => {
                    let (addr, failures) = (view.dialled.clone(), 0);
                    self.kinds.insert(view.commands, Kind { addr, names: None, failures, not_before: None });
                }
                None => {}
            }
        }
        self.read_next(now);
        if gone {
            self.publish();
        }
    }

    /// Waits for the reading under way, if there is one, and goes on with the next.
    pub(crate) async fn step(&mut self) {
        let Some((kind, task)) = &mut self.reading else { return std::future::pending().await };
        let kind = *kind;
        let read = task.await.unwrap_or_else(|_| Err(WireError("reading failed").into()));
        self.reading = None;
        let now = Instant::now();
        self.take(kind, read, now);
        self.read_next(now);
        if self.reading.is_none() {
            self.publish();
            self.shared.commands_read.store(true, Ordering::Release);
        }
    }

    fn read_next(&mut self, now: Instant) {
        if self.reading.is_some() {
            return;
        }
        let due = |kind: &Kind| kind.names.is_none() && kind.not_before.is_none_or(|at| at <= now);
        if let Some((&mark, kind)) = self.kinds.iter().find(|(_, kind)| due(kind)) {
            let task = spawn_local(read(kind.addr.clone(), Rc::clone(&self.config)));
            self.reading = Some((mark, task));
        }
    }

    fn take(&mut self, mark: u64, reading: Reading, now: Instant) {
        let Some(kind) = self.kinds.get_mut(&mark) else { return };
        match reading {
            Ok(announcement) => {
                let mut taken = self.store.take_in(announcement.entries);
                taken.over += announcement.over;
                taken.unfit += announcement.unfit;
                if taken.over > 0 {
                    tracing::warn!(
                        node = %kind.addr, left_out = taken.over,
                        "the node has more commands than learned-commands-max and learned-commands-bytes allow to learn"
                    );
                }
                if taken.unfit > 0 {
                    tracing::warn!(node = %kind.addr, left_out = taken.unfit, "commands of no known form");
                }
                kind.names = Some(taken.names);
            }
            Err(why) => {
                // Said once: a node that does not allow it will go on so.
                if kind.failures == 0 {
                    tracing::warn!(node = %kind.addr, %why, "the node's commands cannot be read, none are learned of it");
                }
                kind.not_before = Some(now + backoff(RETRY, kind.failures, RETRY_MAX));
                kind.failures = kind.failures.saturating_add(1);
            }
        }
    }

    /// What was learned stays while some node is unread: no gap while a module is upgraded, or when a
    /// reading fails.
    fn publish(&self) {
        let count = |mark: &u64| self.nodes.values().filter(|kind| *kind == mark).count();
        let each = self.kinds.iter().filter_map(|(mark, kind)| Some((kind.names.as_ref()?, count(mark))));
        let mut each: Vec<_> = each.collect();
        let current = self.shared.learned();
        if each.iter().map(|(_, nodes)| nodes).sum::<usize>() < self.nodes.len() {
            each.push((current.names(), 0));
        }
        let table = LearnedTable::merge(&each, &current);
        if !table.is_same(&current) {
            tracing::info!(commands = table.len(), "learned the cluster's commands");
            self.shared.learned.store(Arc::new(table));
        }
    }
}

impl Drop for Learner {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.reading {
            task.abort();
        }
    }
}

/// Reads the commands of the node at `addr`, and the documentation of those that are new.
async fn read(addr: NodeAddr, config: Rc<TopologyConfig>) -> Reading {
    let mut link = Link::dial(&addr, &config).await?;
    link.replies = Replies::bounded(usize::try_from(config.learned_bytes).unwrap_or(usize::MAX), DEPTH_MAX);
    let raw = ask(&mut link, &["COMMAND"], &config).await?;
    let most = config.learned_max;
    let mut announcement = blocking(move || announced(&raw, most)).await??;
    let mut question = vec!["COMMAND", "DOCS"];
    question.extend(announcement.entries.iter().map(|entry| entry.name.as_str()));
    if question.len() > 2 {
        // Servers before 7.0 have none, and nothing but documentation depends on it.
        if let Ok(raw) = ask(&mut link, &question, &config).await {
            let mut docs = blocking(move || documentation(&raw)).await?;
            for entry in &mut announcement.entries {
                entry.docs = docs.remove(&entry.name.to_ascii_lowercase());
            }
        }
    }
    Ok(announcement)
}

async fn ask(link: &mut Link, words: &[&str], config: &TopologyConfig) -> Result<Bytes, LinkError> {
    let mut request = Vec::new();
    encode::array(&mut request, words.len());
    words.iter().for_each(|word| encode::bulk(&mut request, word));
    let answer = timeout(config.connect_timeout, async {
        link.send(&request).await?;
        link.reply().await
    });
    answer.await.map_err(|_| LinkError::Timeout)?
}

/// Decoding megabytes would hold up what else the main thread does.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LinkError> {
    spawn_blocking(work).await.map_err(|_| WireError("reading failed").into())
}

/// What is new in a COMMAND answer: at most `most` entries, sorted by name, so that every process learns
/// the same ones.
fn announced(raw: &[u8], most: usize) -> Reading {
    let frame = decode_reply(raw)?;
    super::parse::no_error(&frame)?;
    let (mut entries, unfit) =
        fit_commands(&frame).map_err(|_| WireError("COMMAND is no list of commands"))?;
    let builtin = CommandTable::builtin();
    entries.retain(|entry| builtin.by_name(&entry.name).is_none());
    let all = entries.len();
    entries.retain(|entry| trust::folded_name(&entry.name).is_some());
    let unfit = unfit + all - entries.len();
    entries.sort_by(|a, b| a.name.split('|').cmp(b.name.split('|')));
    let over = entries.len().saturating_sub(most);
    entries.truncate(most);
    Ok(Announcement { entries, unfit, over })
}

fn documentation(raw: &[u8]) -> BTreeMap<String, Docs> {
    let mut docs = BTreeMap::new();
    if let Ok(frame) = decode_reply(raw) {
        // What was read before something broken is good.
        let _ = collect_docs(&frame, &mut docs);
    }
    docs
}
