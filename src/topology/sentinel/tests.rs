//! Words out of answers, and which of them is believed.

use redis_protocol::resp2::types::OwnedFrame;

use super::decide::{decide, without_words};
use super::kin::sort;
use super::watch::is_about;
use super::word::{Listed, Word, parse, questions};
use crate::topology::agreed::{Agreed, Ignored};
use crate::topology::link::LinkError;
use crate::topology::node::NodeAddr;
use crate::topology::parse::ParseError;
use crate::topology::testkit::{addr, bulk, server_view};
use crate::topology::view::View;

const A: &str = "10.0.0.1:6379";
const B: &str = "10.0.0.2:6379";
const C: &str = "10.0.0.3:6379";

fn row(fields: &[&str]) -> OwnedFrame {
    OwnedFrame::Array(fields.iter().map(|field| bulk(field)).collect())
}

fn rows(rows: &[&[&str]]) -> OwnedFrame {
    OwnedFrame::Array(rows.iter().map(|fields| row(fields)).collect())
}

fn answers() -> Vec<OwnedFrame> {
    let replica =
        |ip, flags, link| ["name", "x", "ip", ip, "port", "6379", "flags", flags, "master-link-status", link];
    vec![
        row(&["10.0.0.1", "6379"]),
        row(&["name", "mymaster", "ip", "10.0.0.1", "port", "6379", "flags", "master", "config-epoch", "7"]),
        rows(&[
            &replica("10.0.0.2", "slave", "ok"),
            &replica("10.0.0.3", "s_down,slave,disconnected", "ok"),
            &replica("10.0.0.4", "slave", "err"),
            &replica("10.0.0.1", "slave", "ok"),
            &replica("10.0.0.5", "slave,disconnected", "ok"),
            &["ip", "", "port", "1"],
        ]),
        rows(&[&["name", "y", "ip", "10.0.1.2", "port", "26379"], &["ip", "10.0.1.3", "port", "0"]]),
        bulk("0123"),
    ]
}

#[test]
fn a_word_out_of_its_answers() {
    let word = parse(&addr("10.0.1.1:26379"), "mymaster", &answers()).unwrap();
    assert_eq!((word.primary.to_string().as_str(), word.epoch, word.id.as_str()), (A, 7, "0123"));
    let replicas: Vec<_> = word.replicas.iter().map(|r| (r.addr.to_string(), r.ignored)).collect();
    let ill = Some(Ignored::Unhealthy);
    let expected = [(B, None), (C, Some(Ignored::Fail)), ("10.0.0.4:6379", ill), ("10.0.0.5:6379", ill)];
    assert_eq!(replicas, expected.map(|(addr, ignored)| (addr.to_owned(), ignored)));
    assert_eq!(word.sentinels, [addr("10.0.1.2:26379")]);
    let mut failing_over = answers();
    failing_over[1] =
        row(&["ip", "10.0.0.9", "port", "6379", "flags", "master,failover_in_progress", "config-epoch", "8"]);
    let word = parse(&addr("10.0.1.1:26379"), "mymaster", &failing_over).unwrap();
    let last = word.replicas.last().unwrap();
    assert_eq!((last.addr.to_string().as_str(), last.ignored), ("10.0.0.9:6379", Some(Ignored::Unhealthy)));
    let mut old = answers();
    old[4] = OwnedFrame::Error("ERR Unknown sentinel subcommand".to_owned());
    assert_eq!(parse(&addr("10.0.1.1:26379"), "mymaster", &old).unwrap().id, "10.0.1.1:26379");
    assert_eq!(questions("m").iter().filter(|byte| **byte == b'*').count(), old.len());
}

#[test]
fn answers_that_make_no_word() {
    let dialled = addr("10.0.1.1:26379");
    let with = |index: usize, frame: OwnedFrame| {
        let mut answers = answers();
        answers[index] = frame;
        parse(&dialled, "mymaster", &answers).unwrap_err()
    };
    let error = |text: &str| OwnedFrame::Error(text.to_owned());
    assert_eq!(with(0, OwnedFrame::Null), ParseError::UnknownMaster("mymaster".to_owned()));
    let unknown = "ERR unknown command `SENTINEL`, with args beginning with: ";
    assert_eq!(with(0, error(unknown)), ParseError::NotSentinel);
    assert!(matches!(with(0, error("NOAUTH Authentication required.")), ParseError::Auth(_)));
    assert_eq!(with(1, row(&[])), ParseError::Form("SENTINEL MASTER"));
    assert_eq!(with(2, bulk("x")), ParseError::Form("SENTINEL REPLICAS"));
    assert!(matches!(with(0, row(&["10.0.0.1", "0"])), ParseError::Form(_)));
}

#[test]
fn announcements_about_the_master() {
    let message = |text| row(&["message", "+switch-master", text]);
    assert!(is_about(&message("mymaster 10.0.0.1 6379 10.0.0.2 6379"), "mymaster"));
    assert!(is_about(&message("slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster 10.0.0.1 6379"), "mymaster"));
    assert!(!is_about(&message("other 10.0.0.1 6379 10.0.0.2 6379"), "mymaster"));
    assert!(!is_about(&row(&["subscribe", "+switch-master", "mymaster"]), "mymaster"));
    assert!(!is_about(&row(&["pong", ""]), "mymaster"));
}

// === which word is believed ===

/// Sentinel `number` of three names `primary`, with the other two servers as replicas.
fn word(number: u8, primary: &str, epoch: u64) -> Word {
    let sentinel = |n: u8| addr(&format!("10.0.1.{n}:26379"));
    let replica = |at: &&str| Listed { addr: addr(at), flags: "slave".to_owned(), ignored: None };
    Word {
        dialled: sentinel(number),
        id: number.to_string(),
        primary: addr(primary),
        epoch,
        replicas: [A, B, C].iter().filter(|at| **at != primary).map(replica).collect(),
        sentinels: (1..=3).filter(|n| *n != number).map(sentinel).collect(),
    }
}

/// Three servers, of which these are primaries.
fn servers(primaries: &[&str]) -> Vec<View> {
    [A, B, C].iter().map(|at| server_view(at, primaries.contains(at))).collect()
}

fn sole(agreed: &Agreed) -> Option<String> {
    agreed.sole_primary().map(NodeAddr::to_string)
}

fn start() -> Agreed {
    let words = [word(1, A, 5), word(2, A, 5), word(3, A, 5)];
    decide(&words, &servers(&[A]), &[], None).unwrap()
}

#[test]
fn one_primary_owns_all_slots() {
    let agreed = start();
    let shards = agreed.shards();
    assert_eq!((shards.len(), shards[0].ranges.as_slice()), (1, &[(0, 16383)][..]));
    assert_eq!((shards[0].primary.as_str(), shards[0].replicas.as_slice()), (A, &[B.into(), C.into()][..]));
    assert!(agreed.state_ok && agreed.current_epoch == 5 && agreed.compared == 3);
    assert_eq!(agreed.server.redis_version.as_deref(), Some("7.0.15"));
    assert_eq!(agreed.base, addr("10.0.1.1:26379"));
}

#[test]
fn the_highest_epoch_wins_as_soon_as_one_sentinel_has_it() {
    let words = [word(1, A, 5), word(2, B, 6), word(3, A, 5)];
    let agreed = decide(&words, &servers(&[A, B]), &[], Some(&start())).unwrap();
    assert_eq!((sole(&agreed).as_deref(), agreed.current_epoch), (Some(B), 6));
    let unreachable: Vec<View> = servers(&[A]).into_iter().filter(|view| view.dialled != addr(B)).collect();
    let agreed = decide(&words, &unreachable, &[], Some(&start())).unwrap();
    assert_eq!(sole(&agreed).as_deref(), Some(B), "the old one would lose what is written there");
}

#[test]
fn a_replica_is_no_primary_whoever_names_it() {
    let words = [word(1, A, 5), word(2, A, 5), word(3, B, 4)];
    let agreed = decide(&words, &servers(&[B]), &[], None).unwrap();
    assert_eq!(sole(&agreed).as_deref(), Some(B));
    let error = decide(&words[..2], &servers(&[]), &[], None).unwrap_err();
    assert!(error.contains("is a replica"), "{error}");
    let agreed = decide(&words[..2], &servers(&[]), &[], Some(&start())).unwrap();
    assert_eq!(sole(&agreed), None, "demoted, and nobody else yet");
    assert_eq!((agreed.unowned().len(), agreed.shards().len(), agreed.state_ok), (1, 0, false));
}

#[test]
fn at_the_start_the_primary_has_to_answer() {
    let failures = [(addr(A), LinkError::Timeout)];
    let error = decide(&[word(1, A, 5)], &[], &failures, None).unwrap_err();
    assert!(error.contains("does not answer: no answer within the deadline"), "{error}");
    let agreed = decide(&[word(1, A, 5)], &[], &failures, Some(&start())).unwrap();
    assert_eq!(sole(&agreed).as_deref(), Some(A), "later it is waited for");
}

#[test]
fn an_old_sentinel_alone_does_not_turn_the_clock_back() {
    let words = [word(1, A, 5), word(2, B, 6), word(3, B, 6)];
    let now = decide(&words, &servers(&[A, B]), &[], Some(&start())).unwrap();
    let mut agreed = now.clone();
    let mut held = Vec::new();
    for _ in 0..8 {
        agreed = decide(&words[..1], &servers(&[A, B]), &[], Some(&agreed)).unwrap();
        assert_eq!((sole(&agreed).as_deref(), agreed.current_epoch), (Some(B), 6));
        held.push(agreed.held_rounds);
    }
    assert!(held.contains(&0) && held.contains(&3), "urgent now and then, not for ever: {held:?}");
    let none = decide(&words[..1], &servers(&[A]), &[], Some(&now)).unwrap();
    assert_eq!((sole(&none), none.current_epoch), (None, 6), "the one in use says itself that it is none");
    let error = decide(&words[..1], &servers(&[A]), &[], Some(&none)).unwrap_err();
    assert!(error.contains("was that before another"), "{error}");
    let most = [word(1, A, 5), word(2, A, 5)];
    for before in [&now, &none] {
        let agreed = decide(&most, &servers(&[A]), &[], Some(before)).unwrap();
        assert_eq!(sole(&agreed).as_deref(), Some(A), "but if most of them say so");
    }
    let gone = [server_view(A, true)];
    let agreed = decide(&words[..1], &gone, &[], Some(&now)).unwrap();
    assert_eq!(sole(&agreed).as_deref(), Some(B), "it does not answer, but one sentinel is not most of them");
    let agreed = decide(&most, &gone, &[], Some(&now)).unwrap();
    assert_eq!(sole(&agreed).as_deref(), Some(A), "two are");
    let agreed = decide(&most, &[], &[], Some(&now)).unwrap();
    assert_eq!(sole(&agreed).as_deref(), Some(B), "nobody answers");
}

#[test]
fn sentinels_that_were_set_up_anew_are_believed_when_most_say_so() {
    let mut agreed = start();
    let anew = [word(1, B, 0), word(2, B, 0), word(3, B, 0)];
    for round in 0..3 {
        agreed = decide(&anew, &servers(&[A, B]), &[], Some(&agreed)).unwrap();
        assert_eq!((sole(&agreed).as_deref(), agreed.held_rounds), (Some(A), round + 1));
    }
    agreed = decide(&anew, &servers(&[A, B]), &[], Some(&agreed)).unwrap();
    assert_eq!((sole(&agreed).as_deref(), agreed.current_epoch), (Some(B), 0));
    let same = [word(1, A, 0), word(2, A, 0), word(3, A, 0)];
    let agreed = decide(&same, &servers(&[A]), &[], Some(&start())).unwrap();
    assert_eq!(agreed.current_epoch, 0, "the same primary under a new count");
    let agreed = decide(&same[..1], &servers(&[A]), &[], Some(&start())).unwrap();
    assert_eq!(agreed.current_epoch, 5, "one alone starts no new count");
}

#[test]
fn without_any_word_only_the_servers_own_counts() {
    let agreed = without_words(&servers(&[]), Some(&start())).unwrap();
    assert_eq!((sole(&agreed), agreed.current_epoch), (None, 5), "a replica gets nothing");
    assert!(without_words(&servers(&[A]), Some(&start())).is_err());
    assert!(without_words(&[], Some(&start())).is_err(), "it does not answer");
    assert!(without_words(&servers(&[]), None).is_err());
}

// === whose word it is ===

const X: &str = "10.9.0.1:6379";

/// The word of a sentinel of another deployment, with as many fellows.
fn stranger(id: &str, at: &str, epoch: u64) -> Word {
    let replica = Listed { addr: addr("10.9.0.2:6379"), flags: "slave".to_owned(), ignored: None };
    Word {
        id: id.to_owned(),
        dialled: addr(at),
        primary: addr(X),
        replicas: vec![replica],
        ..word(1, A, epoch)
    }
}

/// Ids of those that are believed, with one to three believed before.
fn ours(words: &[Word], current: Option<&Agreed>) -> Vec<String> {
    let believed = (1..=3).map(|id: u8| id.to_string()).collect();
    let sorted = sort(words.to_vec(), current, &believed);
    assert_eq!(sorted.ours.len() + sorted.strangers.len(), words.len());
    sorted.ours.into_iter().map(|word| word.id).collect()
}

#[test]
fn a_sentinel_of_other_servers_is_not_heard_whatever_its_epoch() {
    let foreign = stranger("f", "10.0.1.3:26379", 900);
    let words = [word(1, A, 5), word(2, A, 5), foreign.clone()];
    assert_eq!(ours(&words, Some(&start())), ["1", "2"]);
    assert_eq!(ours(&words[1..], Some(&start())), ["2"], "nor when only one of ours answers");
    assert!(ours(&words[2..], Some(&start())).is_empty(), "nor alone");
    let fellows: Vec<Word> = (5..=8).map(|n: u8| stranger(&n.to_string(), "10.9.1.1:26379", 900)).collect();
    assert_eq!(
        ours(&[&words[..1], &fellows[..]].concat(), Some(&start())),
        ["1"],
        "nor with all its fellows"
    );
    assert_eq!(ours(&words, None), ["1", "2"], "most count at the start");
    let none = decide(&words[..1], &servers(&[]), &[], Some(&start())).unwrap();
    assert_eq!(ours(&words, Some(&none)), ["1", "2"], "and while there is no primary");
}

#[test]
fn our_sentinels_are_heard_about_servers_nobody_knew() {
    // A new replica was promoted before anybody here heard of it; the old primary is listed on.
    let mut promoted = word(1, "10.0.0.7:6379", 6);
    let mut next = word(2, "10.0.0.8:6379", 7);
    next.replicas = vec![Listed { addr: promoted.primary.clone(), ..promoted.replicas[0].clone() }];
    assert_eq!(ours(&[next.clone(), promoted.clone()], Some(&start())), ["2", "1"]);
    promoted.replicas.clear();
    next.replicas.clear();
    assert!(ours(&[next], Some(&start())).is_empty());
    // Most of those there are were told to watch other servers, or all was built anew.
    let moved: Vec<Word> = ["1", "2"].map(|id| stranger(id, "10.0.1.1:26379", 0)).to_vec();
    assert_eq!(ours(&[&[word(3, A, 5)], &moved[..]].concat(), Some(&start())), ["1", "2"]);
    let anew: Vec<Word> = ["7", "8"].map(|id| stranger(id, "10.9.1.1:26379", 0)).to_vec();
    assert_eq!(ours(&anew, Some(&start())), ["7", "8"]);
    assert!(ours(&anew[..1], Some(&start())).is_empty(), "one of three");
    let forgotten = sort(anew[..1].to_vec(), Some(&start()), &Default::default());
    assert_eq!(forgotten.ours.len(), 1, "nothing of what was believed is left");
}

#[test]
fn replicas_are_well_if_most_sentinels_say_so() {
    let ill = |mut word: Word| {
        word.replicas[0].ignored = Some(Ignored::Fail);
        word.replicas[0].flags = "s_down,slave".to_owned();
        word
    };
    let words = [ill(word(1, A, 5)), word(2, A, 5), word(3, A, 5)];
    let agreed = decide(&words, &servers(&[A]), &[], None).unwrap();
    assert_eq!(agreed.shards()[0].replicas, [B, C]);
    let words = [ill(word(1, A, 5)), ill(word(2, A, 5)), word(3, A, 5)];
    let agreed = decide(&words, &servers(&[A]), &[], None).unwrap();
    assert_eq!(agreed.shards()[0].replicas, [C]);
    assert_eq!(
        (agreed.nodes[B].ignored, agreed.nodes[B].flags_text.as_str()),
        (Some(Ignored::Fail), "s_down,slave")
    );
}
