//! From file, environment and flags to the effective configuration, with the origin of every value.
//! Precedence: flag > environment > file > default.
//!
//! Owns the messages about a bad configuration: each names the place, the key and what was expected.
//! Must never put a secret into one.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::keys::{Config, KEYS, Key, Rule};
use super::validate;
use super::value::{Secret, TomlKind};

/// Environment variables that are no key's own name.
const ENV_ALIASES: &[(&str, &str)] = &[("SLOTWAY_SEED", "seeds")];
/// Variables with a meaning of their own; no key.
const ENV_NOT_KEYS: &[&str] = &["SLOTWAY_CONFIG", "SLOTWAY_UPDATE_README"];
/// What Kubernetes injects for a Service named slotway, and nothing a key may be called.
const ENV_IGNORED: &[&str] = &["SLOTWAY_PORT", "SLOTWAY_SERVICE_"];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File(PathBuf, usize),
    /// An environment variable.
    Env(String),
    /// A flag, as it is called.
    Flag(String),
    /// A file that holds the secret.
    SecretFile(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::SecretFile(path) => write!(f, "contents of {}", path.display()),
        }
    }
}

/// What the configuration is made of.
#[derive(Debug, Default)]
pub struct Sources {
    /// Path and text of the TOML file.
    pub file: Option<(PathBuf, String)>,
    /// The process' environment.
    pub env: Vec<(String, String)>,
    /// Key, value and the flag's name; the last one of a key wins.
    pub flags: Vec<(String, String, String)>,
}

/// The effective configuration and how it came about.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Origin of each, in the order of `KEYS`.
    pub origins: Vec<Origin>,
    /// What is odd but no reason to stop; to be logged.
    pub warnings: Vec<String>,
}

/// All that is wrong with a configuration, one line each. The process ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Reads, overlays and checks. Reads the password files that the keys name.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut loader = Loader::new();
    if let Some((path, text)) = &sources.file {
        loader.file(path, text);
    }
    loader.environment(&sources.env);
    for (key, value, flag) in &sources.flags {
        loader.flag(key, value, flag);
    }
    // Later checks would only complain about defaults that stand in for what could not be read.
    if loader.problems.is_empty() {
        loader.secret_files();
        let Loader { config, origins, problems, .. } = &mut loader;
        problems.extend(validate::problems(config, origins));
    }
    loader.warnings.extend(validate::warnings(&loader.config));
    match loader.problems.is_empty() {
        true => Ok(Loaded { config: loader.config, origins: loader.origins, warnings: loader.warnings }),
        false => Err(ConfigError(loader.problems)),
    }
}

/// Reads a password from a file, without one line end at its end.
///
/// # Errors
/// A message without the password, when the file cannot be read or holds nothing.
pub fn read_password_file(path: &Path) -> Result<Secret, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.is_empty() {
        return Err(format!("{} is empty, expected a password", path.display()));
    }
    Ok(Secret::new(bytes))
}

struct Loader {
    config: Config,
    origins: Vec<Origin>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Loader {
    fn new() -> Self {
        let origins = vec![Origin::Default; KEYS.len()];
        Self { config: Config::default(), origins, problems: Vec::new(), warnings: Vec::new() }
    }

    fn file(&mut self, path: &Path, text: &str) {
        let line_of = |offset: usize| 1 + text.bytes().take(offset).filter(|&b| b == b'\n').count();
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(span.start));
                self.problems.push(format!("{} line {line}: {}", path.display(), error.message()));
                return;
            }
        };
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let origin = Origin::File(path.to_owned(), line_of(name.span().start));
            let name: &str = name.get_ref();
            let Some(key) = Key::by_name(name) else {
                self.problems.push(unknown_key(&origin, name));
                continue;
            };
            match plain_text(value.get_ref(), key.toml) {
                Some(text) => self.set(key, &text, origin),
                None => {
                    let found = value.get_ref().type_str();
                    self.problems
                        .push(format!("{origin}: key `{name}`: expected {}; found {found}", key.expected));
                }
            }
        }
    }

    fn environment(&mut self, env: &[(String, String)]) {
        for (variable, value) in env {
            let ours = variable.starts_with("SLOTWAY_") && !ENV_NOT_KEYS.contains(&variable.as_str());
            if !ours || ENV_IGNORED.iter().any(|prefix| variable.starts_with(prefix)) {
                continue;
            }
            let alias = ENV_ALIASES.iter().find(|(name, _)| name == variable).map(|(_, key)| *key);
            let key = KEYS.iter().find(|key| alias == Some(key.name) || key.env_name() == *variable);
            // The key's own name wins, whatever the order of the environment.
            let shadowed =
                |key: &&Key| alias.is_some() && env.iter().any(|(name, _)| *name == key.env_name());
            match key {
                None => {
                    self.warnings.push(format!("environment {variable}: no key has that name; it is ignored"))
                }
                // An empty variable is how a container's template says "not given".
                Some(key) if value.is_empty() || shadowed(&key) => {}
                Some(key) => self.set(key, value, Origin::Env(variable.clone())),
            }
        }
    }

    fn flag(&mut self, name: &str, value: &str, flag: &str) {
        let origin = Origin::Flag(flag.to_owned());
        match Key::by_name(name) {
            None => self.problems.push(unknown_key(&origin, name)),
            Some(key) if key.rule == Rule::Secret => {
                let env = key.env_name();
                let text =
                    "expected in a file or the environment: every user of the machine can read arguments";
                self.problems.push(format!("{origin}: key `{name}`: {text} (`{name}-file`, {env})"));
            }
            Some(key) => self.set(key, value, origin),
        }
    }

    fn set(&mut self, key: &Key, text: &str, origin: Origin) {
        if (key.set)(&mut self.config, text) {
            if let Some(slot) = self.origins.get_mut(key.index()) {
                *slot = origin;
            }
            return;
        }
        let found = if key.rule == Rule::Secret { "something else".to_owned() } else { format!("{text:?}") };
        self.problems.push(format!("{origin}: key `{}`: expected {}; found {found}", key.name, key.expected));
    }

    fn secret_files(&mut self) {
        let config = &mut self.config;
        let pairs = [
            ("client-password", &config.client_password_file, &mut config.client_password),
            ("upstream-password", &config.upstream_password_file, &mut config.upstream_password),
            ("sentinel-password", &config.sentinel_password_file, &mut config.sentinel_password),
        ];
        for (name, file, password) in pairs {
            let Some(path) = file else { continue };
            if password.is_some() {
                self.problems
                    .push(format!("keys `{name}` and `{name}-file`: expected only one of them; found both"));
                continue;
            }
            match read_password_file(path) {
                Ok(secret) => {
                    *password = Some(secret);
                    let index = Key::by_name(name).map(Key::index);
                    if let Some(slot) = index.and_then(|index| self.origins.get_mut(index)) {
                        *slot = Origin::SecretFile(path.clone());
                    }
                }
                Err(text) => self.problems.push(format!("key `{name}-file`: {text}")),
            }
        }
    }
}

/// The value as `Value::parse` reads it, when its TOML type is among `kinds`.
fn plain_text(value: &DeValue<'_>, kinds: &[TomlKind]) -> Option<String> {
    let (kind, text) = match value {
        DeValue::String(text) => (TomlKind::Text, text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => (TomlKind::Integer, number.as_str().to_owned()),
        DeValue::Boolean(switch) => (TomlKind::Boolean, switch.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            (TomlKind::List, texts?.join(","))
        }
        _ => return None,
    };
    kinds.contains(&kind).then_some(text)
}

fn unknown_key(origin: &Origin, name: &str) -> String {
    let nearest = KEYS.iter().map(|key| (distance(name, key.name), key.name)).min();
    let expected = match nearest {
        Some((distance, near)) if distance <= 1 + name.len() / 3 => format!("did you mean `{near}`?"),
        _ => "expected one of the keys that `slotway check` lists".to_owned(),
    };
    format!("{origin}: unknown key `{name}`: {expected}")
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, &above) in b.bytes().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(from != to)).min(left + 1).min(above + 1);
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
