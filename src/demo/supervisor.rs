//! The process that owns the demo's Redis servers and their folder: a small shell script that waits
//! for the end of its standard input and then kills the servers and removes the folder.
//!
//! Its standard input is a pipe we hold: it ends when we close it, and also when we are killed with
//! SIGKILL. Supervisor and servers are a process group of their own, so that Ctrl-C in a terminal
//! reaches only us.

use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// $1 is the folder, $2 the server program, the rest are ports. Prints one process id per port.
const SCRIPT: &str = r#"
dir=$1 server=$2; shift 2
trap '' HUP INT TERM
pids=
for port in "$@"; do
    mkdir "$dir/$port"
    "$server" --port "$port" --bind 127.0.0.1 --dir "$dir/$port" --logfile "$dir/$port/log" \
        --daemonize no --repl-diskless-sync-delay 0 --save "" --appendonly no --protected-mode no \
        --cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout 2000 \
        </dev/null >"$dir/$port/out" 2>&1 &
    pids="$pids $!"
    echo "$!"
done
exec >/dev/null 2>&1
read -r _
kill -KILL $pids
wait
rm -rf -- "$dir"
"#;

/// How much of a server's log is shown when something failed.
const LOG_LINES: usize = 5;

/// The running servers. Dropping it ends them.
pub(super) struct Supervisor {
    shell: Child,
    folder: PathBuf,
    /// Port and process id, in the order asked for.
    servers: Vec<(u16, u32)>,
}

impl Supervisor {
    /// Starts one server per port, in a new temporary folder.
    pub(super) fn start(server: &Path, ports: &[u16]) -> io::Result<Self> {
        // Kept: from here on the supervisor removes it, also when we no longer can.
        let folder = tempfile::Builder::new().prefix("slotway-demo-").tempdir()?.keep();
        let spawned = Command::new("sh")
            .args(["-c", SCRIPT, "slotway-demo"])
            .arg(&folder)
            .arg(server)
            .args(ports.iter().map(u16::to_string))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let shell = match spawned {
            Ok(shell) => shell,
            Err(error) => {
                std::fs::remove_dir_all(&folder)?;
                return Err(error);
            }
        };
        let mut supervisor = Self { shell, folder, servers: Vec::new() };
        supervisor.read_process_ids(ports)?;
        Ok(supervisor)
    }

    fn read_process_ids(&mut self, ports: &[u16]) -> io::Result<()> {
        let Some(output) = self.shell.stdout.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut lines = BufReader::new(output).lines();
        for &port in ports {
            let line = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
            let pid = line.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
            self.servers.push((port, pid));
        }
        Ok(())
    }

    /// Port and process id of the first `count` servers.
    pub(super) fn primaries(&self, count: usize) -> Vec<(u16, u32)> {
        self.servers.iter().copied().take(count).collect()
    }

    /// Where the servers keep their files.
    #[cfg(test)]
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the servers said last, for an error message.
    pub(super) fn last_log_lines(&self) -> String {
        let mut text = String::new();
        for (port, _) in &self.servers {
            for file in ["out", "log"] {
                let mut log = String::new();
                let path = self.folder.join(port.to_string()).join(file);
                // A server that never started has no log; its port is then missing in the message.
                let _missing = std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut log));
                let lines: Vec<&str> = log.lines().collect();
                for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
                    text.push_str(&format!("{port}: {line}\n"));
                }
            }
        }
        text
    }

    /// Kills the servers, removes the folder and waits until both is done.
    pub(super) fn stop(&mut self) {
        drop(self.shell.stdin.take());
        // The shell is ours and ends by itself; there is nothing to do about a failure.
        let _status = self.shell.wait();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server program on PATH: Redis' or Valkey's.
pub(super) fn find_server() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    ["redis-server", "valkey-server"]
        .iter()
        .find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file()))
}
