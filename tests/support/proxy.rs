//! The real proxy binary, started as a user would: flags for addresses, environment for the rest.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::client::Client;
use super::http::{self, Metrics};
use super::ports::free_port;
use super::process::{Process, scratch_dir};
use super::{PATIENCE, check, eventually, within};

/// A running slotway.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    addr: SocketAddr,
    admin: SocketAddr,
    dir: PathBuf,
}

/// What to start.
#[derive(Default)]
pub struct Setup<'a> {
    /// `HOST:PORT` each.
    pub seeds: Vec<String>,
    /// Config keys in kebab-case; they go into the environment as `SLOTWAY_…`.
    pub keys: Vec<(&'a str, &'a str)>,
    /// A command that ends by running its arguments (`unshare -m …`); empty = none.
    pub wrapper: Vec<String>,
}

impl Proxy {
    /// Starts it with these seeds and config keys and waits for `/readyz`.
    #[track_caller]
    pub fn start(seeds: &[SocketAddr], keys: &[(&str, &str)]) -> Self {
        let seeds = seeds.iter().map(SocketAddr::to_string).collect();
        let proxy = Self::launch(&Setup { seeds, keys: keys.to_vec(), wrapper: Vec::new() });
        proxy.wait_ready();
        proxy
    }

    /// Starts it and waits only until the admin port answers.
    #[track_caller]
    pub fn launch(setup: &Setup) -> Self {
        // Somebody else may take a port between the look and the start.
        for _ in 0..5 {
            if let Some(proxy) = Self::try_launch(setup) {
                return proxy;
            }
        }
        panic!("slotway does not start");
    }

    #[track_caller]
    fn try_launch(setup: &Setup) -> Option<Self> {
        let dir = scratch_dir("slotway");
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (addr, admin) = (at(free_port()), at(free_port()));
        let binary = env!("CARGO_BIN_EXE_slotway");
        let mut command = match setup.wrapper.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.arg("serve").args(setup.seeds.iter().flat_map(|s| ["--seed", s]));
        command.args(["--listen", &addr.to_string(), "--admin-listen", &admin.to_string()]);
        command.env("SLOTWAY_DRAIN_ACCEPT_GRACE", "100ms");
        for (key, value) in &setup.keys {
            command.env(format!("SLOTWAY_{}", key.to_uppercase().replace('-', "_")), value);
        }
        let log = File::create(dir.join("log")).expect("log file");
        command.stdout(log.try_clone().expect("log file")).stderr(log);
        let process = Process::spawn(&mut command).expect("start slotway");
        let mut proxy = Self { process, addr, admin, dir };
        let up = within(Duration::from_secs(15), "the admin port answers", || match proxy.process.exited() {
            Some(_) => Ok(false),
            None => http::get(admin, "/livez").map(|_| true),
        });
        if !up {
            let log = proxy.log();
            assert!(log.to_lowercase().contains("in use"), "slotway ended at once: {log}");
            return None;
        }
        Some(proxy)
    }

    #[track_caller]
    pub fn wait_ready(&self) {
        eventually("/readyz answers 200", || {
            let (status, body) = http::get(self.admin, "/readyz?verbose").map_err(|e| e.to_string())?;
            check(status == 200, format!("{status}: {body}\nlog: {}", self.log()))
        });
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    #[track_caller]
    pub fn client_resp3(&self) -> Client {
        Client::connect_resp3(self.addr)
    }

    /// Status and body of a GET at the admin port.
    #[track_caller]
    pub fn admin(&self, path: &str) -> (u16, String) {
        http::get(self.admin, path).unwrap_or_else(|e| panic!("GET {path}: {e}; log: {}", self.log()))
    }

    /// One reading of `/metrics`; counters are published about once a second.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let (status, body) = self.admin("/metrics");
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }

    /// Waits until the sum of a metric satisfies `holds`.
    #[track_caller]
    pub fn wait_metric(&self, name: &str, labels: &[&str], holds: impl Fn(f64) -> bool) {
        eventually(&format!("{name}{labels:?}"), || {
            let seen = self.metrics().sum(name, labels);
            check(holds(seen), seen)
        });
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn signal(&mut self, name: &str) {
        self.process.signal(name);
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// SIGTERM, and its exit code.
    #[track_caller]
    pub fn terminate(&mut self) -> Option<i32> {
        self.process.signal("TERM");
        self.process.wait(PATIENCE).code()
    }

    /// Waits for its end after a signal.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait(limit)
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    pub fn descriptors(&self) -> usize {
        self.process.descriptors()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A failing test shows what the proxy said; a panic inside it fails the test that saw it.
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(4000);
            eprintln!("--- slotway's log (end)\n{}\n---", log.get(tail..).unwrap_or(&log));
        }
    }
}
