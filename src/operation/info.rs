//! INFO, where it shows something of the nodes' data: all primaries are asked. It is what clients ask first of
//! all, so it never waits for a node that is away: what is not known of every shard is left out.

use super::Operation;
use crate::command::local::info::question;
use crate::command::local::{self, NodesInfo};
use crate::error::ProxyError;
use crate::session::local::environment;

/// INFO of the proxy and its nodes, after `connect-timeout` at the latest.
///
/// # Errors
/// None.
pub async fn info(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let args = operation.request.args();
    let answers = operation.survey(&question(&args), 1).await;
    let replies = answers.iter().map(|frames| Some(&frames.as_ref()?.first()?[..]));
    let nodes = NodesInfo::read(replies);
    let mut out = Vec::new();
    let learned = operation.worker.topology.learned();
    let env = environment(&operation.worker, &learned);
    local::inform(&env, operation.resp, &args, Some(&nodes), &mut out);
    Ok(out)
}
