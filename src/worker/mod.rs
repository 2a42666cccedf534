//! One worker: an OS thread with a single-threaded runtime and everything its clients need. Nothing on
//! the path of a request is shared with another worker but the immutable slot table; the rest is `Rc`
//! and `Cell`.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

pub mod budget;
pub mod clock;
pub mod flush;
pub mod limits;
pub mod mailbox;
pub mod outgoing;
pub mod pause;
pub mod pool;
pub mod run;
pub mod sessions;
#[cfg(test)]
pub(crate) mod testkit;
pub mod transport;
pub mod wheel;

#[cfg(test)]
#[path = "worker_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;

use self::budget::Budget;
use self::clock::Clock;
use self::flush::Flusher;
use self::limits::WorkerLimits;
use self::mailbox::Process;
use self::pause::Pause;
use self::pool::BufferPool;
use self::sessions::Sessions;
use self::wheel::Wheel;
use crate::backend::lane::Lane;
use crate::backend::lanes::Lanes;
use crate::backend::line::LinePool;
use crate::backend::ticket::{Errand, NO_SLOT};
use crate::backend::waiting::WaitingRoom;
use crate::command::CommandTable;
use crate::operation::ping::Questions;
use crate::protocol::scan::RequestScanner;
use crate::pubsub::hub::Hub;
use crate::session::Session;
use crate::session::script::LastScript;
use crate::session::show::Shows;
use crate::session::written::Losses;
use crate::telemetry::Counters;
use crate::topology::Topology;
use crate::topology::table::SlotTable;

/// Size of the buffer that everything is read into: large enough that a busy lane's replies come in
/// one read, small enough to stay in a core's second-level cache.
const SCRATCH: usize = 128 << 10;

/// What the tasks of one worker share.
pub struct WorkerContext {
    /// The process this worker belongs to.
    pub process: Arc<Process>,
    /// Place among the workers.
    pub index: usize,
    /// Configuration in the worker's units.
    pub limits: WorkerLimits,
    /// All commands.
    pub commands: &'static CommandTable,
    /// Who owns what, kept by the main thread.
    pub topology: Arc<Topology>,
    /// The table requests are routed by; changed only by `adopt_table`.
    pub table: RefCell<Arc<SlotTable>>,
    epoch: Cell<u64>,
    /// Connections to the nodes.
    pub lanes: RefCell<Lanes>,
    /// Dedicated connections nobody uses.
    pub lines: RefCell<LinePool>,
    /// Which nodes say that they are busy.
    pub busy_questions: Questions,
    /// A lane became ready or the table changed: operations that wait for a node look again.
    pub changed: Notify,
    /// The table, or what is known of a node, changed: what waits at a node looks whether it still should.
    pub adopted: Notify,
    /// Requests without a way.
    pub waiting: RefCell<WaitingRoom>,
    /// By which writes may be lost.
    pub losses: Losses,
    /// What clients are subscribed to.
    pub hub: Hub,
    /// Clients.
    pub sessions: RefCell<Sessions>,
    /// What is to be written.
    pub flusher: Flusher,
    /// Deadlines.
    pub wheel: Wheel,
    /// Numbers.
    pub counters: Counters,
    /// Time.
    pub clock: Clock,
    /// Memory held.
    pub budget: Budget,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// Clients that are closed but for what they may still be sending.
    pub lingering: Cell<usize>,
    /// Spare buffers.
    pub pool: BufferPool,
    /// What every read goes into.
    pub scratch: RefCell<Box<[u8]>>,
    /// The scanner of requests that come whole.
    pub scanner: Cell<RequestScanner>,
    /// Sessions with lanes of their own, by their set.
    pub trackers: RefCell<HashMap<u32, Rc<Session>>>,
    /// The last set given out.
    pub lane_sets: Cell<u32>,
    tellings: RefCell<Vec<Rc<Session>>>,
    /// Slots of which a node said ASK, since the table or the open migrations changed last.
    pub asked_slots: RefCell<HashSet<u16>>,
    migrations: Cell<u64>,
    /// The script used last.
    pub last_script: Cell<Option<LastScript>>,
    /// Whether nodes tell the bodies of scripts.
    pub shows: Shows,
    /// Room for the places of keys.
    pub key_indexes: RefCell<Vec<u32>>,
    /// Sessions whose held requests may be able to go on.
    pub ordering: RefCell<Vec<Rc<Session>>>,
    /// How many sessions hold requests back.
    pub sessions_in_order: Cell<usize>,
    orphans: RefCell<Vec<Errand>>,
}

impl WorkerContext {
    /// A worker without clients.
    pub fn new(process: Arc<Process>, index: usize, counters: Counters, limits: WorkerLimits) -> Rc<Self> {
        let topology = Arc::clone(&process.topology);
        let table = topology.table();
        Rc::new(Self {
            index,
            limits,
            commands: CommandTable::builtin(),
            epoch: Cell::new(table.epoch()),
            table: RefCell::new(table),
            topology,
            lanes: RefCell::default(),
            lines: RefCell::default(),
            busy_questions: Questions::default(),
            changed: Notify::new(),
            adopted: Notify::new(),
            waiting: RefCell::default(),
            losses: Losses::default(),
            hub: Hub::default(),
            sessions: RefCell::default(),
            flusher: Flusher::default(),
            wheel: Wheel::default(),
            counters,
            clock: Clock::new(),
            budget: Budget::default(),
            pause: Pause::default(),
            lingering: Cell::new(0),
            pool: BufferPool::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            scanner: Cell::default(),
            trackers: RefCell::default(),
            lane_sets: Cell::new(0),
            tellings: RefCell::default(),
            asked_slots: RefCell::default(),
            migrations: Cell::new(0),
            last_script: Cell::new(None),
            shows: Shows::default(),
            key_indexes: RefCell::default(),
            ordering: RefCell::default(),
            sessions_in_order: Cell::new(0),
            orphans: RefCell::default(),
            process,
        })
    }

    /// Epoch of the table requests are routed by.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// A ticket was dropped without an answer; its session gets one when nothing is borrowed.
    pub fn orphaned(&self, errand: Errand) {
        self.orphans.borrow_mut().push(errand);
        self.flusher.arm();
    }

    /// True when some errand lost its ticket.
    #[inline]
    pub fn has_orphans(&self) -> bool {
        !self.orphans.borrow().is_empty()
    }

    /// Errands that lost their tickets.
    pub fn take_orphans(&self) -> Vec<Errand> {
        std::mem::take(&mut *self.orphans.borrow_mut())
    }

    /// Has the flusher see whether held requests of `session` may go on.
    pub fn advance_later(&self, session: &Rc<Session>) {
        if !session.ordered.replace(true) {
            self.ordering.borrow_mut().push(Rc::clone(session));
            self.flusher.arm();
        }
    }

    /// Has a tracking client told again what is due behind its replies, once nothing is borrowed.
    pub fn tell_later(&self, session: &Rc<Session>) {
        self.tellings.borrow_mut().push(Rc::clone(session));
        self.flusher.arm();
    }

    /// Clients that are to be told something again.
    pub fn take_tellings(&self) -> Vec<Rc<Session>> {
        std::mem::take(&mut *self.tellings.borrow_mut())
    }

    /// The same at `at` on the worker's clock.
    pub fn look_again(self: &Rc<Self>, session: &Rc<Session>, at: u64) {
        let (worker, session) = (Rc::clone(self), Rc::clone(session));
        let pause = std::time::Duration::from_micros(at.saturating_sub(self.clock.tick()));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pause).await;
            worker.clock.tick();
            worker.advance_later(&session);
        });
    }

    /// How many parts of request `seq` of `session` (one, if it is not split) wait for a node.
    pub fn waiting_parts(&self, session: &Session, seq: u32) -> usize {
        self.waiting.borrow().count(session.id, seq)
    }

    /// True while a lane is of use: its node belongs to the cluster, or requests still want to go there.
    pub fn wants_lane(&self, lane: &Lane) -> bool {
        if lane.key.private > 0 && self.tracker_of(lane).is_none() {
            return false;
        }
        if lane.key.dedicated > 0 {
            return self.waiting.borrow().wants_dedicated(lane.key);
        }
        self.table.borrow().is_member(lane.key.node) || self.waiting.borrow().wants_node(lane.key.node)
    }

    /// Takes over the table as it is now, gives up lanes of nodes that are down, and looks at what waits.
    /// The only place where the table changes under the sessions.
    pub fn adopt_table(self: &Rc<Self>) {
        self.clock.tick();
        let table = self.topology.table();
        let changed = self.epoch.replace(table.epoch()) != table.epoch();
        if changed {
            self.losses.table_changed(&self.table.borrow(), &table);
        }
        *self.table.borrow_mut() = Arc::clone(&table);
        self.waiting.borrow_mut().retain_orphaned(|slot| match slot {
            NO_SLOT => table.shards().is_empty(),
            slot => table.primary(slot).is_none(),
        });
        for lane in self.lanes.borrow().iter() {
            if !lane.node.is_up() {
                lane.condemn("the node does not answer");
            } else if !table.is_member(lane.key.node) && lane.inner().tickets.is_empty() {
                lane.condemn("the node left the cluster");
            }
        }
        let idle = |lane: &Lane| lane.state.get() == crate::backend::lane::LaneState::Idle;
        self.lanes.borrow_mut().retain(|lane| table.is_member(lane.key.node) || !idle(lane));
        self.adopted.notify_waiters();
        let moving = self.topology.migrations();
        if self.migrations.replace(moving) != moving || changed {
            self.asked_slots.borrow_mut().clear();
            self.flush_trackers();
        }
        self.settle_trackers();
        self.serve_waiting();
        self.settle_subscriptions();
        self.wake_paused();
    }

    /// Sessions that stopped taking requests look again: with a new table nothing may be in their way.
    pub(super) fn wake_paused(&self) {
        for session in self.sessions.borrow().iter() {
            let inner = session.inner();
            if inner.paused && inner.may_take(self) {
                inner.wake();
            }
        }
    }
}
