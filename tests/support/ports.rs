//! Free loopback ports. Outside the kernel's ephemeral range, so that no outgoing connection takes
//! one between the look and the use; a clash with another test run is possible and retried by the
//! caller.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 11000;
const COUNT: u16 = 10000;
/// Redis' cluster bus listens this far above the data port.
pub const BUS_OFFSET: u16 = 10000;

fn next() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(u16::MAX);
    // Each test process begins somewhere else.
    let start = (std::process::id().wrapping_mul(2654435761) >> 16) as u16 % COUNT;
    let _ = NEXT.compare_exchange(u16::MAX, start, Ordering::Relaxed, Ordering::Relaxed);
    let step = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some((n + 1) % COUNT));
    FIRST + step.unwrap_or(0)
}

fn free(port: u16) -> bool {
    TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), port)).is_ok()
}

/// A port nobody listens on, at 127.0.0.1.
pub fn free_port() -> u16 {
    (0..COUNT).map(|_| next()).find(|&p| free(p)).expect("no free port")
}

/// A port for a cluster node: the bus port is free too.
pub fn free_node_port() -> u16 {
    (0..COUNT).map(|_| next()).find(|&p| free(p) && free(p + BUS_OFFSET)).expect("no free port")
}

/// A loopback address that no other test of this process uses.
pub fn own_address() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    // The last byte is neither 0 nor 255.
    IpAddr::from([127, 1 + high, low / 128, 1 + low % 128])
}
