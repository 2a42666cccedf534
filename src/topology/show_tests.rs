//! From an agreed picture to the table, the members and what people see.

use std::time::Instant;

use super::handle::Topology;
use super::judge::{Asked, judge};
use super::publish::Publisher;
use super::render::{render_json, render_text};
use super::snapshot::Snapshot;
use super::testkit::{N, Says, primary, six};
use super::view::View;

fn agreed(says: &[Says]) -> super::agreed::Agreed {
    let views: Vec<View> = says.iter().map(Says::view).collect();
    judge(&views, None, Asked::default()).outcome.unwrap()
}

#[test]
fn a_table_is_published_only_when_it_differs() {
    let (shared, _events) = Topology::channel();
    let (mut publisher, now) = (Publisher::default(), Instant::now());
    let generation = shared.generation();
    assert_eq!((shared.table().epoch(), shared.slots_covered()), (0, 0));
    let (changed, wanted) = publisher.publish(&agreed(&[six("a")]), &shared, now);
    assert!(changed && wanted.len() == 6 && generation.has_changed().unwrap());
    let first = shared.table();
    for me in ["b", "z"] {
        let (changed, _) = publisher.publish(&agreed(&[six(me)]), &shared, now);
        assert!(!changed, "{me} tells the same");
    }
    assert_eq!(shared.table().epoch(), 1);
    let moved = agreed(&[six("a").failover("b", "y", 9, "slave").with("b", |n| n.primary = "y")]);
    let (changed, _) = publisher.publish(&moved, &shared, now);
    let second = shared.table();
    assert!(changed);
    assert_eq!((second.epoch(), second.covered()), (2, 16384));
    assert_eq!(second.primary(6000), shared.node_by_addr("10.0.0.1", 5));
    assert_eq!(first.primary(6000), shared.node_by_addr("10.0.0.1", 2), "a table is never edited");
}

#[test]
fn who_is_a_member() {
    let (shared, _events) = Topology::channel();
    let mut says = six("a").with("b", |n| n.flags = "master,fail");
    says.nodes.push(primary("e", 7, 0, &[]));
    says.nodes.push(N { flags: "handshake", ..primary("h", 8, 0, &[]) });
    let (_, wanted) = Publisher::default().publish(&agreed(&[says]), &shared, Instant::now());
    let by_port = |port| shared.node_by_addr("10.0.0.1", port);
    assert!(by_port(7).is_some(), "a slotless node may be the target of a redirect");
    assert!(shared.table().is_member(by_port(7).unwrap()) && !wanted.contains_key(&by_port(7).unwrap()));
    assert_eq!((by_port(2), by_port(8), by_port(99)), (None, None, None), "failed, not joined, unknown");
    assert_eq!(shared.node_by_addr("10.0.0.2", 1), None);
    assert!(wanted.contains_key(&by_port(5).unwrap()), "the failed primary's replica is watched");
    assert_eq!(shared.slots_covered(), 16384 - 5462);
    assert_eq!(shared.table().primary(6000), None);
}

#[test]
fn text_for_people() {
    let mut says = six("a").with("b", |n| n.flags = "master,fail").with("a", |n| n.open = " [7->-c]");
    says.node("c").slots = vec![(10923, 16000), (16002, 16002), (16004, 16004), (16006, 16383)];
    let agreed = agreed(&[says.clone()]);
    let views = [says.view()];
    let verdicts = judge(&views, None, Asked::default()).verdicts;
    let snapshot = Snapshot::of(&agreed, |_| "up").with_views(&views, &verdicts);
    let expected = "\
cluster    state ok, current epoch 6, redis 7.0.15
coverage   10919 of 16384 slots covered, 2 shards, 4 nodes
taken from 10.0.0.1:1, 1 view compared

  shard  slots                    role     node        health  flags   epoch  id
  0      0-5460                   primary  10.0.0.1:1  up      master  1      a
                                  replica  10.0.0.1:4  up      slave   1      x
  1      10923-16000 16002 16004  primary  10.0.0.1:3  up      master  3      c
         16006-16383              replica  10.0.0.1:6  up      slave   3      z

uncovered (no owner that gets traffic)
  5461-10922         owner 10.0.0.1:2  healthy replicas 10.0.0.1:5
  16001 16003 16005  owner nobody      healthy replicas none

open migrations
  7  10.0.0.1:1 -> 10.0.0.1:3

ignored (listed by the cluster, no traffic)
  10.0.0.1:2  fail  master,fail  b

asked
  10.0.0.1:1  taken  epoch 6  a
";
    assert_eq!(render_text(&snapshot), expected);
    let json: serde_json::Value = serde_json::from_str(&render_json(&snapshot)).unwrap();
    assert_eq!(json["shards"][1]["slots"][3], serde_json::json!([16006, 16383]));
    assert_eq!(
        json["migrations"][0],
        serde_json::json!({"slot": 7, "from": "10.0.0.1:1", "to": "10.0.0.1:3"})
    );
}
