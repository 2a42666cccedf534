//! Promises about what happens when something moves, breaks or misbehaves.

mod addresses;
mod clients;
mod failover;
mod lanes;
mod large;
mod limits;
mod notnow;
mod order;
mod pubsub;
mod redirects;
mod replies;
mod resend;
mod stop;
mod subscribers;
