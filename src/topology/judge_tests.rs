//! The acceptance rule, case by case.

use super::agreed::{Agreed, Ignored};
use super::judge::{Asked, Judgement, Verdict, judge};
use super::testkit::{N, Says, addr, primary, replica, six};
use super::view::View;

const ALL: Asked = Asked { all: true, lost: false };

fn views(says: &[Says]) -> Vec<View> {
    says.iter().map(Says::view).collect()
}

fn judged(says: &[Says], current: Option<&Agreed>) -> Judgement {
    judge(&views(says), current, Asked::default())
}

fn agreed(says: &[Says], current: Option<&Agreed>) -> Agreed {
    judged(says, current).outcome.unwrap()
}

fn healthy() -> Agreed {
    agreed(&[six("a"), six("b"), six("c")], None)
}

fn owner(agreed: &Agreed, slot: usize) -> &str {
    agreed.owner(slot).map_or("-", |(id, _)| id)
}

fn primaries(agreed: &Agreed) -> Vec<String> {
    agreed.shards().into_iter().map(|s| s.primary).collect()
}

#[test]
fn a_healthy_cluster() {
    let a = healthy();
    let shards = a.shards();
    assert_eq!(primaries(&a), ["a", "b", "c"]);
    assert_eq!(
        (&shards[1].replicas[..], &shards[1].ranges[..]),
        (&["y".to_owned()][..], &[(5461, 10922)][..])
    );
    assert!(a.state_ok && !a.tentative && a.nodes.values().all(|n| n.ignored.is_none()));
    let one = agreed(&[six("y")], None);
    assert_eq!(one.shards(), shards, "any one node will do, a replica too");
}

#[test]
fn no_view_no_picture() {
    assert!(judge(&[], None, ALL).outcome.is_err());
    assert!(judge(&[], Some(&healthy()), ALL).outcome.is_err());
}

#[test]
fn a_failover_is_taken_from_the_first_node_that_knows() {
    let new = six("x").failover("a", "x", 7, "master,fail");
    let a = agreed(&[new, six("b"), six("c")], Some(&healthy()));
    assert_eq!(owner(&a, 0), "x", "one view with the higher epoch beats two without");
    assert_eq!(a.nodes["x"].ignored, None);
    assert_eq!(a.shards()[0].replicas, [""; 0], "the old primary is no replica yet");
    let back = agreed(&[six("b"), six("c")], Some(&a));
    assert_eq!(owner(&back, 0), "x", "views that lag cannot undo it");
    assert_eq!(back.held_rounds, 1);
}

#[test]
fn the_owners_own_word() {
    let current = healthy();
    let moved = |me| {
        six(me).with("a", |n| n.slots = vec![(1, 5460)]).with("b", |n| n.slots = vec![(0, 0), (5461, 10922)])
    };
    let a = agreed(&[moved("c").with("b", |n| n.epoch = 0), six("b")], Some(&current));
    assert_eq!(owner(&a, 0), "a", "c gives slot 0 to b with a lower epoch, and b does not claim it");
    let lower = |me| moved(me).with("b", |n| n.epoch = 0);
    let a = agreed(&[lower("b"), lower("c")], Some(&current));
    assert_eq!((owner(&a, 0), a.held_rounds), ("a", 1), "lower epoch, owner not heard");
    let a = agreed(&[lower("a"), lower("b")], Some(&current));
    assert_eq!((owner(&a, 0), a.held_rounds), ("b", 0), "the owner itself gave it up");
    let dead = |me| lower(me).with("a", |n| n.flags = "master,fail");
    let a = agreed(&[dead("b"), dead("c")], Some(&current));
    assert_eq!(owner(&a, 0), "b", "the owner has failed for all");
}

#[test]
fn a_lower_claim_that_all_share_is_held_for_three_rounds() {
    let lower = |me| {
        six(me)
            .with("a", |n| n.slots = vec![(1, 5460)])
            .with("b", |n| (n.slots, n.epoch) = (vec![(0, 0), (5461, 10922)], 0))
    };
    let mut a = healthy();
    for round in 1..=3 {
        a = agreed(&[lower("b"), lower("c")], Some(&a));
        assert_eq!((owner(&a, 0), a.held_rounds), ("a", round));
    }
    a = agreed(&[lower("b"), six("c")], Some(&a));
    assert_eq!((owner(&a, 0), a.held_rounds), ("a", 0), "not unanimous: c still has it with a");
    for _ in 1..=3 {
        a = agreed(&[lower("b"), lower("c")], Some(&a));
    }
    a = agreed(&[lower("b"), lower("c")], Some(&a));
    assert_eq!((owner(&a, 0), a.held_rounds), ("b", 0));
}

#[test]
fn a_lagging_view_cannot_borrow_a_newer_epoch() {
    // c got slot 5461 from b with epoch 10; later b bumped to 11. x has heard of neither.
    let new = |me| {
        let b = six(me).epoch(11).with("b", |n| (n.slots, n.epoch) = (vec![(5462, 10922)], 11));
        b.with("c", |n| (n.slots, n.epoch) = (vec![(5461, 5461), (10923, 16383)], 10))
    };
    let a = agreed(&[new("a"), six("x")], None);
    assert_eq!(owner(&a, 5461), "c");
}

#[test]
fn a_cut_off_node_cannot_capture_the_table() {
    let lost = |n: &mut N| n.flags = "master,fail?";
    let cut = six("x").with("b", lost).with("c", lost).failover("a", "x", 9, "master,fail");
    let j = judged(std::slice::from_ref(&cut), Some(&healthy()));
    assert!(j.outcome.is_err());
    assert_eq!(j.verdicts, [Verdict::CutOff]);
    let j = judged(&[cut.clone(), six("b"), six("c")], Some(&healthy()));
    assert_eq!(j.verdicts[0], Verdict::CutOff);
    assert_eq!(owner(&j.outcome.unwrap(), 0), "a");
    let links = six("x").with("b", |n| n.link = "disconnected").with("c", |n| n.link = "disconnected");
    assert_eq!(
        judged(&[links], Some(&healthy())).verdicts,
        [Verdict::CutOff],
        "not flagged yet, but no links"
    );
    let first = judged(&[cut], None);
    assert_eq!(first.verdicts, [Verdict::Taken]);
    let first = first.outcome.unwrap();
    assert!(first.tentative, "at the start it is better than nothing");
    let then = agreed(&[six("b"), six("c")], Some(&first));
    assert!(!then.tentative);
    assert_eq!(owner(&then, 0), "a", "a tentative picture protects nothing");
}

#[test]
fn cluster_state_fail_is_outvoted_by_ok() {
    let mut down = six("a").epoch(9).with("a", |n| n.epoch = 9);
    down.state = "fail";
    let j = judged(&[down.clone(), six("b")], None);
    assert_eq!(j.verdicts, [Verdict::StateFail, Verdict::Taken]);
    let alone = judged(&[down], None).outcome.unwrap();
    assert!(!alone.state_ok && !alone.tentative, "when all say fail they are still the cluster");
}

#[test]
fn joining_nodes_say_nothing() {
    let mut fresh = six("a");
    fresh.nodes = vec![primary("n", 9, 0, &[])];
    fresh.me = "n";
    let j = judged(&[fresh.clone(), six("b")], None);
    assert_eq!(j.verdicts, [Verdict::Joining, Verdict::Taken]);
    let j = judge(&views(&[fresh]), None, ALL);
    assert_eq!(j.outcome.unwrap_err(), "the cluster has no slots yet");
    let shaking = six("a").with("a", |n| n.flags = "handshake");
    assert_eq!(judged(&[shaking], None).verdicts, [Verdict::Joining]);
}

#[test]
fn a_forgotten_node_cannot_capture_the_table() {
    // f was forgotten: it still lists all others and claims slots, nobody lists it.
    let mut forgotten = six("f");
    forgotten.nodes.push(primary("f", 9, 99, &[(0, 100)]));
    forgotten.node("a").slots = vec![(101, 5460)];
    let forgotten = forgotten.epoch(99);
    let j = judged(&[forgotten.clone(), six("b"), six("c")], None);
    assert_eq!(j.verdicts[0], Verdict::Forgotten);
    assert_eq!(owner(&j.outcome.unwrap(), 0), "a");
    let j = judge(&views(&[forgotten]), Some(&healthy()), ALL);
    assert_eq!(j.verdicts, [Verdict::Forgotten], "alone against the current picture");
    assert!(j.outcome.is_err());
}

#[test]
fn a_one_node_view_does_not_beat_the_others() {
    let mut alone = six("a").epoch(50);
    alone.nodes.truncate(1);
    let alone = alone.with("a", |n| (n.slots, n.epoch) = (vec![(0, 16383)], 50));
    let j = judged(&[alone.clone(), six("b")], Some(&healthy()));
    assert_eq!(j.verdicts, [Verdict::Forgotten, Verdict::Taken]);
    assert_eq!(primaries(&j.outcome.unwrap()), ["a", "b", "c"]);
}

#[test]
fn a_foreign_cluster_needs_everybodys_word() {
    let foreign = |me| Says {
        me,
        state: "ok",
        epoch: 99,
        nodes: vec![primary("p", 1, 50, &[(0, 8000)]), primary("q", 2, 51, &[(8001, 16383)])],
    };
    let current = healthy();
    let j = judged(&[foreign("p"), foreign("q"), six("c")], Some(&current));
    assert_eq!(j.verdicts, [Verdict::Foreign, Verdict::Foreign, Verdict::Taken], "one of ours outweighs two");
    let j = judged(&[foreign("p"), foreign("q")], Some(&current));
    assert_eq!(j.verdicts, [Verdict::Foreign, Verdict::Foreign], "not everybody was asked");
    assert!(j.outcome.is_err());
    let j = judge(&views(&[foreign("p"), foreign("q")]), Some(&current), ALL);
    assert_eq!(primaries(&j.outcome.unwrap()), ["p", "q"], "rebuilt with new ids");
    let j = judged(&[foreign("p"), six("a"), six("b")], None);
    assert_eq!(primaries(&j.outcome.unwrap()), ["a", "b", "c"], "at the start the larger group");
}

#[test]
fn rows_without_traffic() {
    let more = |me| {
        let mut says = six(me).with("b", |n| n.flags = "master,fail").with("z", |n| n.flags = "slave,fail?");
        says.nodes.push(primary("e", 7, 0, &[]));
        says.nodes.push(N { flags: "handshake", ..primary("h", 8, 0, &[]) });
        says.nodes.push(N {
            flags: "slave,noaddr",
            primary: "a",
            addr: ":0".into(),
            ..primary("o", 0, 0, &[])
        });
        says.nodes.push(N { link: "disconnected", ..replica("l", 9, "a", 1) });
        says
    };
    let a = agreed(&[more("a"), more("c"), more("x")], None);
    let why = |id: &str| a.nodes[id].ignored;
    assert_eq!(why("b"), Some(Ignored::Fail));
    assert_eq!(why("y"), None, "its replica serves no shard, but is the one to be promoted");
    assert_eq!(why("z"), Some(Ignored::Unhealthy));
    assert_eq!(why("e"), Some(Ignored::Slotless));
    assert_eq!(why("h"), Some(Ignored::Handshake));
    assert_eq!(why("o"), Some(Ignored::NoAddr));
    assert_eq!(why("l"), Some(Ignored::Unhealthy));
    assert_eq!(primaries(&a), ["a", "c"], "slots of a failed primary are uncovered");
    assert_eq!(owner(&a, 6000), "b", "but it still owns them");
    assert_eq!(a.shards()[0].replicas, ["x"]);
}

#[test]
fn one_nodes_suspicion_does_not_unseat_a_primary() {
    let suspects = six("a").with("b", |n| n.flags = "master,fail?");
    let a = agreed(&[suspects], None);
    assert_eq!(primaries(&a), ["a", "b", "c"]);
    let failed = six("a").with("b", |n| n.flags = "master,fail");
    let a = agreed(&[failed, six("c"), six("x")], None);
    assert_eq!(primaries(&a), ["a", "b", "c"], "one of three says fail");
}

#[test]
fn a_moved_node_is_where_the_others_say() {
    let moved = |me| six(me).with("a", |n| n.addr = "10.0.9.9:1".into());
    let a = agreed(&[six("a"), moved("b"), moved("c")], Some(&healthy()));
    assert_eq!(a.nodes["a"].addr, Some(addr("10.0.9.9:1")), "a itself still tells its old address");
    let a = agreed(&[six("b"), moved("c")], Some(&healthy()));
    assert_eq!(a.nodes["a"].addr, Some(addr("10.0.0.1:1")), "a tie: the address in use stays");
}

#[test]
fn migrations_are_taken_from_both_ends() {
    let out = six("a").with("a", |n| n.open = " [7->-b]");
    let into = six("b").with("b", |n| n.open = " [7-<-a] [9-<-c]");
    let a = agreed(&[out, into], None);
    let open: Vec<_> = a.migrations.iter().map(|m| (m.slot, m.from.as_str(), m.to.as_str())).collect();
    assert_eq!(open, [(7, "a", "b"), (9, "c", "b")]);
}

#[test]
fn two_primaries_one_dead() {
    let two = |me| Says {
        me,
        state: "ok",
        epoch: 2,
        nodes: vec![primary("a", 1, 1, &[(0, 8000)]), primary("b", 2, 2, &[(8001, 16383)])],
    };
    let current = agreed(&[two("a"), two("b")], None);
    let half = two("b").with("a", |n| n.flags = "master,fail?");
    let j = judged(&[half], Some(&current));
    assert!(j.outcome.is_err(), "no majority without a: the table stays as it is");
    let moved = two("b").with("a", |n| n.flags = "master,fail").with("b", |n| n.addr = "10.0.9.9:2".into());
    let lost = Asked { all: true, lost: true };
    let a = judge(&views(&[moved]), Some(&current), lost).outcome.unwrap();
    assert_eq!(
        (primaries(&a), a.tentative),
        (vec!["b".to_owned()], true),
        "nothing known is left to protect"
    );
}

#[test]
fn a_scaled_down_cluster_is_followed() {
    let one = six("a").without("b").without("c").without("x").without("y").without("z").epoch(9);
    let one = one.with("a", |n| (n.slots, n.epoch) = (vec![(0, 16383)], 9));
    let a = agreed(&[one], Some(&healthy()));
    assert_eq!(primaries(&a), ["a"]);
    assert_eq!(a.nodes.len(), 1);
}
