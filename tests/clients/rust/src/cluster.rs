//! The cluster clients: they find one node that owns all slots, and work.

use redis::cluster::ClusterClient;
use redis::{AsyncCommands as _, Commands as _, ProtocolVersion};

use crate::{Check, Outcome, names, same, url};

pub const CHECKS: &[Check] = &[("cluster: blocking", blocking), ("cluster: async", asynchronous)];

fn client(version: ProtocolVersion) -> Result<ClusterClient, Box<dyn std::error::Error>> {
    Ok(ClusterClient::builder([url()?]).use_protocol(version).build()?)
}

fn blocking(version: ProtocolVersion) -> Outcome {
    let mut r = client(version)?.get_connection()?;
    let keys = names("cluster", version, 100);
    for (n, key) in keys.iter().enumerate() {
        let _: () = r.set(key, n)?;
        same!(r.get::<_, usize>(key)?, n);
    }
    same!(r.mget::<_, Vec<usize>>(&keys)?, (0..100).collect::<Vec<usize>>());
    same!(r.del::<_, usize>(&keys)?, 100);
    Ok(())
}

fn asynchronous(version: ProtocolVersion) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut r = client(version)?.get_async_connection().await?;
        let keys = names("acluster", version, 100);
        for (n, key) in keys.iter().enumerate() {
            let _: () = r.set(key, n).await?;
            same!(r.get::<_, usize>(key).await?, n);
        }
        same!(r.mget::<_, Vec<usize>>(&keys).await?, (0..100).collect::<Vec<usize>>());
        let mut pipe = redis::pipe();
        pipe.set("{rs:acl}a", 1).ignore().incr("{rs:acl}a", 1);
        same!(pipe.query_async::<(usize,)>(&mut r).await?, (2,));
        same!(r.del::<_, usize>(&keys).await?, 100);
        Ok(())
    })
}
