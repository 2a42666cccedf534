//! Nodes whose packets vanish: nothing is refused, no connection breaks, nothing answers. Run by `make test-net`, in a
//! network namespace of its own; without the right to make one, `failover::node_that_cannot_be_dialled_…` stands in.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::client::{Client, words};
use crate::support::cluster::{RedisCluster, Shape};
use crate::support::hole::Hole;
use crate::support::keys::key_in;
use crate::support::ports::own_address;
use crate::support::proxy::{Proxy, Setup};
use crate::support::resp::Value;
use crate::support::server::Server;
use crate::support::{check, eventually};

mod dials;
mod load;

/// Nodes with an address each, so that one of them can be cut off from all others. With `replicas_per` 0 none takes
/// over, however long that lasts.
fn cluster(replicas_per: usize) -> RedisCluster {
    let node_timeout = Duration::from_secs(if replicas_per > 0 { 2 } else { 120 });
    RedisCluster::shaped(&Shape { replicas_per, node_timeout, apart: true, ..Shape::default() })
}

fn proxy(cluster: &RedisCluster, keys: &[(&str, &str)]) -> Proxy {
    Proxy::start(&cluster.addrs(), &[&[("workers", "2"), ("probe-interval", "200ms")], keys].concat())
}

/// What the proxy thinks of node `index`.
#[track_caller]
fn await_up(proxy: &Proxy, cluster: &RedisCluster, index: usize, up: bool) {
    let node = cluster.nodes[index].addr().to_string();
    proxy.wait_metric("slotway_backend_up", &[&node], |seen| (seen == 1.0) == up);
}

/// Every request of another shard is answered as ever.
#[track_caller]
fn others_go_on(proxy: &Proxy, cluster: &RedisCluster) {
    let mut client = proxy.client();
    for n in 0..300u16 {
        let key = key_in(cluster.slot_of(1 + usize::from(n % 2)) + n % 50, "other");
        client.ok(&cmd!["SET", key, n.to_string()]);
        assert_eq!(client.call(&cmd!["GET", key]).text(), n.to_string());
    }
}

#[test]
#[ignore = "make test-net"]
fn a_hole_says_nothing() {
    need_redis!();
    let node = Server::cluster_node_at(own_address(), Duration::from_secs(1), &[]);
    let ping = words("PING");
    let mut open = node.client();
    open.ok(&ping);
    let dial = || TcpStream::connect_timeout(&node.addr(), Duration::from_millis(500)).map_err(|e| e.kind());
    let hole = Hole::around(node.addr());
    open.patience(Duration::from_millis(500));
    assert_eq!(open.try_raw(&ping).expect_err("an answer").kind(), ErrorKind::WouldBlock);
    assert_eq!(dial().expect_err("a connection"), ErrorKind::TimedOut);
    assert!(hole.swallowed() > 0);
    drop(hole);
    open.patience(Duration::from_secs(20));
    assert_eq!(open.reply(), b"+PONG\r\n", "the kernel sends it again");
    let hole = Hole::for_new_connections(node.addr());
    open.ok(&ping);
    assert_eq!(dial().expect_err("a connection"), ErrorKind::TimedOut);
    assert!(hole.swallowed() > 0);
    drop(hole);
    dial().expect("the hole is gone");
}

#[test]
#[ignore = "make test-net"]
fn the_silence_of_a_black_hole_is_noticed_and_settles_what_it_owes() {
    need_redis!();
    let cluster = cluster(0);
    let proxy = proxy(&cluster, &[("node-silence-timeout", "1s"), ("owner-wait", "1s")]);
    let keys: Vec<String> = (0..40).map(|n| key_in(cluster.slot_of(0), &format!("k{n}"))).collect();
    let (mut reader, mut writer) = (proxy.client(), proxy.client());
    for key in &keys {
        writer.ok(&cmd!["SET", key, format!("of {key}")]);
    }
    reader.ok(&cmd!["GET", keys[0]]);
    let mut direct = cluster.client(0);
    let received = |client: &mut Client| {
        let stats = client.call(&words("INFO stats")).text();
        let line = stats.lines().find_map(|l| l.strip_prefix("total_connections_received:"));
        line.and_then(|count| count.parse::<u64>().ok()).expect("a count")
    };
    let before = received(&mut direct);
    let hole = Hole::around(cluster.nodes[0].addr());
    let start = Instant::now();
    let all = |word: &str, more: &[&str]| -> Vec<u8> {
        let request = |key: &String| {
            let args = [&[word, key], more].concat();
            crate::support::resp::frame(&args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>())
        };
        keys.iter().flat_map(request).collect()
    };
    reader.send(&all("GET", &[]));
    writer.send(&all("APPEND", &["+"]));
    others_go_on(&proxy, &cluster);
    for reply in writer.values(keys.len()) {
        assert!(reply.error().contains("lost; the request may have been executed"), "{reply:?}");
    }
    for reply in reader.values(keys.len()) {
        assert!(reply.error().starts_with("CLUSTERDOWN"), "a read may wait for another owner: {reply:?}");
    }
    // Not by `request-deadline`, which is 30 s, nor by the kernel, which takes longer.
    assert!(start.elapsed() < Duration::from_secs(10), "noticed after {:?}", start.elapsed());
    await_up(&proxy, &cluster, 0, false);
    let start = Instant::now();
    for _ in 0..50 {
        assert!(writer.call(&cmd!["SET", keys[0], "x"]).error().starts_with("CLUSTERDOWN"));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "fast failures took {:?}", start.elapsed());
    drop(hole);
    await_up(&proxy, &cluster, 0, true);
    for key in &keys {
        let value = reader.call(&cmd!["GET", key]).text();
        // Packets that were under way may still arrive: each write once at most.
        assert!([format!("of {key}"), format!("of {key}+")].contains(&value), "{key}: {value}");
    }
    let dialled = received(&mut direct) - before;
    assert!(dialled <= 10, "{dialled} connections by two workers and the probe");
}

#[test]
#[ignore = "make test-net"]
fn requests_to_a_black_hole_end_by_their_deadline_and_the_connection_lives_on() {
    need_redis!();
    let cluster = cluster(0);
    let proxy = proxy(&cluster, &[("node-silence-timeout", "60s"), ("request-deadline", "1s")]);
    let keys: Vec<String> = (0..40).map(|n| key_in(cluster.slot_of(0), &format!("k{n}"))).collect();
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for key in &keys {
        clients[0].ok(&cmd!["SET", key, format!("of {key}")]);
    }
    for client in &mut clients {
        // Its worker is connected.
        client.ok(&cmd!["GET", keys[0]]);
    }
    let hole = Hole::around(cluster.nodes[0].addr());
    let gets = keys.iter().flat_map(|k| cmd!["GET", k]).collect::<Vec<u8>>();
    for client in &mut clients {
        client.send(&gets);
    }
    others_go_on(&proxy, &cluster);
    for client in &mut clients {
        for reply in client.values(keys.len()) {
            assert!(reply.error().contains("deadline passed without a reply"), "{reply:?}");
        }
    }
    drop(hole);
    eventually("it is served again", || {
        let reply = clients[0].call(&cmd!["GET", keys[0]]);
        check(!reply.is_error(), reply)
    });
    // Late replies are nobody's.
    for client in &mut clients {
        client.send(&gets);
        for key in &keys {
            assert_eq!(client.value(), Value::Bulk(format!("of {key}").into_bytes()));
        }
    }
    assert!(!proxy.log().contains("lost the connection"), "{}", proxy.log());
}

#[test]
#[ignore = "make test-net"]
fn the_cluster_is_followed_though_the_only_seed_is_a_black_hole() {
    need_redis!();
    let mut cluster = cluster(1);
    let (seed, keys) = (cluster.addrs()[0], [("workers", "2"), ("node-silence-timeout", "1s")]);
    let proxy = Proxy::start(&[seed], &keys);
    let mut client = proxy.client();
    for shard in 0..3 {
        client.ok(&cmd!["SET", key_in(cluster.slot_of(shard), "k"), "v"]);
    }
    let hole = Hole::around(seed);
    let served = |client: &mut Client, shard: usize| {
        eventually("its replica serves", || {
            let reply = client.call(&cmd!["SET", key_in(cluster.slot_of(shard), "k"), "w"]);
            check(!reply.is_error(), reply)
        });
    };
    served(&mut client, 0);
    let setup = Setup {
        seeds: [0, 2].map(|index| cluster.addrs()[index].to_string()).to_vec(),
        keys: keys.to_vec(),
        wrapper: Vec::new(),
    };
    let late = Proxy::launch(&setup);
    late.wait_ready();
    served(&mut late.client(), 0);
    // What changes from now on nobody can have learned from the seed.
    cluster.nodes[1].kill();
    for proxy in [&proxy, &late] {
        eventually("the second failover is known", || {
            let reply = proxy.client().call(&cmd!["SET", key_in(cluster.slot_of(1), "k"), "w"]);
            check(!reply.is_error(), reply)
        });
    }
    drop(hole);
    await_up(&proxy, &cluster, 0, true);
    await_up(&late, &cluster, 0, true);
}
