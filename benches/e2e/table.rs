//! Result files: tab-separated text with a header line, one line per measurement.
//!
//! Owns reading and writing them. Lines that start with `#` say what was measured. Lines are written as they come, so
//! that an interrupted run keeps what it has.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Result;

/// A result file being written.
pub struct Writer {
    file: File,
    /// Where it is.
    pub path: PathBuf,
}

impl Writer {
    /// Creates `folder/name.tsv` with its head.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(folder: &Path, name: &str, notes: &[String], columns: &[&str]) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{name}.tsv"));
        let mut file = File::create(&path)?;
        for note in notes {
            writeln!(file, "# {note}")?;
        }
        writeln!(file, "{}", columns.join("\t"))?;
        Ok(Self { file, path })
    }

    /// Adds one line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn row(&mut self, cells: &[String]) -> Result<()> {
        writeln!(self.file, "{}", cells.join("\t"))?;
        Ok(())
    }
}

/// A result file read back.
pub struct Table {
    /// The lines that start with `#`, without it.
    pub notes: Vec<String>,
    columns: Vec<String>,
    /// The measurements.
    pub rows: Vec<Row>,
}

/// One measurement.
pub struct Row {
    cells: Vec<String>,
}

impl Table {
    /// Reads a file that `Writer` wrote.
    ///
    /// # Errors
    /// When it cannot be read or has no header line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let notes = text.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_owned).collect();
        let split = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let columns = split(lines.next().ok_or("a result file without a header line")?);
        Ok(Self { notes, columns, rows: lines.map(|line| Row { cells: split(line) }).collect() })
    }

    /// Whether there is a column of this name.
    pub fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|name| name == column)
    }

    /// The text of a cell; empty when there is none.
    pub fn text<'a>(&self, row: &'a Row, column: &str) -> &'a str {
        let index = self.columns.iter().position(|name| name == column);
        index.and_then(|index| row.cells.get(index)).map_or("", String::as_str)
    }

    /// The number in a cell; None when it holds none.
    pub fn number(&self, row: &Row, column: &str) -> Option<f64> {
        self.text(row, column).parse().ok()
    }

    /// The different texts of a column, in order of their first appearance.
    pub fn distinct(&self, column: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for row in &self.rows {
            let text = self.text(row, column);
            if !found.iter().any(|known| known == text) {
                found.push(text.to_owned());
            }
        }
        found
    }
}
