//! Promises about answers, on a cluster that stays as it is.

mod auth;
mod commands;
mod forms;
mod framing;
mod harness;
mod keyspace;
mod metrics;
mod multi_key;
mod scan;
mod transactions;
mod unix;
mod values;
mod versions;
