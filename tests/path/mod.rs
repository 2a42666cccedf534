//! Promises about answers, on a cluster that stays as it is.

mod commands;
mod differential;
mod forms;
mod framing;
mod harness;
mod multi_key;
mod values;
