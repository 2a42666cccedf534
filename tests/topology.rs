//! The topology service against scripted nodes on loopback ports, and one real one-node cluster.

mod discovery;
mod health;
mod real;
mod running;
mod scripted;
