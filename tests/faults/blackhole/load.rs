//! A primary becomes a black hole under load of every kind; so it does for the other nodes, and its replica takes over.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{await_up, cluster, proxy};
use crate::support::client::{Client, words};
use crate::support::hole::Hole;
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{Stop, check, eventually, heavy, within};

/// What one kind of load came to.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    /// Errors that say "may have been executed".
    maybe: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Tally {
    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// So many more from now on.
    #[track_caller]
    fn wait(&self, what: &str, more: u64) {
        let until = self.done() + more;
        within(Duration::from_secs(60), what, || {
            let faults = self.faults.lock().expect("faults").clone();
            check(self.done() >= until || !faults.is_empty(), self.done())
        });
        let faults = self.faults.lock().expect("faults").clone();
        assert!(faults.is_empty(), "{what}: {faults:?}");
    }

    /// Sends `push` again and again; the last of its replies counts. An error is a fault, unless it is one about what
    /// may have been executed and `maybe` allows that.
    fn run(&self, proxy: &Proxy, stop: &Stop, (push, replies): (&[u8], usize), maybe: bool) {
        let mut client = proxy.client();
        client.patience(Duration::from_secs(60));
        while !stop.is_set() {
            client.send(push);
            let reply = client.values(replies).pop().expect("a reply");
            match &reply {
                Value::Error(text) if maybe && text.contains("may have been executed") => {
                    self.maybe.fetch_add(1, Ordering::Relaxed);
                }
                Value::Error(_) => self.faults.lock().expect("faults").push(format!("{reply:?}")),
                _ => {
                    self.done.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The counter at `key` was counted up at most once by each request. What was not replicated yet is lost with the
    /// primary, as in Redis.
    #[track_caller]
    fn never_twice(&self, client: &mut Client, key: &str) {
        let (done, maybe) = (self.done(), self.maybe.load(Ordering::Relaxed));
        let value: u64 = client.call(&cmd!["GET", key]).text().parse().expect("a number");
        assert!(value <= done + maybe, "{key}: {value} of {done} done and {maybe} in doubt");
    }
}

/// Reads until a message comes; says one in each turn.
#[track_caller]
fn await_message(subscriber: &mut Client, publisher: &mut Client, channel: &str) {
    subscriber.patience(Duration::from_millis(100));
    eventually("a message", || {
        publisher.ok(&cmd!["PUBLISH", channel, "news"]);
        subscriber.try_reply()
    });
}

#[test]
#[ignore = "make test-net"]
fn under_load_of_every_kind_the_replica_takes_over_and_nothing_is_done_twice() {
    need_redis!();
    let _one_at_a_time = heavy();
    let cluster = cluster(1);
    let proxy = proxy(&cluster, &[("node-silence-timeout", "1s")]);
    let key = |shard: usize, name: &str| key_in(cluster.slot_of(shard), name);
    let mut other = proxy.client();
    other.patience(Duration::from_secs(60));
    for shard in 0..3 {
        other.ok(&cmd!["SET", key(shard, "read"), "v"]);
    }
    other.ok(&cmd!["XADD", key(0, "stream"), "*", "n", "1"]);
    let (mut pops, mut follows, mut hears) = (proxy.client(), proxy.client(), proxy.client());
    let (pop, channel) = (cmd!["BLPOP", key(0, "queue"), "0"], key(0, "news"));
    hears.send(&cmd!["SUBSCRIBE", channel]);
    hears.reply();
    await_message(&mut hears, &mut other, &channel);
    pops.send(&pop);
    follows.send(&cmd!["XREAD", "BLOCK", "0", "STREAMS", key(0, "stream"), "$"]);
    eventually("both wait at the node", || {
        let info = cluster.client(0).call(&words("INFO clients")).text();
        check(info.contains("blocked_clients:2"), info)
    });
    let exec = [words("MULTI"), cmd!["INCR", key(0, "exec")], words("EXEC")].concat();
    let lua = "return redis.call('INCR', KEYS[1])";
    let loads: [(&str, Vec<u8>, usize, bool); 7] = [
        ("INCR", cmd!["INCR", key(0, "incr")], 1, true),
        ("EXEC", exec, 3, true),
        ("EVAL", cmd!["EVAL", lua, "1", key(0, "eval")], 1, true),
        ("MSET", cmd!["MSET", key(0, "mset"), "v", key(1, "mset"), "v"], 1, true),
        ("MGET", cmd!["MGET", key(0, "read"), key(1, "read"), key(2, "read")], 1, false),
        ("GET", cmd!["GET", key(0, "read")], 1, false),
        ("other shards", cmd!["INCR", key(1, "other")], 1, false),
    ];
    let tallies: [Tally; 7] = Default::default();
    let all = |what: &str| {
        loads.iter().zip(&tallies).for_each(|(load, tally)| tally.wait(&format!("{what}: {}", load.0), 20));
    };
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let _end = stop.at_end();
        for ((_, push, replies, maybe), tally) in loads.iter().zip(&tallies) {
            let (proxy, stop) = (&proxy, &stop);
            scope.spawn(move || tally.run(proxy, stop, (push, *replies), *maybe));
        }
        all("before");
        let hole = Hole::around(cluster.nodes[0].addr());
        let (victim, bystander) = (&tallies[0], &tallies[6]);
        let at_hole = bystander.done();
        victim.wait("the replica serves", 1);
        let meanwhile = bystander.done() - at_hole;
        assert!(meanwhile > 100, "other shards made only {meanwhile} requests meanwhile");
        all("after it was cut off");
        let lost = pops.value();
        assert!(lost.error().contains("may have been executed"), "{lost:?}");
        pops.send(&pop);
        other.ok(&cmd!["RPUSH", key(0, "queue"), "element"]);
        assert_eq!(pops.value().items()[1].text(), "element");
        other.ok(&cmd!["XADD", key(0, "stream"), "*", "n", "2"]);
        assert_eq!(follows.value().items().len(), 1, "a wait that reads goes on at the replica");
        await_message(&mut hears, &mut other, &channel);
        drop(hole);
        cluster.wait_healthy();
        [0, 3].iter().for_each(|&index| await_up(&proxy, &cluster, index, true));
        all("after it came back");
    });
    for (name, tally) in ["incr", "exec", "eval"].iter().zip(&tallies) {
        tally.never_twice(&mut other, &key(0, name));
    }
    assert_eq!(other.call(&cmd!["GET", key(1, "other")]).text(), tallies[6].done().to_string());
}
