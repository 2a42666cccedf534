//! Promises about what happens when something moves, breaks or misbehaves.

mod addresses;
mod blocking;
mod busy;
mod clients;
mod failover;
mod keyspace;
mod lanes;
mod large;
mod limits;
mod notnow;
mod order;
mod pubsub;
mod redirects;
mod replies;
mod resend;
mod scan;
mod sentinel;
mod standalone;
mod stop;
mod subscribers;
mod wait;
mod waits;
