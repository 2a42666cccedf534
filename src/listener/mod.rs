//! A client arrives: one acceptor on the main thread takes connections and places each on the worker
//! with the fewest (at low counts, the kernel's own spreading by SO_REUSEPORT is lopsided).

pub mod accept;
pub mod socket;
