//! Commands learned from the connected cluster: an overlay, looked at only for names the built-in table
//! does not have.
//!
//! `LearnedTable` is immutable and replaced as a whole. `Store` makes the commands in it: a request in flight
//! refers to its command for as long as it likes, so commands live as long as the process, each distinct
//! definition once, and their number and size are bounded.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::de::IgnoredAny;

use super::data::{Begin, Docs, Entry};
use super::flags::Flags;
use super::overrides::Override;
use super::table::{Command, CommandTable, Lookup};
use super::trust::{self, NAME_BYTES_MAX, Plan};
use super::{CommandClass, Handling};
use crate::protocol::request::Args;

/// A learned command.
#[derive(Debug, Clone)]
pub struct Learned {
    /// What is known of it.
    pub command: &'static Command,
    /// What COMMAND DOCS says of it.
    pub docs: Option<Arc<Docs>>,
}

/// Learned commands by folded full name.
pub type Names = BTreeMap<String, Learned>;

/// All learned commands.
#[derive(Debug, Default)]
pub struct LearnedTable {
    names: Names,
}

/// What was taken of one announcement.
#[derive(Debug, Default)]
pub struct Taken {
    /// The commands.
    pub names: Names,
    /// Entries left out because they are of no known form, or contradict each other.
    pub unfit: usize,
    /// Entries left out at a bound.
    pub over: usize,
}

/// Every command ever learned.
#[derive(Debug)]
pub struct Store {
    kept: BTreeMap<&'static str, Vec<&'static Command>>,
    count: usize,
    bytes: u64,
    count_max: usize,
    bytes_max: u64,
}

// === impl LearnedTable ===

impl LearnedTable {
    /// Of several announcements, each made by so many nodes: for each name the definition that most
    /// nodes have; where as many have another, the one of `current`.
    pub fn merge(announcements: &[(&Names, usize)], current: &LearnedTable) -> Self {
        let mut votes: BTreeMap<&str, Vec<(&Learned, usize)>> = BTreeMap::new();
        for (names, nodes) in announcements {
            for (name, learned) in *names {
                let candidates = votes.entry(name).or_default();
                match candidates.iter_mut().find(|(other, _)| std::ptr::eq(other.command, learned.command)) {
                    Some((_, count)) => *count += nodes,
                    None => candidates.push((learned, *nodes)),
                }
            }
        }
        let in_use = |name: &str, learned: &Learned| {
            current.names.get(name).is_some_and(|now| std::ptr::eq(now.command, learned.command))
        };
        let elected = votes.into_iter().filter_map(|(name, candidates)| {
            let best =
                candidates.into_iter().max_by_key(|(learned, count)| (*count, in_use(name, learned)))?;
            Some((name.to_owned(), best.0.clone()))
        });
        Self { names: elected.collect() }
    }

    /// All of them by name.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// How many there are, subcommands counted.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True when nothing was learned.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// True when both name the same commands.
    pub fn is_same(&self, other: &LearnedTable) -> bool {
        self.names.len() == other.names.len()
            && self.names.iter().zip(&other.names).all(|((name, one), (other_name, two))| {
                name == other_name && std::ptr::eq(one.command, two.command) && one.docs == two.docs
            })
    }

    /// What a request stands for whose name the built-in table does not have.
    #[cold]
    pub fn lookup(&self, missing: Lookup, args: &Args) -> Lookup {
        let subcommand = |container: &'static Command| {
            let found = fold(args.at(1)).and_then(|short| self.get(&format!("{}|{short}", container.name)));
            found.map_or(Lookup::UnknownSubcommand(container), Lookup::Found)
        };
        match missing {
            Lookup::UnknownCommand if !self.is_empty() => {
                match fold(args.at(0)).and_then(|name| self.get(&name)) {
                    Some(command) if args.len() > 1 && self.subcommands(command.name).next().is_some() => {
                        subcommand(command)
                    }
                    Some(command) => Lookup::Found(command),
                    None => missing,
                }
            }
            Lookup::UnknownSubcommand(container) if !self.is_empty() => subcommand(container),
            _ => missing,
        }
    }

    /// A command by its full name (`container|subcommand`), in any letter case.
    pub fn by_name(&self, name: &[u8]) -> Option<&'static Command> {
        self.get(&trust::folded_name(std::str::from_utf8(name).ok()?)?)
    }

    fn get(&self, name: &str) -> Option<&'static Command> {
        self.names.get(name).map(|learned| learned.command)
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &'static Command> {
        self.names.values().map(|learned| learned.command)
    }

    /// The subcommands of a container, learned or built in, by its folded name.
    pub fn subcommands(&self, container: &str) -> impl Iterator<Item = &'static Command> {
        let prefix = format!("{container}|");
        let from = self.names.range(prefix.clone()..);
        from.take_while(move |(name, _)| name.starts_with(&prefix)).map(|(_, learned)| learned.command)
    }

    /// What COMMAND DOCS says of a command, by its folded name.
    pub fn docs(&self, name: &str) -> Option<&Docs> {
        self.names.get(name)?.docs.as_deref()
    }
}

/// A name as a client sent it, folded; `None` where no learned command can have it.
fn fold(name: &[u8]) -> Option<String> {
    if name.len() > NAME_BYTES_MAX || name.contains(&b'|') {
        return None;
    }
    std::str::from_utf8(name).ok().map(str::to_ascii_lowercase)
}

// === impl Store ===

impl Store {
    /// Holds at most `count` definitions of at most `bytes` together.
    pub fn new(count: usize, bytes: u64) -> Self {
        Self { kept: BTreeMap::new(), count: 0, bytes: 0, count_max: count, bytes_max: bytes }
    }

    /// Takes in what the built-in table does not have. A name that is announced twice, not alike, is
    /// left out.
    pub fn take_in(&mut self, announced: Vec<Entry>) -> Taken {
        let mut taken = Taken::default();
        let mut fit: BTreeMap<String, Entry> = BTreeMap::new();
        let mut contradicted = Vec::new();
        for entry in announced {
            let Some(name) = trust::folded_name(&entry.name) else {
                taken.unfit += 1;
                continue;
            };
            if CommandTable::builtin().by_name(&name).is_some() {
                continue;
            }
            match fit.get(&name) {
                Some(other) if *other == entry => {}
                Some(_) => contradicted.push(name),
                None => {
                    fit.insert(name, entry);
                }
            }
        }
        for name in contradicted {
            taken.unfit += usize::from(fit.remove(&name).is_some());
        }
        for (name, mut entry) in fit {
            let docs = entry.docs.take().map(Arc::new);
            match self.definition(&name, without_docs(entry), &taken.names) {
                Ok(command) => {
                    taken.names.insert(name, Learned { command, docs });
                }
                Err(Left::Unfit) => taken.unfit += 1,
                Err(Left::Over) => taken.over += 1,
            }
        }
        taken
    }

    /// The command of this definition, made if there is none. `names`: what came before it.
    fn definition(
        &mut self,
        name: &str,
        entry: Entry<IgnoredAny>,
        names: &Names,
    ) -> Result<&'static Command, Left> {
        if let Some((container, _)) = name.split_once('|')
            && !names.contains_key(container)
            && CommandTable::builtin().by_name(container).is_none()
        {
            return Err(Left::Unfit);
        }
        let same = |kept: &&&'static Command| kept.entry == entry;
        if let Some(known) = self.kept.get(name).and_then(|kept| kept.iter().find(same)) {
            return Ok(known);
        }
        let plan = trust::judge(name, &entry).ok_or(Left::Unfit)?;
        let bytes = weight(name, &entry);
        if self.count >= self.count_max || self.bytes.saturating_add(bytes) > self.bytes_max {
            return Err(Left::Over);
        }
        self.count += 1;
        self.bytes += bytes;
        let command: &'static Command = Box::leak(Box::new(make(name, entry, plan)));
        self.kept.entry(command.name).or_default().push(command);
        Ok(command)
    }
}

/// Why an entry is left out.
enum Left {
    Unfit,
    Over,
}

fn make(name: &str, entry: Entry<IgnoredAny>, plan: Plan) -> Command {
    let name: &'static str = String::leak(name.to_owned());
    let builtin = CommandTable::builtin();
    let handling = match plan.refusal {
        Some(text) => Handling::Refuse(String::leak(text)),
        None => plan.handling,
    };
    // What a server does not call a read may change data.
    let decision = Override { may_replicate: !plan.flags.has(Flags::READONLY), ..Override::default() };
    Command {
        id: builtin.learned_id(),
        name,
        flags: plan.flags,
        class: plan.class,
        key_rule: plan.key_rule,
        handling,
        container: name.contains('|').then(|| builtin.learned_id()),
        subcommands: Vec::new(),
        entry,
        reads_at_replicas: Command::is_read_at_replicas(plan.flags, &decision, handling),
        decision,
        not_in_multi: None,
        added: false,
        specs: plan.specs,
        conditional: None,
    }
}

fn without_docs(entry: Entry) -> Entry<IgnoredAny> {
    let Entry { name, arity, flags, range, acl, tips, keys, docs: _ } = entry;
    Entry { name, arity, flags, range, acl, tips, keys, docs: None }
}

/// Bytes a definition takes, about: every text with what holds it, twice where it is kept twice.
fn weight(name: &str, entry: &Entry<IgnoredAny>) -> u64 {
    let text = |text: &String| text.len() + size_of::<String>();
    let list = |list: &[String]| list.iter().map(text).sum::<usize>();
    let keys = entry.keys.iter().map(|key| {
        let word = if let Begin::Keyword(word, _) = &key.begin { word.len() } else { 0 };
        2 * (size_of_val(key) + word + list(&key.flags)) + key.notes.as_ref().map_or(0, text)
    });
    let lists = list(&entry.flags) + list(&entry.acl) + list(&entry.tips);
    (size_of::<Command>() + 3 * name.len() + 256 + lists + keys.sum::<usize>()) as u64
}

/// The question for the keys of a request, as a command: it reads, so that it may be asked again.
pub fn key_question() -> &'static Command {
    static QUESTION: OnceLock<Command> = OnceLock::new();
    QUESTION.get_or_init(|| {
        let entry = Entry {
            name: "command|getkeys".to_owned(),
            arity: -3,
            flags: vec!["readonly".to_owned()],
            range: (0, 0, 0),
            acl: Vec::new(),
            tips: Vec::new(),
            keys: Vec::new(),
            docs: None,
        };
        let (specs, key_rule) = (Default::default(), super::KeyRule::None);
        let (flags, class) = (Flags::READONLY, CommandClass::Other);
        let plan = Plan { flags, handling: Handling::Route, refusal: None, specs, key_rule, class };
        make("command|getkeys", entry, plan)
    })
}

#[cfg(test)]
#[path = "learned_tests.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
