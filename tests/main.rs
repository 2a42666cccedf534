//! All integration tests, one binary: one link step on a small machine.
mod commands;
