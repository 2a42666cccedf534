//! Commands about all keys: every primary is asked, and one reply made of what they say. A shard that does not
//! answer makes the whole reply an error: never a count too small.

use super::Operation;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::reply::integer;

/// The keys of all shards, counted.
pub async fn dbsize(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let nodes = operation.primaries().await?;
    let mut sum = 0i64;
    for (_, reply) in operation.ask_each(&nodes, operation.request.bytes()).await {
        let reply = reply.map_err(ProxyError::from)?;
        match integer(&reply) {
            Some(count) => sum = sum.saturating_add(count),
            None if reply.starts_with(b"-") => return Ok(reply.to_vec()),
            None => return Err(ProxyError::BadReply),
        }
    }
    let mut out = Vec::new();
    encode::integer(&mut out, sum);
    Ok(out)
}
