//! The fault bench: a throw-away cluster, slotway before it, workers with values that describe themselves, one fault
//! after the other, and a checker. `make torture` runs it long (`main.rs`), `cargo test` a short one (`planted/`).
//!
//! Everything is on the loopback, ended by handle and bounded in time. The same seed gives the same faults and the
//! same requests; how they fall together is up to the machine.

pub mod bench;
pub mod check;
pub mod conn;
pub mod fault;
pub mod keep;
pub mod load;
pub mod run;
pub mod site;
