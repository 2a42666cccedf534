//! What subscribers and publishers say and hear, step by step, gives the bytes of a single Redis, in RESP2 and RESP3.

use crate::support::client::Client;
use crate::support::cluster::RedisCluster;
use crate::support::proxy::Proxy;
use crate::support::resp::{frame, show};
use crate::support::shared;

/// A step: which client says what, and how many frames which clients get then.
pub type Step = (usize, &'static str, &'static [(usize, usize)]);

/// `@` begins every name of ours.
const SCRIPTS: &[&[Step]] = &[
    &[
        (0, "SUBSCRIBE @a @b @a", &[(0, 3)]),
        (1, "PUBLISH @a hello", &[(1, 1), (0, 1)]),
        (0, "PSUBSCRIBE @p* @?a", &[(0, 2)]),
        (0, "SSUBSCRIBE @s @t @s", &[(0, 3)]),
        (1, "SPUBLISH @s sharded", &[(1, 1), (0, 1)]),
        (1, "PUBLISH @s plain", &[(1, 1)]),
        (1, "PUBLISH @pq", &[(1, 1)]),
        (1, "PUBLISH @pq x", &[(1, 1), (0, 1)]),
        (1, "SPUBLISH @a x", &[(1, 1)]),
        (0, "UNSUBSCRIBE @a @nosuch @a", &[(0, 3)]),
        (1, "PUBLISH @a nobody", &[(1, 1)]),
        (0, "SUNSUBSCRIBE @t @x", &[(0, 2)]),
        (0, "PUNSUBSCRIBE @p*", &[(0, 1)]),
        (0, "UNSUBSCRIBE", &[(0, 1)]),
        (0, "UNSUBSCRIBE", &[(0, 1)]),
        (0, "PUNSUBSCRIBE", &[(0, 1)]),
        (0, "PUNSUBSCRIBE", &[(0, 1)]),
        (0, "SUNSUBSCRIBE", &[(0, 1)]),
        (0, "SUNSUBSCRIBE", &[(0, 1)]),
        (0, "GET @k", &[(0, 1)]),
    ],
    &[
        (0, "PING", &[(0, 1)]),
        (0, "SUBSCRIBE @a", &[(0, 1)]),
        (0, "PING", &[(0, 1)]),
        (0, "PING text", &[(0, 1)]),
        (0, "PING a b", &[(0, 1)]),
        (0, "GET @k", &[(0, 1)]),
        (0, "GET", &[(0, 1)]),
        (0, "NOSUCH", &[(0, 1)]),
        (0, "OBJECT ENCODING @k", &[(0, 1)]),
        (0, "MULTI", &[(0, 1)]),
        (0, "PUBLISH @a x", &[(0, 1)]),
        (0, "AUTH x", &[(0, 1)]),
        (0, "SUBSCRIBE", &[(0, 1)]),
        (0, "ECHO x", &[(0, 1)]),
        (0, "UNSUBSCRIBE @a", &[(0, 1)]),
        (0, "ECHO x", &[(0, 1)]),
        (0, "SSUBSCRIBE @a", &[(0, 1)]),
        (0, "ECHO x", &[(0, 1)]),
        (0, "PSUBSCRIBE @a*", &[(0, 1)]),
        (0, "RESET", &[(0, 1)]),
        (0, "ECHO x", &[(0, 1)]),
        (1, "PUBLISH @a nobody", &[(1, 1)]),
        (0, "UNSUBSCRIBE", &[(0, 1)]),
        (0, "UNSUBSCRIBE @a @b", &[(0, 2)]),
    ],
    &[
        (0, "SUBSCRIBE @a", &[(0, 1)]),
        (2, "SUBSCRIBE @a @b", &[(2, 2)]),
        (2, "PSUBSCRIBE @*", &[(2, 1)]),
        (1, "PUBLISH @b text", &[(1, 1), (2, 2)]),
        (1, "PUBLISH @c text", &[(1, 1), (2, 1)]),
        (1, "PUBSUB NUMSUB @a @b @c", &[(1, 1)]),
        (1, "PUBSUB NUMSUB", &[(1, 1)]),
        (1, "PUBSUB CHANNELS @a", &[(1, 1)]),
        (1, "PUBSUB CHANNELS @[x-z]*", &[(1, 1)]),
        (1, "PUBSUB SHARDNUMSUB @a @b", &[(1, 1)]),
        (2, "SSUBSCRIBE @a", &[(2, 1)]),
        (0, "SSUBSCRIBE @a", &[(0, 1)]),
        (1, "PUBSUB SHARDNUMSUB @a @b", &[(1, 1)]),
        (1, "PUBSUB SHARDCHANNELS @*", &[(1, 1)]),
        (1, "PUBSUB NUMPAT x", &[(1, 1)]),
        (1, "PUBSUB NOSUCH", &[(1, 1)]),
        (1, "PUBSUB CHANNELS @a @b", &[(1, 1)]),
        (1, "PUBSUB", &[(1, 1)]),
        (1, "SPUBLISH @a text", &[(1, 1), (0, 1), (2, 1)]),
        (0, "QUIT", &[(0, 1)]),
    ],
    &[
        (0, "SUBSCRIBE @a", &[(0, 1)]),
        (1, "MULTI", &[(1, 1)]),
        (1, "SET @{x}k v", &[(1, 1)]),
        (1, "PUBLISH @a hello", &[(1, 1)]),
        (1, "SPUBLISH @{x}s hello", &[(1, 1)]),
        (1, "EXEC", &[(0, 1)]),
    ],
];

/// In RESP3 a subscriber may say anything.
const SCRIPTS_RESP3: &[&[Step]] = &[
    &[
        (0, "SUBSCRIBE @a @b", &[(0, 2)]),
        (0, "PING", &[(0, 1)]),
        (0, "PING text", &[(0, 1)]),
        (0, "HSET @h f v", &[(0, 1)]),
        (0, "HGETALL @h", &[(0, 1)]),
        (1, "PUBLISH @a text", &[(1, 1), (0, 1)]),
        (0, "MULTI", &[(0, 1)]),
        (0, "GET @k", &[(0, 1)]),
        (1, "PUBLISH @a between", &[(1, 1), (0, 1)]),
        (0, "EXEC", &[(0, 1)]),
        (0, "UNSUBSCRIBE @a", &[(0, 1)]),
        (0, "UNSUBSCRIBE", &[(0, 1)]),
        (0, "UNSUBSCRIBE", &[(0, 1)]),
        (0, "SUBSCRIBE @c", &[(0, 1)]),
        (0, "RESET", &[(0, 1)]),
        (1, "PUBLISH @c nobody", &[(1, 1)]),
        (0, "GET @k", &[(0, 1)]),
    ],
    SCRIPTS[0],
    SCRIPTS[2],
    SCRIPTS[3],
];

/// Plays a script to three clients of one server: every frame, behind the step it came after.
fn play(mut clients: [Client; 3], script: &[Step], prefix: &str) -> Vec<String> {
    let mut heard = Vec::new();
    for (who, line, frames) in script {
        let line = line.replace('@', prefix);
        clients[*who].send(&frame(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()));
        for (client, count) in *frames {
            let mut got: Vec<String> = (0..*count).map(|_| show(&clients[*client].reply())).collect();
            // Messages of several subscriptions to one client come from several nodes.
            if who != client {
                got.sort();
            }
            heard.push(format!("{who}> {line} -> {client}: {got:?}"));
        }
    }
    heard
}

pub fn compare(scripts: &[&[Step]], real: impl Fn() -> Client, through: impl Fn() -> Client) {
    for (index, script) in scripts.iter().enumerate() {
        let prefix = format!("{}:", shared::unique("pubsub"));
        let want = play([real(), real(), real()], script, &prefix);
        let got = play([through(), through(), through()], script, &prefix);
        for (want, got) in want.iter().zip(&got) {
            assert_eq!(got, want, "script {index}");
        }
    }
}

/// Counts of receivers are the whole cluster's: nobody else may be subscribed.
fn alone() -> (RedisCluster, Proxy) {
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "2")]);
    (cluster, proxy)
}

#[test]
fn scripts_get_the_bytes_of_a_single_redis_in_resp2() {
    need_redis!();
    let (_cluster, proxy) = alone();
    compare(SCRIPTS, || shared::standalone().client(), || proxy.client());
}

#[test]
fn scripts_get_the_bytes_of_a_single_redis_in_resp3() {
    need_redis!();
    let real = || Client::connect_resp3(shared::standalone().addr());
    let (_cluster, proxy) = alone();
    compare(SCRIPTS_RESP3, real, || proxy.client_resp3());
}
