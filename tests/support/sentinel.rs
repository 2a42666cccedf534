//! A primary with replicas and the sentinels that watch it, all real processes on loopback. Owns them.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use super::client::{Client, words};
use super::ports::free_port;
use super::process::{Process, scratch_dir};
use super::server::Server;
use super::{check, eventually, within};

/// The name the sentinels know the primary by.
pub const MASTER: &str = "mymaster";

/// One sentinel: `redis-server --sentinel` with a configuration of its own, which it writes to.
#[derive(Debug)]
pub struct Sentinel {
    process: Process,
    addr: SocketAddr,
    dir: std::path::PathBuf,
    password: Option<String>,
    runs: bool,
}

/// What to start.
pub struct Watch<'a> {
    pub replicas: usize,
    pub sentinels: usize,
    /// After how long without an answer a sentinel takes a server for dead.
    pub down_after: Duration,
    /// Of the servers, all the same.
    pub password: Option<&'a str>,
    /// Of the sentinels.
    pub sentinel_password: Option<&'a str>,
}

impl Default for Watch<'_> {
    fn default() -> Self {
        let down_after = Duration::from_millis(1_000);
        Self { replicas: 2, sentinels: 3, down_after, password: None, sentinel_password: None }
    }
}

/// The servers (number 0 begins as the primary) and their sentinels.
#[derive(Debug)]
pub struct Watched {
    pub servers: Vec<Server>,
    pub sentinels: Vec<Sentinel>,
}

impl Watched {
    #[track_caller]
    pub fn start() -> Self {
        Self::shaped(&Watch::default())
    }

    /// Returns when every sentinel knows every other and every replica.
    #[track_caller]
    pub fn shaped(watch: &Watch) -> Self {
        let mut options = vec!["--repl-diskless-sync-delay", "0", "--repl-timeout", "10"];
        if let Some(password) = watch.password {
            options.extend(["--requirepass", password, "--masterauth", password]);
        }
        let mut servers = vec![Server::standalone(&options)];
        let at = servers[0].addr();
        for _ in 0..watch.replicas {
            let replica = Server::standalone(&options);
            replica.client().ok(&cmd!["REPLICAOF", at.ip().to_string(), at.port().to_string()]);
            servers.push(replica);
        }
        for server in &servers[1..] {
            eventually("the replica is in sync", || {
                let info = server.client().call(&words("INFO replication")).text();
                check(info.contains("master_link_status:up"), info)
            });
        }
        let sentinels: Vec<Sentinel> = (0..watch.sentinels).map(|_| Sentinel::start(at, watch)).collect();
        let watched = Self { servers, sentinels };
        watched.wait_known();
        watched
    }

    /// Waits until every sentinel that runs knows every other and every replica, and none is down for it.
    #[track_caller]
    pub fn wait_known(&self) {
        for sentinel in &self.sentinels {
            within(Duration::from_secs(60), "the sentinels know all", || {
                let about = sentinel.about();
                let value = |name: &str| about.get(name).cloned().unwrap_or_default();
                let whole = value("num-slaves") == (self.servers.len() - 1).to_string()
                    && value("num-other-sentinels") == (self.sentinels.len() - 1).to_string()
                    && value("flags") == "master";
                let well = sentinel.replicas().iter().all(|flags| flags == "slave");
                check(whole && well, (about, sentinel.replicas()))
            });
        }
    }

    /// Addresses of the sentinels.
    pub fn seeds(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(|sentinel| sentinel.addr).collect()
    }

    /// The server that is the primary by the word of the first sentinel that runs.
    #[track_caller]
    pub fn primary(&self) -> usize {
        let at = self.running().next().expect("a sentinel runs").primary();
        self.servers.iter().position(|server| server.addr() == at).expect("one of ours")
    }

    fn running(&self) -> impl Iterator<Item = &Sentinel> {
        self.sentinels.iter().filter(|sentinel| sentinel.runs)
    }

    /// Waits until all sentinels that run name another server than number `old`, which it returns.
    #[track_caller]
    pub fn wait_promoted(&self, old: usize) -> usize {
        let at = self.servers[old].addr();
        within(Duration::from_secs(60), "the sentinels name another primary", || {
            let named: Vec<_> = self.running().map(Sentinel::primary).collect();
            check(named.iter().all(|addr| *addr != at && *addr == named[0]), named)
        });
        self.primary()
    }

    /// Waits until server `index` says that it is a replica in sync.
    #[track_caller]
    pub fn wait_replica(&self, index: usize) {
        within(Duration::from_secs(60), "the old primary is a replica", || {
            // The sentinel that tells it so cuts the connections of its clients.
            let info = self.servers[index].client().try_raw(&words("INFO replication"));
            let info =
                info.map_or_else(|error| error.to_string(), |info| String::from_utf8_lossy(&info).into());
            check(info.contains("role:slave") && info.contains("master_link_status:up"), info)
        });
    }

    /// SENTINEL FAILOVER, until a sentinel takes it: it refuses while another failover is not long over.
    #[track_caller]
    pub fn fail_over(&self) {
        eventually("a sentinel begins the failover", || {
            let sentinel = self.running().next().expect("a sentinel runs");
            let said = sentinel.client().call(&cmd!["SENTINEL", "FAILOVER", MASTER]);
            check(!said.is_error(), said)
        });
    }
}

impl Sentinel {
    #[track_caller]
    fn start(master: SocketAddr, watch: &Watch) -> Self {
        for _ in 0..10 {
            let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), free_port());
            let dir = scratch_dir("sentinel");
            let quorum = watch.sentinels / 2 + 1;
            let mut config = format!(
                "port {}\nbind {}\ndir {}\nprotected-mode no\n\
                 sentinel monitor {MASTER} {} {} {quorum}\n\
                 sentinel down-after-milliseconds {MASTER} {}\n\
                 sentinel failover-timeout {MASTER} 5000\n",
                addr.port(),
                addr.ip(),
                dir.display(),
                master.ip(),
                master.port(),
                watch.down_after.as_millis(),
            );
            if let Some(password) = watch.password {
                config += &format!("sentinel auth-pass {MASTER} {password}\n");
            }
            if let Some(password) = watch.sentinel_password {
                config += &format!("requirepass {password}\nsentinel sentinel-pass {password}\n");
            }
            std::fs::write(dir.join("sentinel.conf"), config).expect("sentinel.conf");
            let process = launch(&dir);
            let password = watch.sentinel_password.map(str::to_owned);
            let mut sentinel = Self { process, addr, dir, password, runs: true };
            if sentinel.wait_up() {
                sentinel.hurry();
                return sentinel;
            }
        }
        panic!("redis-server --sentinel did not start on any port");
    }

    /// False when the process ended instead (its port was taken).
    #[track_caller]
    fn wait_up(&mut self) -> bool {
        let pid_line = format!("process_id:{}\r", self.process.pid());
        within(Duration::from_secs(20), "the sentinel answers", || {
            if self.process.exited().is_some() {
                return Ok(false);
            }
            let mut client = Client::try_connect(self.addr)?;
            if let Some(password) = &self.password {
                client.try_raw(&cmd!["AUTH", password])?;
            }
            let info = client.try_raw(&words("INFO server"))?;
            let ours = String::from_utf8_lossy(&info).contains(&pid_line);
            if ours { Ok(true) } else { Err(std::io::Error::other("another server answers there")) }
        })
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        let mut client = Client::connect(self.addr);
        if let Some(password) = &self.password {
            client.ok(&cmd!["AUTH", password]);
        }
        client
    }

    /// The primary, as it tells clients.
    #[track_caller]
    pub fn primary(&self) -> SocketAddr {
        let said = self.client().ok(&cmd!["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        let part = |index: usize| said.items()[index].text();
        SocketAddr::new(part(0).parse().expect("an address"), part(1).parse().expect("a port"))
    }

    /// What it knows of the primary.
    #[track_caller]
    pub fn about(&self) -> std::collections::BTreeMap<String, String> {
        let said = self.client().ok(&cmd!["SENTINEL", "MASTER", MASTER]);
        said.items().chunks(2).map(|pair| (pair[0].text(), pair[1].text())).collect()
    }

    /// The flags it has for each replica.
    #[track_caller]
    fn replicas(&self) -> Vec<String> {
        let said = self.client().ok(&cmd!["SENTINEL", "REPLICAS", MASTER]);
        let flags = |row: &super::resp::Value| {
            let fields: Vec<String> = row.items().iter().map(super::resp::Value::text).collect();
            let at = fields.iter().position(|name| name == "flags").expect("flags");
            fields[at + 1].clone()
        };
        said.items().iter().map(flags).collect()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
        self.runs = false;
    }

    /// SIGSTOP.
    pub fn freeze(&mut self) {
        self.process.signal("STOP");
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.process.signal("CONT");
    }

    /// Starts it again (killing it where it still runs) with what it wrote down.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.dir);
        self.runs = true;
        assert!(self.wait_up(), "the sentinel does not start again");
        self.hurry();
    }

    /// Sentinels look and tell seldom: a primary that was replaced hears of it after some ten seconds. Those of Redis
    /// 7.0 and later do it more often when told to; before, tests take longer.
    #[track_caller]
    fn hurry(&self) {
        let often = words("SENTINEL DEBUG INFO-PERIOD 1000 PUBLISH-PERIOD 500 ASK-PERIOD 300");
        drop(self.client().call(&often));
    }
}

fn launch(dir: &std::path::Path) -> Process {
    let log = File::options().create(true).append(true).open(dir.join("log")).expect("log file");
    let mut command = Command::new("redis-server");
    command.arg(dir.join("sentinel.conf")).arg("--sentinel");
    command.stdout(log.try_clone().expect("log file")).stderr(log);
    Process::spawn(&mut command).expect("redis-server --sentinel")
}
