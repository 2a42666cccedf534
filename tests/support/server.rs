//! One real redis-server process, standalone or cluster node. Owns the process and its folder.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::client::Client;
use super::ports::{free_node_port, free_port};
use super::process::{Process, scratch_dir};
use super::{eventually, within};

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
        Self::start_somewhere(IpAddr::V4(Ipv4Addr::LOCALHOST), &options, free_port)
    }

    /// A cluster node that knows nobody yet.
    #[track_caller]
    pub fn cluster_node(node_timeout: Duration, options: &[&str]) -> Self {
        Self::cluster_node_at(IpAddr::V4(Ipv4Addr::LOCALHOST), node_timeout, options)
    }

    /// The same at another loopback address.
    #[track_caller]
    pub fn cluster_node_at(ip: IpAddr, node_timeout: Duration, options: &[&str]) -> Self {
        let timeout = node_timeout.as_millis().to_string();
        let mut all = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", &timeout];
        all.extend_from_slice(&["--repl-diskless-sync-delay", "0", "--cluster-config-file", "nodes.conf"]);
        all.extend_from_slice(options);
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        Self::start_somewhere(ip, &all, free_node_port)
    }

    #[track_caller]
    fn start_somewhere(ip: IpAddr, options: &[String], port: fn() -> u16) -> Self {
        // Somebody else may take the port between the look and the start.
        for _ in 0..10 {
            let addr = SocketAddr::new(ip, port());
            let dir = scratch_dir("redis");
            let mut process = launch(addr, &dir, options);
            if wait_up(&mut process, addr, options) {
                return Self { process, addr, dir, options: options.to_vec() };
            }
        }
        panic!("redis-server did not start on any port");
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
