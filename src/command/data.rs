//! The form of `commands.json`: what a server's COMMAND and COMMAND DOCS replies say, nothing added.
//!
//! Written by `slotway commands --from HOST:PORT`, read when the table is loaded. Decisions of ours
//! never go in here; they stand in `overrides.toml`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// The built-in table, as text.
pub const BUILT_IN: &str = include_str!("commands.json");

/// A whole file. `D` is what is kept of the documentation: `Docs`, or `IgnoredAny` to leave it unread.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct File<D = Docs> {
    /// Where the data comes from.
    pub source: Source,
    /// Every command, sorted by name; a subcommand follows its container as `container|name`.
    pub commands: Vec<Entry<D>>,
}

/// Which server was asked, and under which terms its texts may be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `redis` or `valkey`.
    pub server: String,
    /// Its version.
    pub version: String,
    /// Licence of the texts in the documentation fields.
    pub licence: String,
}

/// One command or subcommand, in the order and words of COMMAND INFO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry<D = Docs> {
    /// Full name, lower case.
    pub name: String,
    /// Number of arguments with the name; negative: at least that many.
    pub arity: i32,
    /// Command flags.
    pub flags: Vec<String>,
    /// First key, last key, step: what servers before 7.0 say about keys.
    pub range: (i32, i32, i32),
    /// ACL categories, with `@`.
    pub acl: Vec<String>,
    /// Tips: request and response policies, nondeterminism.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tips: Vec<String>,
    /// Key specifications.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeySpec>,
    /// What COMMAND DOCS says, subcommands excepted.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub docs: Option<D>,
}

/// One key specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySpec {
    /// A remark of the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// How the keys are used: RO RW OW RM, access, update, insert, delete, not_key, incomplete …
    pub flags: Vec<String>,
    /// Where the search starts.
    pub begin: Begin,
    /// Which arguments from there are keys.
    pub find: Find,
}

/// Where the search for keys starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Begin {
    /// At this argument.
    Index(i32),
    /// After this word, looked for from this argument on (negative: backwards from the end).
    Keyword(String, i32),
    /// The server cannot say.
    Unknown,
}

/// Which arguments are keys, counted from where the search starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Find {
    /// Last key (negative: from the end), step, limit (2: the first half of the rest, and so on).
    Range(i32, i32, i32),
    /// Index of the argument that holds the number of keys, first key, step.
    Keynum(i32, i32, i32),
    /// The server cannot say.
    Unknown,
}

/// What COMMAND DOCS says of one command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docs {
    /// One line of text.
    pub summary: String,
    /// First version that has it.
    pub since: String,
    /// Functional group.
    pub group: String,
    /// Time complexity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complexity: Option<String>,
    /// The module it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// `deprecated`, `syscmd`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doc_flags: Vec<String>,
    /// Version that deprecated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated_since: Option<String>,
    /// What to use instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// Version and what changed in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<(String, String)>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<Argument>,
}

/// One argument of a command's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its type: string, key, integer, oneof, block, pure-token …
    #[serde(rename = "type")]
    pub kind: String,
    /// Text to show (servers from 7.2 on).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_text: Option<String>,
    /// Which key specification it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_spec_index: Option<i64>,
    /// The word that introduces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// One line of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// First version that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Version that deprecated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated_since: Option<String>,
    /// `optional`, `multiple`, `multiple-token`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Arguments of a `oneof` or a `block`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<Argument>,
}

/// Documentation of the built-in commands by full name. Read at the first call: few processes are ever
/// asked for it.
pub fn docs() -> &'static BTreeMap<String, Docs> {
    static DOCS: OnceLock<BTreeMap<String, Docs>> = OnceLock::new();
    DOCS.get_or_init(|| match serde_json::from_str::<File>(BUILT_IN) {
        Ok(file) => file.commands.into_iter().filter_map(|entry| Some((entry.name, entry.docs?))).collect(),
        Err(error) => {
            tracing::error!(%error, "the built-in documentation is broken");
            BTreeMap::new()
        }
    })
}

// === impl File ===

impl File {
    /// JSON with one command per line, so that a new server version makes a diff people can review.
    ///
    /// # Errors
    /// None that data of these types can cause; `serde_json` cannot know that.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut text = String::with_capacity(1 << 18);
        text.push_str("{\"source\":");
        text.push_str(&serde_json::to_string(&self.source)?);
        text.push_str(",\n\"commands\":[\n");
        for (position, entry) in self.commands.iter().enumerate() {
            if position > 0 {
                text.push_str(",\n");
            }
            text.push_str(&serde_json::to_string(entry)?);
        }
        text.push_str("\n]}\n");
        Ok(text)
    }
}
