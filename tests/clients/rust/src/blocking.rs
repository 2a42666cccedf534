//! The blocking client.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::Duration;

use redis::{
    Commands as _, Connection, ErrorKind, ProtocolVersion, Script, ServerErrorKind, Value, cmd, pipe,
};

use crate::{Check, Outcome, client, names, same};

pub const CHECKS: &[Check] = &[
    ("blocking: data types", data),
    ("blocking: several keys and a scan", several_keys),
    ("blocking: pipelines", pipelines),
    ("blocking: transactions", transactions),
    ("blocking: scripts", scripts),
    ("blocking: waiting for a list", waiting),
    ("blocking: pub/sub", pub_sub),
];

fn connection(version: ProtocolVersion) -> Result<Connection, Box<dyn std::error::Error>> {
    let connection = client(version)?.get_connection()?;
    connection.set_read_timeout(Some(Duration::from_secs(15)))?;
    Ok(connection)
}

fn data(version: ProtocolVersion) -> Outcome {
    let mut r = connection(version)?;
    let at = |name: &str| format!("{{rs:{version:?}}}:{name}");
    let _: usize = r.del(["h", "l", "z", "s", "b", "x"].map(at).to_vec())?;
    let _: () = r.hset_multiple(at("h"), &[("a", 1), ("b", 2)])?;
    same!(r.hgetall::<_, HashMap<String, i64>>(at("h"))?, HashMap::from([("a".into(), 1), ("b".into(), 2)]));
    let _: usize = r.rpush(at("l"), &["a", "b", "c"])?;
    same!(r.lrange::<_, Vec<String>>(at("l"), 0, -1)?, ["a", "b", "c"]);
    let _: usize = r.zadd_multiple(at("z"), &[(1.0, "one"), (2.5, "two")])?;
    same!(
        r.zrange_withscores::<_, Vec<(String, f64)>>(at("z"), 0, -1)?,
        [("one".to_owned(), 1.0), ("two".to_owned(), 2.5)]
    );
    let _: usize = r.sadd(at("s"), &["x", "y"])?;
    same!(r.smembers::<_, HashSet<String>>(at("s"))?, HashSet::from(["x".to_owned(), "y".to_owned()]));
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let _: () = r.set(at("b"), &bytes)?;
    same!(r.get::<_, Vec<u8>>(at("b"))? == bytes, true);
    same!(r.get::<_, Option<String>>(at("none"))?, None);
    let error = r.lpush::<_, _, Value>(at("s"), "x").err().ok_or("no WRONGTYPE")?;
    same!(error.code(), Some("WRONGTYPE"));
    same!(cmd("PING").query::<String>(&mut r)?, "PONG");
    same!(cmd("CLIENT").arg("SETNAME").arg("rs").query::<String>(&mut r)?, "OK");
    same!(cmd("CLIENT").arg("GETNAME").query::<String>(&mut r)?, "rs");
    let info: redis::InfoDict = cmd("INFO").query(&mut r)?;
    same!(info.get::<u8>("loading"), Some(0));
    Ok(())
}

fn several_keys(version: ProtocolVersion) -> Outcome {
    let mut r = connection(version)?;
    let keys = names("many", version, 300);
    let pairs: Vec<(&String, usize)> = keys.iter().zip(0..).collect();
    let _: () = r.mset(&pairs)?;
    same!(r.mget::<_, Vec<usize>>(&keys)?, (0..300).collect::<Vec<usize>>());
    let found: HashSet<String> = r.scan_match(format!("rs:many:{version:?}:*"))?.collect::<Result<_, _>>()?;
    same!(found, keys.iter().cloned().collect::<HashSet<String>>());
    same!(r.exists::<_, usize>(&keys)?, 300);
    same!(r.del::<_, usize>(&keys)?, 300);
    Ok(())
}

fn pipelines(version: ProtocolVersion) -> Outcome {
    let mut r = connection(version)?;
    let keys = names("pipe", version, 300);
    let mut pipe = pipe();
    for (n, key) in keys.iter().enumerate() {
        pipe.set(key, n).ignore().incr(key, 1).get(key);
    }
    let wanted: Vec<(usize, String)> = (1..=300).map(|n| (n, n.to_string())).collect();
    let found: Vec<String> = pipe.query(&mut r)?;
    let wanted: Vec<String> = wanted.into_iter().flat_map(|(n, text)| [n.to_string(), text]).collect();
    same!(found, wanted);
    Ok(())
}

fn transactions(version: ProtocolVersion) -> Outcome {
    let mut r = connection(version)?;
    let key = format!("{{rs:tx:{version:?}}}a");
    let list = format!("{{rs:tx:{version:?}}}l");
    let _: usize = r.del(&[&key, &list])?;
    let found: (i64, i64, Vec<String>) =
        pipe().atomic().incr(&key, 1).rpush(&list, "x").lrange(&list, 0, -1).query(&mut r)?;
    same!(found, (1, 1, vec!["x".to_owned()]));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let key = key.clone();
            thread::spawn(move || -> Result<(), String> {
                let mut r = connection(version).map_err(|error| error.to_string())?;
                for _ in 0..10 {
                    add_one(&mut r, &key).map_err(|error| error.to_string())?;
                }
                Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")??;
    }
    same!(r.get::<_, i64>(&key)?, 41);
    Ok(())
}

/// Reads, then writes what was read plus one, again whenever somebody else came between.
fn add_one(r: &mut Connection, key: &str) -> redis::RedisResult<()> {
    let _: (i64,) = redis::transaction(r, &[key], |r, pipe| {
        let value: i64 = r.get(key)?;
        pipe.set(key, value + 1).ignore().get(key).query(r)
    })?;
    Ok(())
}

fn scripts(version: ProtocolVersion) -> Outcome {
    let mut r = connection(version)?;
    let script = Script::new(&format!("-- rs {version:?}\nreturn {{KEYS[1], ARGV[1] + 1}}"));
    for (n, key) in names("script", version, 60).iter().enumerate() {
        same!(script.key(key).arg(n).invoke::<(String, usize)>(&mut r)?, (key.clone(), n + 1));
    }
    let error = redis::cmd("EVALSHA")
        .arg("0".repeat(40))
        .arg(1)
        .arg("k")
        .query::<Value>(&mut r)
        .err()
        .ok_or("no NOSCRIPT")?;
    same!(error.kind(), ErrorKind::Server(ServerErrorKind::NoScript));
    Ok(())
}

fn waiting(version: ProtocolVersion) -> Outcome {
    let keys = names("queue", version, 5);
    let waiting: Vec<_> = keys
        .iter()
        .cloned()
        .map(|key| {
            thread::spawn(move || -> Result<(String, String), String> {
                let mut r = connection(version).map_err(|error| error.to_string())?;
                r.blpop(&key, 10.0).map_err(|error| error.to_string())
            })
        })
        .collect();
    let mut r = connection(version)?;
    thread::sleep(Duration::from_millis(200));
    for key in &keys {
        let _: usize = r.rpush(key, format!("for {key}"))?;
    }
    for (thread, key) in waiting.into_iter().zip(&keys) {
        same!(thread.join().map_err(|_| "a waiting thread panicked")??, (key.clone(), format!("for {key}")));
    }
    same!(r.brpop::<_, Option<(String, String)>>(&keys[0], 0.2)?, None);
    Ok(())
}

fn pub_sub(version: ProtocolVersion) -> Outcome {
    let (mut r, mut subscribed) = (connection(version)?, connection(version)?);
    let mut pubsub = subscribed.as_pubsub();
    let channels = names("news", version, 4);
    pubsub.subscribe(&channels)?;
    pubsub.psubscribe(format!("rs:news:{version:?}:[3]"))?;
    for n in 0..100 {
        let _: usize = r.publish(&channels[n % 4], n)?;
    }
    let mut plain: HashMap<String, Vec<usize>> = HashMap::new();
    let mut by_pattern = Vec::new();
    for _ in 0..125 {
        let message = pubsub.get_message()?;
        if message.from_pattern() {
            by_pattern.push(message.get_payload::<usize>()?);
        } else {
            plain.entry(message.get_channel_name().to_owned()).or_default().push(message.get_payload()?);
        }
    }
    for (n, channel) in channels.iter().enumerate() {
        same!(plain.get(channel), Some(&(n..100).step_by(4).collect()));
    }
    same!(by_pattern, (3..100).step_by(4).collect::<Vec<usize>>());
    Ok(())
}
