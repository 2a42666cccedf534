//! One client: its state, its requests in flight, its way back.

pub mod state;
