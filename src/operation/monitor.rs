//! MONITOR: a line to every primary, and what they say goes to the client as it comes, but for what a proxy says to
//! nodes for itself. The mode ends with the connection, or with RESET. A primary that is lost or new is monitored again as soon as it can be; what it
//! executed meanwhile is missing, as it would be after a reconnect to a single Redis.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{Operation, OperationKind};
use crate::backend::line::{Line, LineError, LineLost};
use crate::command::{CommandTable, Handling};
use crate::error::ProxyError;
use crate::session::Session;
use crate::session::push::PushFrame;
use crate::session::script::OWN_LOAD;
use crate::topology::node::NodeId;
use crate::worker::WorkerContext;

/// MONITOR as a request.
const MONITOR: &[u8] = b"*1\r\n$7\r\nMONITOR\r\n";
/// How often the list of primaries is looked at, should no event tell.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The task that keeps a client informed; ends with it.
#[derive(Debug)]
pub struct Monitor(AbortHandle);

impl Drop for Monitor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One line that is listened to.
struct Listener {
    task: AbortHandle,
    alive: Rc<Cell<bool>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// MONITOR.
///
/// # Errors
/// Not every primary can be reached.
pub async fn monitor(operation: &Operation) -> Result<Vec<u8>, ProxyError> {
    let (worker, session) = (&operation.worker, &operation.session);
    let mut lines = Vec::new();
    for node in operation.primaries().await? {
        match open(worker, session, node).await {
            Ok(line) => lines.push(line),
            Err(LineError::Full) => return Err(ProxyError::DedicatedFull),
            Err(LineError::Connect(_) | LineError::Gone) => return Err(ProxyError::ClusterDown),
        }
    }
    let task = tokio::task::spawn_local(follow(Rc::clone(worker), Rc::clone(session), lines));
    let mut inner = session.inner();
    inner.monitor = Some(Box::new(Monitor(task.abort_handle())));
    inner.settle_mode();
    Ok(b"+OK\r\n".to_vec())
}

async fn open(worker: &Rc<WorkerContext>, session: &Session, node: NodeId) -> Result<Line, LineError> {
    let resp = session.inner().client.resp;
    let mut line = worker.check_out(node, resp).await?;
    match line.ask(MONITOR).await {
        Ok(reply) if reply.starts_with(b"+") => Ok(line),
        _ => Err(LineError::Gone),
    }
}

/// Keeps a listener at every primary.
async fn follow(worker: Rc<WorkerContext>, session: Rc<Session>, lines: Vec<Line>) {
    let mut listeners: HashMap<NodeId, Listener> = HashMap::new();
    for line in lines {
        listeners.insert(line.node, listen(&session, line));
    }
    loop {
        let changed = worker.changed.notified();
        let primaries: Vec<NodeId> =
            worker.table.borrow().shards().iter().map(|shard| shard.primary).collect();
        let up = |node: NodeId| worker.topology.node(node).is_some_and(|node| node.is_up());
        listeners.retain(|node, listener| listener.alive.get() && primaries.contains(node) && up(*node));
        for node in primaries {
            if !listeners.contains_key(&node)
                && up(node)
                // One that stops just now must not keep the others from being listened to.
                && let Ok(Ok(line)) = timeout(worker.limits.connect_timeout, open(&worker, &session, node)).await
            {
                listeners.insert(node, listen(&session, line));
            }
        }
        let _looked = timeout(LOOK_AGAIN, changed).await;
    }
}

fn listen(session: &Rc<Session>, mut line: Line) -> Listener {
    let alive = Rc::new(Cell::new(true));
    let (session, living) = (Rc::clone(session), Rc::clone(&alive));
    let task = tokio::task::spawn_local(async move {
        let _lost: LineLost = loop {
            match line.frame().await {
                Ok(frame) if is_ours(&frame) => {}
                Ok(frame) => drop(session.push(&mut PushFrame::line(&frame))),
                Err(lost) => break lost,
            }
        };
        living.set(false);
    });
    Listener { task: task.abort_handle(), alive }
}

/// True for a line about what no client of a proxy can have made a node do: a command that we answer ourselves, and
/// say to nodes only to look after our connections and to learn of the cluster.
fn is_ours(line: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(line, b"] \"") else { return false };
    let (from, said) = (line.get(..at).unwrap_or_default(), line.get(at + 3..).unwrap_or_default());
    let mut words = said.split(|&byte| byte == b'"');
    // Between the quotes: a blank.
    let (name, _, second) =
        (words.next().unwrap_or_default(), words.next(), words.next().unwrap_or_default());
    let table = CommandTable::builtin();
    let subcommand = || table.by_name([name, b"|", second].concat());
    let Some(command) = table.by_name(name) else { return false };
    let command = if command.subcommands.is_empty() { command } else { subcommand().unwrap_or(command) };
    let is_own = match command.handling {
        Handling::Local(_) | Handling::Operation(OperationKind::Tracking) => true,
        _ => command.name == "script|load" && second == OWN_LOAD,
    };
    is_own && !from.ends_with(b" lua")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_proxies_say_to_nodes_is_told_apart() {
        for (said, ours) in [
            (r#"127.0.0.1:7] "GET" "k""#, false),
            (r#"127.0.0.1:7] "get" "] \"PING\"""#, false),
            (r#"127.0.0.1:7] "PING""#, true),
            (r#"[::1]:7] "hello" "3""#, true),
            (r#"127.0.0.1:7] "CLUSTER" "SLOTS""#, true),
            (r#"127.0.0.1:7] "CLUSTER" "COUNTKEYSINSLOT" "7""#, false),
            (r#"127.0.0.1:7] "CLIENT" "TRACKING" "ON""#, true),
            (r#"127.0.0.1:7] "CLIENT" "CACHING" "YES""#, true),
            (r#"127.0.0.1:7] "INFO" "server""#, true),
            (r#"127.0.0.1:7] "ASKING""#, true),
            (r#"127.0.0.1:7] "SCRIPT" "LOAD" "return 1""#, false),
            (r#"127.0.0.1:7] "SCRIPT" "lOAD" "return 1""#, true),
            (r#"127.0.0.1:7] "EVALSHA" "abc" "0""#, false),
            (r#"127.0.0.1:7] "MULTI""#, false),
            (r#"127.0.0.1:7] "MODULE.SAYS" "x""#, false),
            (r#"lua] "PING""#, false),
        ] {
            assert_eq!(is_ours(format!("+1700000000.000001 [0 {said}\r\n").as_bytes()), ours, "{said}");
        }
        for odd in ["", "+OK\r\n", "+1 [0 x] \"", "+1 [0 x] \"\""] {
            assert!(!is_ours(odd.as_bytes()), "{odd}");
        }
    }
}
