//! The command table: `commands.json` and `overrides.toml`, checked and joined once at start.
//!
//! Immutable and shared by all threads. A look-up neither allocates nor copies the name.

use std::sync::OnceLock;

use serde::de::IgnoredAny;

use super::data::{self, Entry, File};
use super::flags::Flags;
use super::index::Index;
use super::join::decision_for;
use super::keys::{KeyRule, SpecSet};
use super::options::OptionScan;
use super::overrides::{self, KeyUse, NotInMulti, Override, Overrides};
use super::{CommandClass, CommandId, Handling};
use crate::protocol::request::Args;

/// Everything known of one command or subcommand.
#[derive(Debug)]
pub struct Command {
    /// Its index.
    pub id: CommandId,
    /// Full name in lower case; `object|encoding` for a subcommand.
    pub name: &'static str,
    /// Flags and the ACL categories that matter here.
    pub flags: Flags,
    /// Kind of work.
    pub class: CommandClass,
    /// How its keys are found.
    pub key_rule: KeyRule,
    /// What is done with it where its options do not say otherwise; see `handling_for`.
    pub handling: Handling,
    /// Its container, if it is a subcommand.
    pub container: Option<CommandId>,
    /// Its subcommands.
    pub subcommands: Vec<CommandId>,
    /// What COMMAND says of it.
    pub entry: Entry<IgnoredAny>,
    /// The decision in `overrides.toml` that holds for it, its container's included.
    pub decision: Override,
    /// Why it is refused inside a transaction, if it is.
    pub not_in_multi: Option<NotInMulti>,
    /// A replica answers it as its primary would, but for what it does not have yet: by its flags, unless a
    /// decision says otherwise.
    pub reads_at_replicas: bool,
    /// True if the server `commands.json` comes from does not have it.
    pub added: bool,
    pub(super) specs: SpecSet,
    pub(super) conditional: Option<(OptionScan, Handling)>,
}

/// What a request's name stands for.
#[derive(Debug, Clone, Copy)]
pub enum Lookup {
    /// A command; for a container with a subcommand, the subcommand.
    Found(&'static Command),
    /// No such command.
    UnknownCommand,
    /// The container exists, the subcommand does not.
    UnknownSubcommand(&'static Command),
}

/// All commands.
#[derive(Debug)]
pub struct CommandTable {
    commands: Vec<Command>,
    index: Index,
    source: data::Source,
}

/// What is wrong with the data of the table.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TableError {
    #[error("commands.json: {0}")]
    Json(#[from] serde_json::Error),
    #[error("overrides.toml: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("{0}: {1}")]
    Command(String, &'static str),
}

// === impl CommandTable ===

impl CommandTable {
    /// The built-in table, loaded at the first call. Its data is part of the program and a test loads
    /// it, so it cannot fail in a program that passed its tests; it would be logged and empty.
    pub fn builtin() -> &'static CommandTable {
        static TABLE: OnceLock<CommandTable> = OnceLock::new();
        TABLE.get_or_init(|| {
            Self::load(data::BUILT_IN, overrides::BUILT_IN).unwrap_or_else(|error| {
                tracing::error!(%error, "the built-in command table is broken");
                let source =
                    data::Source { server: String::new(), version: String::new(), licence: String::new() };
                CommandTable { commands: Vec::new(), index: Index::with_capacity(0), source }
            })
        })
    }

    /// Builds a table from the texts of the two files. Names live as long as the process.
    ///
    /// # Errors
    /// Broken syntax, a decision about no command, two decisions about one, or a command that needs a
    /// decision and has none.
    pub fn load(json: &str, toml: &str) -> Result<CommandTable, TableError> {
        let file: File<IgnoredAny> = serde_json::from_str(json)?;
        let mut decisions: Overrides = toml::from_str(toml)?;
        let mut entries = file.commands;
        let given = entries.len();
        for (name, decision) in &decisions {
            if let Some(add) = &decision.add {
                entries.push(Entry {
                    name: name.clone(),
                    arity: add.arity,
                    flags: add.flags.clone(),
                    range: (0, 0, 0),
                    acl: add.acl.clone(),
                    tips: Vec::new(),
                    keys: Vec::new(),
                    docs: None,
                });
            }
        }
        let mut table = CommandTable {
            index: Index::with_capacity(entries.len()),
            commands: Vec::with_capacity(entries.len()),
            source: file.source,
        };
        let inherited: Vec<Override> = entries.iter().map(|e| decision_for(&decisions, &e.name)).collect();
        let names: Vec<String> = entries.iter().map(|e| e.name.clone()).collect();
        for (position, (entry, decision)) in entries.into_iter().zip(inherited).enumerate() {
            decisions.remove(&entry.name);
            let prefix = format!("{}|", entry.name);
            let is_container = names.iter().any(|name| name.starts_with(&prefix));
            let mut command = Command::new(CommandId(position as u16), entry, decision, is_container)?;
            command.added = position >= given;
            table.add(command)?;
        }
        match decisions.into_keys().next() {
            Some(name) => Err(TableError::Command(name, "a decision about no command")),
            None => Ok(table),
        }
    }

    fn add(&mut self, mut command: Command) -> Result<(), TableError> {
        let (container, short) = match command.name.split_once('|') {
            Some((container, short)) => (self.by_name(container).map(|c| c.id), short),
            None => (None, command.name),
        };
        if self.find(container, short.as_bytes()).is_some() {
            return Err(TableError::Command(command.name.into(), "is in the table twice"));
        }
        if short.len() > super::index::NAME_BYTES_MAX {
            return Err(TableError::Command(command.name.into(), "the name is too long"));
        }
        command.container = container;
        self.index.insert(container, short, command.id);
        if let Some(parent) = container.and_then(|id| self.commands.get_mut(usize::from(id.0))) {
            parent.subcommands.push(command.id);
        }
        self.commands.push(command);
        Ok(())
    }

    /// What the name of a request stands for. The arity is not looked at.
    #[inline]
    pub fn lookup(&'static self, args: &Args) -> Lookup {
        let Some(command) = self.find(None, args.at(0)) else { return Lookup::UnknownCommand };
        if command.subcommands.is_empty() {
            return Lookup::Found(command);
        }
        match args.get(1) {
            None => Lookup::Found(command),
            Some(name) => match self.find(Some(command.id), name) {
                Some(subcommand) => Lookup::Found(subcommand),
                None => Lookup::UnknownSubcommand(command),
            },
        }
    }

    /// A command by its full name (`object|encoding`), in any letter case.
    pub fn by_name(&self, name: impl AsRef<[u8]>) -> Option<&Command> {
        let mut parts = name.as_ref().splitn(2, |&b| b == b'|');
        let command = self.find(None, parts.next()?)?;
        match parts.next() {
            None => Some(command),
            Some(short) => self.find(Some(command.id), short),
        }
    }

    #[inline]
    fn find(&self, container: Option<CommandId>, name: &[u8]) -> Option<&Command> {
        let id = self.index.find(container, name, |id| {
            self.get(id).is_some_and(|command| {
                command.container == container && command.short_name().as_bytes().eq_ignore_ascii_case(name)
            })
        })?;
        self.get(id)
    }

    /// A command by its index; `None` for an index of another table.
    #[inline]
    pub fn get(&self, id: CommandId) -> Option<&Command> {
        self.commands.get(usize::from(id.0))
    }

    /// How many there are, subcommands counted. Ids are smaller than this.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// The index that all learned commands share: the first that is no command's of this table.
    pub fn learned_id(&self) -> CommandId {
        CommandId(self.commands.len() as u16)
    }

    /// True only if the table could not be loaded.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// All commands by id: by name, a container before its subcommands.
    pub fn iter(&self) -> impl Iterator<Item = &Command> {
        self.commands.iter()
    }

    /// Which server the table's data comes from.
    pub fn source(&self) -> &data::Source {
        &self.source
    }
}

// === impl Command ===

impl Command {
    /// What is done with this request of it.
    #[inline]
    pub fn handling_for(&self, args: &Args) -> Handling {
        match &self.conditional {
            None => self.handling,
            Some((option, handling)) if option.first(args).is_some() => *handling,
            Some(_) => self.handling,
        }
    }

    /// Whether a request of `len` arguments, its name counted, has as many as it needs.
    #[inline]
    pub fn arity_ok(&self, len: usize) -> bool {
        self.arity_fits(len) && (!self.decision.pairs || len % 2 == 1)
    }

    /// As `arity_ok`, by what COMMAND says alone.
    #[inline]
    pub(super) fn arity_fits(&self, len: usize) -> bool {
        let arity = self.entry.arity;
        if arity >= 0 { len == arity as usize } else { len >= arity.unsigned_abs() as usize }
    }

    /// May be sent before AUTH.
    pub fn allowed_without_auth(&self) -> bool {
        self.flags.has(Flags::NO_AUTH)
    }

    /// Only reads, so that it may be sent again after a lost connection. A command without flag counts
    /// as a write.
    pub fn is_read_only(&self) -> bool {
        self.flags.has(Flags::READONLY)
    }

    /// Whether it may go to replicas, by its flags and our decisions.
    pub(super) fn is_read_at_replicas(flags: Flags, decision: &Override, handling: Handling) -> bool {
        let is_sent = matches!(handling, Handling::Route | Handling::Split(_) | Handling::Learned { .. });
        let only_reads = flags.has(Flags::READONLY) && !flags.has(Flags::WRITE);
        is_sent && only_reads && decision.at_primary.is_none()
    }

    /// May change data, or send something to replicas: what CLIENT PAUSE WRITE holds back.
    pub fn may_replicate(&self) -> bool {
        self.flags.has(Flags::WRITE) || self.decision.may_replicate
    }

    /// The name without its container's.
    #[inline]
    pub fn short_name(&self) -> &'static str {
        match self.container {
            None => self.name,
            Some(_) => self.name.split_once('|').map_or(self.name, |(_, short)| short),
        }
    }

    /// How the keys of this request are used, where that depends on its options.
    pub(super) fn key_use(&self, args: &Args) -> Option<&[String]> {
        let KeyUse { option, with, without } = self.decision.key_use.as_ref()?;
        Some(if option.first(args).is_some() { with } else { without })
    }
}
