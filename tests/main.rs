//! All integration tests, one binary: one link step on a small machine.
//!
//! `support` starts real servers, fake nodes and the real proxy binary; `path` holds the promises
//! about answers, `faults` those about what happens when something breaks. README.md maps both.
//! `scanner` holds the two scanners against the oracle, `contract` holds what others script against,
//! `tidy` the house rules. `torture` is the fault bench of `make torture`, `torture_checked` holds its checker against
//! planted mistakes and runs it in small.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[macro_use]
mod support;

mod commands;
mod contract;
mod differential;
mod faults;
mod learned;
mod path;
mod replicas;
mod scanner;
mod systems;
mod tidy;
mod topology;
// `make torture` uses more of it.
#[allow(dead_code)]
mod torture;
#[path = "torture/planted/mod.rs"]
mod torture_checked;
