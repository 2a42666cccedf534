//! Which node owns which slot, and how we know. A refresh never blocks a request; a table is never
//! edited, only replaced.

pub mod node;
pub mod table;
