//! Bytes to frames and back. No I/O, no async, nothing here waits or knows a socket.

pub mod encode;
pub mod request;
