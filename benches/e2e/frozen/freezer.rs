//! Stops a process and wakes it again at an exact moment.
//!
//! Owns a waiting shell: at the moment itself nothing is started, a line in a pipe is enough. However it ends, the process
//! is awake afterwards.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::Result;

/// Reads names of signals; at the end of its input, whatever the reason for it, the process continues.
const SCRIPT: &str = "while read -r name; do kill -s \"$name\" \"$0\"; done; kill -s CONT \"$0\"";

/// Power over one process.
pub struct Freezer {
    shell: Child,
    orders: Option<ChildStdin>,
}

impl Freezer {
    /// Gets ready for the process `pid`, a child of ours.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn new(pid: u32) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, &pid.to_string()]).stdin(Stdio::piped());
        let mut shell = command.spawn().map_err(|error| format!("sh: {error}"))?;
        let orders = shell.stdin.take();
        Ok(Self { shell, orders })
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When the shell has ended.
    pub fn freeze(&mut self) -> Result<()> {
        self.order("STOP")
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the shell has ended.
    pub fn wake(&mut self) -> Result<()> {
        self.order("CONT")
    }

    fn order(&mut self, name: &str) -> Result<()> {
        let orders = self.orders.as_mut().ok_or("the shell that freezes has no input")?;
        orders.write_all(format!("{name}\n").as_bytes()).map_err(|error| format!("SIG{name}: {error}").into())
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.orders = None;
        // It ends by itself now that its input has; there is nothing to do about an error.
        let _ = self.shell.wait();
    }
}
