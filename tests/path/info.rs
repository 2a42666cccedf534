//! INFO through the proxy: its own numbers, and what the nodes say of their data, added up.

use std::collections::HashMap;

use slotway::command::local::info_fields::{LEFT_OUT, SECTIONS};

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::{check, eventually, leave_out, shared};

fn info(client: &mut Client, sections: &str) -> HashMap<String, String> {
    let text = client.call(&words(&format!("INFO {sections}"))).text();
    let fields = text.lines().filter_map(|line| line.trim_start_matches("txt:").split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn keys_hits_and_policy_are_those_of_all_shards() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&cluster.addrs(), &[("owner-wait", "500ms")]);
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut client = proxy.client();
        client.ok(&words(hello));
        assert!(!info(&mut client, "").contains_key("db0"), "{hello}: no line for no keys");
        assert_eq!(info(&mut client, "memory")["maxmemory_policy"], "noeviction");
        let before = info(&mut client, "stats");
        for n in 0..30 {
            client.ok(&words(&format!("SET key:{n} v")));
            client.ok(&words(&format!("GET key:{n}")));
            client.ok(&words(&format!("GET none:{n}")));
        }
        for n in 0..5 {
            client.ok(&words(&format!("EXPIRE key:{n} 1000000")));
        }
        let all = info(&mut client, "everything");
        assert!(all["db0"].starts_with("keys=30,expires=5,avg_ttl="), "{hello}: {}", all["db0"]);
        let grown = |name: &str| all[name].parse::<u64>().unwrap() - before[name].parse::<u64>().unwrap();
        assert_eq!((grown("keyspace_hits"), grown("keyspace_misses")), (30, 30));
        assert_eq!(info(&mut client, "keyspace").len(), 1);
        client.ok(&words("DEL key:0 key:1 key:2 key:3 key:4"));
        assert!(info(&mut client, "KEYSPACE")["db0"].starts_with("keys=25,expires=0,avg_ttl=0"));
        (5..30).for_each(|n| drop(client.ok(&words(&format!("DEL key:{n}")))));
    }
    // A shard that is away makes no number too small, and keeps nobody from INFO.
    let mut client = proxy.client();
    client.ok(&words("SET key v"));
    cluster.nodes[1].kill();
    eventually("its part is left out", || {
        let all = info(&mut client, "default");
        assert_eq!(all["redis_mode"], "standalone");
        check(!all.contains_key("db0") && !all.contains_key("keyspace_hits"), all)
    });
}

#[test]
fn numbers_of_clients_are_true() {
    need_redis!();
    let proxy = Proxy::start(&shared::seeds(shared::cluster()), &[("workers", "2")]);
    let mut client = proxy.client();
    let mut others: Vec<Client> = (0..3).map(|_| proxy.client_resp3()).collect();
    others[0].send(&words(&format!("BLPOP {} 0", shared::unique("info"))));
    others[1].call(&words("SUBSCRIBE info:a"));
    others[1].call(&words("PSUBSCRIBE info:b*"));
    others[2].ok(&words("CLIENT TRACKING ON"));
    eventually("all is counted", || {
        let all = info(&mut client, "");
        let number = |name: &str| all[name].parse::<u64>().unwrap();
        let names = [
            "connected_clients",
            "blocked_clients",
            "tracking_clients",
            "pubsub_channels",
            "pubsub_patterns",
        ];
        check(names.map(number) == [4, 1, 1, 1, 1] && number("total_commands_processed") > 5, all)
    });
    eventually("commands are counted", || {
        let all = info(&mut client, "commandstats");
        let here = "calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0";
        check(all.get("cmdstat_psubscribe").is_some_and(|line| line == here), all)
    });
    client.call(&words("MGET {a}a {b}b x")).items();
    drop(others);
    eventually("and they are gone again", || {
        let all = info(&mut client, "");
        check(
            all["connected_clients"] == "1" && all["blocked_clients"] == "0" && all["pubsub_channels"] == "0",
            all,
        )
    });
}

#[test]
fn info_stands_in_a_transaction() {
    need_redis!();
    let mut client = shared::client();
    client.ok(&words("MULTI"));
    client.ok(&words("INFO"));
    client.ok(&words("CLIENT INFO"));
    let replies = client.ok(&words("EXEC"));
    assert!(replies.items()[0].text().contains("redis_version:"));
    assert!(replies.items()[1].text().starts_with("id="));
}

/// Sections and the names of their fields, as they come.
fn sections(client: &mut Client, line: &str) -> Vec<(String, Vec<String>)> {
    let text = client.ok(&words(line)).text();
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.trim_start_matches("txt:").lines() {
        match (line.strip_prefix("# "), line.split_once(':'), all.last_mut()) {
            (Some(section), ..) => all.push((section.to_owned(), Vec::new())),
            (None, Some((name, _)), Some((_, fields))) => fields.push(name.to_owned()),
            _ => assert_eq!(line, ""),
        }
    }
    all
}

#[test]
fn every_section_and_field_of_a_single_redis_is_there_or_left_out_for_a_reason() {
    need_redis!();
    let (mut ours, mut theirs) = (shared::client(), shared::standalone().client());
    let version = info(&mut theirs, "server")["redis_version"].clone();
    if !version.starts_with("7.0.") {
        return leave_out(&format!("the table of INFO is that of Redis 7.0, not {version}"));
    }
    let mut lines = vec!["INFO", "info all", "INFO EVERYTHING", "INFO default", "INFO cpu sentinel"];
    lines.extend(["INFO nosuch", "INFO cpu default", "INFO cpu all", "INFO commandSTATS keyspace"]);
    let named: Vec<String> = SECTIONS.iter().map(|section| format!("INFO {}", section.name)).collect();
    for line in lines.into_iter().chain(named.iter().map(String::as_str)) {
        let (got, want) = (sections(&mut ours, line), sections(&mut theirs, line));
        let names = |all: &[(String, Vec<String>)]| -> Vec<String> {
            all.iter().map(|(section, _)| section.clone()).collect()
        };
        assert_eq!(names(&got), names(&want), "{line}");
        for ((section, mut fields), (_, mut expected)) in got.into_iter().zip(want) {
            if ["Commandstats", "Errorstats", "Latencystats", "Keyspace"].contains(&section.as_str()) {
                continue;
            }
            for (name, _) in LEFT_OUT {
                assert!(!fields.iter().any(|field| field == name), "{name} is there, and listed as left out");
            }
            expected.retain(|name| !LEFT_OUT.iter().any(|(left_out, _)| left_out == name));
            fields.retain(|name| !name.starts_with("slotway_"));
            assert_eq!(fields, expected, "{line}: {section}");
        }
    }
    let all = info(&mut theirs, "everything");
    for (name, _) in LEFT_OUT {
        assert!(all.contains_key(*name), "{name} is listed as left out, but Redis has no such field");
    }
}

/// What the nodes themselves say, by node.
fn of_nodes(cluster: &RedisCluster, field: &str) -> Vec<String> {
    let of = |node| info(&mut cluster.client(node), "everything").remove(field).unwrap_or_default();
    (0..cluster.primaries()).map(of).collect()
}

/// A number behind `name=` in a line such as `calls=3,usec=9`.
#[track_caller]
fn part(line: &str, name: &str) -> f64 {
    let found = line.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {line}")).parse().unwrap()
}

#[test]
fn numbers_of_data_are_those_of_all_primaries() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&cluster.addrs(), &[]);
    let mut client = proxy.client();
    client.ok(&words("CONFIG SET maxmemory 100mb"));
    client.ok(&words("CONFIG RESETSTAT"));
    (0..5).for_each(|n| drop(client.ok(&cmd!["SCRIPT", "LOAD", format!("return {n}")])));
    let before = info(&mut client, "");
    let keys: Vec<String> = (0..30).map(|n| key_in(n * 546, "i")).collect();
    keys.iter().for_each(|key| drop(client.ok(&cmd!["SET", key, "v"])));
    assert!(client.call(&cmd!["INCR", keys[0]]).is_error());
    let script = "return redis.error_reply('MY_ERR_CODE custom msg')";
    assert_eq!(client.call(&cmd!["EVAL", script, "0"]).error(), "MY_ERR_CODE custom msg");
    let all = info(&mut client, "everything");
    let is = |name: &str, value: &str| assert_eq!(all[name], value, "{name}");
    is("maxmemory", &(300 << 20).to_string());
    is("maxmemory_human", "300.00M");
    is("maxmemory_policy", "noeviction");
    is("number_of_functions", "0");
    is("errorstat_MY_ERR_CODE", "count=1");
    is("errorstat_ERR", "count=1");
    is("total_error_replies", "2");
    is("migrate_cached_sockets", "0");
    is("rdb_last_bgsave_status", "ok");
    assert_eq!(before["number_of_cached_scripts"], "5", "they are the same at every primary");
    let number = |all: &HashMap<String, String>, name: &str| all[name].parse::<i64>().unwrap();
    let grown = number(&all, "rdb_changes_since_last_save") - number(&before, "rdb_changes_since_last_save");
    assert_eq!(grown, 30);
    let set = &all["cmdstat_set"];
    assert!(set.starts_with("calls=30,usec=") && set.ends_with(",rejected_calls=0,failed_calls=0"), "{set}");
    let usec: f64 = of_nodes(&cluster, "cmdstat_set").iter().map(|line| part(line, "usec")).sum();
    assert_eq!(part(set, "usec"), usec);
    assert!((part(set, "usec_per_call") - usec / 30.0).abs() < 0.006, "{set}");
    assert_eq!(part(&all["cmdstat_incr"], "failed_calls"), 1.0);
    let field = "latency_percentiles_usec_set";
    for percentile in ["p50", "p99", "p99.9"] {
        let worst = of_nodes(&cluster, field).iter().map(|line| part(line, percentile)).fold(0.0, f64::max);
        assert_eq!(part(&all[field], percentile), worst, "{percentile}");
    }
    let used: i64 = of_nodes(&cluster, "used_memory_startup").iter().map(|n| n.parse::<i64>().unwrap()).sum();
    assert_eq!(number(&all, "used_memory_startup"), used);
    for field in ["used_memory_peak_perc", "used_memory_dataset_perc"] {
        let percent: f64 = all[field].trim_end_matches('%').parse().unwrap();
        assert!(percent > 0.0 && percent < 110.0, "{field} {percent}");
    }
    cluster.client(1).ok(&words("CONFIG SET maxmemory-policy allkeys-lru maxmemory 0"));
    let all = info(&mut client, "memory");
    assert_eq!(all["maxmemory"], "0", "one of them has no limit");
    assert!(!all.contains_key("maxmemory_policy"), "they do not agree");
}

#[test]
fn what_no_node_sees_is_counted_here_until_it_is_reset() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&cluster.addrs(), &[("workers", "2")]);
    // One on each worker.
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        client.ok(&words("PING"));
        assert!(client.call(&words("SWAPDB 0 1")).is_error());
        assert!(client.call(&words("EVAL return 2 a b")).error().starts_with("CROSSSLOT"));
        client.ok(&words("MULTI"));
        client.ok(&words("DISCARD"));
    }
    let line = |calls: u32, rejected: u32| {
        format!("calls={calls},usec=0,usec_per_call=0.00,rejected_calls={rejected},failed_calls=0")
    };
    eventually("all of both workers is counted", || {
        let all = info(&mut clients[0], "all");
        let is = |name: &str, value: &str| all.get(name).is_some_and(|found| found == value);
        let counted = is("cmdstat_ping", &line(2, 0)) && is("cmdstat_multi", &line(2, 0));
        let refused = is("cmdstat_swapdb", &line(0, 2)) && is("errorstat_SLOTWAY_CROSS_SLOT", "count=2");
        check(counted && refused, all)
    });
    assert!(!info(&mut clients[0], "").contains_key("cmdstat_ping"), "only if asked for");
    // Not yet published, and gone nevertheless.
    clients[1].ok(&words("PING"));
    clients[0].ok(&words("CONFIG RESETSTAT"));
    clients.iter_mut().for_each(|client| drop(client.ok(&words("ECHO x"))));
    eventually("what came later is counted", || {
        let all = info(&mut clients[0], "all");
        check(all.get("cmdstat_echo").is_some_and(|found| *found == line(2, 0)), all)
    });
    let all = info(&mut clients[0], "all");
    assert!(
        !all.contains_key("cmdstat_ping") && !all.contains_key("errorstat_SLOTWAY_CROSS_SLOT"),
        "{all:?}"
    );
    assert_eq!(all["total_connections_received"], "0");
    assert_eq!(
        proxy.metrics().sum("slotway_commands_total", &["command=\"ping\""]),
        3.0,
        "metrics only grow"
    );
}

#[test]
fn a_primary_that_says_nothing_holds_nobody_up() {
    need_redis!();
    let mut cluster = RedisCluster::start(3, 0);
    let keys = [("connect-timeout", "300ms"), ("node-silence-timeout", "60s"), ("request-deadline", "20s")];
    let proxy = Proxy::start(&cluster.addrs(), &keys);
    let mut client = proxy.client();
    assert!(info(&mut client, "").contains_key("used_memory"));
    cluster.nodes[2].freeze();
    let all = info(&mut client, "everything");
    assert_eq!((all["redis_mode"].as_str(), all["role"].as_str()), ("standalone", "master"));
    assert!(all.contains_key("slotway_used_memory_rss") && all.contains_key("total_commands_processed"));
    for field in ["used_memory", "used_cpu_user", "expired_keys", "maxmemory_policy", "db0", "cmdstat_set"] {
        assert!(!all.contains_key(field), "{field} is not known of every shard");
    }
    cluster.nodes[2].thaw();
    eventually("all is known again", || {
        let all = info(&mut client, "");
        check(all.contains_key("used_memory"), all)
    });
}
