//! Makes a cluster of freshly started servers: slots, introductions, replicas. Talks to each over a
//! blocking socket of its own, with inline commands.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::topology::table::SLOTS;

/// Primaries of the demo; each has one replica.
pub(super) const PRIMARIES: usize = 3;
/// All servers, primaries first.
pub(super) const NODES: usize = 2 * PRIMARIES;

const START_TIMEOUT: Duration = Duration::from_secs(15);
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(30);
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// Turns the servers into one cluster and waits until every one of them says it is complete.
pub(super) fn create(ports: &[u16]) -> Result<(), String> {
    let mut nodes = Vec::new();
    for &port in ports {
        nodes.push(until(START_TIMEOUT, || Node::connect(port))?);
    }
    for (shard, node) in nodes.iter_mut().take(PRIMARIES).enumerate() {
        // ADDSLOTSRANGE is shorter, but younger than the oldest server we work with.
        let range = shard * SLOTS / PRIMARIES..(shard + 1) * SLOTS / PRIMARIES;
        let slots: Vec<String> = range.map(|slot| slot.to_string()).collect();
        node.expect_ok(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")))?;
    }
    for (index, node) in nodes.iter_mut().enumerate() {
        node.expect_ok(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1))?;
    }
    if let Some(first) = nodes.first_mut() {
        for port in ports.iter().skip(1) {
            first.expect_ok(&format!("CLUSTER MEET 127.0.0.1 {port}"))?;
        }
    }
    let ids = nodes
        .iter_mut()
        .take(PRIMARIES)
        .map(|node| node.ask("CLUSTER MYID"))
        .collect::<Result<Vec<_>, _>>()?;
    for (replica, primary) in nodes.iter_mut().skip(PRIMARIES).zip(&ids) {
        // Refused until gossip has told the replica of its primary.
        until(CLUSTER_TIMEOUT, || replica.expect_ok(&format!("CLUSTER REPLICATE {primary}")))?;
    }
    for node in &mut nodes {
        until(CLUSTER_TIMEOUT, || node.complete())?;
    }
    Ok(())
}

/// Repeats `attempt` until it succeeds; the last failure once `limit` has passed.
fn until<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if start.elapsed() > limit => return Err(error),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

struct Node {
    port: u16,
    stream: BufReader<TcpStream>,
}

impl Node {
    fn connect(port: u16) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("server on port {port}: {error}");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, REPLY_TIMEOUT).map_err(failed)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(failed)?;
        let mut node = Self { port, stream: BufReader::new(stream) };
        node.ask("PING")?;
        Ok(node)
    }

    /// Sends an inline command; its reply as text. An error reply is an error.
    fn ask(&mut self, command: &str) -> Result<String, String> {
        let name: String = command.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let failed = |port: u16, text: String| format!("server on port {port}: {name}: {text}");
        let port = self.port;
        self.exchange(command).map_err(|error| failed(port, error.to_string())).and_then(|reply| match reply
            .strip_prefix('-')
        {
            Some(error) => Err(failed(port, error.to_owned())),
            None => Ok(reply),
        })
    }

    fn exchange(&mut self, command: &str) -> std::io::Result<String> {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.trim_end();
        let Some(length) = line.strip_prefix('$') else { return Ok(line.trim_start_matches('+').to_owned()) };
        let length: usize = length.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
        let mut body = vec![0; length + 2];
        self.stream.read_exact(&mut body)?;
        Ok(String::from_utf8_lossy(&body).trim_end().to_owned())
    }

    fn expect_ok(&mut self, command: &str) -> Result<(), String> {
        self.ask(command).map(drop)
    }

    /// All slots served, all nodes known, and this replica's data in sync.
    fn complete(&mut self) -> Result<(), String> {
        let port = self.port;
        let info = self.ask("CLUSTER INFO")?;
        let known = format!("cluster_known_nodes:{NODES}");
        if !info.contains("cluster_state:ok") || !info.contains(&known) {
            return Err(format!("server on port {port}: the cluster is not complete"));
        }
        let nodes = self.ask("CLUSTER NODES")?;
        if nodes.matches(" slave ").count() + nodes.matches(",slave ").count() != NODES - PRIMARIES {
            return Err(format!("server on port {port}: not all replicas are known"));
        }
        let replication = self.ask("INFO replication")?;
        if replication.contains("master_link_status:down") {
            return Err(format!("server on port {port}: not in sync with its primary"));
        }
        Ok(())
    }
}
