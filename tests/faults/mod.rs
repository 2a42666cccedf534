//! Promises about what happens when something moves, breaks or misbehaves.

mod addresses;
mod blocking;
mod busy;
mod cacher;
mod clients;
mod failover;
mod keyspace;
mod lanes;
mod large;
mod limits;
mod monitor;
mod noscript;
mod notnow;
mod order;
mod pubsub;
mod redirects;
mod replies;
mod resend;
mod scan;
mod scripts;
mod stop;
mod subscribers;
mod tracking;
mod tracking_order;
mod wait;
mod waits;
