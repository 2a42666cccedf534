//! Processes: starting them so that they end with us, and what Linux says they used.
//!
//! Owns the children. It must never end a process by name, only by the handle it holds.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Result;

/// A child that ends when this is dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `program`; its output goes to `log`. Where `setpriv` exists the kernel ends the child when we are killed.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(program: &str, args: &[String], log: &Path) -> Result<Self> {
        let out = File::create(log)?;
        let mut command = if tied_to_us() {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", program]);
            command
        } else {
            Command::new(program)
        };
        for (name, _) in std::env::vars_os() {
            // What is set for another slotway must not change the one measured.
            if name.to_string_lossy().starts_with("SLOTWAY_") {
                command.env_remove(name);
            }
        }
        command.args(args).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        Ok(Self { child })
    }

    /// Process id; `setpriv` replaces itself, so it is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nothing more to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tied_to_us() -> bool {
    let tried = Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// Whether a program is on PATH.
pub fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What a process has used since it started, all its threads together.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Nanoseconds on a CPU, user and system.
    pub cpu_ns: u64,
    /// Times a thread gave up the CPU to wait.
    pub voluntary: u64,
    /// Times a thread was put aside.
    pub involuntary: u64,
}

impl Usage {
    /// Reads `/proc/PID/task`. The scheduler's own nanosecond clock is used: utime and stime tick in 10 ms.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let mut usage = Self::default();
        let tasks =
            fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| format!("process {pid}: {error}"))?;
        for task in tasks {
            let task = task?.path();
            // A thread may end between the listing and the reading.
            let Ok(schedstat) = fs::read_to_string(task.join("schedstat")) else { continue };
            let Ok(status) = fs::read_to_string(task.join("status")) else { continue };
            usage.cpu_ns += schedstat.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
            usage.voluntary += field(&status, "voluntary_ctxt_switches:");
            usage.involuntary += field(&status, "nonvoluntary_ctxt_switches:");
        }
        Ok(usage)
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
        }
    }
}

/// Resident memory now, in KiB. `smaps_rollup` is exact; the counter in `status` may be some pages behind.
pub fn resident_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let exact = field(&rollup, "Rss:");
    if exact > 0 { exact } else { field(&status(pid), "VmRSS:") }
}

/// Highest resident memory since `reset_peak`, in KiB.
pub fn peak_kib(pid: u32) -> u64 {
    field(&status(pid), "VmHWM:")
}

/// Starts the peak anew from what is resident now; where that is not allowed the peak is the one since the start.
pub fn reset_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The priority of a process, −20 to 19 (`nice`): field 19 of `/proc/PID/stat`, counted behind the name in brackets.
pub fn niceness(pid: u32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
}

fn status(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

/// The number behind a name at the start of a line; 0 when there is none.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}
