//! Keeps every append-only file of a run: a node deletes its old ones when it becomes somebody's replica, a second
//! name (hard link) keeps them. Owns a thread while it watches.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::bench::{Acked, Bench, lock};
use super::check::aof::{Executed, Token};
use super::check::{Excuse, Kind, Slots, Span, Suspicion};
use crate::support::process::scratch_dir;

/// A new file lives at least as long as a rewrite in the background takes.
const LOOK: Duration = Duration::from_millis(50);
/// So many writes are named in the report, the rest counted.
const NAMED: usize = 20;

pub struct Keep {
    folder: PathBuf,
    nodes: Mutex<Vec<PathBuf>>,
}

/// What the files showed.
#[derive(Debug, Default)]
pub struct Evidence {
    pub files: usize,
    pub bytes: u64,
    pub acked: usize,
    pub missing: usize,
    pub repeated: usize,
}

impl Keep {
    pub fn new() -> Self {
        Self { folder: scratch_dir("aof"), nodes: Mutex::default() }
    }

    /// Watches the files of one more node, by the folder it works in.
    pub fn add(&self, node: &Path) {
        let mut nodes = lock(&self.nodes);
        let _ = fs::create_dir(self.folder.join(nodes.len().to_string()));
        nodes.push(node.join("appendonlydir"));
    }

    /// Looks again and again until `done`.
    pub fn watch(&self, done: impl Fn() -> bool) {
        while !done() {
            self.look();
            std::thread::sleep(LOOK);
        }
        self.look();
    }

    fn look(&self) {
        for (place, node) in lock(&self.nodes).iter().enumerate() {
            for entry in fs::read_dir(node).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                // Base files hold no commands; a temporary one becomes an incremental one under another name.
                let wanted = name.contains(".incr");
                let Ok(meta) = entry.metadata() else { continue };
                let kept = self.folder.join(place.to_string()).join(meta.ino().to_string());
                if wanted && !kept.exists() {
                    // It may be gone by now; then a look before has kept it.
                    let _ = fs::hard_link(entry.path(), kept);
                }
            }
        }
    }

    /// Holds what was acknowledged against what the nodes executed.
    pub fn examine(&self, bench: &Bench) -> Evidence {
        let acked = bench.take_acked();
        let mut evidence = Evidence { acked: acked.len(), ..Evidence::default() };
        let mut executed: HashSet<Token> = HashSet::new();
        let mut repeated = Vec::new();
        for place in 0..lock(&self.nodes).len() {
            let mut node = Executed::default();
            for entry in fs::read_dir(self.folder.join(place.to_string())).into_iter().flatten().flatten() {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                evidence.files += 1;
                evidence.bytes += bytes.len() as u64;
                let understood = node.file(&bytes);
                let rest = bytes.len() - understood;
                assert!(rest < 1 << 20, "{:?}: {rest} bytes at the end are no command", entry.path());
            }
            repeated.extend_from_slice(node.repeated());
            executed.extend(node.tokens());
        }
        let note = |kind, at: Span, text: String| {
            bench.suspect(Suspicion { kind, slots: Slots::All, span: at, excuse: Excuse::None, text });
        };
        let missing: Vec<&Acked> = acked.iter().filter(|w| !executed.contains(&w.token)).collect();
        for write in missing.iter().take(NAMED) {
            note(Kind::NotInAof, Span::new(write.at, write.at), format!("{} stands in no AOF", write.what));
        }
        for write in repeated.iter().take(NAMED) {
            note(
                Kind::Twice,
                Span::new(0, bench.now()),
                format!("{write} stands in the AOF of one node twice"),
            );
        }
        (evidence.missing, evidence.repeated) = (missing.len(), repeated.len());
        evidence
    }
}
