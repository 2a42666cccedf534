//! INFO's lines that are named by data: modules, commands, errors, latencies, databases. What the nodes tell and
//! what the proxy counts never stand in one line's calls: with several instances in front of a cluster a sum of
//! both would be nobody's.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::info_nodes::NodesInfo;
use super::info_own::Own;
use crate::command::{Command, Handling};
use crate::error::ProxyError;
use crate::pubsub::Act;
use crate::session::transaction::TransactionCommand;

/// Names and numbers, in the order told.
type Numbers<'a> = Vec<(&'a str, i128)>;

fn line(out: &mut String, name: std::fmt::Arguments<'_>, value: &str) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{name}:{value}\r\n");
}

/// Modules that every primary has.
pub fn modules(_: &Own<'_>, nodes: Option<&NodesInfo<'_>>, out: &mut String) {
    for module in nodes.map(NodesInfo::modules).unwrap_or_default() {
        line(out, format_args!("module"), module);
    }
}

/// True for what never goes to a node as the client sent it: its calls are counted here.
fn is_counted_here(command: &Command) -> bool {
    match command.handling {
        Handling::Local(_) => true,
        Handling::Transaction(kind) => {
            matches!(kind, TransactionCommand::Multi | TransactionCommand::Discard)
        }
        Handling::PubSub(what) => !matches!(what.act(), Act::Publish(_)),
        _ => false,
    }
}

/// `calls=3,usec=9,usec_per_call=3.00,rejected_calls=0,failed_calls=0`, and what later versions add.
pub fn commands(own: &Own<'_>, nodes: Option<&NodesInfo<'_>>, out: &mut String) {
    let mut all: BTreeMap<&str, Numbers<'_>> = BTreeMap::new();
    for (name, values) in nodes.map(|nodes| nodes.by_name("cmdstat_")).unwrap_or_default() {
        let here = own.env.table.by_name(name.as_bytes()).is_some_and(is_counted_here);
        if let Some(numbers) = added(&values).filter(|_| !here) {
            all.insert(name, numbers);
        }
    }
    for (command, calls) in own.env.table.iter().zip(own.env.facts.command_calls()) {
        let refused = matches!(command.handling, Handling::Refuse(_));
        if calls == 0 || !(refused || is_counted_here(command)) {
            continue;
        }
        let names = ["calls", "usec", "usec_per_call", "rejected_calls", "failed_calls"];
        let numbers = all.entry(command.name).or_insert_with(|| names.map(|name| (name, 0)).to_vec());
        let counted = if refused { "rejected_calls" } else { "calls" };
        if let Some((_, number)) = numbers.iter_mut().find(|(name, _)| *name == counted) {
            *number = number.saturating_add(calls.into());
        }
    }
    for (name, numbers) in all {
        let of = |wanted: &str| numbers.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, n)| *n);
        let per_call = of("usec") as f64 / of("calls").max(1) as f64;
        let text = numbers.iter().map(|(name, number)| match *name {
            "usec_per_call" => format!("{name}={per_call:.2}"),
            _ => format!("{name}={number}"),
        });
        line(out, format_args!("cmdstat_{name}"), &text.collect::<Vec<_>>().join(","));
    }
}

/// The errors nodes answered with, by their first word, and those of the proxy, by their kind.
pub fn errors(own: &Own<'_>, nodes: Option<&NodesInfo<'_>>, out: &mut String) {
    for (code, values) in nodes.map(|nodes| nodes.by_name("errorstat_")).unwrap_or_default() {
        if let Some(numbers) = added(&values) {
            line(out, format_args!("errorstat_{code}"), &joined(&numbers));
        }
    }
    for (error, count) in ProxyError::ALL.iter().zip(own.env.facts.error_counts()) {
        if count > 0 {
            let kind = error.kind().to_ascii_uppercase();
            line(out, format_args!("errorstat_SLOTWAY_{kind}"), &format!("count={count}"));
        }
    }
}

/// `p50=0.001,p99=1.003`: percentiles of several histograms make none of them all, so the highest of each.
pub fn latencies(own: &Own<'_>, nodes: Option<&NodesInfo<'_>>, out: &mut String) {
    let prefix = "latency_percentiles_usec_";
    for (name, values) in nodes.map(|nodes| nodes.by_name(prefix)).unwrap_or_default() {
        if own.env.table.by_name(name.as_bytes()).is_some_and(is_counted_here) {
            continue;
        }
        let mut highest: Vec<(&str, f64, &str)> = Vec::new();
        for (percentile, text) in values.iter().flat_map(|value| pairs(value)) {
            let Ok(value) = text.parse::<f64>() else { continue };
            match highest.iter_mut().find(|(known, ..)| *known == percentile) {
                None => highest.push((percentile, value, text)),
                Some((_, known, _)) if *known >= value => {}
                Some((_, known, shown)) => (*known, *shown) = (value, text),
            }
        }
        let text = highest.iter().map(|(percentile, _, text)| format!("{percentile}={text}"));
        line(out, format_args!("{prefix}{name}"), &text.collect::<Vec<_>>().join(","));
    }
}

/// The one database there is: `keys=3,expires=1,avg_ttl=5`, and what later versions add.
pub fn keyspace(_: &Own<'_>, nodes: Option<&NodesInfo<'_>>, out: &mut String) {
    let values = nodes.and_then(|nodes| nodes.by_name("db").remove("0")).unwrap_or_default();
    let Some(mut numbers) = added(&values) else { return };
    // Milliseconds left, of all keys that will expire.
    let (mut left, mut expiring) = (0_i128, 0_i128);
    for value in &values {
        let of = |wanted: &str| {
            let found = pairs(value).find(|(name, _)| *name == wanted);
            found.and_then(|(_, text)| text.parse::<i128>().ok()).unwrap_or(0)
        };
        left = left.saturating_add(of("expires").saturating_mul(of("avg_ttl")));
        expiring = expiring.saturating_add(of("expires"));
    }
    if let Some((_, mean)) = numbers.iter_mut().find(|(name, _)| *name == "avg_ttl") {
        *mean = left / expiring.max(1);
    }
    line(out, format_args!("db0"), &joined(&numbers));
}

/// `a=1,b=2` in parts.
fn pairs(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(',').filter_map(|pair| pair.split_once('='))
}

/// Several such values added. What is no whole number counts as nothing. `None`: there are none.
fn added<'a>(values: &[&'a str]) -> Option<Numbers<'a>> {
    let mut all: Numbers<'a> = Vec::new();
    for (name, text) in values.iter().flat_map(|value| pairs(value)) {
        let number = text.parse::<i128>().unwrap_or(0);
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum = sum.saturating_add(number),
            None => all.push((name, number)),
        }
    }
    (!all.is_empty()).then_some(all)
}

fn joined(numbers: &Numbers<'_>) -> String {
    numbers.iter().map(|(name, number)| format!("{name}={number}")).collect::<Vec<_>>().join(",")
}
