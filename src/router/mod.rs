//! Where a request goes. Pure: no I/O, no clock, nothing here waits.

pub mod slot;
pub mod split;
