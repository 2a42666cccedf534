//! The accept loop. Refuses clients beyond `max-clients` with Redis' own words, and slows down instead
//! of spinning when descriptors run out.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::error::ProxyError;
use crate::worker::mailbox::{Accepted, Letter, Process};

/// Connections the kernel keeps for us to accept.
const BACKLOG: i32 = 1024;
/// Pause after an error that will not pass at once (no descriptors, no memory).
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket on `addr`.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A listening Unix socket at `path`. A file there that was left by a process that is gone is replaced.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        other => other,
    }
}

/// True for a socket that nobody listens on.
fn is_abandoned(path: &Path) -> bool {
    matches!(UnixStream::connect(path), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Accepts on a Unix socket until dropped.
pub async fn run_unix(listener: UnixListener, process: Arc<Process>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Ok(stream) = stream.into_std() {
                    place(&process, Accepted::Unix(stream)).await;
                }
            }
            Err(error) => slow_down(&error).await,
        }
    }
}

/// Accepts until dropped.
pub async fn run(listener: TcpListener, process: Arc<Process>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // A worker registers the socket with its own runtime, so it travels as a plain one.
                if let Ok(stream) = stream.into_std() {
                    place(&process, Accepted::Tcp(stream, peer)).await;
                }
            }
            Err(error) => slow_down(&error).await,
        }
    }
}

async fn slow_down(error: &io::Error) {
    if is_ours(error) {
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(PAUSE).await;
    }
}

/// True for an error that says something about us, not about a client that went away.
fn is_ours(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn place(process: &Process, client: Accepted) {
    let refusal = if process.clients() >= process.config.max_clients {
        Some(ProxyError::MaxClients)
    } else {
        process.is_memory_full().then_some(ProxyError::OutOfMemory)
    };
    if let Some(error) = refusal {
        process.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(worker) = process.workers.first() {
            let _ = worker.mailbox.send(Letter::Refuse(client, error)).await;
        }
        return;
    }
    if let Some(worker) = process.place_client()
        && worker.mailbox.send(Letter::Client(client)).await.is_err()
    {
        worker.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
