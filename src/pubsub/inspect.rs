//! PUBSUB: what all primaries know, with this process' connections replaced by its clients.

use std::collections::BTreeSet;

use super::Kind;
use crate::error::ProxyError;
use crate::operation::Operation;
use crate::protocol::encode;
use crate::protocol::reply::{elements, integer};
use crate::topology::node::NodeId;

/// What one primary said.
type Said = (NodeId, Vec<u8>);

/// PUBSUB CHANNELS, NUMSUB, NUMPAT, SHARDCHANNELS and SHARDNUMSUB.
///
/// # Errors
/// A primary did not answer.
pub async fn pubsub(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let args = operation.request.args();
    let is = |word: &str| args.at(1).eq_ignore_ascii_case(word.as_bytes());
    let nodes = operation.primaries().await?;
    let mut said: Vec<Said> = Vec::with_capacity(nodes.len());
    for (node, reply) in operation.ask_each(&nodes, operation.request.bytes()).await {
        let reply = reply.map_err(ProxyError::from)?;
        if reply.starts_with(b"-") {
            return Ok(reply.to_vec());
        }
        said.push((node, reply.to_vec()));
    }
    let reply = if is("NUMPAT") {
        patterns(operation, &said)
    } else if is("NUMSUB") {
        subscribers(operation, &said, Kind::Channel)
    } else if is("SHARDNUMSUB") {
        subscribers(operation, &said, Kind::Shard)
    } else {
        names(&said)
    };
    reply.ok_or(ProxyError::BadReply)
}

/// Every name once.
fn names(said: &[Said]) -> Option<Vec<u8>> {
    let mut names = BTreeSet::new();
    for (_, reply) in said {
        names.extend(elements(reply)?);
    }
    let mut out = Vec::new();
    encode::array(&mut out, names.len());
    names.iter().for_each(|name| out.extend_from_slice(name));
    Some(out)
}

/// Name and count, in the order asked for.
fn subscribers(operation: &Operation, said: &[Said], kind: Kind) -> Option<Vec<u8>> {
    let args = operation.request.args();
    let asked: Vec<&[u8]> = args.iter().skip(2).collect();
    let replies: Option<Vec<_>> =
        said.iter().map(|(node, reply)| elements(reply).map(|elements| (*node, elements))).collect();
    let replies = replies?;
    let mut out = Vec::new();
    encode::array(&mut out, asked.len() * 2);
    for (index, name) in asked.into_iter().enumerate() {
        let ours = operation.worker.process.pubsub.of(kind, name);
        let mut others = 0;
        for (node, elements) in &replies {
            let count = integer(elements.get(index * 2 + 1)?)?;
            others += (count - ours.links_at(*node) as i64).max(0);
        }
        encode::bulk(&mut out, name);
        encode::integer(&mut out, others + ours.clients as i64);
    }
    Some(out)
}

/// How many different patterns. A pattern that several nodes know of counts once only if it is ours.
fn patterns(operation: &Operation, said: &[Said]) -> Option<Vec<u8>> {
    let counts = &operation.worker.process.pubsub;
    let mut sum = counts.names(Kind::Pattern) as i64;
    for (node, reply) in said {
        sum += (integer(reply)? - counts.patterns_at(*node) as i64).max(0);
    }
    let mut out = Vec::new();
    encode::integer(&mut out, sum);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_once() {
        let said = [
            (NodeId(0), b"*2\r\n$1\r\nb\r\n$1\r\na\r\n".to_vec()),
            (NodeId(1), b"*1\r\n$1\r\nb\r\n".to_vec()),
        ];
        assert_eq!(names(&said).as_deref(), Some(&b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"[..]));
        assert_eq!(names(&[(NodeId(0), b":1\r\n".to_vec())]), None);
    }
}
