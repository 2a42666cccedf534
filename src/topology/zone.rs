//! Availability zones of nodes: rules of the configuration, by address or by host name. What a node says of
//! itself counts where no rule fits. Pure.

use std::fmt;
use std::net::IpAddr;

use crate::command::local::glob;

/// Longest name of a zone, and longest pattern of hosts: a name of the DNS has at most as many bytes.
const TEXT_MAX: usize = 255;

/// Which nodes are in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRule {
    nodes: Nodes,
    zone: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Nodes {
    /// Addresses with the same first bits.
    Network(IpAddr, u8),
    /// Host names that match a glob pattern, in any letter case.
    Hosts(String),
}

impl ZoneRule {
    /// Reads `CIDR=zone` or `host=zone`; `None` for anything else. An address alone is a network of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (nodes, zone) = text.split_once('=')?;
        let (nodes, zone) = (nodes.trim(), zone.trim());
        let is_fine =
            |text: &str| (1..=TEXT_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_fine(nodes) || !is_fine(zone) {
            return None;
        }
        Some(Self { nodes: Nodes::parse(nodes)?, zone: zone.to_owned() })
    }

    /// The zone a node of these names (addresses without brackets, host names) is in by the first rule that
    /// fits one of them.
    pub fn zone_of<'a>(rules: &'a [Self], names: &[String]) -> Option<&'a str> {
        let fits = |rule: &&Self| names.iter().any(|name| rule.nodes.contain(name));
        rules.iter().find(fits).map(|rule| rule.zone.as_str())
    }
}

impl fmt::Display for ZoneRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.nodes {
            Nodes::Network(address, bits) => write!(f, "{address}/{bits}={}", self.zone),
            Nodes::Hosts(pattern) => write!(f, "{pattern}={}", self.zone),
        }
    }
}

impl Nodes {
    fn parse(text: &str) -> Option<Self> {
        let width = |address: &IpAddr| if address.is_ipv4() { 32 } else { 128 };
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(&address))?;
            return Some(Self::Network(address, bits));
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Some(Self::Network(address, width(&address))),
            // What looks like an address and is none would never fit anything.
            Err(_) if text.contains([':', '[', ']']) => None,
            Err(_) => Some(Self::Hosts(text.to_owned())),
        }
    }

    fn contain(&self, name: &str) -> bool {
        match self {
            Self::Network(network, bits) => {
                name.parse().is_ok_and(|address| first_bits(*network, address, *bits))
            }
            Self::Hosts(pattern) => glob::matches(pattern.as_bytes(), name.trim_end_matches('.').as_bytes()),
        }
    }
}

/// True if the first `bits` bits of two addresses of one kind are the same.
fn first_bits(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let differing = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn zone(rules: &[&str], names: &[&str]) -> Option<String> {
        let rules: Vec<ZoneRule> = rules.iter().map(|rule| ZoneRule::parse(rule).unwrap()).collect();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ZoneRule::zone_of(&rules, &names).map(str::to_owned)
    }

    #[test]
    fn the_first_rule_that_fits_any_name_counts() {
        let rules = ["10.0.1.0/24=a", "10.0.0.0/16=b", "2001:db8::/33=c", "redis-?.east.*=d", "10.9.9.9=e"];
        let of = |name: &str| zone(&rules, &[name]).unwrap_or_default();
        let names = ["10.0.1.255", "10.0.2.1", "10.1.0.1", "2001:db8:7fff::1", "2001:db8:8000::1"];
        assert_eq!(names.map(of), ["a", "b", "", "c", ""]);
        let names = ["REDIS-1.East.example.", "redis-12.east.example", "10.9.9.9", "10.9.9.8"];
        assert_eq!(names.map(of), ["d", "", "e", ""]);
        assert_eq!(zone(&rules, &["nobody", "10.0.1.7"]).as_deref(), Some("a"), "by its second name");
        assert_eq!(zone(&["0.0.0.0/0=all"], &["192.0.2.1"]).as_deref(), Some("all"));
        assert_eq!(zone(&["::/0=all"], &["192.0.2.1"]), None);
    }

    #[test]
    fn what_is_no_rule() {
        for bad in
            ["", "a", "=z", "a=", "10.0.0.0/33=z", "10.0.0/8=z", "::1/129=z", "[::1]=z", "a:1=z", "a b=z"]
        {
            assert_eq!(ZoneRule::parse(bad), None, "{bad}");
        }
        for good in ["10.0.1.0/24=zone-a", "2001:db8::/32=b", "redis-*.svc=c", "10.0.0.1/32=d"] {
            assert_eq!(ZoneRule::parse(good).unwrap().to_string(), good);
        }
    }
}
