//! The process: starts everything, waits for a signal, stops everything.

use crate::config::Config;

/// Why the process could not run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AppError(String);

/// Runs until a signal ends it.
pub fn run(config: Config) -> Result<(), AppError> {
    Err(AppError(format!("cannot listen on {}", config.listen)))
}
