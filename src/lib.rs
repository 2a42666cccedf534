//! slotway: a slot-aware Redis Cluster proxy.
//!
//! The modules below stand in the order a request passes them; the second group stands beside the
//! path. ARCHITECTURE.md follows one GET and one cross-shard MGET through them.

// The path of a request.
pub mod listener;

pub mod script;
pub mod session;

pub mod operation;
pub mod protocol;
pub mod pubsub;

pub mod command;

pub mod router;

pub mod backend;

pub mod reply;

// Beside the path.
pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
pub mod error;
pub mod telemetry;
pub mod topology;
pub mod tracking;
pub mod worker;
