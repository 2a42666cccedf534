//! Promises about what happens when something moves, breaks or misbehaves.

mod order;
mod redirects;
mod resend;
