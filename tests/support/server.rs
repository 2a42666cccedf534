//! One real redis-server process, standalone or cluster node. Owns the process and its folder.

use std::collections::VecDeque;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::client::Client;
use super::ports::{free_node_port, free_port};
use super::process::{Process, scratch_dir};
use super::{eventually, within};

/// `cluster-node-timeout` where a test wants no other.
pub const USUAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Cluster nodes that run before anybody wants them. For two seconds from its start a node says that the cluster
/// is not ready, whatever it knows: every test with a cluster of its own would wait for that.
const NODES_AHEAD: usize = 12;

/// Where nodes listen that need no address of their own.
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Options they can be told as well as be started with.
const TOLD_LATER: [&str; 2] = ["--cluster-require-full-coverage", "--busy-reply-threshold"];

/// True where there is a redis-server to start.
pub fn redis_present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    *PRESENT.get_or_init(|| {
        Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    })
}

/// A running redis-server.
#[derive(Debug)]
pub struct Server {
    process: Process,
    addr: SocketAddr,
    dir: PathBuf,
    options: Vec<String>,
}

impl Server {
    /// A standalone server with further command-line options.
    #[track_caller]
    pub fn standalone(options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        Self::start_somewhere(LOCALHOST, &options, free_port)
    }

    /// A cluster node that knows nobody yet.
    #[track_caller]
    pub fn cluster_node(node_timeout: Duration, options: &[&str]) -> Self {
        let all = cluster_options(node_timeout, options);
        let pairs: Vec<[&str; 2]> = options.chunks(2).filter_map(|pair| pair.try_into().ok()).collect();
        if !pairs.iter().all(|[name, _]| TOLD_LATER.contains(name)) {
            return Self::start_somewhere(LOCALHOST, &all, free_node_port);
        }
        let mut node = Self::ahead();
        let timeout = node_timeout.as_millis().to_string();
        for [name, value] in [&[["--cluster-node-timeout", &timeout]], &pairs[..]].concat() {
            node.client().ok(&cmd!["CONFIG", "SET", &name[2..], value]);
        }
        node.options = all;
        node
    }

    /// The same at another loopback address.
    #[track_caller]
    pub fn cluster_node_at(ip: IpAddr, node_timeout: Duration, options: &[&str]) -> Self {
        Self::start_somewhere(ip, &cluster_options(node_timeout, options), free_node_port)
    }

    /// A node that was started ahead, and another for later.
    #[track_caller]
    fn ahead() -> Self {
        static AHEAD: Mutex<VecDeque<Server>> = Mutex::new(VecDeque::new());
        for _ in 0..10 {
            let mut nodes = AHEAD.lock().unwrap_or_else(PoisonError::into_inner);
            while nodes.len() <= NODES_AHEAD {
                nodes.push_back(Self::launched(
                    LOCALHOST,
                    &cluster_options(USUAL_TIMEOUT, &[]),
                    free_node_port,
                ));
            }
            let oldest = nodes.pop_front();
            drop(nodes);
            if let Some(node) = oldest.and_then(Self::once_up) {
                return node;
            }
        }
        panic!("redis-server did not start on any port");
    }

    #[track_caller]
    fn start_somewhere(ip: IpAddr, options: &[String], port: fn() -> u16) -> Self {
        // Somebody else may take the port between the look and the start.
        (0..10)
            .find_map(|_| Self::launched(ip, options, port).once_up())
            .expect("redis-server did not start on any port")
    }

    fn launched(ip: IpAddr, options: &[String], port: fn() -> u16) -> Self {
        let addr = SocketAddr::new(ip, port());
        let dir = scratch_dir("redis");
        let process = launch(addr, &dir, options);
        Self { process, addr, dir, options: options.to_vec() }
    }

    #[track_caller]
    fn once_up(mut self) -> Option<Self> {
        wait_up(&mut self.process, self.addr, &self.options).then_some(self)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The folder it works in; survives it.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        let mut client = Client::connect(self.addr);
        if let Some(password) = password(&self.options) {
            client.ok(&cmd!["AUTH", password]);
        }
        client
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub fn freeze(&mut self) {
        self.process.signal("STOP");
        let stat = format!("/proc/{}/stat", self.pid());
        eventually("the server stops", || {
            let text = std::fs::read_to_string(&stat).unwrap_or_default();
            super::check(text.contains(") T "), text)
        });
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.process.signal("CONT");
    }

    /// Starts it again at its address with an empty folder.
    #[track_caller]
    pub fn restart_empty(&mut self) {
        self.process.kill();
        self.dir = scratch_dir("redis");
        self.restart_at(self.addr);
    }

    /// Starts it again at its address with other options and an empty folder.
    #[track_caller]
    pub fn restart_with(&mut self, options: &[&str]) {
        self.process.kill();
        self.options = options.iter().map(ToString::to_string).collect();
        self.restart_empty();
    }

    /// Starts it again (killing it where it still runs) with the same folder at `addr`.
    #[track_caller]
    pub fn restart_at(&mut self, addr: SocketAddr) {
        self.process.kill();
        self.addr = addr;
        self.process = launch(addr, &self.dir, &self.options);
        assert!(
            wait_up(&mut self.process, addr, &self.options),
            "redis-server does not start again at {addr}"
        );
    }
}

fn cluster_options(node_timeout: Duration, more: &[&str]) -> Vec<String> {
    let timeout = node_timeout.as_millis().to_string();
    let mut all = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", &timeout];
    all.extend_from_slice(&["--repl-diskless-sync-delay", "0", "--cluster-config-file", "nodes.conf"]);
    all.extend_from_slice(more);
    all.iter().map(ToString::to_string).collect()
}

fn password(options: &[String]) -> Option<&String> {
    let at = options.iter().position(|o| o == "--requirepass")?;
    options.get(at + 1)
}

fn launch(addr: SocketAddr, dir: &Path, options: &[String]) -> Process {
    let log = File::options().create(true).append(true).open(dir.join("log")).expect("log file");
    let mut command = Command::new("redis-server");
    command.args(["--bind", &addr.ip().to_string(), "--port", &addr.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--protected-mode", "no"]);
    command.arg("--dir").arg(dir).args(options);
    if options.iter().any(|o| o == "--cluster-enabled") {
        // Peers would otherwise take the source address of its connections, 127.0.0.1, for its own.
        command.args(["--cluster-announce-ip", &addr.ip().to_string()]);
    }
    command.stdout(log.try_clone().expect("log file")).stderr(log);
    Process::spawn(&mut command).expect("redis-server")
}

/// False when the process ended instead (its port was taken).
fn wait_up(process: &mut Process, addr: SocketAddr, options: &[String]) -> bool {
    let pid_line = format!("process_id:{}\r", process.pid());
    within(Duration::from_secs(20), "redis-server answers", || {
        if process.exited().is_some() {
            return Ok(false);
        }
        let mut client = Client::try_connect(addr)?;
        if let Some(password) = password(options) {
            client.try_raw(&cmd!["AUTH", password])?;
        }
        let info = client.try_raw(&cmd!["INFO", "server"])?;
        let ours = String::from_utf8_lossy(&info).contains(&pid_line);
        if ours { Ok(true) } else { Err(std::io::Error::other("another server answers there")) }
    })
}
