//! A script that one shard knows works on every shard: EVALSHA in pipelines and transactions, for what was
//! first seen in an EVAL, also on a node that has forgotten it.

use crate::support::client::Client;
use crate::support::cluster::RedisCluster;
use crate::support::keys::key_in;
use crate::support::proxy::Proxy;
use crate::support::resp::frame;
use crate::support::shared;

/// `redis-cli SCRIPT LOAD` says so of this body.
const BODY: &str = "return {KEYS[1],ARGV[1]}";

fn sha(cluster: &RedisCluster) -> String {
    let reply =
        cluster.client(0).ok(&frame(&[b"EVAL", b"return redis.sha1hex(ARGV[1])", b"0", BODY.as_bytes()]));
    reply.text()
}

fn evalsha(sha: &str, key: &str, arg: &str) -> Vec<u8> {
    frame(&[b"EVALSHA", sha.as_bytes(), b"1", key.as_bytes(), arg.as_bytes()])
}

fn eval(key: &str, arg: &str) -> Vec<u8> {
    frame(&[b"EVAL", BODY.as_bytes(), b"1", key.as_bytes(), arg.as_bytes()])
}

fn pair(key: &str, arg: &str) -> String {
    format!("*2\r\n${}\r\n{key}\r\n${}\r\n{arg}\r\n", key.len(), arg.len())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A cluster whose nodes know no script, and one key per shard.
fn fresh() -> (RedisCluster, Proxy, Vec<String>) {
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let keys = shards(&cluster);
    (cluster, proxy, keys)
}

/// A key per shard.
fn shards(cluster: &RedisCluster) -> Vec<String> {
    (0..3).map(|index| key_in(cluster.slot_of(index), "script")).collect()
}

fn forget_everywhere(cluster: &RedisCluster) {
    (0..3).for_each(|index| drop(cluster.client(index).ok(&frame(&[b"SCRIPT", b"FLUSH"]))));
}

#[test]
fn what_an_eval_said_once_every_shard_knows() {
    let (cluster, proxy, keys) = fresh();
    let sha = sha(&cluster);
    let mut client = proxy.client();
    let unknown = text(&client.raw(&evalsha(&sha, &keys[0], "x")));
    assert_eq!(unknown, "-NOSCRIPT No matching script. Please use EVAL.\r\n");
    assert_eq!(text(&client.raw(&eval(&keys[0], "x"))), pair(&keys[0], "x"));
    // In one packet, the same key again and again.
    let shas = [sha.clone(), sha.to_uppercase()];
    let requests: Vec<(usize, String)> = (0..300).map(|n| (n % 3, n.to_string())).collect();
    let send = |n: &(usize, String)| evalsha(&shas[n.0 % 2], &keys[n.0], &n.1);
    client.send(&requests.iter().map(send).collect::<Vec<_>>().concat());
    for (shard, arg) in &requests {
        assert_eq!(text(&client.reply()), pair(&keys[*shard], arg));
    }
}

#[test]
fn a_node_that_has_forgotten_is_told_again() {
    let (cluster, proxy, keys) = fresh();
    let sha = sha(&cluster);
    let mut client = proxy.client();
    client.raw(&eval(&keys[0], "x"));
    for key in &keys {
        assert_eq!(text(&client.raw(&evalsha(&sha, key, "1"))), pair(key, "1"));
    }
    forget_everywhere(&cluster);
    for key in &keys {
        assert_eq!(text(&client.raw(&evalsha(&sha, key, "2"))), pair(key, "2"));
    }
    // Behind it in the pipeline nothing of the same slot: told again. With it: the client hears the truth.
    forget_everywhere(&cluster);
    client.send(&[evalsha(&sha, &keys[1], "3"), frame(&[b"PING"]), evalsha(&sha, &keys[2], "3")].concat());
    assert_eq!(text(&client.reply()), pair(&keys[1], "3"));
    assert_eq!(client.reply(), b"+PONG\r\n");
    assert_eq!(text(&client.reply()), pair(&keys[2], "3"));
    forget_everywhere(&cluster);
    client.send(&[evalsha(&sha, &keys[1], "4"), frame(&[b"SET", keys[1].as_bytes(), b"v"])].concat());
    assert!(text(&client.reply()).starts_with("-NOSCRIPT"));
    assert_eq!(client.reply(), b"+OK\r\n");
    assert_eq!(text(&client.raw(&evalsha(&sha, &keys[1], "5"))), pair(&keys[1], "5"));
    // Nothing of what is behind it was executed, for it needs the script, too; or it is about another key.
    forget_everywhere(&cluster);
    let other = key_in(cluster.slot_of(1), "other");
    let set = frame(&[b"SET", other.as_bytes(), b"v"]);
    let same: Vec<u8> = (0..4).flat_map(|n| evalsha(&sha, &keys[1], &n.to_string())).collect();
    client.send(&[same, set].concat());
    for n in 0..4 {
        assert_eq!(text(&client.reply()), pair(&keys[1], &n.to_string()));
    }
    assert_eq!(client.reply(), b"+OK\r\n");
}

/// Scripts can say what they like, after they did their work: it must not be done twice.
#[test]
fn what_a_script_itself_says_is_not_taken_for_a_node_without_it() {
    let (cluster, proxy, keys) = fresh();
    let mut client = proxy.client();
    let words = "NOSCRIPT No matching script. Please use EVAL.";
    let says = format!("redis.call('INCR',KEYS[1]) return redis.error_reply('{words}')");
    let repeats = "redis.call('INCR',KEYS[1]) return redis.error_reply(ARGV[1])";
    for (body, argument) in [(&*says, "x"), (repeats, words)] {
        let sha = client.ok(&frame(&[b"SCRIPT", b"LOAD", body.as_bytes()])).text();
        for key in &keys {
            client.ok(&frame(&[b"SET", key.as_bytes(), b"0"]));
            assert_eq!(text(&client.raw(&evalsha(&sha, key, argument))), format!("-{words}\r\n"));
            assert_eq!(client.ok(&frame(&[b"GET", key.as_bytes()])).text(), "1");
        }
        // Whose words they were nobody knows: the script goes there once more, and does its work once.
        forget_everywhere(&cluster);
        assert_eq!(text(&client.raw(&evalsha(&sha, &keys[0], argument))), format!("-{words}\r\n"));
        assert_eq!(client.ok(&frame(&[b"GET", keys[0].as_bytes()])).text(), "2");
    }
}

/// A client that tracks has connections of its own: the script goes there, also where no other is.
#[test]
fn the_script_goes_where_the_requests_of_a_tracking_client_go() {
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("workers", "1")]);
    let (sha, keys) = (sha(&cluster), shards(&cluster));
    let mut client = proxy.client_resp3();
    client.ok(&frame(&[b"CLIENT", b"TRACKING", b"ON"]));
    let get = |key: &str| frame(&[b"GET", key.as_bytes()]);
    // Its connections stand before anybody names the script.
    keys.iter().for_each(|key| drop(client.ok(&get(key))));
    client.ok(&eval(&keys[0], "x"));
    client.send(&[evalsha(&sha, &keys[1], "1"), get(&keys[1])].concat());
    assert_eq!((text(&client.reply()), text(&client.reply())), (pair(&keys[1], "1"), "_\r\n".to_owned()));
    let reply = exec(&mut client, &[evalsha(&sha, &keys[2], "1"), evalsha(&sha, &keys[2], "2")]);
    assert_eq!(reply, format!("*2\r\n{}{}", pair(&keys[2], "1"), pair(&keys[2], "2")));
    // No connection is there but its own, and those that look at the cluster.
    for node in 0..3 {
        let list = cluster.client(node).ok(&frame(&[b"CLIENT", b"LIST"])).text();
        let shared = list.lines().filter(|line| line.contains(" cmd=evalsha ") || line.contains(" cmd=get "));
        assert!(shared.clone().all(|line| line.contains(" flags=t ")), "{list}");
    }
}

fn exec(client: &mut Client, requests: &[Vec<u8>]) -> String {
    client.send(&[&[frame(&[b"MULTI"])], requests, &[frame(&[b"EXEC"])]].concat().concat());
    (0..=requests.len()).for_each(|_| drop(client.reply()));
    text(&client.reply())
}

#[test]
fn in_transactions_the_script_goes_before_the_multi() {
    let (cluster, proxy, keys) = fresh();
    let sha = sha(&cluster);
    let mut client = proxy.client();
    client.raw(&eval(&keys[0], "x"));
    for key in &keys {
        let reply = exec(&mut client, &[evalsha(&sha, key, "1"), frame(&[b"PING"]), evalsha(&sha, key, "2")]);
        assert_eq!(reply, format!("*3\r\n{}+PONG\r\n{}", pair(key, "1"), pair(key, "2")));
    }
    forget_everywhere(&cluster);
    for key in &keys {
        client.ok(&frame(&[b"WATCH", key.as_bytes()]));
        assert_eq!(
            exec(&mut client, &[evalsha(&sha, key, "3")]),
            format!("*1\r\n{}", pair(key, "3")),
            "watched"
        );
    }
}

#[test]
fn bodies_are_kept_within_the_bound() {
    let (cluster, _, keys) = fresh();
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("script-cache-bytes", "0")]);
    let sha = sha(&cluster);
    let mut client = proxy.client();
    client.raw(&eval(&keys[0], "x"));
    assert!(text(&client.raw(&evalsha(&sha, &keys[1], "1"))).starts_with("-NOSCRIPT"));
}

/// Scripts that each say a number, all of the same length.
fn numbered(n: usize) -> String {
    format!("return '{n:03}'")
}

/// Which of `numbers` EVALSHA finds on a node that has forgotten them: the proxy has their bodies.
fn kept(cluster: &RedisCluster, proxy: &Proxy, shas: &[String], key: &str, numbers: &[usize]) -> Vec<usize> {
    forget_everywhere(cluster);
    let mut client = proxy.client();
    let found = |n: &usize| {
        let reply = text(&client.raw(&evalsha(&shas[*n], key, "")));
        assert!(reply == format!("$3\r\n{n:03}\r\n") || reply.starts_with("-NOSCRIPT"), "{n}: {reply}");
        reply.starts_with('$')
    };
    numbers.iter().copied().filter(found).collect()
}

#[test]
fn at_the_bound_the_script_not_used_for_longest_goes_and_comes_back_when_seen_again() {
    let (cluster, _, keys) = fresh();
    let key = &keys[0];
    // A body counts as its length and 128 bytes.
    let bound = (3 * (numbered(0).len() + 128)).to_string();
    let proxy = Proxy::start(&shared::seeds(&cluster), &[("script-cache-bytes", &bound), ("workers", "1")]);
    let load = |n| shared::standalone().client().ok(&frame(&[b"SCRIPT", b"LOAD", numbered(n).as_bytes()]));
    let shas: Vec<String> = (0..6).map(|n| load(n).text()).collect();
    let mut client = proxy.client();
    let mut see =
        |n: usize| drop(client.ok(&frame(&[b"EVAL", numbered(n).as_bytes(), b"1", key.as_bytes()])));
    [0, 1, 2].into_iter().for_each(&mut see);
    // Seen before, and used again: the next one takes the place of another.
    [0, 3].into_iter().for_each(&mut see);
    assert_eq!(kept(&cluster, &proxy, &shas, key, &[2, 0, 3, 1]), [2, 0, 3]);
    // Given up, and seen again: it is back.
    see(1);
    assert_eq!(kept(&cluster, &proxy, &shas, key, &[0, 3, 1, 2]), [0, 3, 1]);
    // EVALSHA of what the node has is a use, too.
    let mut other = proxy.client();
    assert_eq!(text(&other.raw(&evalsha(&shas[0], key, ""))), "$3\r\n000\r\n");
    see(4);
    assert_eq!(kept(&cluster, &proxy, &shas, key, &[1, 0, 4, 3]), [1, 0, 4]);
    // A body that alone is too large displaces none.
    let long = format!("return '{}'", "x".repeat(600));
    client.ok(&frame(&[b"EVAL", long.as_bytes(), b"1", key.as_bytes()]));
    assert_eq!(kept(&cluster, &proxy, &shas, key, &[1, 0, 4]), [1, 0, 4]);
}
