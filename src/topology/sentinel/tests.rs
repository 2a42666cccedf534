//! Words out of answers, and which of them is believed.

use redis_protocol::resp2::types::OwnedFrame;

use super::decide::decide;
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
    let expected = [(B, None), (C, Some(Ignored::Fail)), ("10.0.0.4:6379", Some(Ignored::Unhealthy))];
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
    let agreed = decide(&words[..1], &servers(&[A]), &[], Some(&now)).unwrap();
    assert_eq!(sole(&agreed).as_deref(), Some(A), "the one in use says itself that it is none");
    let gone = [server_view(A, true)];
    let agreed = decide(&words[..1], &gone, &[], Some(&now)).unwrap();
    assert_eq!(sole(&agreed).as_deref(), Some(B), "it does not answer, but one sentinel is not most of them");
    let most = [word(1, A, 5), word(2, A, 5)];
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
