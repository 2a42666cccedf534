//! One worker's counters: plain cells, no atomics, no locks. `publish` copies them into the snapshot
//! that a scrape reads.
//!
//! Owns the layout of the words. Must never be shared between threads, nor allocate on the path
//! (but for the first request to a node with a higher `NodeId` than any before).

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::histogram;
use super::labels::{CloseReason, CommandClass, ReadRole, RedirectKind};
use super::snapshot::{Block, Snapshot};
use crate::command::CommandId;
use crate::error::ProxyError;
use crate::topology::node::NodeId;

/// Where each counter stands in the words of a worker; the commands' words follow the last one.
pub(super) mod word {
    use super::*;

    pub const CLIENTS_OPENED: usize = 0;
    pub const CLIENTS: usize = 1;
    pub const IN_FLIGHT: usize = 2;
    pub const BYTES_IN: usize = 3;
    pub const BYTES_OUT: usize = 4;
    pub const BLOCKED: usize = 5;
    pub const SUBSCRIPTIONS: usize = 6;
    pub const PUBSUB_RECEIVED: usize = 7;
    pub const PUBSUB_DELIVERED: usize = 8;
    pub const PUBSUB_DROPPED: usize = 9;
    pub const REDIRECTS: usize = 10;
    pub const READS: usize = REDIRECTS + RedirectKind::ALL.len();
    pub const CLOSED: usize = READS + ReadRole::ALL.len();
    pub const ERRORS: usize = CLOSED + CloseReason::ALL.len();
    pub const WHOLE: usize = ERRORS + ProxyError::ALL.len();
    pub const BACKEND: usize = WHOLE + CommandClass::ALL.len() * histogram::WORDS;
    pub const COMMANDS: usize = BACKEND + CommandClass::ALL.len() * histogram::WORDS;
}

/// As `word`, in the words of one node.
pub(super) mod node_word {
    use super::histogram;

    pub const REQUESTS: usize = 0;
    pub const CONNECTIONS: usize = 1;
    pub const DURATION: usize = 2;
    pub const COUNT: usize = DURATION + histogram::WORDS;
}

/// Cells of one worker, or of one node of it.
type Cells = Box<[Cell<u64>]>;

struct NodeCells {
    cells: Cells,
    published: Arc<Block>,
}

/// One worker's counters. `Send` so that it can be made before the worker's thread, not `Sync`.
pub struct Counters {
    totals: Cells,
    nodes: RefCell<Vec<NodeCells>>,
    snapshot: Arc<Snapshot>,
}

impl Counters {
    /// `commands`: how many commands the table has; a `CommandId` beyond that is not counted.
    pub fn new(commands: usize) -> Self {
        let words = word::COMMANDS + commands;
        Self { totals: cells(words), nodes: RefCell::default(), snapshot: Arc::new(Snapshot::new(words)) }
    }

    /// What others may read of these counters.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// A command was received.
    #[inline]
    pub fn command(&self, id: CommandId) {
        self.add(word::COMMANDS + usize::from(id.0), 1);
    }

    /// A client was answered with an error of the proxy's own.
    #[inline]
    pub fn error(&self, error: ProxyError) {
        self.add(word::ERRORS + error as usize, 1);
    }

    /// A node answered with a redirect, or that it cannot serve the slot now.
    #[inline]
    pub fn redirect(&self, kind: RedirectKind) {
        self.add(word::REDIRECTS + kind.index(), 1);
    }

    /// A read that could have gone to a replica went there, or not.
    pub fn read_from(&self, role: ReadRole) {
        self.add(word::READS + role.index(), 1);
    }

    /// Bytes read from clients.
    #[inline]
    pub fn bytes_in(&self, bytes: usize) {
        self.add(word::BYTES_IN, bytes as u64);
    }

    /// Bytes written to clients.
    #[inline]
    pub fn bytes_out(&self, bytes: usize) {
        self.add(word::BYTES_OUT, bytes as u64);
    }

    /// A client connection was given to this worker.
    pub fn client_opened(&self) {
        self.add(word::CLIENTS_OPENED, 1);
        self.add(word::CLIENTS, 1);
    }

    /// It is gone; pairs with `client_opened`.
    pub fn client_closed(&self) {
        self.add(word::CLIENTS, 1u64.wrapping_neg());
    }

    /// Why a connection was closed; also for one that was refused before `client_opened`.
    pub fn closed(&self, reason: CloseReason) {
        self.add(word::CLOSED + reason.index(), 1);
    }

    /// Changes the number of requests received and not yet answered.
    #[inline]
    pub fn in_flight(&self, delta: i64) {
        self.add(word::IN_FLIGHT, delta as u64);
    }

    /// Changes the number of clients that wait in a blocking command.
    pub fn blocked(&self, delta: i64) {
        self.add(word::BLOCKED, delta as u64);
    }

    /// Changes the number of clients' subscriptions.
    pub fn subscriptions(&self, delta: i64) {
        self.add(word::SUBSCRIPTIONS, delta as u64);
    }

    /// A node sent a message.
    #[inline]
    pub fn pubsub_received(&self) {
        self.add(word::PUBSUB_RECEIVED, 1);
    }

    /// A message was given to `delivered` clients; `dropped` did not get it.
    #[inline]
    pub fn pubsub_delivered(&self, delivered: u64, dropped: u64) {
        self.add(word::PUBSUB_DELIVERED, delivered);
        self.add(word::PUBSUB_DROPPED, dropped);
    }

    /// A request was answered, `micros` after its last byte was read.
    #[inline]
    pub fn request_done(&self, class: CommandClass, micros: u64) {
        record(&self.totals, word::WHOLE + class.index() * histogram::WORDS, micros);
    }

    /// A node answered, `micros` after the request was queued for it.
    #[inline]
    pub fn backend_done(&self, class: CommandClass, node: NodeId, micros: u64) {
        record(&self.totals, word::BACKEND + class.index() * histogram::WORDS, micros);
        self.with_node(node, |cells| record(cells, node_word::DURATION, micros));
    }

    /// A request was queued for a node.
    #[inline]
    pub fn backend_request(&self, node: NodeId) {
        self.with_node(node, |cells| add(cells, node_word::REQUESTS, 1));
    }

    /// Changes the number of open connections to a node.
    pub fn backend_connections(&self, node: NodeId, delta: i64) {
        self.with_node(node, |cells| add(cells, node_word::CONNECTIONS, delta as u64));
    }

    /// How many connections to a node are open.
    #[cfg(test)]
    pub fn open_connections(&self, node: NodeId) -> i64 {
        let nodes = self.nodes.borrow();
        let cell = nodes.get(node.index()).and_then(|node| node.cells.get(node_word::CONNECTIONS));
        cell.map_or(0, |cell| cell.get() as i64)
    }

    /// Copies everything into the snapshot and marks the worker as alive. To be called about once a
    /// second, by the worker's own loop: `/livez` relies on it.
    pub fn publish(&self) {
        let now_ms = super::clock_ms();
        self.snapshot.publish(self.totals.iter().map(Cell::get), now_ms);
        let nodes = self.nodes.borrow();
        if self.snapshot.nodes.load().len() != nodes.len() {
            let blocks = nodes.iter().map(|node| Arc::clone(&node.published)).collect();
            self.snapshot.nodes.store(Arc::new(blocks));
        }
        for node in nodes.iter() {
            node.published.store(node.cells.iter().map(Cell::get));
        }
        self.snapshot.beat_ms.store(now_ms, Ordering::Relaxed);
    }

    #[inline]
    fn add(&self, word: usize, n: u64) {
        add(&self.totals, word, n);
    }

    #[inline]
    fn with_node(&self, node: NodeId, change: impl FnOnce(&[Cell<u64>])) {
        let nodes = self.nodes.borrow();
        if let Some(found) = nodes.get(node.index()) {
            return change(&found.cells);
        }
        drop(nodes);
        self.grow(node);
        if let Some(found) = self.nodes.borrow().get(node.index()) {
            change(&found.cells);
        }
    }

    #[cold]
    fn grow(&self, node: NodeId) {
        self.nodes.borrow_mut().resize_with(node.index() + 1, || NodeCells {
            cells: cells(node_word::COUNT),
            published: Arc::new(Block::new(node_word::COUNT)),
        });
    }
}

fn cells(count: usize) -> Cells {
    vec![Cell::new(0); count].into_boxed_slice()
}

#[inline]
fn add(cells: &[Cell<u64>], word: usize, n: u64) {
    if let Some(cell) = cells.get(word) {
        cell.set(cell.get().wrapping_add(n));
    }
}

#[inline]
fn record(cells: &[Cell<u64>], histogram: usize, micros: u64) {
    add(cells, histogram + histogram::bucket(micros), 1);
    add(cells, histogram + histogram::BUCKETS, micros);
}
