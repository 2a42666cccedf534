//! CONFIG GET of settings that are the nodes': all primaries that can be reached are asked, and what they say is
//! told where they agree. Tools ask at their start: nodes that let nobody ask (managed services) are no error.

use super::Operation;
use super::everyone::error_text;
use super::tree::Tree;
use crate::command::local::NodesInfo;
use crate::command::local::config::{Heard, Pairs, patterns, reply};
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::session::local::environment;

/// INFO as a request: the sections a server shows unasked.
const INFO: &[u8] = b"*1\r\n$4\r\nINFO\r\n";

/// CONFIG GET, after `connect-timeout` at the latest (twice that where the nodes refuse).
///
/// # Errors
/// No primary answers.
pub async fn config_get(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let args = operation.request.args();
    let patterns = patterns(&args);
    // One at a time, for Redis takes several from 7.0 on.
    let mut push = Vec::new();
    for pattern in &patterns {
        encode::array(&mut push, 3);
        for word in [b"CONFIG", &b"GET"[..], pattern] {
            encode::bulk(&mut push, word);
        }
    }
    let frames = u16::try_from(patterns.len()).unwrap_or(u16::MAX);
    let answers: Vec<_> = operation.survey(&push, frames).await.into_iter().flatten().collect();
    if answers.is_empty() {
        return Err(ProxyError::ClusterDown);
    }
    let mut out = Vec::new();
    let learned = operation.worker.topology.learned();
    let env = environment(&operation.worker, &learned);
    if answers.iter().flatten().any(|frame| error_text(frame).is_some()) {
        let answers = operation.survey(INFO, 1).await;
        let info = NodesInfo::read(answers.iter().map(|frames| Some(&frames.as_ref()?.first()?[..])));
        reply(&env, operation.resp, &args, Heard::Refused(&info), &mut out);
        return Ok(out);
    }
    let told = answers.iter().map(|frames| frames.iter().map(|frame| pairs(frame)).collect());
    let told: Vec<Vec<Pairs>> = told.collect::<Option<_>>().ok_or(ProxyError::BadReply)?;
    if let Some(error) = reply(&env, operation.resp, &args, Heard::Told(&told), &mut out) {
        operation.worker.counters.error(error);
    }
    Ok(out)
}

fn pairs(frame: &[u8]) -> Option<Pairs> {
    let pairs = Tree::parse(frame)?.pairs()?.into_iter();
    pairs.map(|(name, value)| Some((name.text()?.to_vec(), value.text()?.to_vec()))).collect()
}
