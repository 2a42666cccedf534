//! INFO, where it shows something of the nodes' data: all primaries are asked. It is what clients ask first of
//! all, so it never waits for a node that is away: what is not known of every shard is left out.

use super::Operation;
use crate::command::local::{self, NodesInfo};
use crate::error::ProxyError;
use crate::session::local::environment;
use crate::topology::table::SLOTS;

/// INFO as a request: the sections a server shows unasked.
const INFO: &[u8] = b"*1\r\n$4\r\nINFO\r\n";

/// INFO of the proxy and its nodes.
///
/// # Errors
/// None.
pub async fn info(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let nodes = ask(operation).await;
    let mut out = Vec::new();
    let learned = operation.worker.topology.learned();
    let env = environment(&operation.worker, &learned);
    local::inform(&env, operation.resp, &operation.request.args(), nodes.as_ref(), &mut out);
    Ok(out)
}

/// What the primaries say within `connect-timeout`, if all do.
async fn ask(operation: &Operation) -> Option<NodesInfo> {
    let worker = &operation.worker;
    let primaries: Vec<_> = {
        let table = worker.table.borrow();
        let complete = usize::from(table.covered()) == SLOTS;
        complete.then(|| table.shards().iter().map(|shard| shard.primary).collect())?
    };
    let is_up = |id| worker.topology.node(id).is_some_and(|node| node.is_up());
    if !primaries.iter().all(|&id| is_up(id)) {
        return None;
    }
    let asked = operation.ask_each(&primaries, INFO);
    let replies = tokio::time::timeout(worker.limits.connect_timeout, asked).await.ok()?;
    let replies: Vec<_> = replies.into_iter().map(|(_, reply)| reply.ok()).collect::<Option<_>>()?;
    NodesInfo::read(replies.iter().map(|reply| &reply[..]))
}
