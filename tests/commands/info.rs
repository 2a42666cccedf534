//! What INFO makes of several nodes' INFO, of made-up numbers: lines that are named by data.

use slotway::command::local::{self, LocalEnv, NodesInfo};
use slotway::command::{CommandTable, LearnedTable};
use slotway::config::Config;
use slotway::session::state::Resp;

use super::Cut;
use super::local::FixedFacts;
use crate::support::resp::{bulk, parse};

/// INFO of a proxy that received every command once, in front of these nodes; lines parted by `|`.
fn info(sections: &[&str], nodes: &[&str]) -> Vec<String> {
    let replies: Vec<Vec<u8>> = nodes.iter().map(|text| bulk(text.replace('|', "\r\n").as_bytes())).collect();
    let nodes = NodesInfo::read(replies.iter().map(|reply| Some(&reply[..])));
    let facts = FixedFacts("7.0.15".to_owned());
    let (config, learned, table) = (Config::default(), LearnedTable::default(), CommandTable::builtin());
    let env = LocalEnv { table, learned: &learned, config: &config, password: None, facts: &facts };
    let request = Cut::new(&[&["INFO"], sections].concat());
    let mut out = Vec::new();
    local::inform(&env, Resp::V2, &request.args(), Some(&nodes), &mut out);
    parse(&out).text().lines().map(str::to_owned).collect()
}

#[test]
fn commands_are_those_of_the_nodes_or_counted_here() {
    let nodes = [
        "cmdstat_get:calls=3,usec=7,usec_per_call=2.33,rejected_calls=1,failed_calls=0|\
         cmdstat_ping:calls=99,usec=9,usec_per_call=0.09,rejected_calls=0,failed_calls=0|\
         cmdstat_swapdb:calls=2,usec=4,usec_per_call=2.00,rejected_calls=0,failed_calls=0|\
         cmdstat_new.one:calls=1,usec=5,usec_per_call=5.00,rejected_calls=0,failed_calls=0,later=2",
        "cmdstat_get:calls=5,usec=9,usec_per_call=1.80,rejected_calls=0,failed_calls=2|\
         cmdstat_new.one:calls=1,usec=6,usec_per_call=6.00,rejected_calls=0,failed_calls=0,later=3",
    ];
    let lines = info(&["commandstats"], &nodes);
    let has = |line: &str| assert!(lines.iter().any(|known| known == line), "{line}\n{lines:#?}");
    has("# Commandstats");
    has("cmdstat_get:calls=8,usec=16,usec_per_call=2.00,rejected_calls=1,failed_calls=2");
    has("cmdstat_new.one:calls=2,usec=11,usec_per_call=5.50,rejected_calls=0,failed_calls=0,later=5");
    has("cmdstat_ping:calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0");
    has("cmdstat_subscribe:calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0");
    has("cmdstat_swapdb:calls=2,usec=4,usec_per_call=2.00,rejected_calls=1,failed_calls=0");
    has("cmdstat_shutdown:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0");
    // What goes to nodes is theirs to count, were it never so often received here.
    for name in ["cmdstat_set:", "cmdstat_exec:", "cmdstat_publish:", "cmdstat_mget:"] {
        assert!(!lines.iter().any(|line| line.starts_with(name)), "{name}");
    }
}

#[test]
fn errors_latencies_and_keys() {
    let nodes = [
        "errorstat_ERR:count=3|errorstat_MOVED:count=1|db0:keys=10,expires=1,avg_ttl=100|\
         latency_percentiles_usec_get:p50=1.003,p99=9.023|latency_percentiles_usec_ping:p50=1.003",
        "errorstat_ERR:count=4|latency_percentiles_usec_get:p50=2.007,p99=3.007|db0_distrib_strings_sizes:1=1",
        "db0:keys=5,expires=3,avg_ttl=500,subexpiry=2|latency_percentiles_usec_set:p50=nonsense",
    ];
    let lines = info(&["errorstats", "latencystats", "keyspace"], &nodes);
    let has = |line: &str| assert!(lines.iter().any(|known| known == line), "{line}\n{lines:#?}");
    has("errorstat_ERR:count=7");
    has("errorstat_MOVED:count=1");
    has("errorstat_SLOTWAY_CROSS_SLOT:count=1");
    has("latency_percentiles_usec_get:p50=2.007,p99=9.023");
    has("db0:keys=15,expires=4,avg_ttl=400,subexpiry=2");
    for name in ["latency_percentiles_usec_ping", "db0_distrib"] {
        assert!(!lines.iter().any(|line| line.starts_with(name)), "{name}");
    }
    assert!(
        !info(&["keyspace"], &["x:1", "y:2"]).iter().any(|line| line.starts_with("db")),
        "no keys, no line"
    );
}

#[test]
fn without_one_node_only_what_is_known_here() {
    let replies = [bulk(b"errorstat_ERR:count=3\r\ncmdstat_get:calls=1,usec=1,usec_per_call=1.00\r\n")];
    let nodes = NodesInfo::read([Some(&replies[0][..]), None]);
    let facts = FixedFacts("7.0.15".to_owned());
    let (config, learned, table) = (Config::default(), LearnedTable::default(), CommandTable::builtin());
    let env = LocalEnv { table, learned: &learned, config: &config, password: None, facts: &facts };
    let request = Cut::new(&["INFO", "all"]);
    let mut out = Vec::new();
    local::inform(&env, Resp::V2, &request.args(), Some(&nodes), &mut out);
    let text = parse(&out).text();
    assert!(
        !text.contains("errorstat_ERR") && !text.contains("cmdstat_get") && !text.contains("used_memory:")
    );
    assert!(text.contains("\r\nerrorstat_SLOTWAY_") && text.contains("\r\ncmdstat_ping:calls=1,"));
}
