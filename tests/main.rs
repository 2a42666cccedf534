//! All integration tests, one binary: one link step on a small machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;
mod tidy;
