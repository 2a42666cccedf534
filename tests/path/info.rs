//! INFO through the proxy: its own numbers, and what the nodes say of their data, added up.

use std::collections::HashMap;

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::proxy::Proxy;
use crate::support::{check, eventually, shared};

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
