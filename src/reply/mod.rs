//! The way back: a node's reply is a redirect to follow, a part to merge, or what the client gets.

pub mod explode;
pub mod merge;
pub mod redirect;
pub mod splice;
