//! The asynchronous client: one multiplexed connection, a connection manager, pub/sub, and its cache.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::caching::CacheConfig;
use redis::{AsyncCommands as _, AsyncConnectionConfig, ProtocolVersion, Script, pipe};

use crate::{Check, Outcome, client, names, same};

pub const CHECKS: &[Check] = &[
    ("async: many requests on one connection", |version| block_on(many_requests(version))),
    ("async: pipelines and transactions", |version| block_on(pipelines(version))),
    ("async: connection manager and scripts", |version| block_on(manager(version))),
    ("async: waiting for a list", |version| block_on(waiting(version))),
    ("async: pub/sub", |version| block_on(pub_sub(version))),
    ("async: client-side cache", |version| block_on(cache(version))),
];

fn block_on(check: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(check)
}

/// Waits for replies as long as the check may take; the client's own limit is half a second.
async fn connection(version: ProtocolVersion) -> Result<MultiplexedConnection, Box<dyn std::error::Error>> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(15)));
    Ok(client(version)?.get_multiplexed_async_connection_with_config(&config).await?)
}

async fn many_requests(version: ProtocolVersion) -> Outcome {
    let r = connection(version).await?;
    let keys = names("multiplexed", version, 500);
    let found = try_join_all(keys.iter().enumerate().map(|(n, key)| {
        let mut r = r.clone();
        async move {
            let _: () = r.set(key, n).await?;
            r.get::<_, usize>(key).await
        }
    }))
    .await?;
    same!(found, (0..500).collect::<Vec<usize>>());
    same!(r.clone().unlink::<_, usize>(&keys).await?, 500);
    Ok(())
}

async fn pipelines(version: ProtocolVersion) -> Outcome {
    let mut r = connection(version).await?;
    let keys = names("apipe", version, 200);
    let mut pipe_all = pipe();
    for (n, key) in keys.iter().enumerate() {
        pipe_all.set(key, n).ignore().get(key);
    }
    same!(pipe_all.query_async::<Vec<usize>>(&mut r).await?, (0..200).collect::<Vec<usize>>());
    let key = format!("{{rs:atx:{version:?}}}a");
    let found: (usize, usize) =
        pipe().atomic().set(&key, 1).ignore().incr(&key, 1).incr(&key, 1).query_async(&mut r).await?;
    same!(found, (2, 3));
    Ok(())
}

async fn manager(version: ProtocolVersion) -> Outcome {
    let mut r = client(version)?.get_connection_manager().await?;
    let script =
        Script::new(&format!("-- rs async {version:?}\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])"));
    for (n, key) in names("ascript", version, 50).iter().enumerate() {
        let _: () = r.set(key, 1).await?;
        same!(script.key(key).arg(n).invoke_async::<usize>(&mut r).await?, n + 1);
    }
    Ok(())
}

async fn waiting(version: ProtocolVersion) -> Outcome {
    let keys = names("aqueue", version, 10);
    let waiting = try_join_all(keys.iter().map(|key| async move {
        let mut r = connection(version).await?;
        Ok::<_, Box<dyn std::error::Error>>(r.blpop::<_, (String, String)>(key, 10.0).await?)
    }));
    let pushing = async {
        let mut r = connection(version).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        for key in &keys {
            let _: usize = r.rpush(key, "job").await?;
        }
        Ok(())
    };
    let (found, ()) = tokio::try_join!(waiting, pushing)?;
    same!(found, keys.iter().map(|key| (key.clone(), "job".to_owned())).collect::<Vec<_>>());
    Ok(())
}

async fn pub_sub(version: ProtocolVersion) -> Outcome {
    let mut r = connection(version).await?;
    let mut pubsub = client(version)?.get_async_pubsub().await?;
    let channels = names("anews", version, 5);
    pubsub.subscribe(&channels).await?;
    for n in 0..100 {
        let _: usize = r.publish(&channels[n % 5], n).await?;
    }
    let messages: Vec<redis::Msg> = pubsub.on_message().take(100).collect().await;
    for (n, channel) in channels.iter().enumerate() {
        let of_channel = messages.iter().filter(|message| message.get_channel_name() == channel.as_str());
        let found: Vec<usize> = of_channel.map(|message| message.get_payload()).collect::<Result<_, _>>()?;
        same!(found, (n..100).step_by(5).collect::<Vec<usize>>());
    }
    pubsub.unsubscribe(&channels).await?;
    same!(r.publish::<_, _, usize>(&channels[0], "nobody").await?, 0);
    Ok(())
}

async fn cache(version: ProtocolVersion) -> Outcome {
    let config = AsyncConnectionConfig::new().set_cache_config(CacheConfig::new());
    let opened = client(version)?.get_multiplexed_async_connection_with_config(&config).await;
    if version == ProtocolVersion::RESP2 {
        // Invalidations come as pushes, which RESP2 does not have: the client says so itself.
        same!(opened.is_err(), true);
        return Ok(());
    }
    let (mut cached, mut r) = (opened?, connection(version).await?);
    let keys = names("cached", version, 30);
    for key in &keys {
        let _: () = r.set(key, "old").await?;
    }
    for key in keys.iter().chain(&keys) {
        same!(cached.get::<_, String>(key).await?, "old");
    }
    same!(cached.get_cache_statistics().map(|statistics| statistics.hit), Some(30));
    let _: () = r.set(&keys[7], "new").await?;
    while cached.get::<_, String>(&keys[7]).await? != "new" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    same!(cached.get::<_, String>(&keys[8]).await?, "old");
    Ok(())
}
