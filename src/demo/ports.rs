//! Free ports on this machine. Whoever asks gets numbers, not sockets: the short race until they are
//! used ends in a clear error of the one who comes second.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A node's cluster bus listens this much above its port.
const BUS_OFFSET: u16 = 10_000;
/// With their bus ports these lie below the range outgoing connections take theirs from.
const NODE_PORTS: std::ops::Range<u16> = 7_000..20_000;
/// How far to look for a free port above the one asked for.
const STEPS: u16 = 100;

/// `count` ports on the loopback address whose bus ports are free as well.
pub(super) fn for_nodes(count: usize) -> io::Result<Vec<u16>> {
    let span = NODE_PORTS.end - NODE_PORTS.start;
    let start = fastrand::u16(0..span);
    let mut held = Vec::new();
    let mut ports = Vec::new();
    for step in 0..span {
        let port = NODE_PORTS.start + (start + step) % span;
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        if let (Ok(client), Ok(bus)) = (bind(port), bind(port + BUS_OFFSET)) {
            held.push((client, bus));
            ports.push(port);
        }
        if ports.len() == count {
            return Ok(ports);
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}

/// `wanted`, or the same address with the next free port.
pub(super) fn free_from(wanted: SocketAddr) -> io::Result<SocketAddr> {
    let mut address = wanted;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener.local_addr(),
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && address.port() < wanted.port().saturating_add(STEPS) =>
            {
                address.set_port(address.port() + 1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// As `free_from`, but never `taken`.
pub(super) fn next_free(wanted: SocketAddr, taken: SocketAddr) -> io::Result<SocketAddr> {
    let found = free_from(wanted)?;
    if found.port() != taken.port() {
        return Ok(found);
    }
    free_from(SocketAddr::new(wanted.ip(), found.port().saturating_add(1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_port_in_use_is_stepped_over() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = held.local_addr().unwrap();
        let got = free_from(wanted).unwrap();
        assert!(got.port() > wanted.port() && got.ip() == wanted.ip());
        assert_ne!(next_free(got, got).unwrap(), got);
        assert!(free_from("203.0.113.1:1".parse().unwrap()).is_err());
    }

    #[test]
    fn node_ports_are_distinct_and_leave_room_for_the_bus() {
        let mut ports = for_nodes(6).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
        assert!(ports.iter().all(|port| NODE_PORTS.contains(port)));
    }
}
