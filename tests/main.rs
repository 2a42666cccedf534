//! All integration tests, one binary: one link step on a small machine.
//!
//! `support` starts real servers, fake nodes and the real proxy binary; `path` holds the promises
//! about answers, `faults` those about what happens when something breaks. README.md maps both.
//! `scanner` holds the two scanners against the oracle, `contract` holds what others script against,
//! `tidy` the house rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[macro_use]
mod support;

mod commands;
mod contract;
mod differential;
mod faults;
mod learned;
mod path;
mod scanner;
mod systems;
mod tidy;
mod topology;
