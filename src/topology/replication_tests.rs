//! What proves that a replica has its primary's data, and what takes the proof away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Member, OFFSETS_MAX, Ranges, Replicas, Replication, Sample, Standing};
use crate::topology::node::{Node, NodeAddr, NodeId};
use crate::topology::own::OwnWord;

const PRIMARY: NodeId = NodeId(0);
const REPLICA: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const MAX_LAG: Duration = Duration::from_secs(10);

fn node(id: NodeId) -> Arc<Node> {
    Arc::new(Node::new(id, NodeAddr { host: "h".to_owned(), port: id.0 + 1 }))
}

struct Cluster {
    nodes: [Arc<Node>; 3],
    replicas: Replicas,
    now: Instant,
}

impl Cluster {
    fn new() -> Self {
        let nodes = [PRIMARY, REPLICA, OTHER].map(node);
        let mut cluster = Self { nodes, replicas: Replicas::new(MAX_LAG), now: Instant::now() };
        cluster.fit(PRIMARY);
        cluster
    }

    /// The table says that `primary` is the replica's.
    fn fit(&mut self, primary: NodeId) {
        self.fit_slots(primary, &[(0, 99)]);
    }

    /// And that these are the slots of [`PRIMARY`].
    fn fit_slots(&mut self, primary: NodeId, slots: &[(u16, u16)]) {
        let member = |node: &Arc<Node>| Member {
            node: node.clone(),
            primary: (node.id == REPLICA).then_some(primary),
            slots: if node.id == PRIMARY { slots.to_vec() } else { Ranges::new() },
        };
        let members: Vec<Member> = self.nodes.iter().map(member).collect();
        self.replicas.fit(members.into_iter());
    }

    /// As if [`PRIMARY`] had settled; and whether the replica is proven then.
    fn settled(&mut self) -> bool {
        self.replicas.known.get_mut(&PRIMARY).unwrap().settled = Some(Instant::now());
        self.now = Instant::now();
        self.primary(100);
        self.replica(100);
        self.standing().proven
    }

    /// A node was asked at `now` and says this; `up`: its primary is.
    fn see(&mut self, id: NodeId, replication: Replication, own: Option<OwnWord>, up: bool) -> bool {
        let asked = self.now;
        let sample = Sample { asked, replication: Some(replication), own, zone: None };
        self.replicas.see(id, sample, |_| up)
    }

    fn primary(&mut self, offset: u64) {
        self.see(PRIMARY, primary("a", offset), None, true);
    }

    fn replica(&mut self, offset: u64) {
        self.see(REPLICA, replica("a", offset), None, true);
    }

    /// What the replica has proven; the workers know of it exactly when there is something.
    fn as_of(&self) -> Option<Instant> {
        let as_of = self.replicas.known[&REPLICA].as_of;
        assert_eq!(as_of.is_some(), self.nodes[1].as_of().is_some());
        as_of
    }

    fn standing(&self) -> Standing {
        self.replicas.standing(REPLICA, Instant::now())
    }
}

fn primary(replid: &str, offset: u64) -> Replication {
    Replication { is_primary: true, replid: replid.to_owned(), offset, linked: false, heard: None }
}

fn replica(replid: &str, offset: u64) -> Replication {
    let heard = Some(Duration::from_secs(0));
    Replication { is_primary: false, replid: replid.to_owned(), offset, linked: true, heard }
}

fn own(slots: &[(u16, u16)], leaving: &[u16]) -> Option<OwnWord> {
    let leaving = leaving.iter().map(|slot| (*slot, "x".to_owned())).collect();
    Some(OwnWord { primary: true, slots: slots.to_vec(), leaving, ..OwnWord::default() })
}

#[test]
fn info_replication_of_both_roles() {
    let text = "# Replication\r\nrole:slave\r\nmaster_host:h\r\nmaster_link_status:up\r\n\
        master_last_io_seconds_ago:3\r\nmaster_sync_in_progress:0\r\nslave_read_repl_offset:9\r\n\
        slave_repl_offset:7\r\nmaster_replid:abc\r\nmaster_repl_offset:8\r\n";
    let said = Replication::parse(text).unwrap();
    let heard = Some(Duration::from_secs(3));
    let expected =
        Replication { is_primary: false, replid: "abc".to_owned(), offset: 7, linked: true, heard };
    assert_eq!(said, expected);
    let cut = text.replace("status:up", "status:down").replace("ago:3", "ago:-1");
    assert_eq!(
        Replication::parse(&cut),
        Some(Replication { linked: false, heard: None, ..expected.clone() })
    );
    let syncing = text.replace("progress:0", "progress:1");
    assert!(!Replication::parse(&syncing).unwrap().linked);
    let said = Replication::parse("role:master\r\nmaster_replid:abc\r\nmaster_repl_offset:8\r\n").unwrap();
    assert_eq!((said.is_primary, said.offset), (true, 8));
    for nothing in ["", "role:slave\r\n", "# Replication\r\nrole:master\r\nmaster_repl_offset:x\r\n"] {
        assert_eq!(Replication::parse(nothing), None);
    }
}

#[test]
fn a_replica_is_as_of_the_latest_offset_it_has_reached() {
    let mut cluster = Cluster::new();
    let as_of = Cluster::as_of;
    cluster.primary(100);
    assert_eq!(as_of(&cluster), None, "the replica has said nothing");
    cluster.replica(99);
    assert_eq!(as_of(&cluster), None, "it lacks a byte of everything ever asked for");
    assert_eq!((cluster.standing().behind, cluster.standing().proven), (Some(1), false));
    cluster.replica(100);
    let first = as_of(&cluster).unwrap();
    assert_eq!((cluster.standing().behind, cluster.standing().proven), (Some(0), true));
    cluster.now = Instant::now();
    cluster.primary(200);
    assert_eq!(as_of(&cluster), Some(first), "it has not told that it has more");
    cluster.replica(150);
    assert_eq!(as_of(&cluster), Some(first), "nor has it all of the second answer");
    cluster.replica(200);
    assert!(as_of(&cluster).unwrap() > first);
    // An idle primary: what the replica said before proves the newer answer, too.
    let second = as_of(&cluster);
    cluster.now = Instant::now();
    cluster.primary(200);
    assert!(as_of(&cluster) > second);
}

#[test]
fn old_offsets_still_tell_how_old_a_replica_is() {
    let mut cluster = Cluster::new();
    for second in (0..200).rev() {
        cluster.now = Instant::now();
        let asked = cluster.now.checked_sub(Duration::from_millis(second * 10)).unwrap();
        let sample = Sample { asked, replication: Some(primary("a", 1_000 - second)), own: None, zone: None };
        cluster.replicas.see(PRIMARY, sample, |_| true);
        assert!(cluster.replicas.known[&PRIMARY].offsets.len() <= OFFSETS_MAX);
    }
    cluster.replica(1_000);
    assert!(cluster.standing().age.unwrap() < Duration::from_secs(1));
    cluster.replicas.doubt(REPLICA);
    cluster.replica(900);
    let age = cluster.standing().age.unwrap();
    assert!(age >= Duration::from_secs(1), "{age:?}: not younger than it is");
    assert!(age < Duration::from_millis(2_500), "{age:?}");
}

#[test]
fn what_proves_nothing() {
    let proven = |said: Replication| {
        let mut cluster = Cluster::new();
        cluster.primary(100);
        cluster.see(REPLICA, said, None, true);
        (cluster.nodes[1].as_of().is_some(), cluster.standing().why_not)
    };
    assert_eq!(proven(replica("a", 100)), (true, ""));
    assert_eq!(proven(replica("b", 100)), (false, "not proven yet"), "another history");
    let cut = Replication { linked: false, ..replica("a", 100) };
    assert_eq!(proven(cut), (false, "not linked to its primary"));
    assert!(!proven(primary("a", 100)).0, "no replica at all");
}

#[test]
fn what_takes_the_proof_away() {
    let taken = |what: &dyn Fn(&mut Cluster)| {
        let mut cluster = Cluster::new();
        cluster.primary(100);
        cluster.replica(100);
        assert!(cluster.standing().proven);
        what(&mut cluster);
        (cluster.nodes[1].as_of().is_none(), cluster.standing().why_not)
    };
    assert!(taken(&|cluster| cluster.replicas.doubt(REPLICA)).0, "it is late, or its connection broke");
    assert!(taken(&|cluster| cluster.fit(OTHER)).0, "it has another primary");
    assert!(taken(&|cluster| cluster.replicas.fit(std::iter::empty())).0, "it is not in the table");
    let promoted = taken(&|cluster| {
        cluster.see(REPLICA, primary("b", 100), None, true);
    });
    assert!(promoted.0);
    assert!(!taken(&|cluster| cluster.fit(PRIMARY)).0, "the same table again");
    assert!(
        !taken(&|cluster| cluster.replicas.doubt(PRIMARY)).0,
        "data do not get older by the primary's loss"
    );
    let moving = taken(&|cluster| cluster.replicas.unsettle(PRIMARY));
    assert_eq!(moving, (true, "slots are on their way"));
}

#[test]
fn slots_on_their_way_and_slots_gone_unsettle_a_primary() {
    let mut cluster = Cluster::new();
    let tell = |cluster: &mut Cluster, word| cluster.see(PRIMARY, primary("a", 100), word, true);
    assert!(!tell(&mut cluster, own(&[(0, 99)], &[])));
    cluster.replica(100);
    assert!(cluster.standing().proven);
    assert!(!tell(&mut cluster, own(&[(0, 99)], &[])) && cluster.standing().proven);
    assert!(!tell(&mut cluster, own(&[(0, 99)], &[7])), "the owners are still the same");
    assert!(!cluster.standing().proven);
    cluster.replica(100);
    cluster.primary(100);
    assert!(!cluster.standing().proven, "not before it has settled");
    assert!(cluster.settled());
    assert!(tell(&mut cluster, own(&[(0, 98)], &[])), "the table is old");
    assert!(!cluster.standing().proven);
    cluster.fit_slots(PRIMARY, &[(0, 98)]);
    assert!(!tell(&mut cluster, own(&[(98, 98), (0, 50), (51, 97)], &[])), "the table has it");
    assert!(cluster.settled());
    // The table was first.
    cluster.fit_slots(PRIMARY, &[(0, 98), (200, 200)]);
    assert!(!cluster.standing().proven, "it may lack the keys that have come");
    assert!(!tell(&mut cluster, own(&[(0, 98), (200, 200)], &[])));
    assert!(cluster.settled());
}

#[test]
fn a_first_word_and_one_that_the_table_does_not_follow_ask_for_refreshes_less_and_less_often() {
    let mut cluster = Cluster::new();
    let mut tell = |word| cluster.see(PRIMARY, primary("a", 100), word, true);
    let asks: Vec<bool> = (0..9).map(|_| tell(own(&[(0, 98)], &[]))).collect();
    assert_eq!(asks, [true, true, false, true, false, false, false, true, false]);
    assert!(!tell(None), "not asked");
    assert!(tell(own(&[(0, 97)], &[])), "another one");
    assert!(!tell(own(&[(0, 99)], &[])), "the table's");
    assert!(tell(own(&[(0, 97)], &[])));
    cluster.replica(100);
    assert!(!cluster.standing().proven, "as long as it lasts");
}

#[test]
fn without_the_primary_the_link_to_it_counts() {
    let mut cluster = Cluster::new();
    cluster.primary(100);
    cluster.replicas.doubt(PRIMARY);
    let lacks = Replication { heard: Some(Duration::ZERO), ..replica("a", 99) };
    cluster.see(REPLICA, lacks.clone(), None, true);
    assert_eq!(cluster.nodes[1].as_of(), None, "the primary will say itself");
    cluster.see(REPLICA, lacks, None, false);
    assert_eq!(cluster.nodes[1].as_of(), None, "it lacks what the primary had");
    let heard = Some(Duration::from_secs(3));
    cluster.see(REPLICA, Replication { heard, ..replica("a", 100) }, None, false);
    assert!(cluster.nodes[1].as_of().is_some());
    let age = cluster.standing().age.unwrap();
    assert!(age >= Duration::from_secs(4), "{age:?}: whole seconds leave out the rest");
    let other = Replication { heard: Some(Duration::ZERO), ..replica("b", 200) };
    let before = cluster.as_of();
    cluster.see(REPLICA, other, None, false);
    assert_eq!(cluster.as_of(), before, "offsets of another history tell nothing");
}
