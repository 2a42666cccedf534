//! DEBUG and CONFIG SET: what of them makes sense on many nodes. Each subcommand and each setting is one line of
//! data here, with its reason.

use super::Operation;
use super::broadcast;
use super::everyone::Failure;
use crate::command::overrides::Refusal;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::router::slot::slot_of;

/// What becomes of a DEBUG subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// All primaries do it.
    Everywhere,
    /// The owner of the key that is its first argument.
    Key,
}

/// The others are refused: they are about one process, or make keys that do not belong where they are.
const DEBUG: &[(&str, Way)] = &[
    ("sleep", Way::Everywhere),
    ("set-active-expire", Way::Everywhere),
    ("set-disable-deny-scripts", Way::Everywhere),
    ("quicklist-packed-threshold", Way::Everywhere),
    ("dict-resizing", Way::Everywhere),
    ("replybuffer", Way::Everywhere),
    ("reload", Way::Everywhere),
    ("loadaof", Way::Everywhere),
    ("log", Way::Everywhere),
    ("stringmatch-len", Way::Everywhere),
    ("protocol", Way::Everywhere),
    ("error", Way::Everywhere),
    ("help", Way::Everywhere),
    ("object", Way::Key),
    ("listpack", Way::Key),
    ("ziplist", Way::Key),
    ("sdslen", Way::Key),
    ("htstats-key", Way::Key),
];

/// Settings that CONFIG SET does not pass on, and why.
const REFUSED: &[(&str, &str)] = &[
    ("requirepass", "slotway would lose its access to the nodes"),
    ("masterauth", "replication would lose its access to the nodes"),
    ("masteruser", "replication would lose its access to the nodes"),
    ("aclfile", "it belongs to one node"),
    ("bind", "it belongs to one node"),
    ("bind-source-addr", "it belongs to one node"),
    ("port", "it belongs to one node"),
    ("tls-port", "it belongs to one node"),
    ("cluster-port", "it belongs to one node"),
    ("cluster-announce-ip", "it belongs to one node"),
    ("cluster-announce-port", "it belongs to one node"),
    ("cluster-announce-bus-port", "it belongs to one node"),
    ("cluster-announce-tls-port", "it belongs to one node"),
    ("cluster-announce-hostname", "it belongs to one node"),
    ("cluster-announce-human-nodename", "it belongs to one node"),
    ("replica-announce-ip", "it belongs to one node"),
    ("replica-announce-port", "it belongs to one node"),
    ("slave-announce-ip", "it belongs to one node"),
    ("slave-announce-port", "it belongs to one node"),
    ("dir", "it belongs to one node"),
    ("dbfilename", "it belongs to one node"),
    ("maxclients", "clients are slotway's: its key is max-clients"),
    ("timeout", "clients are slotway's, the nodes would close its connections"),
    ("maxmemory-clients", "clients are slotway's, the nodes would close its connections"),
    ("client-output-buffer-limit", "clients are slotway's, the nodes would close its connections"),
    ("client-query-buffer-limit", "clients are slotway's, the nodes would close its connections"),
    ("proto-max-bulk-len", "clients are slotway's: its key is bulk-bytes-max"),
];

/// DEBUG.
pub(super) async fn debug(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let args = operation.request.args();
    let is = |name: &str| args.at(1).eq_ignore_ascii_case(name.as_bytes());
    match DEBUG.iter().find(|(name, _)| is(name)) {
        Some((_, Way::Everywhere)) => broadcast::all_succeeded(operation, false).await,
        Some((_, Way::Key)) => at_owner(operation, args.at(2)).await,
        None => {
            refused(&Refusal::Node.error("debug", "but for SLEEP, SET-ACTIVE-EXPIRE, OBJECT and their like"))
        }
    }
}

/// Asks the owner of `key`, by its own word: it knows no redirect for this.
async fn at_owner(operation: &Operation, key: &[u8]) -> Result<Vec<u8>, Failure> {
    let slot = slot_of(key);
    let until = operation.worker.clock.tick().saturating_add(operation.worker.limits.owner_wait);
    loop {
        let node = operation.owner(slot).await?;
        let owns = operation.push_each(&[node], operation.own_word_request(), 1).await.pop();
        let owns = owns.and_then(|(_, answer)| operation.own_word(node, answer.ok()?.first()?));
        if owns.is_some_and(|word| word.owns(slot)) {
            let answer = operation.push_each(&[node], operation.request.bytes(), 1).await.pop();
            let mut frames = answer.map_or(Ok(Vec::new()), |(_, answer)| answer).map_err(ProxyError::from)?;
            return Ok(frames.pop().ok_or(ProxyError::BadReply)?.to_vec());
        }
        if operation.worker.clock.tick() >= until {
            return Err(ProxyError::ClusterDown.into());
        }
        operation.look_afresh().await;
    }
}

/// CONFIG SET: on all nodes, for a replica may be a primary tomorrow.
pub(super) async fn config_set(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let args = operation.request.args();
    let names = args.iter().skip(2).step_by(2);
    for name in names {
        let found = REFUSED.iter().find(|(refused, _)| name.eq_ignore_ascii_case(refused.as_bytes()));
        if let Some((name, why)) = found {
            return refused(&Refusal::Node.error(&format!("config set {name}"), why));
        }
    }
    broadcast::all_succeeded(operation, true).await
}

fn refused(text: &str) -> Result<Vec<u8>, Failure> {
    let mut frame = Vec::new();
    encode::error(&mut frame, text);
    Ok(frame)
}
