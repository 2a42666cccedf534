//! The five systems slotway is made for, each as it was set up, on one machine: what its people do to it must
//! not be seen by their clients. A "pod" is a redis-server with a folder of its own; its new address is another
//! loopback address; a Service is a balancer that picks one backend per connection.

mod balancer;
mod operator;
mod proxies;
mod reshard;
mod sentinels;
mod statefulset;
