//! Real servers behind scripted sentinels: contradictions, strangers, connections that break all at once, and what is
//! in flight, subscribed or watched when the primary changes.

use std::net::SocketAddr;

use super::sentinel::until_written;
use super::standalone::held_read;
use crate::support::client::{Client, words};
use crate::support::fake_sentinel::FakeSentinels;
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::server::Server;
use crate::support::{check, eventually};

/// A primary, a replica of it, and three sentinels.
struct Watched {
    primary: Server,
    replica: Server,
    sentinels: FakeSentinels,
}

impl Watched {
    fn start() -> Self {
        let options = ["--repl-diskless-sync-delay", "0"];
        let (primary, replica) = (Server::standalone(&options), Server::standalone(&options));
        follow(&replica, primary.addr());
        eventually("the replica is in sync", || {
            let info = replica.client().call(&words("INFO replication")).text();
            check(info.contains("master_link_status:up"), info)
        });
        let sentinels = FakeSentinels::start(3, &[primary.addr(), replica.addr()]);
        Self { primary, replica, sentinels }
    }

    /// Refreshes without a reason are rare: what happens has to be one.
    fn proxy(&self, seeds: usize, keys: &[(&str, &str)]) -> Proxy {
        let own = [("upstream", "sentinel"), ("refresh-interval", "300s"), ("workers", "1")];
        let proxy = Proxy::start(&self.sentinels.addrs()[..seeds], &[&own[..], keys].concat());
        eventually("all sentinels are asked", || {
            let topology = proxy.admin("/topology").1;
            let asked = |addr: &SocketAddr| topology.contains(&addr.to_string());
            check(self.sentinels.addrs().iter().all(asked), topology)
        });
        proxy
    }

    /// The replica is the primary from now on, and these sentinels say so at once.
    fn promote(&self, sentinels: &[usize], down: &[SocketAddr]) {
        self.replica.client().ok(&words("REPLICAOF NO ONE"));
        for index in sentinels {
            self.sentinels.say_with(*index, self.replica.addr(), 6, down);
        }
        sentinels.iter().for_each(|index| self.sentinels.cut(*index));
    }

    /// Sets a key through the proxy, and waits until the replica has it.
    #[track_caller]
    fn set(&self, key: &str, value: &str, client: &mut Client) {
        client.ok(&cmd!["SET", key, value]);
        eventually("the replica has it", || {
            let there = self.replica.client().call(&cmd!["GET", key]);
            check(there == Value::Bulk(value.as_bytes().to_vec()), there)
        });
    }

    /// Waits until a write through the proxy arrives at the server that was promoted.
    #[track_caller]
    fn wait_promoted(&self, proxy: &Proxy) {
        eventually("the new primary is written to", || {
            until_written(proxy, "where");
            let there = self.replica.client().call(&words("EXISTS where")).int();
            check(there == 1, there)
        });
    }
}

fn follow(server: &Server, of: SocketAddr) {
    server.client().ok(&cmd!["REPLICAOF", of.ip().to_string(), of.port().to_string()]);
}

fn refreshes(proxy: &Proxy, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    proxy.metrics().sum("slotway_topology_refreshes_total", &[&label])
}

#[test]
fn a_sentinel_cut_off_together_with_the_old_primary_changes_nothing() {
    need_redis!();
    let watched = Watched::start();
    let proxy = watched.proxy(3, &[]);
    let mut client = proxy.client();
    client.ok(&words("SET k before"));
    // Both stay in reach of the proxy, and the old primary still takes writes.
    watched.promote(&[1, 2], &[]);
    watched.wait_promoted(&proxy);
    for index in [1, 2] {
        watched.sentinels.mute(index, true);
        watched.sentinels.cut(index);
    }
    watched.sentinels.cut(0);
    let before = refreshes(&proxy, "same");
    eventually("the old sentinel is asked alone, more than once", || {
        client.ok(&words("SET only-new x"));
        let now = refreshes(&proxy, "same");
        check(now >= before + 3.0, now)
    });
    assert_eq!(watched.primary.client().call(&words("EXISTS only-new")).int(), 0);
    assert_eq!(watched.replica.client().call(&words("GET only-new")).text(), "x");
    watched.sentinels.mute(1, false);
    until_written(&proxy, "k");
}

#[test]
fn a_sentinel_of_another_deployment_captures_nothing() {
    need_redis!();
    let watched = Watched::start();
    let proxy = watched.proxy(3, &[]);
    let foreign = Server::standalone(&[]);
    let mut client = proxy.client();
    client.ok(&words("SET k before"));
    watched.sentinels.replace(2, foreign.addr(), 900);
    watched.sentinels.cut(2);
    eventually("it was asked", || {
        let topology = proxy.admin("/topology").1;
        check(topology.contains("none of which is known here"), topology)
    });
    client.ok(&words("SET k after"));
    assert_eq!(watched.primary.client().call(&words("GET k")).text(), "after");
    watched.promote(&[0, 1], &[]);
    watched.wait_promoted(&proxy);
    // With ours away it is not believed either.
    for index in [0, 1] {
        watched.sentinels.mute(index, true);
        watched.sentinels.cut(index);
    }
    watched.sentinels.cut(2);
    let before = refreshes(&proxy, "failed");
    eventually("it is asked alone", || {
        watched.sentinels.cut(2);
        let now = refreshes(&proxy, "failed");
        check(now >= before + 2.0, now)
    });
    client.ok(&words("SET k last"));
    assert_eq!(watched.replica.client().call(&words("GET k")).text(), "last");
    assert_eq!(foreign.client().call(&words("DBSIZE")).int(), 0);
}

#[test]
fn sentinels_whose_connections_all_break_at_once_are_found_again_without_the_seed() {
    need_redis!();
    let watched = Watched::start();
    let proxy = watched.proxy(1, &[]);
    for index in 0..3 {
        watched.sentinels.mute(index, true);
        watched.sentinels.cut(index);
    }
    let before = refreshes(&proxy, "failed");
    let mut primary = watched.primary.client();
    eventually("a refresh in which nobody answers", || {
        primary.ok(&words("CLIENT KILL TYPE normal"));
        let now = refreshes(&proxy, "failed");
        check(now > before, now)
    });
    // The seed is gone for good, the others are not.
    watched.sentinels.mute(1, false);
    watched.sentinels.mute(2, false);
    watched.promote(&[1, 2], &[]);
    watched.wait_promoted(&proxy);
}

#[test]
fn a_primary_demoted_by_hand_gets_no_reads_even_while_no_sentinel_answers() {
    need_redis!();
    let watched = Watched::start();
    let proxy = watched.proxy(3, &[("probe-interval", "500ms")]);
    let mut client = proxy.client();
    watched.set("k", "v", &mut client);
    for index in 0..3 {
        watched.sentinels.mute(index, true);
        watched.sentinels.cut(index);
    }
    follow(&watched.primary, SocketAddr::from(([127, 0, 0, 1], 1)));
    eventually("its slots have no owner", || {
        let topology = proxy.admin("/topology").1;
        check(topology.contains("\"slots_covered\": 0,"), topology)
    });
    let mut held = held_read(&proxy);
    let reads = |server: &Server| server.client().call(&words("INFO commandstats")).text();
    watched.primary.client().ok(&words("CONFIG RESETSTAT"));
    client.send(&words("GET k"));
    (0..3).for_each(|index| watched.sentinels.mute(index, false));
    watched.promote(&[0, 1, 2], &[]);
    for client in [&mut held, &mut client] {
        assert_eq!(client.value().text(), "v", "it waited for the next primary");
    }
    assert!(!reads(&watched.primary).contains("cmdstat_get:"), "{}", reads(&watched.primary));
}

#[test]
fn what_a_frozen_primary_owes_does_not_wait_when_the_sentinels_were_faster() {
    need_redis!();
    let mut watched = Watched::start();
    // Only the missing answer to a PING can tell, and only after the table has changed.
    let keys = [("node-silence-timeout", "50s"), ("request-deadline", "60s"), ("probe-interval", "1s")];
    let proxy = watched.proxy(3, &keys);
    let (mut reader, mut writer) = (proxy.client(), proxy.client());
    watched.set("k", "v", &mut reader);
    writer.ok(&words("SET counter 0"));
    let sent = || proxy.metrics().sum("slotway_backend_requests_total", &[]);
    let old = watched.primary.addr();
    watched.primary.freeze();
    let before = sent();
    reader.send(&words("GET k"));
    writer.send(&words("INCR counter"));
    eventually("both are sent", || check(sent() >= before + 2.0, sent()));
    watched.promote(&[0, 1, 2], &[old]);
    assert_eq!(reader.value().text(), "v", "read at the new primary");
    let reply = writer.value();
    assert!(reply.error().contains("may have been executed"), "{reply:?}");
    until_written(&proxy, "k");
    watched.primary.thaw();
}

/// WATCH, GET and the first half of a transaction.
fn watch(client: &mut Client) {
    client.send(&[words("WATCH k"), words("MULTI"), words("SET k mine")].concat());
    for said in ["OK", "OK", "QUEUED"] {
        assert_eq!(client.value(), Value::Simple(said.to_owned()));
    }
}

#[test]
fn subscribers_and_watched_keys_go_through_a_failover() {
    need_redis!();
    let watched = Watched::start();
    let proxy = watched.proxy(3, &[]);
    let (mut client, mut listener) = (proxy.client(), proxy.client());
    listener.ok(&words("SUBSCRIBE news"));
    client.ok(&words("SET k first"));
    watch(&mut client);
    watched.promote(&[0, 1, 2], &[]);
    // As a sentinel does it with the primary that was.
    follow(&watched.primary, watched.replica.addr());
    for kind in ["normal", "pubsub"] {
        watched.primary.client().call(&cmd!["CLIENT", "KILL", "TYPE", kind]);
    }
    assert_eq!(client.raw(&words("EXEC")), b"*-1\r\n", "nobody can say whether k was changed");
    watch(&mut client);
    assert_eq!(client.call(&words("EXEC")).items(), [Value::Simple("OK".to_owned())]);
    assert_eq!(watched.replica.client().call(&words("GET k")).text(), "mine");
    eventually("the subscription is at the new primary", || {
        let heard = client.call(&words("PUBLISH news told"));
        check(heard == Value::Int(1), heard)
    });
    let message = listener.value();
    assert_eq!([1, 2].map(|index| message.items()[index].text()), ["news", "told"]);
}
