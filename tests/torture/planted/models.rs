//! Each model with a history that is fine and with one that is not.

use crate::torture::check::aof::{Executed, commands, token};
use crate::torture::check::appends::Appends;
use crate::torture::check::claims::Claims;
use crate::torture::check::counter::Counter;
use crate::torture::check::messages::Messages;
use crate::torture::check::queue::Queue;
use crate::torture::check::register::{Read, Register};
use crate::torture::check::{Finding, Kind, Span, Status};

fn kind(finding: Option<Finding>) -> Option<Kind> {
    finding.map(|f| f.kind)
}

fn kinds(findings: &[Finding]) -> Vec<Kind> {
    findings.iter().map(|f| f.kind).collect()
}

/// Writes 1 (acknowledged at 10), 2 (at 20), 3 (not executed), 4 (maybe), 5 (a removal, still open).
fn register() -> Register {
    let mut register = Register::default();
    for (status, at) in [(Status::Acked, 10), (Status::Acked, 20), (Status::No, 30), (Status::Maybe, 40)] {
        let number = register.begin(false);
        assert_eq!(register.end(number, status, at), None);
    }
    register.begin(true);
    register
}

fn read(seen: Option<usize>, from: u64, to: u64) -> Read {
    Read { seen, span: Span::new(from, to), after: None }
}

#[test]
fn a_read_shows_the_newest_acknowledged_write_or_a_later_one() {
    let mut register = register();
    for seen in [Some(2), Some(4), None, Some(2)] {
        assert_eq!(register.read(&read(seen, 50, 60)), None, "{seen:?}, at the same time as the others");
    }
    assert_eq!(register.read(&read(Some(1), 15, 60)), None, "2 was acknowledged while it was read");
    let stale = register.read(&read(Some(1), 50, 60)).expect("stale");
    assert_eq!((stale.kind, stale.lost), (Kind::Stale, Some(vec![20])));
    assert_eq!(kind(register.read(&read(Some(3), 50, 60))), Some(Kind::Untrue));
    assert_eq!(kind(register.read(&read(Some(9), 50, 60))), Some(Kind::FromNowhere));
    assert_eq!(kind(register.read(&read(Some(5), 50, 60))), Some(Kind::FromNowhere), "5 is a removal");
}

#[test]
fn no_read_shows_less_than_one_that_ended_before_it() {
    let mut register = register();
    assert_eq!(register.read(&read(Some(4), 50, 60)), None, "its fate was open until now");
    let older = register.read(&read(Some(2), 61, 70)).expect("older");
    assert_eq!((older.kind, older.lost), (Kind::Stale, Some(vec![60])), "known since it was shown");
    assert_eq!(register.read(&read(Some(2), 55, 70)), None, "begun before the other had ended");
    let number = register.begin(false);
    assert_eq!(register.read(&read(Some(number), 80, 90)), None, "under way");
    let older = register.read(&read(Some(4), 95, 99)).expect("older");
    assert_eq!((older.kind, older.lost), (Kind::Stale, Some(vec![90])), "nobody has acknowledged it");
}

#[test]
fn nil_proves_only_the_oldest_removal_that_explains_it() {
    let mut register = Register::default();
    let mut write = |removal, status| {
        let number = register.begin(removal);
        register.end(number, status, 10 * number as u64);
        number
    };
    write(false, Status::Acked);
    let (first, set) = (write(true, Status::Acked), write(false, Status::Maybe));
    let last = write(true, Status::Open);
    assert_eq!(register.read(&read(None, 50, 60)), None);
    assert_eq!(register.read(&read(Some(set), 61, 70)), None, "nil was of {first}");
    assert_eq!(register.end(last, Status::No, 75), None, "nobody has seen {last} for sure");
    assert_eq!(kind(register.read(&read(None, 80, 90))), Some(Kind::Stale), "{first} is older than {set}");
}

#[test]
fn what_a_replica_has_no_failover_loses() {
    let mut register = Register::default();
    for at in [10, 20] {
        let number = register.begin(false);
        register.end(number, Status::Acked, at);
    }
    register.copied(1);
    let lost = |r: &mut Register, seen| r.read(&read(seen, 50, 60)).and_then(|f| f.lost);
    assert_eq!(lost(&mut register, Some(1)), Some(vec![20]));
    assert_eq!(lost(&mut register, None), Some(vec![0, 20]), "no fault reaches back to the beginning");
}

#[test]
fn a_replica_shows_what_its_reader_knows_and_what_is_old_enough() {
    let mut register = register();
    let mut behind = |seen, from, least| register.read_behind(&read(seen, from, from + 5), least, 100);
    assert_eq!(behind(None, 50, 0), None, "nothing is old enough");
    assert_eq!(behind(Some(1), 60, 1), None);
    let older = behind(Some(1), 60, 2).expect("older");
    assert_eq!((older.kind, older.lost), (Kind::Stale, Some(vec![20])), "the reader wrote 2");
    assert_eq!(kind(behind(None, 111, 0)), Some(Kind::Stale), "1 has been there for long");
    assert_eq!(behind(Some(1), 120, 0), None, "2 not yet");
    assert_eq!(kind(behind(Some(1), 121, 0)), Some(Kind::Stale), "2 has");
    assert_eq!(behind(Some(4), 130, 2), None);
    assert_eq!(behind(Some(2), 130, 2), None, "another reader, behind the first");
    assert_eq!(kind(behind(Some(2), 140, 4)), Some(Kind::Stale), "the first goes back");
    assert_eq!(kind(behind(Some(3), 140, 0)), Some(Kind::Untrue));
    assert_eq!(kind(behind(Some(9), 140, 0)), Some(Kind::FromNowhere));
    let own = register.read_behind(&Read { after: Some(2), ..read(Some(4), 150, 160) }, 2, 100);
    assert_eq!(kind(own), Some(Kind::Order), "a write sent behind the read");
}

#[test]
fn nil_needs_a_removal_that_may_have_happened() {
    let mut register = Register::default();
    assert_eq!(register.read(&read(None, 1, 2)), None, "nothing was written yet");
    let number = register.begin(false);
    register.end(number, Status::Acked, 5);
    assert_eq!(kind(register.read(&read(None, 6, 7))), Some(Kind::Stale));
    let number = register.begin(true);
    register.end(number, Status::No, 9);
    assert_eq!(kind(register.read(&read(None, 10, 11))), Some(Kind::Stale), "it was not removed");
}

#[test]
fn the_writers_own_connection_sees_its_writes_in_order() {
    let mut register = Register::default();
    let (first, second) = (register.begin(false), register.begin(false));
    register.end(first, Status::Acked, 10);
    register.end(second, Status::Acked, 10);
    let mut own =
        |seen, after| kind(register.read(&Read { seen, span: Span::new(5, 10), after: Some(after) }));
    assert_eq!(own(Some(1), 1), None);
    assert_eq!(own(Some(2), 2), None);
    assert_eq!(own(Some(2), 1), Some(Kind::Order), "a later write was seen");
    assert_eq!(own(Some(1), 2), Some(Kind::Stale), "in one pipeline, its reply in the same read");
}

#[test]
fn a_write_that_was_read_cannot_be_called_not_executed() {
    let mut register = Register::default();
    let number = register.begin(false);
    assert_eq!(register.read(&read(Some(number), 1, 2)), None);
    assert_eq!(kind(register.end(number, Status::No, 3)), Some(Kind::Untrue));
}

#[test]
fn a_counter_grows_by_one_and_by_open_fates() {
    let mut counter = Counter::default();
    assert_eq!(counter.incremented(1, 10), None);
    counter.failed(Status::Maybe);
    counter.failed(Status::No);
    assert_eq!(counter.incremented(3, 20), None, "the open one happened");
    counter.failed(Status::Maybe);
    assert_eq!(counter.incremented(4, 30), None, "this one did not");
    assert_eq!(kind(counter.incremented(6, 40)), Some(Kind::Twice));
    counter.failed(Status::No);
    assert_eq!(kind(counter.incremented(8, 50)), Some(Kind::Twice), "said not to be executed");
    let lost = counter.incremented(6, 60).expect("lost");
    assert_eq!((lost.kind, lost.lost), (Kind::Lost, Some(vec![40, 50])));
    assert_eq!(counter.incremented(7, 70), None, "it goes on from there");
    assert_eq!(kind(counter.read(5, 80)), Some(Kind::Lost));
}

#[test]
fn pieces_stand_once_in_order_and_all() {
    let mut appends = Appends::default();
    for (status, at) in [(Status::Acked, 10), (Status::Maybe, 20), (Status::No, 30), (Status::Acked, 40)] {
        let number = appends.begin();
        appends.end(number, status, at);
    }
    for fine in ["0,3,", "0,1,3,"] {
        assert_eq!(appends.read(fine, 4), [], "{fine}");
    }
    for (value, kind) in [
        ("0,0,3,", Kind::Twice),
        ("0,1,3,1,", Kind::Twice),
        ("3,0,", Kind::Order),
        ("0,2,3,", Kind::Untrue),
        ("0,3,7,", Kind::FromNowhere),
        ("0,x,3,", Kind::FromNowhere),
        ("0,", Kind::Lost),
        ("", Kind::Lost),
    ] {
        assert_eq!(kinds(&appends.read(value, 4)), [kind], "{value}");
    }
    assert_eq!(appends.read("", 4)[0].lost, Some(vec![10, 40]));
    assert_eq!(kinds(&appends.read("0,3,", 2)), [Kind::Order], "read before it was sent");
}

#[test]
fn one_number_is_won_once() {
    let mut claims = Claims::default();
    assert_eq!(claims.win(1, "a", 10), None);
    assert_eq!(claims.win(2, "b", 20), None);
    let twice = claims.win(2, "a", 30).expect("twice");
    assert_eq!((twice.kind, twice.lost), (Kind::Lost, Some(vec![20])));
    assert_eq!(claims.read(2), None);
    assert_eq!(claims.read(5), None, "open fates may have gone on");
    assert_eq!(kind(claims.read(1)), Some(Kind::Lost));
}

#[test]
fn an_element_comes_out_once_or_is_there() {
    let mut queue = Queue::default();
    let pushed = |queue: &mut Queue, status, at| {
        let number = queue.begin();
        assert_eq!(queue.end(number, status, at), None);
        number
    };
    let (a, b) = (pushed(&mut queue, Status::Acked, 10), pushed(&mut queue, Status::Maybe, 20));
    let (c, d) = (pushed(&mut queue, Status::No, 30), pushed(&mut queue, Status::Acked, 40));
    assert_eq!(queue.popped(a, 50), None);
    assert_eq!(queue.popped(b, 50), None);
    let twice = queue.popped(a, 60).expect("twice");
    assert_eq!((twice.kind, twice.lost), (Kind::Twice, Some(vec![50])));
    assert_eq!(kind(queue.popped(c, 60)), Some(Kind::Untrue));
    assert_eq!(kind(queue.popped(99, 60)), Some(Kind::FromNowhere));
    assert_eq!(kinds(&queue.emptied(|_| false)), [Kind::Lost], "{d} never came out");
    assert_eq!(queue.emptied(|at| at == 40), [], "the cluster lost it");
    queue.blind_pop();
    assert_eq!(queue.emptied(|_| false), [], "a pop without an answer took it");
    let early = queue.begin();
    assert_eq!(queue.popped(early, 70), None, "before the push was answered");
    assert_eq!(kind(queue.end(early, Status::No, 80)), Some(Kind::Untrue));
}

#[test]
fn messages_only_grow() {
    let mut messages = Messages::default();
    assert_eq!(messages.heard(3, 10, false), None);
    assert_eq!(messages.heard(5, 10, false), None, "some were lost");
    assert_eq!(kind(messages.heard(5, 10, false)), Some(Kind::Twice));
    assert_eq!(kind(messages.heard(4, 10, false)), Some(Kind::Order));
    assert_eq!(kind(messages.heard(10, 10, false)), Some(Kind::FromNowhere));
    assert_eq!(messages.heard(2, 10, true), None, "its fate was open");
    assert_eq!(kind(messages.heard(2, 10, true)), Some(Kind::Twice));
}

#[test]
fn append_only_files_tell_what_was_executed() {
    let mut file = b"#TS:1700000000\r\n".to_vec();
    file.extend(cmd!["SELECT", "0"]);
    file.extend(cmd!["SET", "t:a", "1"]);
    file.extend(cmd!["MULTI"]);
    file.extend(cmd!["mset", "t:a", "2", "t:b", "2"]);
    file.extend(cmd!["APPEND", "t:c", "0,"]);
    file.extend(cmd!["EXEC"]);
    file.extend(cmd!["RPUSH", "t:l", "x", "y"]);
    let whole = file.len();
    file.extend(b"*3\r\n$3\r\nSET\r\n$3\r\nt:d\r\n$5\r\nto");
    let mut node = Executed::default();
    assert_eq!(node.file(&file), whole, "the torn end is left");
    let tokens: Vec<_> = node.tokens().collect();
    for (key, value) in [("t:a", "1"), ("t:a", "2"), ("t:b", "2"), ("t:c", "0,"), ("t:l", "x"), ("t:l", "y")]
    {
        assert!(tokens.contains(&token(key.as_bytes(), value.as_bytes())), "{key} {value}");
    }
    assert!(!tokens.contains(&token(b"t:d", b"torn")));
    assert!(node.repeated().is_empty());
    node.file(&cmd!["APPEND", "t:c", "0,"]);
    assert_eq!(node.repeated(), ["t:c 0,"]);
    node.file(&[cmd!["SET", "probe", "v"], cmd!["SET", "probe", "v"]].concat());
    assert_eq!(node.repeated().len(), 1, "other keys are nobody's business");
    assert_eq!(commands(b"garbage", |_| panic!("no command")), 0);
}
