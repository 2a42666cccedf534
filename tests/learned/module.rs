//! A real module in a real cluster: loaded while the proxy runs, its commands work without a restart.

use std::path::Path;
use std::time::Duration;

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, show};
use crate::support::server::Server;
use crate::support::{check, eventually, leave_out, shared};

/// Where Debian's package redis-redisearch puts it.
const MODULE: &str = "/usr/lib/redis/modules/redisearch.so";

/// Says loudly that nothing was proven where the module is not there.
fn module_present() -> bool {
    let present = Path::new(MODULE).is_file();
    if !present {
        leave_out(&format!("{MODULE} (Debian package redis-redisearch) is not there"));
    }
    present
}

fn cluster() -> RedisCluster {
    let options = ["--enable-module-command", "yes"];
    RedisCluster::shaped(&Shape { options: &options, replicas_per: 0, ..Shape::default() })
}

/// Every slot of interest: the ends of all shards and some between.
fn some_slots() -> impl Iterator<Item = u16> {
    (0..16384u16).step_by(1_365).chain([16_383])
}

#[test]
fn a_module_loaded_later_works_without_a_restart() {
    need_redis!();
    if !module_present() {
        return;
    }
    let cluster = cluster();
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("refresh-interval", "300ms")]);
    let mut client = proxy.client();
    let unknown = client.call(&words("FT.SUGADD k hello 1"));
    assert!(unknown.error().starts_with("ERR unknown command 'FT.SUGADD'"), "{unknown:?}");
    for node in 0..3 {
        cluster.client(node).ok(&cmd!["MODULE", "LOAD", MODULE]);
    }
    eventually("the commands are learned", || {
        let reply = client.call(&words("FT.SUGLEN k"));
        check(reply == Value::Int(0), reply)
    });
    for slot in some_slots() {
        let key = key_in(slot, "s");
        assert_eq!(client.call(&cmd!["ft.sugadd", key, "hello", "1"]), Value::Int(1), "{key}");
        assert_eq!(client.call(&cmd!["FT.SUGADD", key, "help", "2"]), Value::Int(2), "{key}");
        assert_eq!(client.call(&cmd!["FT.SugLen", key]), Value::Int(2), "{key}");
        assert_eq!(client.call(&cmd!["FT.SUGGET", key, "hel"]).items().len(), 2, "{key}");
        let owner = cluster.initial_owner(slot);
        assert_eq!(cluster.client(owner).call(&cmd!["FT.SUGLEN", key]), Value::Int(2), "{key}");
        assert_eq!(client.call(&cmd!["DEL", key]), Value::Int(1), "{key}");
    }
    assert_eq!(cluster.errors_sent("MOVED"), 0, "every request went to the owner of its key");
}

/// Said to a single Redis with the module and through the proxy; both must answer the same bytes.
const CONVERSATION: &str = "\
COMMAND INFO FT.SUGADD ft.search FT.MGET FT.CURSOR
COMMAND DOCS FT.SUGADD
COMMAND GETKEYS FT.SUGADD k v 1
COMMAND GETKEYS FT.CURSOR READ i 1
COMMAND GETKEYS FT.MGET i d
COMMAND GETKEYSANDFLAGS FT.GET i d
FT.CREATE {x}i SCHEMA t TEXT n NUMERIC
FT.ADD {x}i {x}d1 1.0 FIELDS t hello n 1
FT.ADD {x}i {x}d2 0.5 FIELDS t hello n 2
FT.ADD {x}i {x}d2 0.5 FIELDS t hello n 2
FT.SEARCH {x}i hello
FT.SEARCH {x}i hello NOCONTENT
FT.GET {x}i {x}d1
FT.GET {x}i {x}none
FT.EXPLAIN {x}i hello|world
FT.AGGREGATE {x}i * GROUPBY 1 @t
FT.SUGADD {y}s hello 1
FT.SUGADD {y}s hello 1 INCR
FT.SUGGET {y}s he WITHSCORES
FT.SUGDEL {y}s hello
FT.SUGLEN {y}s
FT.SUGLEN {y}none
FT.SUGADD {y}s x notanumber
FT.SUGADD {y}s
FT.SUGADD
FT.NOSUCH x
HGETALL {x}d1
FT.DEL {x}i {x}d1
FT.DROP {x}i
FT.SEARCH {x}i hello";

#[test]
fn the_module_answers_as_in_a_single_redis() {
    need_redis!();
    if !module_present() {
        return;
    }
    let single = Server::standalone(&["--loadmodule", MODULE]);
    let options = ["--loadmodule", MODULE];
    let shape = Shape {
        options: &options,
        replicas_per: 0,
        node_timeout: Duration::from_secs(20),
        ..Shape::default()
    };
    let cluster = RedisCluster::shaped(&shape);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let pairs =
        [(single.client(), proxy.client()), (Client::connect_resp3(single.addr()), proxy.client_resp3())];
    for (version, (mut real, mut through)) in (2..).zip(pairs) {
        for line in CONVERSATION.lines() {
            let (want, got) = (real.raw(&words(line)), through.raw(&words(line)));
            assert_eq!(show(&got), show(&want), "RESP{version}: {line}");
        }
    }
    assert_eq!(cluster.errors_sent("MOVED"), 0, "every request went to the owner of its key");
}
