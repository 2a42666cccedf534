//! What the demo prints: commands that work when typed, with the real ports and process ids.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// What the commands need.
pub(super) struct Guide {
    /// Where clients connect.
    pub(super) client: SocketAddr,
    /// The admin port.
    pub(super) admin: SocketAddr,
    /// Port and process id of each primary.
    pub(super) primaries: Vec<(u16, u32)>,
}

/// One line on stdout; a closed stdout is no reason to stop.
pub(super) fn say(line: &str) {
    let _closed = writeln!(std::io::stdout().lock(), "demo: {line}");
}

/// Prints the guide as soon as the proxy takes traffic. Waits in a thread of its own, for the proxy
/// needs this one.
pub(super) fn when_ready(guide: Guide) {
    std::thread::spawn(move || {
        let start = Instant::now();
        while !is_ready(reachable(guide.admin)) {
            if start.elapsed() > READY_TIMEOUT {
                say(&format!("the proxy is not ready; see http://{}/readyz", reachable(guide.admin)));
                return;
            }
            std::thread::sleep(POLL);
        }
        let _closed = std::io::stdout().lock().write_all(guide.text().as_bytes());
    });
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&admin, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

/// An address to type: `0.0.0.0` can be listened on but is not one to connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl Guide {
    fn text(&self) -> String {
        let client = reachable(self.client);
        let admin = reachable(self.admin);
        let to = format!("-h {} -p {}", client.ip(), client.port());
        let (port, pid) = self.primaries.first().copied().unwrap_or_default();
        let survivor = self.primaries.get(1).map_or(port, |&(port, _)| port);
        let nodes: Vec<String> =
            self.primaries.iter().map(|(port, pid)| format!("{port} (pid {pid})")).collect();
        format!(
            r#"
slotway listens on {client}; behind it are the primaries {nodes}, each with a replica.

Use it like a single Redis:
  redis-cli {to} PING
  redis-cli {to} SET greeting hello
  redis-cli {to} GET greeting
Keys on several shards, one command:
  redis-cli {to} MSET a 1 b 2 c 3 d 4
  redis-cli {to} MGET a b c d
Load:
  redis-benchmark {to} -t get,set -n 200000 -r 100000 -P 16 -q
Look inside:
  curl -s http://{admin}/metrics
  curl -s http://{admin}/topology
Kill a primary and watch its replica take over:
  kill -9 {pid}      # the primary on port {port}
  redis-cli -p {survivor} CLUSTER NODES
  watch -n 1 "curl -s http://{admin}/metrics | grep ^slotway_backend_up"
  redis-cli {to} MGET a b c d

Ctrl-C stops everything and leaves nothing behind.

"#,
            nodes = nodes.join(", "),
        )
    }
}
