//! "Not now": TRYAGAIN, CLUSTERDOWN and their like are waited out, each within its own bound, and a
//! request whose deadline passes meanwhile is answered with what is true of it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;

#[test]
fn waiting_for_a_migration_does_not_use_up_the_wait_for_an_owner() {
    let fake = FakeCluster::start(1);
    let keys = [("owner-wait", "500ms"), ("tryagain-wait", "20s"), ("workers", "1")];
    let proxy = Proxy::start(fake.addrs(), &keys);
    let first: Mutex<Option<Instant>> = Mutex::default();
    let answers = Mutex::new(vec!["+OK", "-CLUSTERDOWN The cluster is down"]);
    fake.script(move |seen| {
        if seen.name() != "LCS" {
            return Answer::Standard;
        }
        let begun = *first.lock().expect("time").get_or_insert_with(Instant::now);
        if begun.elapsed() < Duration::from_millis(700) {
            return Answer::text("-TRYAGAIN Multiple keys request during rehashing of slot");
        }
        Answer::text(answers.lock().expect("answers").pop().unwrap_or("-ERR asked too often"))
    });
    let (one, two) = (key_in(7, "one"), key_in(7, "two"));
    assert_eq!(proxy.client().call(&cmd!["LCS", one, two]), Value::Simple("OK".into()));
}
