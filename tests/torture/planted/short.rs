//! The bench in small: one fault of each main kind, all workers, the whole checker.

use std::time::Duration;

use crate::support::heavy;
use crate::torture::fault::Fault;
use crate::torture::run::{Plan, run};

#[test]
fn one_fault_of_each_kind_under_all_kinds_of_load() {
    need_redis!();
    let _one_at_a_time = heavy();
    use Fault::{Cut, Failover, FreezePrimary, KillPrimary, KillReplica, NewId, Reshard, Script};
    let plan = Plan {
        seed: 4,
        faults: vec![Failover, Reshard, Cut, KillReplica, NewId, Script, KillPrimary, FreezePrimary],
        time: None,
        node_timeout: Duration::from_secs(2),
        quiet: Duration::from_millis(300),
        instances: 1,
    };
    let outcome = run(&plan, &|line| eprintln!("{line}"));
    assert!(outcome.answered > 1000, "only {} answers: no load, no proof", outcome.answered);
    assert!(outcome.evidence.acked > 200, "{:?}", outcome.evidence);
    assert!(outcome.violations.is_empty(), "{:#?}", &outcome.violations[..outcome.violations.len().min(20)]);
}
