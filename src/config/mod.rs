//! The configuration: every key with its type, default and reason, and where each value came from.
//!
//! Owns reading and checking it (`load`), and the texts generated from the keys (`render`). After
//! start nothing changes it.

mod keys;
mod load;
mod machine;
pub mod render;
mod validate;
pub mod value;
mod zones;

pub use keys::{Config, KEYS, Key, Rule};
pub use load::{ConfigError, Loaded, Origin, Sources, load, read_password_file};
pub use value::{LogFormat, LogLevel, ReadFrom, Secret, Value, parse_node_addr};
