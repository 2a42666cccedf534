//! Tests of `value`: units, addresses, secrets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn durations_need_a_unit() {
    assert_eq!(Duration::parse("1500ms"), Some(Duration::from_millis(1500)));
    assert_eq!(Duration::parse("2m"), Some(Duration::from_secs(120)));
    for bad in ["", "5", "s", "-1s", "1.5s", "5 weeks", "99999999999999999h"] {
        assert_eq!(Duration::parse(bad), None, "{bad}");
    }
    assert_eq!(Duration::from_millis(1500).show(), "1500ms");
    assert_eq!(Duration::from_secs(120).show(), "120s");
}

#[test]
fn sizes_are_binary() {
    assert_eq!(u64::parse("64KiB"), Some(65536));
    assert_eq!(u64::parse("64 KiB"), Some(65536));
    assert_eq!(u64::parse("7"), Some(7));
    for bad in ["", "64KB", "-1", "KiB", "99999999999TiB"] {
        assert_eq!(u64::parse(bad), None, "{bad}");
    }
    assert_eq!((32u64 << 20).show(), "32MiB");
    assert_eq!(0u64.show(), "0");
    assert_eq!(1000u64.show(), "1000");
}

#[test]
fn seeds_take_every_usual_form() {
    let at = |host: &str, port| Some(NodeAddr { host: host.into(), port });
    assert_eq!(parse_node_addr("redis"), at("redis", 6379));
    assert_eq!(parse_node_addr("redis:7000"), at("redis", 7000));
    assert_eq!(parse_node_addr("[::1]:7000"), at("::1", 7000));
    assert_eq!(parse_node_addr("[::1]"), at("::1", 6379));
    assert_eq!(parse_node_addr("fe80::1"), at("fe80::1", 6379));
    for bad in ["", ":1", "a:0", "a:70000", "a:b", "[x]:1", "[::1]x", "redis://a:1", "a b"] {
        assert_eq!(parse_node_addr(bad), None, "{bad}");
    }
    assert_eq!(Vec::<NodeAddr>::parse("a:1, b").map(|s| s.len()), Some(2));
    assert_eq!(Vec::<NodeAddr>::parse("a:1,b:x"), None);
}

#[test]
fn a_secret_prints_as_stars() {
    let secret = Some(Secret::new(b"hunter2"));
    assert!(!format!("{secret:?}{}", secret.show()).contains("hunter2"));
}
