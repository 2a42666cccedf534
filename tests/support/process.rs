//! Child processes of the test run. Owns their handles; a watchdog ends whatever is left and removes
//! the scratch folder when the test process is gone, however it ended. Ends nothing by name.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Reads `+ PID`, `- PID` and one `/ DIR` from its standard input, whose only writer is the test
/// process: end of file means that process is gone.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM QUIT
pids=' '
dir=
while read -r op what; do
  case "$op" in
    +) pids="$pids$what " ;;
    -) case "$pids" in
         *" $what "*) pids="${pids%%" $what "*} ${pids#*" $what "}" ;;
       esac ;;
    /) dir=$what ;;
  esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
if [ -n "$dir" ]; then sleep 0.2; rm -rf "$dir"; fi
"#;

struct Watchdog {
    /// Outlives us: it does its work when we are gone.
    _shell: Child,
    stdin: Mutex<ChildStdin>,
    scratch: PathBuf,
}

fn watchdog() -> &'static Watchdog {
    static WATCHDOG_PROCESS: OnceLock<Watchdog> = OnceLock::new();
    WATCHDOG_PROCESS.get_or_init(|| {
        let scratch =
            tempfile::Builder::new().prefix("slotway-test-").tempdir().expect("scratch folder").keep();
        let mut child = Command::new("sh")
            .args(["-c", WATCHDOG])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh for the watchdog");
        let mut stdin = child.stdin.take().expect("piped");
        writeln!(stdin, "/ {}", scratch.display()).expect("watchdog");
        Watchdog { _shell: child, stdin: Mutex::new(stdin), scratch }
    })
}

fn tell_watchdog(line: &str) {
    let mut stdin = watchdog().stdin.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(stdin, "{line}").expect("the watchdog is gone");
}

/// A new empty folder below the one the watchdog removes.
pub fn scratch_dir(name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let dir = watchdog().scratch.join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir(&dir).expect("scratch folder");
    dir
}

/// One child process; dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with no standard input.
    pub fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn()?;
        tell_watchdog(&format!("+ {}", child.id()));
        Ok(Self { child, ended: None })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name (`TERM`, `STOP`, …); nothing happens once the process was reaped.
    pub fn signal(&mut self, name: &str) {
        if self.exited().is_none() {
            let status =
                Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().expect("kill(1)");
            assert!(status.success(), "kill -s {name} {}", self.pid());
        }
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("wait for own child");
            if self.ended.is_some() {
                tell_watchdog(&format!("- {}", self.pid()));
            }
        }
        self.ended
    }

    /// Waits for the end; panics after `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(start.elapsed() < limit, "process {} still runs after {limit:?}", self.pid());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, and reaped.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            self.child.kill().expect("kill own child");
            tell_watchdog(&format!("- {}", self.pid()));
            self.ended = Some(self.child.wait().expect("wait for own child"));
        }
    }

    /// Resident memory in bytes, 0 when it cannot be read.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
