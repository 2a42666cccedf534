//! backend

pub mod handshake;
