//! The faults: each does one thing to the cluster by handles and CLUSTER commands, puts everything back, and says
//! what it may excuse. None touches the instances of slotway.

mod failover;
mod nodes;
mod slots;

use std::collections::BTreeSet;
use std::time::Duration;

use super::bench::Bench;
use super::check::verdict::{Change, Window};
use super::check::{Micros, Span};
use super::keep::Keep;
use super::site::{SETTLE, Shard, Site};
use crate::support::client::Client;
use crate::support::{check, within};

/// A primary's death can reach back a little: what it acknowledged may not have left for its replica.
const BEFORE: Micros = 1_000_000;
/// Replies of requests cut off by a fault come at most so long after it; slotway notices a closed connection at once.
const AFTER: Micros = 1_000_000;
/// What the old primary acknowledged reaches its client at most so long after it has stopped.
const IN_FLIGHT: Micros = 500_000;

macro_rules! faults {
    ($($fault:ident, $name:literal, $call:path, $what:literal;)*) => {
        /// What can be injected.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault { $(#[doc = $what] $fault,)* }

        impl Fault {
            pub const ALL: &'static [Fault] = &[$(Fault::$fault,)*];

            pub fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name,)* }
            }

            /// One line for people.
            pub fn what(self) -> &'static str {
                match self { $(Fault::$fault => $what,)* }
            }

            fn call(self, scene: &mut Scene) -> Effect {
                match self { $(Fault::$fault => $call(scene),)* }
            }
        }
    };
}

faults! {
    Failover, "failover", failover::planned, "CLUSTER FAILOVER at a replica";
    Roll, "roll", failover::roll, "CLUSTER FAILOVER, then the old primary stops and comes back with another port, as pods do";
    KillPrimary, "kill-primary", failover::kill, "SIGKILL of a primary; it is started again after the failover";
    FreezePrimary, "freeze-primary", failover::freeze, "SIGSTOP of a primary, SIGCONT after the failover";
    Takeover, "takeover", failover::takeover, "CLUSTER FAILOVER TAKEOVER at a replica: nobody is asked";
    Reshard, "reshard", slots::reshard, "slots with keys move one by one: SETSLOT, MIGRATE, SETSLOT";
    ReshardCli, "reshard-cli", slots::reshard_cli, "`redis-cli --cluster reshard`";
    AddRemove, "add-remove", slots::add_remove, "a primary joins, gets slots, gives them back and is forgotten";
    KillReplica, "kill-replica", nodes::kill_replica, "SIGKILL of a replica; started again later";
    Pause, "pause", nodes::pause, "SIGSTOP of a primary for half the node timeout";
    Script, "script", nodes::script, "a script that keeps a primary busy for half the node timeout";
    Cut, "cut", nodes::cut, "CLIENT KILL of all connections to a primary";
    Restart, "restart", nodes::restart, "SIGKILL of a primary, started again at once";
    NewAddress, "new-address", nodes::new_address, "a node is killed and comes back with another port";
    NewId, "new-id", nodes::new_id, "a replica is wiped and comes back as another node: it is forgotten, joins, and copies its primary again";
    RestartAll, "restart-all", nodes::restart_all, "SIGKILL of all nodes, all started again at once";
}

impl Fault {
    fn change(self) -> Change {
        match self {
            Fault::Failover | Fault::Roll => Change::HandOver,
            Fault::Reshard | Fault::ReshardCli | Fault::AddRemove => Change::Move,
            Fault::KillReplica | Fault::NewId | Fault::Pause | Fault::Script | Fault::Cut => Change::None,
            _ => Change::TakeOver,
        }
    }

    /// The fault of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name)
    }
}

/// What a fault has to work with.
pub struct Scene<'s> {
    pub site: &'s mut Site,
    pub bench: &'s Bench,
    pub keep: &'s Keep,
    pub random: &'s mut fastrand::Rng,
    /// Who is primary of what before it.
    pub shards: Vec<Shard>,
}

impl Scene<'_> {
    /// One of the shards.
    fn pick(&mut self) -> Shard {
        self.shards[self.random.usize(..self.shards.len())].clone()
    }

    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Waits until a node that was a primary is one for all others, too, or knows that it is none any more; when it got
    /// to know that.
    fn overruled(&self, node: usize) -> Option<Micros> {
        within(SETTLE, "a primary or not", || {
            let mut client = Client::try_connect(self.site.nodes[node].addr()).map_err(|e| e.to_string())?;
            let mut ask = |frame: &[u8]| match client.try_raw(frame) {
                Ok(reply) => String::from_utf8_lossy(&reply).into_owned(),
                Err(error) => error.to_string(),
            };
            let (role, info) = (ask(&cmd!["ROLE"]), ask(&cmd!["CLUSTER", "INFO"]));
            if role.contains("slave") {
                return Ok(Some(self.bench.now()));
            }
            let all = self.site.others(&[]);
            let known = |by: &usize| {
                self.site.shards_seen_by(*by).iter().any(|s| s.primary == node && !s.slots.is_empty())
            };
            check(info.contains("cluster_state:ok") && all.iter().all(known), role).map(|()| None)
        })
    }
}

/// What a fault did.
#[derive(Default)]
struct Effect {
    /// For people.
    detail: String,
    /// Slots of the shards it hit.
    slots: Vec<(u16, u16)>,
    /// Until when the old primary acknowledged what the new one may never have got: its death, or that it knows of the
    /// new one. Everything later only the new primary can have acknowledged.
    lost: Option<Micros>,
    /// When connections may have broken with requests in flight.
    broken: Option<Span>,
    /// First success through slotway minus first direct success at the new primary.
    late: Option<i64>,
    roles: Roles,
}

/// Who is a primary afterwards, by the places of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Roles {
    /// Who was one before.
    #[default]
    Same,
    /// The second instead of the first.
    Instead(usize, usize),
    /// Either of these two.
    Either(usize, usize),
    /// Anyone.
    Any,
}

impl Roles {
    /// True when the primaries `after` are those a fault makes of those `before`; otherwise nodes of an overloaded
    /// machine took each other for dead.
    pub fn fit(self, before: &[Shard], after: &[Shard]) -> bool {
        let primaries = |shards: &[Shard], but: [usize; 2]| {
            let all = shards.iter().map(|s| s.primary).filter(|p| !but.contains(p));
            all.collect::<BTreeSet<usize>>()
        };
        let both = match self {
            Roles::Any => return true,
            Roles::Same => [usize::MAX; 2],
            Roles::Instead(from, to) | Roles::Either(from, to) => [from, to],
        };
        let instead = match self {
            Roles::Instead(from, _) => !after.iter().any(|s| s.primary == from),
            _ => true,
        };
        instead && primaries(before, both) == primaries(after, both)
    }
}

/// When what the cluster may have lost was acknowledged: the fault began at `start`, the old primary acknowledged nothing
/// from `until` on. No replica is promoted before its primary was silent for a node timeout: whatever that is, the
/// stretch ends before.
pub fn loss(start: Micros, until: Micros, node_timeout: Duration) -> Span {
    let late = IN_FLIGHT.min(node_timeout.as_micros() as Micros / 2);
    Span::new(start.saturating_sub(BEFORE), until + late)
}

/// A fault that is over.
pub struct Injected {
    pub fault: Fault,
    pub detail: String,
    pub span: Span,
    pub late: Option<i64>,
    pub roles: Roles,
}

/// Injects a fault, waits until the cluster is whole again, and tells the bench what the fault may excuse. Who is
/// primary of what afterwards.
pub fn inject(fault: Fault, mut scene: Scene) -> (Injected, Vec<Shard>) {
    let start = scene.bench.now();
    let effect = fault.call(&mut scene);
    let shards = scene.site.settle();
    let span = Span::new(start, scene.bench.now());
    scene.bench.add_window(Window {
        span: Span::new(start.saturating_sub(BEFORE), span.to),
        slots: effect.slots,
        lost: effect.lost.map(|until| loss(start, until, scene.site.timeout())),
        change: fault.change(),
        busy: fault == Fault::Script,
        broken: effect.broken.map(|b| Span::new(b.from, b.to + AFTER)),
    });
    let Effect { detail, late, roles, .. } = effect;
    (Injected { fault, detail, span, late, roles }, shards)
}
