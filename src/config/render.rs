//! Texts made from the keys: the commented file, the effective configuration, the README table.

use super::keys::{Config, KEYS, Key};
use super::load::Origin;
use super::value::TomlKind;

/// `config/slotway.toml`: every key with its default and its reason.
pub fn file_text() -> String {
    let config = Config::default();
    let mut text = String::from(
        "# Every key of slotway with its default. Generated from src/config/keys.rs.\n\
         # A flag wins over the environment (SLOTWAY_ and the name in upper snake case), the environment\n\
         # over this file. `slotway check --config FILE` shows what is in effect and where it came from.\n",
    );
    let mut group = "";
    for key in KEYS {
        if key.group != group {
            group = key.group;
            text.push_str(&format!("\n# === {group} ===\n"));
        }
        text.push('\n');
        for line in wrap(key.why, 100) {
            text.push_str(&format!("# {line}\n"));
        }
        match (key.is_unset)(&config) {
            true => text.push_str(&format!("# {} = \"\"\n", key.name)),
            false => text.push_str(&format!("{} = {}\n", key.name, toml_value(key, &config))),
        }
    }
    text
}

/// The configuration as TOML, secrets masked, with the origin of every value where it is known.
pub fn effective_text(config: &Config, origins: Option<&[Origin]>) -> String {
    let mut lines = Vec::new();
    for key in KEYS {
        lines.push(match (key.is_unset)(config) {
            true => format!("# {} is not set", key.name),
            false => format!("{} = {}", key.name, toml_value(key, config)),
        });
    }
    let width = lines.iter().map(String::len).max().unwrap_or(0).min(60);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        match origins.and_then(|origins| origins.get(index)) {
            Some(origin) => text.push_str(&format!("{line:width$}  # {origin}\n")),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

/// Markdown table of the keys.
pub fn readme_table() -> String {
    let config = Config::default();
    let mut text = String::from("| key | environment | default | what and why |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = match (key.is_unset)(&config) || (key.show)(&config).is_empty() {
            true => "none".to_owned(),
            false => format!("`{}`", (key.show)(&config)),
        };
        text.push_str(&format!("| `{}` | `{}` | {default} | {} |\n", key.name, key.env_name(), key.why));
    }
    text
}

/// The value in TOML's own notation.
fn toml_value(key: &Key, config: &Config) -> String {
    let text = (key.show)(config);
    match key.toml.first() {
        _ if key.toml.contains(&TomlKind::Integer) && text.bytes().all(|b| b.is_ascii_digit()) => text,
        Some(TomlKind::List) => {
            let items: Vec<String> = text.split(',').filter(|item| !item.is_empty()).map(quoted).collect();
            format!("[{}]", items.join(", "))
        }
        _ => quoted(&text),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Lines of at most `width` bytes, broken at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
