//! The admin port: metrics, probes and what this process knows, over HTTP/1.1 on a listener of its
//! own, for operators only.
//!
//! Owns the connections to it. Must never touch a client's data or wait for a node: every answer is
//! made from what is in memory.

mod http;

pub use http::serve;

/// One condition of being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Short name, as `/readyz?verbose` shows it.
    pub name: &'static str,
    /// `Err` says what is missing.
    pub result: Result<(), String>,
}

/// What the admin port shows. Every method is called on the control thread and must return at once.
pub trait AdminState {
    /// `Err` when a worker's loop no longer turns. Must not depend on Redis or DNS.
    fn live(&self) -> Result<(), String>;

    /// The conditions of taking traffic: all must hold.
    fn ready(&self) -> Vec<Check>;

    /// The cluster as we see it, as JSON.
    fn topology_json(&self) -> String;

    /// Prometheus text.
    fn metrics_text(&self) -> String;

    /// The effective configuration, secrets masked.
    fn config_text(&self) -> String;
}
