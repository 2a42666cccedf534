//! Keys of slots under way: they belong to a shard that SCAN has done, but are at the target already, which may
//! have been done before and gets its new config epoch only when the slot has arrived.

use bytes::Bytes;

use super::everyone::error_text;
use super::scan::{Pass, Trouble};
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::protocol::reply::{list_elements, string};
use crate::topology::claims::ShardClaim;
use crate::topology::node::NodeId;

/// ASKING as a request: without it the target of a slot under way redirects.
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";
/// Keys whose type is asked in one push.
const AT_ONCE: usize = 1_000;

/// Adds what of `shard` has left it for the target of an open migration. `Some`: the node is no primary any more,
/// or has this config epoch, and not the one it was scanned under.
pub(super) async fn keys_at_targets(pass: &Pass<'_>, shard: &ShardClaim) -> Result<Option<u64>, Trouble> {
    let reply = pass.ask(shard.node, pass.operation.own_word_request(), None).await?;
    let word =
        pass.operation.own_word(shard.node, &reply).ok_or_else(|| Trouble::from(ProxyError::BadReply))?;
    for (slot, to) in &word.leaving {
        let known = pass.operation.worker.topology.claims().members.get(to).copied();
        // A node that has just joined: the next look at the cluster finds it.
        let node = known.ok_or(Trouble::Passing(ProxyError::ClusterDown.into()))?;
        let slot = slot.to_string();
        let question = request(&[b"CLUSTER", b"GETKEYSINSLOT", slot.as_bytes(), b"2147483647"]);
        let reply = pass.ask(node, &question, None).await?;
        let mut keys: Vec<Bytes> = Vec::new();
        let each = |_, start: usize, len: usize| {
            let key = reply.slice(start..start + len);
            if string(&key).is_some_and(|key| pass.wanted.matches(key)) {
                keys.push(key);
            }
        };
        list_elements(&reply, each).ok_or_else(|| Trouble::from(ProxyError::BadReply))?;
        for some in keys.chunks(AT_ONCE) {
            add(pass, node, some).await?;
        }
    }
    Ok((!word.primary || word.epoch != shard.epoch).then_some(word.epoch))
}

/// Adds those of `keys` that are still there, and of the type asked for.
async fn add(pass: &Pass<'_>, node: NodeId, keys: &[Bytes]) -> Result<(), Trouble> {
    let mut push = Vec::new();
    for key in keys {
        push.extend_from_slice(ASKING);
        push.extend_from_slice(b"*2\r\n$4\r\nTYPE\r\n");
        push.extend_from_slice(key);
    }
    let frames = pass.frames(node, &push, keys.len() as u16 * 2, None).await?;
    let types = frames.iter().skip(1).step_by(2);
    for (key, kind) in keys.iter().zip(types) {
        if error_text(kind).is_some() {
            return Err(Trouble::Passing(super::everyone::Failure::Frame(kind.to_vec())));
        }
        let kind = string(kind).unwrap_or_default();
        let fits = pass.wanted.kind.is_none_or(|wanted| wanted.eq_ignore_ascii_case(kind));
        if fits && kind != b"none" {
            pass.add(key, 1).map_err(Trouble::Final)?;
        }
    }
    Ok(())
}

fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::array(&mut out, args.len());
    args.iter().for_each(|arg| encode::bulk(&mut out, arg));
    out
}
