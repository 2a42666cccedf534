//! D: one primary with replicas and Sentinel, no persistence, a password of their own for each. Not a cluster: in
//! cluster mode that is said, in sentinel mode it works, through failovers and with every pod restarted empty.

use std::time::Duration;

use crate::support::client::words;
use crate::support::load::Load;
use crate::support::proxy::{Proxy, Setup};
use crate::support::sentinel::{Watch, Watched};
use crate::support::{check, eventually, heavy};

#[test]
fn system_d_primary_and_replicas_with_sentinel() {
    need_redis!();
    let _one_at_a_time = heavy();
    let watched = Watched::shaped(&Watch { password: Some("secret"), ..Watch::default() });
    let as_cluster = Setup {
        seeds: watched.servers.iter().map(|server| server.addr().to_string()).collect(),
        keys: vec![("upstream-password", "secret")],
        wrapper: Vec::new(),
    };
    let wrong = Proxy::launch(&as_cluster);
    eventually("a clear reason instead of a crash", || {
        let (status, body) = wrong.admin("/readyz?verbose");
        check(status == 503 && body.contains("cluster support is disabled"), body)
    });
    assert_eq!(wrong.admin("/livez").0, 200);
    let keys = [("upstream", "sentinel"), ("upstream-password", "secret")];
    let proxy = Proxy::start(&watched.seeds(), &keys);
    let lossy = Load { exact: false, ..Load::default() };
    let mut old = watched.primary();
    for _ in 0..2 {
        old = lossy.during(proxy.addr(), |progress| {
            watched.fail_over();
            let new = watched.wait_promoted(old);
            watched.wait_replica(old);
            progress.wait(50);
            new
        });
        let replicas = proxy.admin("/topology").1.matches("\"flags\": \"slave\"").count();
        assert!(replicas <= 2, "{replicas}");
    }
    eventually("both replicas are known", || {
        let topology = proxy.admin("/topology").1;
        check(topology.matches("\"flags\": \"slave\"").count() == 2, topology)
    });
    assert!(!proxy.log().contains("secret") && !proxy.admin("/config").1.contains("secret"));
    // Nothing is on disk: a primary that restarts faster than anybody notices is empty, and the proxy goes on.
    let mut watched = watched;
    let at = watched.servers[old].addr();
    watched.servers[old].restart_at(at);
    let mut client = proxy.client();
    client.patience(Duration::from_secs(40));
    eventually("it goes on", || {
        let reply = client.call(&words("SET k v"));
        check(!reply.is_error(), reply)
    });
}
