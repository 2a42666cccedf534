//! The command table learns: what the connected cluster has beyond the built-in commands works, is refused
//! with a reason, or is not believed, and nothing it says changes what is known.

mod announce;
mod asking;
mod hostile;
mod module;
mod rules;
mod tables;
mod transactions;
mod waiting;
