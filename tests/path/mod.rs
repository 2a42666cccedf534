//! Promises about answers, on a cluster that stays as it is.

mod administration;
mod auth;
mod blocking;
mod clients;
mod commands;
mod forms;
mod framing;
mod harness;
mod info;
mod keyspace;
mod keyspace_events;
mod least_acl;
mod metrics;
mod multi_key;
mod own;
mod pause;
pub mod pubsub;
mod pubsub_scripts;
mod scan;
mod scripts;
mod settings;
mod tracking;
mod transactions;
mod unix;
mod values;
mod versions;
mod virtual_node;
