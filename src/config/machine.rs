//! What this machine lets us use: CPUs and memory, the cgroup's limits counted. Reads `/proc` and
//! `/sys/fs/cgroup`; a file that is missing or odd means "no limit".

use std::fs;
use std::path::{Path, PathBuf};

use super::Config;

/// Share of the limit that buffers may take; the rest is for the program, its stacks and the
/// allocator's waste.
const MEMORY_PERCENT: u64 = 75;

impl Config {
    /// Worker threads to start: `workers`, or one per CPU this process may use (affinity mask and
    /// cgroup quota counted, at least 1).
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        }
    }

    /// Ceiling of all buffers in bytes: `max-memory`, or 75 % of what this process may use.
    pub fn memory_ceiling(&self) -> u64 {
        match self.max_memory {
            0 => memory_limit(Path::new("/")) / 100 * MEMORY_PERCENT,
            bytes => bytes,
        }
    }
}

/// The smaller of the cgroup's limit and the machine's memory, in bytes; no limit at all reads as
/// `u64::MAX`. `root` is `/` outside of tests.
fn memory_limit(root: &Path) -> u64 {
    let machine = machine_memory(root).unwrap_or(u64::MAX);
    cgroup_limits(root).into_iter().fold(machine, u64::min)
}

fn machine_memory(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Limits of our cgroup and of every one above it, version 2 and version 1.
fn cgroup_limits(root: &Path) -> Vec<u64> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mount = root.join(mount);
        for group in ancestors(path) {
            let limit = fs::read_to_string(mount.join(group).join(file))
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok());
            limits.extend(limit);
        }
    }
    limits
}

/// `/a/b` → `a/b`, `a` and the mount itself: in a container the path seen is often the host's, and
/// only the mount itself exists.
fn ancestors(path: &str) -> Vec<PathBuf> {
    Path::new(path.trim_start_matches('/')).ancestors().map(Path::to_path_buf).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_smallest_limit_above_us_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(memory_limit(root), u64::MAX);
        write(root, "proc/meminfo", "MemTotal:  8000 kB\nMemFree: 1 kB\n");
        assert_eq!(memory_limit(root), 8000 * 1024);
        write(root, "proc/self/cgroup", "0::/pod/main\n");
        write(root, "sys/fs/cgroup/pod/memory.max", "1000000\n");
        write(root, "sys/fs/cgroup/pod/main/memory.max", "max\n");
        assert_eq!(memory_limit(root), 1_000_000);
    }

    #[test]
    fn version_1_is_read_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n");
        write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
        assert_eq!(memory_limit(root), 4096);
    }

    #[test]
    fn given_values_win() {
        let config = Config { workers: 3, max_memory: 7, ..Config::default() };
        assert_eq!((config.worker_count(), config.memory_ceiling()), (3, 7));
        assert!(Config::default().worker_count() >= 1);
        assert!(Config::default().memory_ceiling() > 0);
    }
}
