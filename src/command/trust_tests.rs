//! The trust rules one by one, and for whatever a server may announce.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde::de::IgnoredAny;

use super::super::data::{Begin, Entry, Find, KeySpec};
use super::super::flags::Flags;
use super::super::{CommandClass, Handling};
use super::*;
use crate::worker::testkit::cases;

fn entry(flags: &[&str]) -> Entry<IgnoredAny> {
    Entry {
        name: "x".to_owned(),
        arity: -1,
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        range: (0, 0, 0),
        acl: Vec::new(),
        tips: Vec::new(),
        keys: Vec::new(),
        docs: None,
    }
}

fn key(begin: Begin, find: Find) -> KeySpec {
    KeySpec { notes: None, flags: vec!["RW".to_owned()], begin, find }
}

fn keyed(flags: &[&str]) -> Entry<IgnoredAny> {
    let mut entry = entry(flags);
    entry.keys.push(key(Begin::Index(1), Find::Range(0, 1, 0)));
    entry
}

fn refusal(name: &str, entry: &Entry<IgnoredAny>) -> Option<String> {
    judge(name, entry).expect("it is taken in").refusal
}

#[test]
fn names_are_folded_or_refused() {
    assert_eq!(folded_name("FT.Search").as_deref(), Some("ft.search"));
    assert_eq!(folded_name("Con|SUB").as_deref(), Some("con|sub"));
    let (longest, longer) = ("x".repeat(NAME_BYTES_MAX), "x".repeat(NAME_BYTES_MAX + 1));
    assert!(folded_name(&longest).is_some() && folded_name(&format!("{longest}|{longest}")).is_some());
    for name in [
        "",
        " ",
        "a b",
        "a\0",
        "a\r\n",
        "|",
        "a|",
        "|a",
        "a|b|c",
        "caf\u{e9}",
        &longer,
        &format!("a|{longer}"),
    ] {
        assert_eq!(folded_name(name), None, "{name:?}");
    }
}

#[test]
fn what_is_routed() {
    for (entry, asks) in [
        (keyed(&["write"]), false),
        (keyed(&["readonly"]), false),
        (keyed(&[]), false),
        (keyed(&["write", "movablekeys"]), true),
        (entry(&["write", "movablekeys"]), true),
    ] {
        let plan = judge("x", &entry).unwrap();
        assert_eq!((plan.refusal, plan.handling), (None, Handling::Learned { asks }), "{entry:?}");
    }
    let plan = judge("x", &entry(&["readonly"])).unwrap();
    assert_eq!((plan.refusal, plan.handling, plan.class), (None, Handling::Route, CommandClass::Read));
    assert_eq!(judge("x", &keyed(&["write"])).unwrap().class, CommandClass::Write);
    assert_eq!(judge("x", &keyed(&["noscript"])).unwrap().class, CommandClass::Script, "it may do anything");
}

#[test]
fn what_the_container_says_holds_for_new_subcommands() {
    let text = refusal("config|peek", &keyed(&["readonly"])).unwrap();
    assert!(text.starts_with("ERR slotway: 'config|peek' is a node's administration"), "{text}");
    assert!(refusal("xinfo|peek", &entry(&["readonly"])).is_some_and(|text| text.contains("names no key")));
    assert_eq!(refusal("xinfo|peek", &keyed(&["readonly"])), None);
    assert_eq!(refusal("new|peek", &keyed(&["readonly"])), None);
    for local in ["command|peek", "client|peek", "get|peek", "ping|peek"] {
        assert!(judge(local, &keyed(&["readonly"])).is_none(), "{local}");
    }
}

/// Words a server uses, some that matter and some that do not.
const WORDS: &[&str] = &[
    "write",
    "readonly",
    "denyoom",
    "fast",
    "movablekeys",
    "no_mandatory_keys",
    "no_auth",
    "module",
    "loading",
    "admin",
    "pubsub",
    "dangerous",
    "asking",
    "of_the_future",
    "WRITE",
    "ReadOnly",
    "NO_AUTH",
];
const CATEGORIES: &[&str] = &[
    "@read",
    "@write",
    "@fast",
    "@slow",
    "@connection",
    "@transaction",
    "@dangerous",
    "@admin",
    "@pubsub",
    "@Dangerous",
];
const TIPS: &[&str] = &[
    "nondeterministic_output",
    "response_policy:agg_sum",
    "request_policy:multi_shard",
    "request_policy:all_shards",
    "request_policy:all_nodes",
    "request_policy:special",
    "REQUEST_POLICY:all_shards",
    "request_policy:",
];

fn any_number() -> impl Strategy<Value = i32> {
    prop_oneof![-3..6i32, any::<i32>(), Just(i32::MIN), Just(i32::MAX)]
}

fn any_key() -> impl Strategy<Value = KeySpec> {
    let begin = prop_oneof![
        any_number().prop_map(Begin::Index),
        (select(&["KEYS", "k", ""][..]), any_number())
            .prop_map(|(word, from)| Begin::Keyword(word.into(), from)),
        Just(Begin::Unknown),
    ];
    let numbers = || (any_number(), any_number(), any_number());
    let find = prop_oneof![
        numbers().prop_map(|(a, b, c)| Find::Range(a, b, c)),
        numbers().prop_map(|(a, b, c)| Find::Keynum(a, b, c)),
        Just(Find::Unknown),
    ];
    let flags = vec(select(&["RW", "RO", "access", "not_key", "incomplete", "variable_flags"][..]), 0..3);
    (begin, find, flags).prop_map(|(begin, find, flags)| KeySpec {
        notes: None,
        flags: flags.into_iter().map(str::to_owned).collect(),
        begin,
        find,
    })
}

fn any_entry() -> impl Strategy<Value = Entry<IgnoredAny>> {
    let words = |from: &'static [&'static str], most: usize| {
        vec(select(from), 0..most).prop_map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let range = (any_number(), any_number(), any_number());
    (words(WORDS, 4), words(CATEGORIES, 3), option::of(select(TIPS)), vec(any_key(), 0..4), range).prop_map(
        |(flags, acl, tip, keys, range)| {
            let tips = tip.into_iter().map(str::to_owned).collect();
            Entry { acl, tips, keys, range, flags, ..entry(&[]) }
        },
    )
}

/// The rules, said once more and in other words.
fn may_be_sent(entry: &Entry<IgnoredAny>, has_keys: bool) -> bool {
    let says = |word: &str| entry.flags.iter().chain(&entry.acl).any(|w| w.eq_ignore_ascii_case(word));
    let forbidden = [
        "admin",
        "pubsub",
        "dangerous",
        "asking",
        "@connection",
        "@transaction",
        "@dangerous",
        "@admin",
        "@pubsub",
    ];
    let policy = entry.tips.iter().find(|tip| tip.to_ascii_lowercase().starts_with("request_policy:"));
    let one_node = policy.is_none_or(|policy| policy == "request_policy:multi_shard" && has_keys);
    let reads = says("readonly") && !says("write");
    !forbidden.into_iter().any(says) && one_node && (has_keys || reads)
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn whatever_is_announced_the_rules_hold(entry in any_entry()) {
        let plan = judge("x", &entry).expect("no container stands in the way");
        let has_keys = matches!(plan.handling, Handling::Learned { .. });
        prop_assert!(has_keys || plan.handling == Handling::Route, "never split, answered here, or fanned out");
        prop_assert!(has_keys != (entry.keys.is_empty() && entry.range.0 == 0
            && !entry.flags.iter().any(|flag| flag == "movablekeys")));
        prop_assert_eq!(plan.refusal.is_none(), may_be_sent(&entry, has_keys));
        prop_assert!(!plan.flags.has(Flags::NO_AUTH));
        prop_assert!(!(plan.flags.has(Flags::WRITE) && plan.flags.has(Flags::READONLY)));
        let writes = entry.flags.iter().any(|flag| flag.eq_ignore_ascii_case("write"));
        prop_assert!(!(writes && plan.flags.has(Flags::READONLY)));
        if plan.handling == (Handling::Learned { asks: false }) {
            let incomplete = |key: &KeySpec| key.flags.iter().any(|flag| flag == "incomplete")
                || key.begin == Begin::Unknown || key.find == Find::Unknown;
            prop_assert!(!entry.keys.iter().any(incomplete));
        }
        if let Some(text) = plan.refusal {
            prop_assert!(text.starts_with("ERR slotway: 'x', learned from the cluster, is refused: "));
        }
    }
}
