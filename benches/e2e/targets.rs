//! What is measured: slotway, HAProxy, nutcracker, and whatever runs already and was named on the command line.
//!
//! Owns how each is started; each gets one worker thread unless its name says otherwise.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use crate::Result;
use crate::process::{Process, is_on_path, niceness};
use crate::servers::{Servers, free_port, loopback, wait_for};

/// The targets this harness can start.
pub const OWN: &[&str] = &["slotway-1", "slotway-2", "haproxy", "nutcracker"];
/// Keys asked for until the target finds all of them: enough to touch every node.
const PROBES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// The slotway to start.
pub struct Slotway<'a> {
    /// Its program.
    pub binary: &'a Path,
    /// Arguments besides those that every measurement needs.
    pub options: &'a [&'a str],
}

/// Something that listens and speaks RESP.
pub struct Target {
    /// Name in the tables.
    pub name: String,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Whose CPU and memory are counted.
    pub pid: u32,
    /// Ours to end, if we started it.
    _process: Option<Process>,
}

/// A target that runs already: `name=host:port=pid`.
#[derive(Clone)]
pub struct Extra {
    name: String,
    addr: SocketAddr,
    pid: u32,
}

impl FromStr for Extra {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wanted = || format!("{text:?}: expected name=127.0.0.1:port=pid");
        let mut parts = text.split('=');
        let (Some(name), Some(addr), Some(pid), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wanted());
        };
        let addr: SocketAddr = addr.parse().map_err(|_| wanted())?;
        if !addr.ip().is_loopback() {
            return Err(format!("{text:?}: only loopback addresses are measured"));
        }
        Ok(Self { name: name.to_owned(), addr, pid: pid.parse().map_err(|_| wanted())? })
    }
}

/// Starts the named targets of our own, adds the extra ones, and waits until all of them answer.
///
/// # Errors
/// When a name is unknown, a program is missing or a target does not answer.
pub fn start(
    names: &[String],
    extras: &[Extra],
    slotway: &Slotway<'_>,
    servers: &Servers,
    folder: &Path,
) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for name in names {
        targets.push(start_own(name, slotway, servers, folder)?);
    }
    for extra in extras {
        let Extra { name, addr, pid } = extra.clone();
        targets.push(Target { name, addr, pid, _process: None });
    }
    for target in &targets {
        // Who runs first gets smaller batches: at different priorities nothing can be compared.
        if niceness(target.pid) != niceness(std::process::id()) {
            return Err(format!(
                "{} (process {}) is gone or has another nice value",
                target.name, target.pid
            )
            .into());
        }
        let probes: Vec<[&str; 2]> = PROBES.iter().map(|key| ["GET", *key]).collect();
        let probes: Vec<&[&str]> = probes.iter().map(<[&str; 2]>::as_slice).collect();
        wait_for(target.addr, &probes).map_err(|error| format!("{}: {error}", target.name))?;
    }
    Ok(targets)
}

fn start_own(name: &str, slotway: &Slotway<'_>, servers: &Servers, folder: &Path) -> Result<Target> {
    let port = free_port()?;
    let addr = loopback(port);
    let (program, args) = match name {
        "slotway-1" => slotway_command(slotway, port, "1", servers)?,
        "slotway-2" => slotway_command(slotway, port, "2", servers)?,
        "haproxy" => haproxy_command(port, servers, folder)?,
        "nutcracker" => nutcracker_command(port, servers, folder)?,
        _ => return Err(format!("no target is called {name:?}; there are {}", OWN.join(", ")).into()),
    };
    if !Path::new(&program).is_file() && !is_on_path(&program) {
        return Err(
            format!("{program} is missing; leave {name} out with --targets, or install or build it").into()
        );
    }
    let log = folder.join(format!("{name}.log"));
    let mut process = Process::start(&program, &args, &log)?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    if !process.is_running() {
        return Err(format!("{name} ended at once: {}", std::fs::read_to_string(&log)?).into());
    }
    Ok(Target { name: name.to_owned(), addr, pid: process.pid(), _process: Some(process) })
}

type ProgramAndArgs = (String, Vec<String>);

fn slotway_command(
    slotway: &Slotway<'_>,
    port: u16,
    workers: &str,
    servers: &Servers,
) -> Result<ProgramAndArgs> {
    let mut args = vec!["serve".to_owned()];
    for seed in servers.cluster.iter().take(3) {
        args.extend(["--seed".to_owned(), seed.to_string()]);
    }
    args.extend(["--listen".to_owned(), loopback(port).to_string()]);
    args.extend(["--admin-listen".to_owned(), loopback(free_port()?).to_string()]);
    args.extend(["--workers".to_owned(), workers.to_owned()]);
    args.extend(slotway.options.iter().map(|option| (*option).to_owned()));
    Ok((slotway.binary.to_string_lossy().into_owned(), args))
}

/// A plain TCP pipe to one server: what forwarding bytes costs when nobody looks at them.
fn haproxy_command(port: u16, servers: &Servers, folder: &Path) -> Result<ProgramAndArgs> {
    let server = servers.standalone.last().ok_or("no standalone server")?;
    let config = format!(
        "global\n  nbthread 1\n  maxconn 6000\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen redis\n  bind 127.0.0.1:{port} backlog 2048\n  server one {server}\n"
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, config)?;
    Ok(("haproxy".to_owned(), ["-db", "-f", &file.to_string_lossy()].map(str::to_owned).to_vec()))
}

/// A sharding proxy without a cluster: it spreads keys over three standalone servers.
fn nutcracker_command(port: u16, servers: &Servers, folder: &Path) -> Result<ProgramAndArgs> {
    let mut config = format!(
        "redis:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n\
         \x20 preconnect: true\n  backlog: 2048\n  timeout: 30000\n  auto_eject_hosts: false\n  servers:\n"
    );
    for server in servers.standalone.iter().take(3) {
        config.push_str(&format!("   - {server}:1\n"));
    }
    let file = folder.join("nutcracker.yml");
    std::fs::write(&file, config)?;
    let stats = free_port()?.to_string();
    let (out, pid) = (folder.join("nutcracker.out"), folder.join("nutcracker.pid"));
    let mut args = vec!["-a", "127.0.0.1", "-s", &stats, "-v", "4"];
    let paths = [file, out, pid].map(|path| path.to_string_lossy().into_owned());
    for (flag, path) in ["-c", "-o", "-p"].iter().zip(&paths) {
        args.extend([*flag, path]);
    }
    Ok(("nutcracker".to_owned(), args.into_iter().map(str::to_owned).collect()))
}

/// What was measured, for the head of the result files: versions only.
pub fn versions(slotway: &Path) -> Vec<String> {
    let first_line = |program: &str, arg: &str| {
        let output = Command::new(program).arg(arg).output().ok()?;
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
    };
    let slotway = slotway.to_string_lossy();
    let asked =
        [(&*slotway, "--version"), ("redis-server", "--version"), ("haproxy", "-v"), ("nutcracker", "-V")];
    asked.iter().filter_map(|(program, arg)| first_line(program, arg)).collect()
}
