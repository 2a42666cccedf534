//! SCAN over all shards: a pass that ended has shown every key that was there all the time.

use std::collections::HashSet;
use std::time::Duration;

use super::mixed::{CONSTANTS, constant};
use super::{Group, text};
use crate::support::resp::Value;
use crate::torture::bench::Bench;
use crate::torture::check::{Kind, Slots, Span};
use crate::torture::conn::{Ask, Conn};

pub struct Scans;

impl Group for Scans {
    fn name(&self) -> &'static str {
        "scans"
    }

    fn threads(&self) -> usize {
        1
    }

    fn work(&self, bench: &Bench, _thread: usize) {
        let mut random = bench.random("scans");
        let mut instance = 0;
        let all: HashSet<String> = (0..CONSTANTS).map(|n| constant(n).0).collect();
        while !bench.stop.is_set() {
            // Any instance continues any cursor.
            let mut conns = [0, 1].map(|n| Conn::new(bench, format!("scans {n}"), n));
            let from = bench.now();
            if let Some(seen) = pass(bench, &mut conns, &mut instance) {
                let missing: Vec<&String> = all.difference(&seen).collect();
                if !missing.is_empty() {
                    let span = Span::new(from, bench.now());
                    let text =
                        format!("a pass of SCAN missed {} keys, such as {}", missing.len(), missing[0]);
                    bench.wrong(Kind::Stale, Slots::All, span, text);
                }
            }
            bench.pace(&mut random, Duration::from_millis(300));
        }
    }
}

/// One pass; `None` when it could not be ended.
fn pass(bench: &Bench, conns: &mut [Conn; 2], instance: &mut usize) -> Option<HashSet<String>> {
    let mut seen = HashSet::new();
    let mut cursor = "0".to_owned();
    loop {
        *instance += 1;
        let conn = &mut conns[*instance % 2];
        let got = conn.call(Ask::everywhere(cmd!["SCAN", cursor, "MATCH", "t:const:*", "COUNT", "100"]));
        let Value::Array(items) = got.reply.ok()? else { return None };
        let [Value::Bulk(next), Value::Array(keys)] = items.as_slice() else { return None };
        seen.extend(keys.iter().filter_map(|k| text(k).ok().flatten()));
        cursor = String::from_utf8_lossy(next).into_owned();
        if cursor == "0" {
            return Some(seen);
        }
        if bench.stop.is_set() {
            return None;
        }
    }
}
