//! Packets that vanish: no reset, no "unreachable". Needs a network namespace of the test run's own (`.ci/net` makes
//! one); nothing is dropped anywhere else.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

/// Set by `.ci/net` to the network namespace it was started in.
const OUTSIDE: &str = "OUTSIDE_NET";

/// What vanishes, until it is dropped.
#[derive(Debug)]
pub struct Hole {
    rules: Vec<Vec<String>>,
    ip: IpAddr,
}

impl Hole {
    /// Everything to and from an address: whoever is there is cut off from all others.
    #[track_caller]
    pub fn around(addr: SocketAddr) -> Self {
        let ip = addr.ip();
        Self::of(ip, &[&format!("-d {ip}"), &format!("-s {ip}")])
    }

    /// Only what opens a connection to this very port; those that stand go on.
    #[track_caller]
    pub fn for_new_connections(addr: SocketAddr) -> Self {
        Self::of(addr.ip(), &[&format!("-d {} -p tcp --syn --dport {}", addr.ip(), addr.port())])
    }

    #[track_caller]
    fn of(ip: IpAddr, rules: &[&str]) -> Self {
        let inside = fs::read_link("/proc/self/ns/net").expect("a network namespace");
        let outside = std::env::var_os(OUTSIDE).expect("this test runs by `make test-net` only");
        assert_ne!(inside.as_os_str(), outside, "not in a network namespace of our own: nothing is dropped");
        let words = |rule: &&str| rule.split(' ').chain(["-j", "DROP"]).map(str::to_owned).collect();
        let rules: Vec<Vec<String>> = rules.iter().map(words).collect();
        for rule in &rules {
            iptables("-A", rule);
        }
        Self { rules, ip }
    }

    /// Packets that have vanished in it.
    #[track_caller]
    pub fn swallowed(&self) -> u64 {
        let list = iptables("-nvxL", &[]);
        let ip = self.ip.to_string();
        let ours = list.lines().filter(|line| line.split_whitespace().any(|word| word == ip));
        ours.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        for rule in &self.rules {
            iptables("-D", rule);
        }
    }
}

/// Of all tests at once: it waits for the lock.
#[track_caller]
fn iptables(what: &str, rule: &[String]) -> String {
    let output = Command::new("iptables").args(["-w", what, "INPUT"]).args(rule).output().expect("iptables");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "iptables {what} {rule:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
