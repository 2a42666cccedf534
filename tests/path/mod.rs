//! Promises about answers, on a cluster that stays as it is.

mod auth;
mod commands;
mod differential;
mod forms;
mod framing;
mod harness;
mod metrics;
mod multi_key;
pub mod pubsub;
mod transactions;
mod unix;
mod values;
mod versions;
