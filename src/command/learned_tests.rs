//! The store and the overlay: what is taken in, found, merged and bounded, whatever is announced.

use proptest::collection::vec;
use proptest::prelude::*;
use redis_protocol::resp2::types::OwnedFrame;

use super::super::answers::fit_commands;
use super::super::data::{Entry, Find, KeySpec};
use super::super::keys::{KeyError, find_keys};
use super::super::tests::Request;
use super::super::{Flags, Handling};
use super::*;
use crate::worker::testkit::cases;

fn entry(name: &str, flags: &[&str]) -> Entry {
    Entry {
        name: name.to_owned(),
        arity: -1,
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        range: (0, 0, 0),
        acl: Vec::new(),
        tips: Vec::new(),
        keys: Vec::new(),
        docs: None,
    }
}

fn store() -> Store {
    Store::new(100, 1 << 20)
}

fn table(store: &mut Store, entries: Vec<Entry>) -> LearnedTable {
    LearnedTable::merge(&[(&store.take_in(entries).names, 1)], &LearnedTable::default())
}

fn look_up(table: &LearnedTable, line: &str) -> Lookup {
    let request = Request::of(line);
    let args = request.args();
    match CommandTable::builtin().lookup(&args) {
        Lookup::Found(command) => panic!("{} is built in", command.name),
        missing => table.lookup(missing, &args),
    }
}

#[test]
fn learned_names_are_found_in_any_case_and_under_their_container() {
    let table = table(
        &mut store(),
        vec![
            entry("Mod.Get", &["readonly"]),
            entry("box", &["readonly"]),
            entry("box|open", &["readonly"]),
            entry("xinfo|peek", &["readonly"]),
        ],
    );
    let name = |line: &str| match look_up(&table, line) {
        Lookup::Found(command) => command.name,
        Lookup::UnknownCommand => "unknown",
        Lookup::UnknownSubcommand(_) => "unknown subcommand",
    };
    for (line, expected) in [
        ("MOD.GET k", "mod.get"),
        ("mod.get", "mod.get"),
        ("mod.ge", "unknown"),
        ("BOX Open", "box|open"),
        ("box", "box"),
        ("box shut", "unknown subcommand"),
        ("box|open", "unknown"),
        ("XINFO peek k", "xinfo|peek"),
        ("XINFO nothing k", "unknown subcommand"),
        ("", "unknown"),
    ] {
        assert_eq!(name(line), expected, "{line}");
    }
    assert_eq!(name(&"x".repeat(100_000)), "unknown");
    assert_eq!(table.by_name(b"BOX|OPEN").map(|command| command.short_name()), Some("open"));
    assert_eq!(table.subcommands("box").map(|command| command.name).collect::<Vec<_>>(), ["box|open"]);
    assert!(table.by_name(b"\xff").is_none());
}

#[test]
fn a_definition_is_made_once_and_a_bound_holds_for_the_life_of_the_store() {
    let mut store = Store::new(3, 1 << 20);
    let first = store.take_in(vec![entry("a", &["readonly"]), entry("b", &["readonly"])]);
    let again = store.take_in(vec![entry("a", &["readonly"]), entry("b", &["readonly", "fast"])]);
    assert!(std::ptr::eq(first.names["a"].command, again.names["a"].command));
    assert!(!std::ptr::eq(first.names["b"].command, again.names["b"].command));
    let full = store.take_in(vec![entry("a", &["readonly"]), entry("c", &["readonly"])]);
    assert_eq!((full.names.len(), full.over, full.unfit), (1, 1, 0));
    let mut small = Store::new(100, 1_000);
    let taken = small.take_in((0..50).map(|n| entry(&format!("n{n}"), &["readonly"])).collect());
    assert!(taken.over > 45 && taken.names.len() + taken.over == 50, "{taken:?}");
}

#[test]
fn what_contradicts_itself_or_has_no_container_is_left_out() {
    let mut store = store();
    let taken = store.take_in(vec![
        entry("same", &["readonly"]),
        entry("same", &["readonly"]),
        entry("twice", &["readonly"]),
        entry("twice", &["write"]),
        entry("Case", &["readonly"]),
        entry("cASE", &["readonly"]),
        entry("nobody|sub", &["readonly"]),
        entry("get", &["admin"]),
        entry("GET", &["admin"]),
        entry("object|help", &["admin"]),
    ]);
    assert_eq!(taken.names.keys().collect::<Vec<_>>(), ["same"]);
    assert_eq!((taken.unfit, taken.over), (3, 0));
}

#[test]
fn the_majority_counts_and_a_draw_leaves_what_is_in_use() {
    let mut store = store();
    let one = store.take_in(vec![entry("a", &["readonly"]), entry("only.one", &["readonly"])]).names;
    let two = store.take_in(vec![entry("a", &["write"]), entry("only.two", &["readonly"])]).names;
    let chosen = |announcements: &[(&Names, usize)], current: &LearnedTable| {
        let table = LearnedTable::merge(announcements, current);
        assert!(table.by_name(b"only.one").is_some() && table.by_name(b"only.two").is_some());
        table.by_name(b"a").map(|command| command.flags.has(Flags::READONLY))
    };
    let none = LearnedTable::default();
    assert_eq!(chosen(&[(&one, 2), (&two, 1)], &none), Some(true));
    assert_eq!(chosen(&[(&one, 2), (&two, 3)], &none), Some(false));
    for (names, reads) in [(&one, true), (&two, false)] {
        let current = LearnedTable::merge(&[(names, 1)], &none);
        assert_eq!(chosen(&[(&one, 2), (&two, 2)], &current), Some(reads));
    }
}

/// Every command with keys under a name that is not known: its keys must be found where they were, or asked for.
#[test]
fn known_commands_under_new_names_keep_their_keys() {
    let builtin = CommandTable::builtin();
    let rename = |name: &str| format!("new.{name}");
    let renamed: Vec<Entry> = builtin
        .iter()
        .filter(|command| !command.added && command.container.is_none())
        .map(|command| {
            let Entry { name, arity, flags, range, acl, tips, keys, docs: _ } = command.entry.clone();
            Entry { name: rename(&name), arity, flags, range, acl, tips, keys, docs: None }
        })
        .collect();
    let table = table(&mut Store::new(1_000, 8 << 20), renamed);
    for (line, keys) in [
        ("get a", Some("a")),
        ("mset a 1 b 2", Some("a b")),
        ("bitop AND d a b", Some("d a b")),
        ("eval return 2 a b c", Some("a b")),
        ("zunionstore d 2 a b WEIGHTS 1 2", Some("d a b")),
        ("lmpop 2 a b LEFT", Some("a b")),
        ("xread COUNT 2 streams a b 0 0", Some("a b")),
        ("georadius g 1 2 3 m STOREDIST d", Some("g d")),
        ("sort a BY w_* GET store STORE d", None),
        ("migrate h 1 k 0 9", None),
    ] {
        let name = rename(line.split(' ').next().unwrap());
        let command = table.by_name(name.as_bytes()).unwrap_or_else(|| panic!("{name}"));
        let request = Request::of(line);
        let (args, mut out) = (request.args(), Vec::new());
        let found = find_keys(command, &args, &mut out);
        let asks = command.handling == Handling::Learned { asks: true };
        let words: Vec<_> = out.iter().map(|&at| String::from_utf8_lossy(args.at(at as usize))).collect();
        match keys {
            Some(keys) => {
                assert_eq!((found, words.join(" ").as_str(), asks), (Ok(()), keys, false), "{line}")
            }
            None => {
                assert!(asks || found.is_err() || matches!(command.handling, Handling::Refuse(_)), "{line}")
            }
        }
    }
    let refused = |name: &str| {
        let command = table.by_name(rename(name).as_bytes()).unwrap_or_else(|| panic!("{name}"));
        matches!(command.handling, Handling::Refuse(_))
    };
    for name in [
        "flushall",
        "keys",
        "shutdown",
        "subscribe",
        "publish",
        "multi",
        "watch",
        "auth",
        "select",
        "dbsize",
        "script",
        "wait",
        "scan",
        "ping",
    ] {
        assert!(refused(name), "{name}");
    }
    assert!(!refused("set") && !refused("lolwut"));
}

fn any_frame() -> impl Strategy<Value = OwnedFrame> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(OwnedFrame::Integer),
        (-3..3i64).prop_map(OwnedFrame::Integer),
        vec(any::<u8>(), 0..12).prop_map(OwnedFrame::BulkString),
        "(flags|begin_search|find_keys|type|spec|index|keyword|range|keynum|unknown|write|readonly|new\\.[a-c])"
            .prop_map(|word| OwnedFrame::SimpleString(word.into_bytes())),
        Just(OwnedFrame::Null),
        Just(OwnedFrame::Error("ERR".to_owned())),
    ];
    leaf.prop_recursive(5, 60, 11, |inner| vec(inner, 0..11).prop_map(OwnedFrame::Array))
}

/// An entry as a server writes it, of which any field may be something else.
fn any_announced() -> impl Strategy<Value = OwnedFrame> {
    let word = |text: &str| OwnedFrame::BulkString(text.as_bytes().to_vec());
    let sound = move |name: String, numbers: [i64; 4]| {
        let words = OwnedFrame::Array(vec![word("write")]);
        let mut fields = vec![word(&name), OwnedFrame::Integer(numbers[0]), words.clone()];
        fields.extend(numbers[1..].iter().map(|&n| OwnedFrame::Integer(n)));
        fields.extend([words.clone(), words]);
        fields
    };
    let numbers =
        || prop_oneof![-3..4i64, any::<i64>(), Just(i64::from(i32::MAX)), Just(i64::from(i32::MIN))];
    let numbers = [numbers().boxed(), numbers().boxed(), numbers().boxed(), numbers().boxed()];
    ("new\\.[a-e]{1,2}", numbers, 0..12usize, any_frame()).prop_map(move |(name, numbers, at, other)| {
        let mut fields = sound(name, numbers);
        match fields.get_mut(at) {
            Some(field) => *field = other,
            None => fields.push(other),
        }
        OwnedFrame::Array(fields)
    })
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn no_announcement_breaks_anything(
        frames in vec(prop_oneof![any_frame(), any_announced()], 0..20),
        argc in 1..12usize,
    ) {
        let Ok((entries, _)) = fit_commands(&OwnedFrame::Array(frames)) else { return Ok(()) };
        let mut store = Store::new(10, 1 << 20);
        let taken = store.take_in(entries);
        prop_assert!(taken.names.len() <= 10);
        let words: Vec<String> = (0..argc).map(|n| n.to_string()).collect();
        let request = Request::new(&words);
        for (name, learned) in &taken.names {
            prop_assert!(CommandTable::builtin().by_name(name).is_none());
            prop_assert!(!learned.command.allowed_without_auth());
            let mut keys = Vec::new();
            match find_keys(learned.command, &request.args(), &mut keys) {
                Ok(()) => prop_assert!(keys.iter().all(|&at| (1..argc).contains(&(at as usize))), "{keys:?}"),
                Err(error) => prop_assert!(keys.is_empty() && error == KeyError::Invalid),
            }
        }
    }

    #[test]
    fn keys_are_among_the_arguments_however_wild_the_numbers(
        begin in prop_oneof![1..5i32, any::<i32>()],
        numbers in [any::<i32>().boxed(), (0..4i32).boxed(), (0..4i32).boxed()],
        keynum in any::<bool>(),
        argc in 1..12usize,
    ) {
        let [a, b, c] = numbers;
        let find = if keynum { Find::Keynum(a, b, c) } else { Find::Range(a, b, c) };
        let key = KeySpec { notes: None, flags: vec!["RW".to_owned()], begin: Begin::Index(begin), find };
        let announced = Entry { keys: vec![key], ..entry("x", &["write"]) };
        let Some(learned) = store().take_in(vec![announced]).names.remove("x") else { return Ok(()) };
        let words: Vec<String> = (0..argc).map(|n| n.to_string()).collect();
        let mut keys = Vec::new();
        let found = find_keys(learned.command, &Request::new(&words).args(), &mut keys);
        prop_assert!(keys.iter().all(|&at| (1..argc).contains(&(at as usize))), "{found:?} {keys:?}");
    }
}
