//! Names that lead where a test wants: a hosts file of our own, mounted over the real one in a private mount
//! namespace of the proxy alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::leave_out;
use super::process::scratch_dir;

/// Its content may change at any time; every look-up reads it anew.
pub struct Hosts(PathBuf);

impl Hosts {
    /// With these addresses and names.
    pub fn new(names: &[(&str, &str)]) -> Self {
        let hosts = Self(scratch_dir("hosts").join("hosts"));
        hosts.set(names);
        hosts
    }

    /// Written in place: a mount holds the file, not its name.
    pub fn set(&self, names: &[(&str, &str)]) {
        let lines: String = names.iter().map(|(addr, name)| format!("{addr} {name}\n")).collect();
        std::fs::write(&self.0, format!("127.0.0.1 localhost\n{lines}")).expect("hosts file");
    }

    /// A command line that runs what follows with this hosts file: as root, or as root of a user
    /// namespace where the kernel lets anyone make one. Says loudly where neither works.
    pub fn wrapper(&self) -> Option<Vec<String>> {
        let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", quoted(&self.0));
        for flags in [&["-m"][..], &["-r", "-m"]] {
            let mut line = vec!["unshare".to_owned()];
            line.extend(flags.iter().map(ToString::to_string));
            line.extend(["sh", "-c", &script, "sh"].map(str::to_owned));
            let mut probe = Command::new(&line[0]);
            probe.args(&line[1..]).args(["getent", "hosts", "localhost"]);
            if probe_works(&mut probe) {
                return Some(line);
            }
        }
        leave_out("no private mount namespace to steer names in (needs root or user namespaces)");
        None
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

fn probe_works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
