//! A primary with sentinels behind the proxy: failovers planned and not, sentinels that are down, reset or
//! restarted, and a server that is not what it was taken for.

use std::time::{Duration, Instant};

use crate::support::client::{Client, words};
use crate::support::load::Load;
use crate::support::proxy::{Proxy, Setup};
use crate::support::sentinel::{MASTER, Watch, Watched};
use crate::support::{check, eventually, heavy, within};

/// Servers that lose what was written while they fail over: Sentinel promises no more.
const LOSSY: Load = Load { clients: 4, exact: false, reconnects: false };

fn proxy(watched: &Watched, keys: &[(&str, &str)]) -> Proxy {
    Proxy::start(&watched.seeds(), &[&[("upstream", "sentinel")], keys].concat())
}

/// Until a SET succeeds, on connections opened again whenever they break.
pub(super) fn until_written(proxy: &Proxy, key: &str) {
    let mut client: Option<Client> = None;
    within(Duration::from_secs(60), "a write succeeds", || {
        let open = match client.take() {
            Some(open) => open,
            None => Client::try_connect(proxy.addr()).map_err(|error| error.to_string())?,
        };
        let reply = client.insert(open).try_raw(&cmd!["SET", key, "after"]);
        match reply {
            Ok(reply) if reply == b"+OK\r\n" => Ok(()),
            Ok(reply) => Err(String::from_utf8_lossy(&reply).into_owned()),
            Err(error) => {
                client = None;
                Err(error.to_string())
            }
        }
    });
}

#[test]
fn a_planned_failover_shows_no_client_an_error() {
    need_redis!();
    let _one_at_a_time = heavy();
    let watched = Watched::start();
    let proxy = proxy(&watched, &[]);
    let mut waiting = proxy.client();
    waiting.patience(Duration::from_secs(60));
    waiting.send(&cmd!["BLPOP", "waited-for", "0"]);
    let old = watched.primary();
    let new = LOSSY.during(proxy.addr(), |progress| {
        watched.fail_over();
        let new = watched.wait_promoted(old);
        progress.wait(100);
        // Only now, seconds later, is the old one told, and its connections are cut.
        watched.wait_replica(old);
        progress.wait(100);
        new
    });
    let mut client = proxy.client();
    client.ok(&cmd!["RPUSH", "waited-for", "x"]);
    assert_eq!(waiting.value().items()[1].text(), "x", "the wait went along");
    client.ok(&cmd!["SET", "where", "now"]);
    assert_eq!(watched.servers[new].client().call(&words("GET where")).text(), "now");
    let topology = proxy.admin("/topology").1;
    assert!(topology.contains(&format!("\"addr\": \"{}\"", watched.servers[new].addr())), "{topology}");
}

#[test]
fn a_killed_primary_is_followed_as_soon_as_the_sentinels_name_another() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut watched = Watched::start();
    let proxy = proxy(&watched, &[]);
    proxy.client().ok(&cmd!["SET", "k", "before"]);
    let old = watched.primary();
    watched.servers[old].kill();
    std::thread::scope(|scope| {
        let named = scope.spawn(|| {
            let new = watched.wait_promoted(old);
            (new, Instant::now())
        });
        until_written(&proxy, "k");
        let written = Instant::now();
        let (new, named) = named.join().expect("a new primary");
        let late = written.saturating_duration_since(named);
        assert!(late < Duration::from_secs(1), "{late:?} after the sentinels");
        assert_eq!(watched.servers[new].client().call(&words("GET k")).text(), "after");
    });
    let addr = watched.servers[old].addr();
    watched.servers[old].restart_at(addr);
    // It comes up as a primary and is not believed.
    LOSSY.during(proxy.addr(), |progress| {
        progress.wait(100);
        watched.wait_replica(old);
        progress.wait(100);
    });
}

#[test]
fn a_frozen_primary_is_left_and_gets_nothing_when_it_wakes() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut watched = Watched::start();
    let proxy = proxy(&watched, &[("node-silence-timeout", "2s")]);
    proxy.client().ok(&cmd!["SET", "k", "before"]);
    let old = watched.primary();
    watched.servers[old].freeze();
    watched.wait_promoted(old);
    until_written(&proxy, "k");
    let mut client = proxy.client();
    client.ok(&cmd!["SET", "only-new", "x"]);
    watched.servers[old].thaw();
    // It still takes itself for the primary, for some seconds.
    LOSSY.during(proxy.addr(), |progress| {
        assert_eq!(watched.servers[old].client().call(&words("EXISTS only-new")).int(), 0);
        progress.wait(200);
        watched.wait_replica(old);
    });
    assert_eq!(client.call(&words("GET only-new")).text(), "x");
}

#[test]
fn sentinels_may_be_down_reset_frozen_and_restarted() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut watched = Watched::shaped(&Watch { replicas: 1, ..Watch::default() });
    let proxy = proxy(&watched, &[("refresh-interval", "1s")]);
    Load::default().during(proxy.addr(), |progress| {
        watched.sentinels[1].client().ok(&cmd!["SENTINEL", "RESET", MASTER]);
        progress.wait(50);
        watched.sentinels[2].freeze();
        progress.wait(50);
        watched.sentinels[2].thaw();
        for index in 0..3 {
            watched.sentinels[index].kill();
        }
        progress.wait(50);
        for index in 0..3 {
            watched.sentinels[index].restart();
        }
        progress.wait(50);
    });
    watched.wait_known();
    let old = watched.primary();
    LOSSY.during(proxy.addr(), |progress| {
        watched.fail_over();
        watched.wait_promoted(old);
        progress.wait(50);
    });
}

#[test]
fn a_sentinel_found_through_another_is_enough_when_the_seed_is_gone() {
    need_redis!();
    let _one_at_a_time = heavy();
    let mut watched = Watched::shaped(&Watch { replicas: 1, ..Watch::default() });
    let seeds = vec![watched.seeds()[0].to_string(), "127.0.0.1:1".to_owned()];
    let proxy = Proxy::launch(&Setup { seeds, keys: vec![("upstream", "sentinel")], wrapper: Vec::new() });
    proxy.wait_ready();
    eventually("the other sentinels are asked", || {
        let topology = proxy.admin("/topology").1;
        let all = watched.seeds().iter().all(|addr| topology.contains(&addr.to_string()));
        check(all, topology)
    });
    watched.sentinels[0].kill();
    let old = watched.primary();
    LOSSY.during(proxy.addr(), |progress| {
        watched.fail_over();
        watched.wait_promoted(old);
        progress.wait(50);
    });
}

#[test]
fn passwords_of_servers_and_sentinels_are_two() {
    need_redis!();
    let watch = Watch {
        replicas: 1,
        sentinels: 1,
        password: Some("data"),
        sentinel_password: Some("watch"),
        ..Watch::default()
    };
    let watched = Watched::shaped(&watch);
    let seeds: Vec<String> = watched.seeds().iter().map(ToString::to_string).collect();
    let launch = |sentinel: &str, data: &str| {
        let keys =
            vec![("upstream", "sentinel"), ("sentinel-password", sentinel), ("upstream-password", data)];
        Proxy::launch(&Setup { seeds: seeds.clone(), keys, wrapper: Vec::new() })
    };
    for (sentinel, data, at) in
        [("wrong", "data", watched.seeds()[0]), ("watch", "wrong", watched.servers[0].addr())]
    {
        let proxy = launch(sentinel, data);
        eventually("a clear reason", || {
            let (status, body) = proxy.admin("/readyz?verbose");
            check(status == 503 && body.contains("WRONGPASS") && body.contains(&at.to_string()), body)
        });
        assert!(!proxy.log().contains("watch\"") && !proxy.log().contains("password=wrong"));
    }
    let proxy = launch("watch", "data");
    proxy.wait_ready();
    proxy.client().ok(&cmd!["SET", "k", "v"]);
}

#[test]
fn a_name_nobody_monitors_and_a_server_that_is_no_sentinel_are_clear_reasons() {
    need_redis!();
    let watched = Watched::shaped(&Watch { replicas: 0, sentinels: 1, ..Watch::default() });
    let reason = |seed: String, keys: Vec<(&str, &str)>, said: &str| {
        let proxy = Proxy::launch(&Setup { seeds: vec![seed], keys, wrapper: Vec::new() });
        eventually("a clear reason", || {
            let (status, body) = proxy.admin("/readyz?verbose");
            check(status == 503 && body.contains(said), body)
        });
    };
    let (sentinel, server) = (watched.seeds()[0].to_string(), watched.servers[0].addr().to_string());
    let by_sentinel = ("upstream", "sentinel");
    reason(
        sentinel.clone(),
        vec![by_sentinel, ("sentinel-master", "other")],
        "monitors no master named \"other\"",
    );
    reason(server, vec![by_sentinel], "no sentinel");
    reason(sentinel.clone(), Vec::new(), "set `upstream` to sentinel");
    reason(sentinel, vec![("upstream", "standalone")], "set `upstream` to sentinel");
}
