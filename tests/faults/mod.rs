//! Promises about what happens when something moves, breaks or misbehaves.
