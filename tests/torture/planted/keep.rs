//! Append-only files: kept though the node deletes them, and searched for what was acknowledged.

use std::fs;

use crate::support::process::scratch_dir;
use crate::torture::bench::Bench;
use crate::torture::check::Kind;
use crate::torture::keep::Keep;

#[test]
fn what_no_file_shows_and_what_one_shows_twice_is_found() {
    let node = scratch_dir("kept");
    let files = node.join("appendonlydir");
    fs::create_dir(&files).expect("folder");
    let file = files.join("appendonly.aof.1.incr.aof");
    fs::write(&file, [cmd!["SET", "t:a", "1"], cmd!["APPEND", "t:b", "0,"]].concat()).expect("file");
    let (keep, bench) = (Keep::new(), Bench::new(1, Vec::new()));
    keep.add(&node);
    keep.watch(|| true);
    fs::remove_file(&file).expect("removed");
    for (key, value) in [("t:a", "1"), ("t:b", "0,"), ("t:lost", "1")] {
        bench.acked(key, value, 5);
    }
    let evidence = keep.examine(&bench);
    assert_eq!((evidence.files, evidence.acked, evidence.missing, evidence.repeated), (1, 3, 1, 0));
    let found = bench.take_suspicions();
    assert_eq!(found.iter().map(|s| s.kind).collect::<Vec<_>>(), [Kind::NotInAof]);
    assert!(found[0].text.contains("t:lost"), "{}", found[0].text);
    let next = files.join("appendonly.aof.2.incr.aof");
    fs::write(next, cmd!["APPEND", "t:b", "0,"]).expect("file");
    keep.watch(|| true);
    assert_eq!(keep.examine(&bench).repeated, 1, "in another file of the same node");
    assert_eq!(bench.take_suspicions().iter().map(|s| s.kind).collect::<Vec<_>>(), [Kind::Twice]);
}
