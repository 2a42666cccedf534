//! Excuses: only the right fault, at the right time, for the right shard.

use std::time::Duration;

use crate::torture::check::verdict::{Change, Window, judge};
use crate::torture::check::{Excuse, Kind, Slots, Span, Suspicion};
use crate::torture::fault::{Roles, loss};
use crate::torture::site::Shard;

fn suspicion(kind: Kind, slot: u16, span: (u64, u64), excuse: Excuse) -> Suspicion {
    let text = String::new();
    Suspicion { kind, slots: Slots::one(slot), span: Span::new(span.0, span.1), excuse, text }
}

/// Hits slots 0 to 99 from 100 to 200; requests in flight until 150 may have been cut off. The old primary acknowledged
/// nothing after 120.
fn kill() -> Window {
    let broken = Some(Span::new(110, 150));
    let span = Span::new(100, 200);
    let lost = Some(Span::new(90, 120));
    Window { span, slots: vec![(0, 99)], lost, change: Change::TakeOver, busy: false, broken }
}

/// The same, but a fault that nobody may notice.
fn failover() -> Window {
    Window { lost: None, broken: None, change: Change::HandOver, ..kill() }
}

fn is_violation(suspicion: Suspicion, window: Window) -> bool {
    !judge(&[suspicion], &[window]).is_empty()
}

#[test]
fn a_loss_needs_a_failover_without_help_at_the_moment_of_the_write() {
    let lost = |slot, all: &[u64]| suspicion(Kind::Lost, slot, (300, 310), Excuse::Loss(all.to_vec()));
    assert!(!is_violation(lost(5, &[95, 120]), kill()));
    assert!(is_violation(lost(5, &[110]), failover()), "a planned failover loses nothing");
    assert!(is_violation(lost(500, &[110]), kill()), "another shard");
    assert!(is_violation(lost(5, &[89, 110]), kill()), "a write from before");
    assert!(is_violation(lost(5, &[110, 121]), kill()), "a write only the new primary can have acknowledged");
    assert!(is_violation(lost(5, &[210]), kill()), "a write from after");
}

#[test]
fn what_two_faults_lost_is_explained_by_both_together() {
    let later = || {
        let moved = |span: Span| Span::new(span.from + 1000, span.to + 1000);
        Window { span: moved(kill().span), lost: kill().lost.map(moved), ..kill() }
    };
    let lost = |all: &[u64]| [suspicion(Kind::Lost, 5, (1300, 1310), Excuse::Loss(all.to_vec()))];
    assert!(judge(&lost(&[110, 1110]), &[kill(), later()]).is_empty());
    assert!(!judge(&lost(&[110, 600, 1110]), &[kill(), later()]).is_empty(), "one between them");
}

#[test]
fn no_loss_is_explained_once_a_replica_can_have_been_promoted() {
    for timeout in [Duration::from_millis(200), Duration::from_secs(2), Duration::from_secs(15)] {
        let (stopped, promoted) = (5_000_000, 5_000_000 + timeout.as_micros() as u64);
        let span = loss(4_900_000, stopped, timeout);
        assert!(span.holds(Span::new(stopped - 1_000_000, stopped)), "{timeout:?}: {span:?}");
        assert!(span.to < promoted, "{timeout:?}: {span:?}");
    }
}

#[test]
fn one_of_several_losses_is_enough_for_a_count() {
    let count = |all: &[(u16, u64)]| suspicion(Kind::Stale, 5, (300, 310), Excuse::LossOfOne(all.to_vec()));
    assert!(!is_violation(count(&[(500, 110), (5, 115)]), kill()));
    assert!(is_violation(count(&[(500, 110), (5, 80)]), kill()));
    assert!(is_violation(count(&[(500, 110), (5, 130)]), kill()), "acknowledged by the new primary");
    assert!(is_violation(count(&[(5, 115)]), failover()));
}

#[test]
fn an_error_needs_a_broken_connection_of_its_shard() {
    let error = |slot, span| suspicion(Kind::Error, slot, span, Excuse::Broken);
    assert!(!is_violation(error(5, (90, 120)), kill()), "in flight when it broke");
    assert!(is_violation(error(5, (160, 170)), kill()), "nothing was broken any more");
    assert!(is_violation(error(500, (120, 130)), kill()), "another shard");
    assert!(is_violation(error(5, (120, 130)), failover()), "nobody notices a planned failover");
    let everywhere = Suspicion { slots: Slots::All, ..error(0, (120, 130)) };
    assert!(!is_violation(everywhere, kill()), "a command for all shards has a part in each");
}

#[test]
fn busy_needs_a_script_at_that_node() {
    let busy = |slot| suspicion(Kind::Error, slot, (120, 130), Excuse::Busy);
    let script = || Window { busy: true, ..failover() };
    assert!(!is_violation(busy(5), script()));
    assert!(is_violation(busy(500), script()), "another shard");
    assert!(is_violation(busy(5), kill()));
}

#[test]
fn messages_out_of_order_need_another_owner_of_their_slot() {
    let order = |slot, at| suspicion(Kind::Order, slot, (at, at), Excuse::OwnerChanged);
    assert!(!is_violation(order(5, 150), kill()) && !is_violation(order(5, 150), failover()));
    assert!(is_violation(order(500, 150), kill()), "another shard");
    assert!(is_violation(order(5, 250), kill()), "afterwards");
    assert!(is_violation(order(5, 150), Window { change: Change::None, ..kill() }), "the owner stays");
    assert!(is_violation(Suspicion { excuse: Excuse::None, ..order(5, 150) }, kill()), "a message twice");
}

#[test]
fn an_old_primary_may_be_behind_while_it_hands_over_and_no_longer() {
    let stale = |slot, at, all: &[u64]| suspicion(Kind::Stale, slot, (at, at), Excuse::Loss(all.to_vec()));
    assert!(!is_violation(stale(5, 150, &[140, 145]), failover()));
    assert!(is_violation(stale(5, 150, &[90, 145]), failover()), "a write from before");
    assert!(is_violation(stale(5, 250, &[145]), failover()), "afterwards it is lost");
    assert!(is_violation(stale(500, 150, &[145]), failover()), "another shard");
    assert!(is_violation(stale(5, 150, &[145]), kill()), "a dead one reads nothing");
    assert!(is_violation(Suspicion { kind: Kind::Lost, ..stale(5, 150, &[145]) }, failover()));
}

#[test]
fn nil_at_a_replica_needs_a_slot_that_moves() {
    let nil = |slot, at| suspicion(Kind::Stale, slot, (at, at), Excuse::MovedAway(Box::new(Excuse::None)));
    let moving = || Window { change: Change::Move, ..failover() };
    assert!(!is_violation(nil(5, 150), moving()));
    assert!(is_violation(nil(500, 150), moving()) && is_violation(nil(5, 250), moving()));
    assert!(is_violation(nil(5, 150), failover()));
    let otherwise = Excuse::MovedAway(Box::new(Excuse::Loss(vec![95])));
    assert!(!is_violation(Suspicion { excuse: otherwise, ..nil(5, 300) }, kill()), "it was lost");
}

#[test]
fn a_failover_nobody_asked_for_is_noticed() {
    let shards = |primaries: &[usize]| -> Vec<Shard> {
        primaries.iter().map(|p| Shard { primary: *p, replicas: Vec::new(), slots: Vec::new() }).collect()
    };
    let fit = |roles: Roles, after: &[usize]| roles.fit(&shards(&[0, 1, 2]), &shards(after));
    assert!(fit(Roles::Same, &[2, 1, 0]));
    assert!(!fit(Roles::Same, &[0, 1, 5]));
    assert!(fit(Roles::Instead(1, 4), &[0, 4, 2]));
    assert!(!fit(Roles::Instead(1, 4), &[0, 1, 2]), "it failed back");
    assert!(!fit(Roles::Instead(1, 4), &[3, 4, 2]), "another shard, too");
    assert!(fit(Roles::Either(1, 4), &[0, 1, 2]) && fit(Roles::Either(1, 4), &[0, 4, 2]));
    assert!(!fit(Roles::Either(1, 4), &[0, 1, 5]));
    assert!(fit(Roles::Any, &[3, 4, 5]));
}

#[test]
fn what_nothing_excuses_is_never_excused() {
    for kind in [
        Kind::WrongReply,
        Kind::Twice,
        Kind::Order,
        Kind::FromNowhere,
        Kind::Untrue,
        Kind::NotInAof,
        Kind::Redirect,
        Kind::Silent,
        Kind::Stuck,
        Kind::StaleCache,
    ] {
        assert!(is_violation(suspicion(kind, 5, (120, 130), Excuse::None), kill()), "{kind:?}");
    }
}
