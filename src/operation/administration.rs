//! DEBUG, CONFIG SET and CONFIG RESETSTAT: what of them makes sense on many nodes. Each subcommand of DEBUG is one
//! line of data here, each setting one in `command/local/settings.rs`.

use tokio::sync::oneshot;

use super::Operation;
use super::broadcast;
use super::everyone::Failure;
use crate::command::local::settings;
use crate::command::overrides::Refusal;
use crate::error::ProxyError;
use crate::protocol::encode;
use crate::router::slot::slot_of;
use crate::worker::mailbox::Letter;

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
    for name in args.iter().skip(2).step_by(2) {
        if let Some((name, _, Some(why))) = settings::find(name) {
            return refused(&Refusal::Node.error(&format!("config set {name}"), why));
        }
    }
    broadcast::all_succeeded(operation, true).await
}

/// CONFIG RESETSTAT: on all nodes, and what INFO tells of this instance.
pub(super) async fn reset_stats(operation: &Operation) -> Result<Vec<u8>, Failure> {
    let reply = broadcast::all_succeeded(operation, true).await?;
    let worker = &operation.worker;
    for (index, other) in worker.process.workers.iter().enumerate() {
        if index == worker.index {
            worker.counters.publish();
            continue;
        }
        let (done, published) = oneshot::channel();
        // One that has ended counts nothing any more.
        if other.mailbox.send(Letter::Publish(done)).await.is_ok() {
            let _ended = published.await;
        }
    }
    worker.process.reset_stats();
    Ok(reply)
}

fn refused(text: &str) -> Result<Vec<u8>, Failure> {
    let mut frame = Vec::new();
    encode::error(&mut frame, text);
    Ok(frame)
}
