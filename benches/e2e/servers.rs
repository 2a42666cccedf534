//! The Redis servers behind the targets.
//!
//! Owns a real cluster (three primaries, by default three replicas) and the standalone servers. Loopback only, in a
//! temporary folder, without persistence.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;
use crate::process::Process;

/// How long servers and proxies may take until they answer.
const START_MAX: Duration = Duration::from_secs(30);
/// Ports are taken from here: below the ports the kernel gives to clients, also with the cluster bus at + 10,000.
const FREE_PORTS: std::ops::Range<u16> = 15_000..22_000;
const BUS_OFFSET: u16 = 10_000;
const REDIS_OPTIONS: &str =
    "--bind 127.0.0.1 --appendonly no --maxclients 20000 --tcp-backlog 2048 --loglevel warning";
/// `cluster-node-timeout` where it does not matter: what redis-server has by default.
pub const NODE_TIMEOUT_MS: u32 = 15_000;
/// Three for nutcracker, one for HAProxy.
const STANDALONE: usize = 4;

/// Slots in one piece.
pub type SlotRange = RangeInclusive<u16>;

/// What is to be started.
pub struct Layout {
    /// Three replicas beside the three primaries.
    pub replicas: bool,
    /// Fixes the ports of the cluster's nodes: this one and those behind it.
    pub cluster_port: Option<u16>,
    /// The cluster's `cluster-node-timeout`, in milliseconds.
    pub node_timeout_ms: u32,
    /// The standalone servers too.
    pub standalone: bool,
}

/// Running redis-servers.
pub struct Servers {
    /// The cluster's nodes, primaries first.
    pub cluster: Vec<SocketAddr>,
    /// Plain servers: three for nutcracker, the last for HAProxy.
    pub standalone: Vec<SocketAddr>,
    /// In the order of `cluster`, then of `standalone`.
    processes: Vec<Process>,
}

impl Servers {
    /// Starts them and waits until the cluster serves every slot.
    ///
    /// # Errors
    /// When redis-server is missing or does not come up.
    pub fn start(folder: &Path, layout: &Layout) -> Result<Self> {
        let nodes = if layout.replicas { 6 } else { 3 };
        let node_timeout = layout.node_timeout_ms.to_string();
        let (mut processes, mut cluster, mut standalone) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..nodes {
            let port = layout.cluster_port.map_or_else(free_port, |first| wanted_port(first + index))?;
            cluster.push(loopback(port));
            let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", &node_timeout];
            processes.push(start_redis(folder, port, &options)?);
        }
        for _ in 0..if layout.standalone { STANDALONE } else { 0 } {
            let port = free_port()?;
            standalone.push(loopback(port));
            processes.push(start_redis(folder, port, &[])?);
        }
        // What answered must be what was started here.
        if !processes.iter_mut().all(Process::is_running) {
            return Err("a redis-server ended at once".into());
        }
        join(&cluster, layout.replicas)?;
        Ok(Self { cluster, standalone, processes })
    }

    /// The slots that the first primary says it owns.
    ///
    /// # Errors
    /// When it is no primary any more.
    pub fn slots_of_first(&self) -> Result<Vec<SlotRange>> {
        let first = self.cluster.first().ok_or("no cluster")?;
        let nodes = cluster_command(*first, "nodes")?;
        let line =
            nodes.lines().find(|line| line.contains("myself,master")).ok_or("not a primary any more")?;
        // Eight fields say who and how it is; the slots follow.
        let ranges = line.split_whitespace().skip(8).map(|range| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            Ok(from.parse()?..=to.parse()?)
        });
        ranges.collect()
    }

    /// Process id of the first primary.
    ///
    /// # Errors
    /// When none was started.
    pub fn first_pid(&self) -> Result<u32> {
        Ok(self.processes.first().ok_or("no cluster")?.pid())
    }
}

fn start_redis(folder: &Path, port: u16, more: &[&str]) -> Result<Process> {
    let home = folder.join(format!("redis-{port}"));
    std::fs::create_dir_all(&home)?;
    let number = port.to_string();
    let home_text = home.to_string_lossy();
    let mut args = vec!["--port", &number, "--dir", &home_text, "--save", ""];
    args.extend(REDIS_OPTIONS.split(' '));
    args.extend(more);
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    let process = Process::start("redis-server", &args, &home.join("log"))?;
    // Once it listens its port no longer looks free.
    wait_for(loopback(port), &[&["PING"]])?;
    Ok(process)
}

/// Makes one cluster of the nodes and waits until each of them says so.
fn join(nodes: &[SocketAddr], replicas: bool) -> Result<()> {
    let mut command = Command::new("redis-cli");
    command.args(["--cluster", "create"]).args(nodes.iter().map(ToString::to_string));
    command.args(["--cluster-replicas", if replicas { "1" } else { "0" }, "--cluster-yes"]);
    let output = command.output().map_err(|error| format!("redis-cli: {error}"))?;
    if !output.status.success() {
        return Err(format!("redis-cli --cluster create: {}", String::from_utf8_lossy(&output.stdout)).into());
    }
    let deadline = Instant::now() + START_MAX;
    for node in nodes {
        while !cluster_command(*node, "info")?.contains("cluster_state:ok") {
            pause_until(deadline, "the cluster")?;
        }
    }
    Ok(())
}

fn cluster_command(node: SocketAddr, name: &str) -> Result<String> {
    let port = node.port().to_string();
    let output = Command::new("redis-cli").args(["-p", &port, "cluster", name]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A number in a section of a server's INFO.
///
/// # Errors
/// When it says no such thing.
pub fn number_in_info(server: SocketAddr, section: &str, field: &str) -> Result<u64> {
    let port = server.port().to_string();
    let output = Command::new("redis-cli").args(["-p", &port, "info", section]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.ok_or_else(|| format!("{server} tells no {field}"))?.trim().parse()?)
}

/// Waits until a server answers each of these commands with something that is no error.
///
/// # Errors
/// After 30 s: what it said last.
pub fn wait_for(addr: SocketAddr, commands: &[&[&str]]) -> Result<()> {
    let deadline = Instant::now() + START_MAX;
    for command in commands {
        loop {
            let last = match first_line(addr, command) {
                Ok(line) if !line.starts_with('-') && !line.is_empty() => break,
                Ok(line) => line,
                Err(error) => error.to_string(),
            };
            pause_until(deadline, &format!("{addr} ({})", last.trim_end()))?;
        }
    }
    Ok(())
}

fn first_line(addr: SocketAddr, command: &[&str]) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut bytes = format!("*{}\r\n", command.len());
    for arg in command {
        bytes.push_str(&format!("${}\r\n{arg}\r\n", arg.len()));
    }
    stream.write_all(bytes.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

fn pause_until(deadline: Instant, what: &str) -> Result<()> {
    if Instant::now() > deadline {
        return Err(format!("waited {START_MAX:?} in vain for {what}").into());
    }
    std::thread::sleep(Duration::from_millis(50));
    Ok(())
}

/// A loopback port nobody listens on, nor on its cluster bus.
///
/// # Errors
/// When a hundred tries found none.
pub fn free_port() -> Result<u16> {
    let mut tries = std::iter::repeat_with(|| fastrand::u16(FREE_PORTS)).take(100);
    tries.find(|port| is_free(*port)).ok_or_else(|| "no free port on 127.0.0.1".into())
}

/// This port, if it is free: a server of someone else must never become part of our cluster.
fn wanted_port(port: u16) -> Result<u16> {
    if is_free(port) { Ok(port) } else { Err(format!("port {port} or its cluster bus port is taken").into()) }
}

fn is_free(port: u16) -> bool {
    let can_listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    port.checked_add(BUS_OFFSET).is_some_and(|bus| can_listen(port) && can_listen(bus))
}

/// 127.0.0.1 with this port.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
