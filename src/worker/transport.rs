//! One byte stream, whatever carries it: TCP or a Unix socket (TLS joins as a third variant). Sessions
//! and lanes know only this. The read side belongs to the task that reads; the write side to whoever
//! flushes, and is never awaited: it writes what the socket takes now.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// A connected stream.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Tcp(TcpStream),
    /// Unix domain socket.
    Unix(UnixStream),
}

impl Transport {
    /// Both directions, each on its own.
    pub fn split(self) -> (ReadSide, WriteSide) {
        match self {
            Self::Tcp(stream) => {
                let (r, w) = stream.into_split();
                (ReadSide::Tcp(r), WriteSide::Tcp(w))
            }
            Self::Unix(stream) => {
                let (r, w) = stream.into_split();
                (ReadSide::Unix(r), WriteSide::Unix(w))
            }
        }
    }
}

/// The direction towards us.
#[derive(Debug)]
pub enum ReadSide {
    /// TCP.
    Tcp(tcp::OwnedReadHalf),
    /// Unix domain socket.
    Unix(unix::OwnedReadHalf),
}

impl AsyncRead for ReadSide {
    /// `poll_read`, not `readable` + `try_read`: it clears the readiness after a short read, which
    /// saves the read that would only say EAGAIN.
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(side) => Pin::new(side).poll_read(cx, buf),
            Self::Unix(side) => Pin::new(side).poll_read(cx, buf),
        }
    }
}

/// The direction away from us.
#[derive(Debug)]
pub enum WriteSide {
    /// TCP.
    Tcp(tcp::OwnedWriteHalf),
    /// Unix domain socket.
    Unix(unix::OwnedWriteHalf),
}

impl WriteSide {
    /// Writes what the socket takes now; `WouldBlock` when that is nothing.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(side) => side.try_write(bytes),
            Self::Unix(side) => side.try_write(bytes),
        }
    }

    /// Number of the descriptor, as CLIENT LIST shows it.
    pub fn descriptor(&self) -> i32 {
        match self {
            Self::Tcp(side) => AsRef::<TcpStream>::as_ref(side).as_raw_fd(),
            Self::Unix(side) => AsRef::<UnixStream>::as_ref(side).as_raw_fd(),
        }
    }

    /// As `try_write`, from several pieces.
    #[inline]
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(side) => side.try_write_vectored(pieces),
            Self::Unix(side) => side.try_write_vectored(pieces),
        }
    }

    /// Waits until the peer closes its side or the connection breaks, whatever of it lies unread: the kernel
    /// reports that as an event of its own, which data does not cause.
    pub async fn hung_up(&self) {
        let ready = match self {
            Self::Tcp(side) => side.ready(Interest::PRIORITY).await,
            Self::Unix(side) => side.ready(Interest::PRIORITY).await,
        };
        // Urgent data is not asked for, so what is ready is the end; an error is the end of the runtime.
        drop(ready);
    }

    /// Ready when a write that would have blocked can be tried again.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(side) => AsRef::<TcpStream>::as_ref(side).poll_write_ready(cx),
            Self::Unix(side) => AsRef::<UnixStream>::as_ref(side).poll_write_ready(cx),
        }
    }
}
