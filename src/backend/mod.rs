//! The nodes, as one worker sees them: pipelined lanes, requests that wait for a node, replies read.

pub mod call;
pub mod connect;
pub mod dedicated;
mod doubt;
pub mod handshake;
pub mod lane;
pub mod lanes;
pub mod late;
pub mod line;
pub mod permit;
pub mod reader;
pub mod reads;
pub mod send;
pub mod sendbuf;
pub mod ticket;
pub mod turns;
pub mod waiting;
