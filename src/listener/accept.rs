//! The accept loop. Refuses clients beyond `max-clients` with Redis' own words, and slows down instead
//! of spinning when descriptors run out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

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

/// Accepts until dropped.
pub async fn run(listener: TcpListener, process: Arc<Process>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => place(&process, stream, peer).await,
            Err(error) => {
                if is_ours(&error) {
                    tracing::error!(%error, "cannot accept connections");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// True for an error that says something about us, not about a client that went away.
fn is_ours(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn place(process: &Process, stream: tokio::net::TcpStream, peer: SocketAddr) {
    // A worker registers the socket with its own runtime, so it travels as a plain one.
    let Ok(stream) = stream.into_std() else { return };
    let refusal = if process.clients() >= process.config.max_clients {
        Some(ProxyError::MaxClients)
    } else {
        process.is_memory_full().then_some(ProxyError::OutOfMemory)
    };
    if let Some(error) = refusal {
        process.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(worker) = process.workers.first() {
            let _ = worker.mailbox.send(Letter::Refuse(Accepted::Tcp(stream, peer), error)).await;
        }
        return;
    }
    if let Some(worker) = process.place_client()
        && worker.mailbox.send(Letter::Client(Accepted::Tcp(stream, peer))).await.is_err()
    {
        worker.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
