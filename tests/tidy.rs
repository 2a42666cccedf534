//! House rules that a program can check, and generated texts that must equal the code.
//! `SLOTWAY_UPDATE_README=1 cargo test tidy` writes the generated texts anew.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use slotway::error::{Executed, ProxyError};

const LINES_MAX: usize = 400;
const ARCHITECTURE_LINES_MAX: usize = 200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with one of the endings, the build folder and hidden ones left out.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found
}

fn code() -> Vec<PathBuf> {
    ["src", "tests", "benches"].iter().flat_map(|folder| files(folder, &[".rs"])).collect()
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for path in code() {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines, at most {LINES_MAX}", path.display());
        assert!(text.starts_with("//!"), "{}: begins with no //! comment", path.display());
    }
}

#[test]
fn nothing_is_left_to_do() {
    // In two parts, for this file is searched too.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut all = code();
    all.extend(["deploy", "config", ".ci"].iter().flat_map(|folder| files(folder, &[""])));
    for path in all {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        for (index, line) in text.lines().enumerate() {
            let found = marks
                .iter()
                .find(|mark| line.split(|c: char| !c.is_ascii_alphabetic()).any(|word| word == **mark));
            assert!(found.is_none(), "{}:{}: {line}", path.display(), index + 1);
        }
    }
}

#[test]
fn every_folder_is_in_the_architecture() {
    let text = architecture();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            assert!(text.contains(&format!("{name}/")), "ARCHITECTURE.md does not name src/{name}/");
        }
    }
}

/// Files and names of code that stand between backticks.
#[test]
fn what_the_architecture_names_exists() {
    let text = architecture();
    assert!(text.lines().count() <= ARCHITECTURE_LINES_MAX, "ARCHITECTURE.md is too long to be read");
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let code: String = files("src", &[".rs"]).iter().map(read).collect();
    let words: HashSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let prose = text.split("```").step_by(2);
    for name in prose.flat_map(|part| part.split('`').skip(1).step_by(2)) {
        let is_file = [".rs", ".json", ".toml"].iter().any(|ending| name.ends_with(ending));
        if is_file || name.ends_with('/') {
            let found =
                [name.to_owned(), format!("src/{name}")].iter().any(|path| root().join(path).exists());
            assert!(found, "ARCHITECTURE.md names {name}, which does not exist");
        } else if name.contains("::") || name.contains('_') || is_type_name(name) {
            for word in name.split("::") {
                assert!(words.contains(word), "ARCHITECTURE.md names {name}, which is not in the code");
            }
        }
    }
}

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// `SlotTable`, but not `CROSSSLOT` or a phrase.
fn is_type_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.contains(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric())
}

#[test]
fn config_file_equals_the_code() {
    same_or_update("config/slotway.toml", &slotway::config::render::file_text());
}

#[test]
fn readme_tables_equal_the_code() {
    let mut text = fs::read_to_string(root().join("README.md")).unwrap();
    for (name, table) in [
        ("config", slotway::config::render::readme_table()),
        ("metrics", slotway::telemetry::names::readme_table()),
        ("errors", errors_table()),
        ("commands", slotway::command::readme::readme_table()),
        ("differences", slotway::command::readme::differences_table()),
        ("info", slotway::command::local::info::readme_table()),
        ("settings", slotway::command::local::settings::readme_table()),
        ("transactions", slotway::command::readme::transactions_table()),
    ] {
        let (begin, end) = (format!("<!-- generated:{name} -->\n"), format!("<!-- /generated:{name} -->"));
        let start = text.find(&begin).unwrap_or_else(|| panic!("README.md has no {begin}")) + begin.len();
        let stop = text.find(&end).unwrap_or_else(|| panic!("README.md has no {end}"));
        text.replace_range(start..stop, &table);
    }
    same_or_update("README.md", &text);
}

#[test]
fn readme_asks_for_the_right_cargo() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let wanted = concat!("[cargo](https://rustup.rs) ", env!("CARGO_PKG_RUST_VERSION"), " or newer");
    assert!(text.contains(wanted), "README.md does not say: {wanted}");
}

#[test]
fn relative_links_lead_somewhere() {
    for path in files("", &[".md"]) {
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !link.is_empty() && !link.contains("://") {
                assert!(path.with_file_name(link).exists(), "{}: {link} does not exist", path.display());
            }
        }
    }
}

/// Fails when the file differs from `text`, or writes it where that is asked for.
fn same_or_update(file: &str, text: &str) {
    let path = root().join(file);
    if fs::read_to_string(&path).unwrap_or_default() == text {
        return;
    }
    let update = std::env::var_os("SLOTWAY_UPDATE_README").is_some_and(|value| value == "1");
    assert!(update, "{file} differs from the code; SLOTWAY_UPDATE_README=1 cargo test tidy writes it anew");
    fs::write(path, text).unwrap();
}

/// What a client hears of slotway stands in the table of errors, so that it is counted, and says whether the request was
/// executed; refusals are the command table's.
#[test]
fn errors_of_our_own_stand_in_one_table() {
    let elsewhere =
        ["src/error.rs", "src/command/overrides.rs", "src/command/trust.rs"].map(|path| root().join(path));
    for path in files("src", &[".rs"]).into_iter().filter(|path| !elsewhere.contains(path)) {
        let text = fs::read_to_string(&path).unwrap();
        let is_test = path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests"));
        let code = if is_test { "" } else { text.split("#[cfg(test)]").next().unwrap_or_default() };
        for (index, _) in code.match_indices(" slotway: ") {
            let word = code[..index].rsplit(|c: char| !c.is_ascii_uppercase()).next().unwrap_or_default();
            assert!(word.is_empty(), "{}: an error that begins with {word} slotway:", path.display());
        }
    }
    let mut kinds: Vec<&str> = ProxyError::ALL.iter().map(|error| error.kind()).collect();
    kinds.sort_unstable();
    assert!(kinds.windows(2).all(|pair| pair[0] != pair[1]), "{kinds:?}");
}

fn errors_table() -> String {
    let mut text = String::from("| error | when | executed | `kind` |\n|---|---|---|---|\n");
    for error in ProxyError::ALL {
        let executed = match error.executed() {
            Executed::No => "no",
            Executed::Maybe => "maybe",
            Executed::Partly => "partly",
        };
        text.push_str(&format!(
            "| `-{}` | {} | {executed} | `{}` |\n",
            error.text(),
            error.when(),
            error.kind()
        ));
    }
    text
}
