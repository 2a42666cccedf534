//! What a run showed, as Markdown for RELIABILITY.md and lines of tab-separated values.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::torture::fault::Fault;
use crate::torture::run::{Outcome, Row};

/// Rows of one kind of fault, in the order of the list.
fn by_fault(outcome: &Outcome) -> Vec<(Fault, Vec<&Row>)> {
    let of =
        |fault: &Fault| -> Vec<&Row> { outcome.rows.iter().filter(|r| r.injected.fault == *fault).collect() };
    Fault::ALL.iter().map(|fault| (*fault, of(fault))).filter(|(_, rows)| !rows.is_empty()).collect()
}

fn median_of(mut values: Vec<i64>) -> Option<(i64, i64, i64)> {
    values.sort_unstable();
    Some((*values.first()?, *values.get(values.len() / 2)?, *values.last()?))
}

fn three(values: Vec<i64>) -> String {
    median_of(values).map_or("–".into(), |(a, b, c)| format!("{a} / {b} / {c}"))
}

/// The tables of a run.
pub fn markdown(outcome: &Outcome, title: &str) -> String {
    let mut out = String::new();
    let e = &outcome.evidence;
    let _ = writeln!(
        out,
        "{title} Seed {}, {} faults in {:.0} s, {} requests answered; {} acknowledged writes looked up in {} \
         append-only files ({} MB): {} missing, {} executed twice. **{} violations**; {} observations were explained \
         by the fault under way.\n",
        outcome.seed,
        outcome.rows.len(),
        outcome.took.as_secs_f64(),
        outcome.answered,
        e.acked,
        e.files,
        e.bytes / 1_000_000,
        e.missing,
        e.repeated,
        outcome.violations.len(),
        outcome.excused,
    );
    out += "| fault | what | times | errors clients got | all well after the cluster, ms | first success after the \
            cluster's, ms |\n|---|---|--:|--:|--:|--:|\n";
    for (fault, rows) in by_fault(outcome) {
        let errors: usize = rows.iter().map(|r| r.errors()).sum();
        let recovered = rows.iter().map(|r| (r.recovered / 1000) as i64).collect();
        let late = rows.iter().filter_map(|r| r.injected.late).map(|us| us / 1000).collect();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {errors} | {} | {} |",
            fault.name(),
            fault.what(),
            rows.len(),
            three(recovered),
            three(late)
        );
    }
    let own = outcome.rows.iter().filter(|r| r.own_failover).count();
    let _ = writeln!(out, "\nThree numbers are min / median / max.");
    if own > 0 {
        let _ = writeln!(
            out,
            "{own} times the cluster failed over by itself: the machine was too slow for its nodes."
        );
    }
    let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
    for (text, count) in outcome.rows.iter().flat_map(|r| &r.errors) {
        *errors.entry(text).or_default() += count;
    }
    if !errors.is_empty() {
        out += "\n| error | times |\n|---|--:|\n";
        for (text, count) in errors {
            let _ = writeln!(out, "| `{text}` | {count} |");
        }
    }
    out
}

/// One line per fault.
pub fn tsv(outcome: &Outcome) -> String {
    let mut out = "fault\tdetail\tat_ms\ttook_ms\trecovered_ms\tlate_ms\terrors\town_failover\n".to_owned();
    for row in &outcome.rows {
        let i = &row.injected;
        let late = i.late.map_or(String::new(), |us| format!("{:.1}", us as f64 / 1e3));
        let _ = writeln!(
            out,
            "{}\t{}\t{}\t{}\t{}\t{late}\t{}\t{}",
            i.fault.name(),
            i.detail,
            i.span.from / 1000,
            (i.span.to - i.span.from) / 1000,
            row.recovered / 1000,
            row.errors(),
            row.own_failover,
        );
    }
    out
}

/// Puts text between the marks `<!-- generated:NAME -->` of a document.
///
/// # Errors
/// When the document cannot be read or written, or has no such marks.
pub fn insert(document: &Path, name: &str, text: &str) -> Result<(), String> {
    let whole = std::fs::read_to_string(document).map_err(|e| format!("{}: {e}", document.display()))?;
    let (begin, end) = (format!("<!-- generated:{name} -->\n"), format!("<!-- /generated:{name} -->"));
    let parts = whole.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let (head, tail) = parts.ok_or_else(|| format!("{} has no {begin}", document.display()))?;
    let new = format!("{head}{begin}\n{}\n\n{end}{tail}", text.trim());
    std::fs::write(document, new).map_err(|e| format!("{}: {e}", document.display()))
}
