//! Result files → Markdown.
//!
//! Owns how rounds are summed up: the median and, in brackets, the smallest and largest round; ratios are taken within a
//! round first, because the machine drifts between rounds. It must never measure anything.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::bars::{BLOCKED_P99, FROZEN_P99, IDLE_BYTES, REFERENCES, SUBJECT, SYSCALLS, bar, verdict};
use crate::table::{Row, Table};
use crate::workload::WORKLOADS;

/// What a table shows of one round: column, title, divisor, decimals.
type Figure = (&'static str, &'static str, f64, usize);
/// The figures of a brief report come first.
const FIGURES: [Figure; 6] = [
    ("cpu_us", "CPU, µs per request", 1.0, 2),
    ("rps", "Throughput, 1,000 requests/s", 1_000.0, 1),
    ("p99_us", "Latency p99, ms", 1_000.0, 2),
    ("p50_us", "Latency p50, ms", 1_000.0, 2),
    ("p999_us", "Latency p99.9, ms", 1_000.0, 2),
    ("peak_kib", "Peak resident memory, MiB", 1_024.0, 1),
];
/// Column and title of what is compared; a brief report compares the first only.
const RATIOS: [(&str, &str); 3] =
    [("cpu_us", "CPU per request"), ("rps", "Throughput"), ("p99_us", "Latency p99")];
const BRIEF_FIGURES: usize = 3;
const BRIEF_RATIOS: usize = 1;
const BEGIN: &str = "<!-- results:begin -->";
const END: &str = "<!-- results:end -->";

/// The Markdown of result files, one section each; `brief` leaves the lesser tables out.
///
/// # Errors
/// When a file cannot be read or is of no known kind.
pub fn markdown(files: &[PathBuf], brief: bool) -> Result<String> {
    let mut out = String::new();
    for file in files {
        let table = Table::read(file)?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        writeln!(out, "### {name}\n")?;
        for note in &table.notes {
            writeln!(out, "- {note}")?;
        }
        if table.has("cpu_us") {
            rounds(&table, brief, &mut out)?;
        } else if table.has("per_request") {
            syscalls(&table, &mut out)?;
        } else if table.has("bytes_after_get") {
            idle(&table, &mut out)?;
        } else if table.has("deadline_errors") {
            frozen(&table, &mut out)?;
        } else if table.has("waiting") {
            blocked(&table, &mut out)?;
        } else {
            return Err(format!("{}: not a result file", file.display()).into());
        }
        out.push('\n');
    }
    Ok(out)
}

/// Puts Markdown between the two marks of a document.
///
/// # Errors
/// When the document has no marks.
pub fn insert(document: &Path, markdown: &str) -> Result<()> {
    let text = std::fs::read_to_string(document)?;
    let marks = text.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) =
        marks.ok_or_else(|| format!("{} and {END} are not in {}", BEGIN, document.display()))?;
    std::fs::write(document, format!("{head}{BEGIN}\n\n{}\n{END}{tail}", markdown.trim_end()))?;
    Ok(())
}

fn rounds(table: &Table, brief: bool, out: &mut String) -> Result<()> {
    let (figures, comparisons) =
        if brief { (BRIEF_FIGURES, BRIEF_RATIOS) } else { (FIGURES.len(), RATIOS.len()) };
    let (workloads, targets) = (table.distinct("workload"), table.distinct("target"));
    for workload in WORKLOADS.iter().filter(|workload| workloads.iter().any(|name| name == workload.name)) {
        writeln!(out, "- {}: {}", workload.name, workload.title)?;
    }
    bars(table, &workloads, out)?;
    for (column, title, divisor, decimals) in FIGURES.iter().take(figures) {
        head(out, title, &workloads)?;
        for target in &targets {
            write!(out, "| {target} |")?;
            for workload in &workloads {
                let values = of(table, workload, target, column);
                write!(
                    out,
                    " {} |",
                    summary(values.iter().map(|(_, value)| value / divisor).collect(), *decimals)
                )?;
            }
            out.push('\n');
        }
    }
    if !brief {
        switches(table, &workloads, &targets, out)?;
    }
    for reference in targets.iter().filter(|name| !name.starts_with("slotway")) {
        for (column, title) in RATIOS.iter().take(comparisons) {
            head(out, &format!("{title} ÷ {reference}, same round"), &workloads)?;
            for target in targets.iter().filter(|target| *target != reference) {
                write!(out, "| {target} |")?;
                for workload in &workloads {
                    write!(out, " {} |", summary(ratios(table, workload, target, reference, column), 2))?;
                }
                out.push('\n');
            }
        }
    }
    Ok(())
}

fn bars(table: &Table, workloads: &[String], out: &mut String) -> Result<()> {
    for reference in REFERENCES {
        let mut lines = String::new();
        for workload in workloads {
            let ratios = ratios(table, workload, SUBJECT, reference, "cpu_us");
            let (Some(middle), Some(bar)) = (median(&ratios), bar(workload, reference)) else { continue };
            let verdict = verdict(middle, bar);
            writeln!(
                lines,
                "| {workload} | {} | {bar:.2} | {verdict} | {} |",
                summary(ratios.clone(), 2),
                ratios.len()
            )?;
        }
        if !lines.is_empty() {
            writeln!(out, "\n**CPU per request, {SUBJECT} ÷ {reference}: the bars**\n")?;
            writeln!(
                out,
                "| workload | ratio | bar | | rounds |\n|---|--:|--:|---|--:|\n{}",
                lines.trim_end()
            )?;
        }
    }
    Ok(())
}

fn switches(table: &Table, workloads: &[String], targets: &[String], out: &mut String) -> Result<()> {
    head(out, "Context switches per 1,000 requests: waits / preemptions (medians)", workloads)?;
    for target in targets {
        write!(out, "| {target} |")?;
        for workload in workloads {
            let per_thousand = |column| {
                let requests = of(table, workload, target, "requests");
                let counts = of(table, workload, target, column);
                let rates: Vec<f64> =
                    counts.iter().zip(&requests).map(|(c, r)| c.1 / r.1 * 1_000.0).collect();
                median(&rates).map_or_else(|| "–".to_owned(), |rate| format!("{rate:.1}"))
            };
            write!(out, " {} / {} |", per_thousand("voluntary"), per_thousand("involuntary"))?;
        }
        out.push('\n');
    }
    Ok(())
}

fn syscalls(table: &Table, out: &mut String) -> Result<()> {
    let (workloads, targets) = (table.distinct("workload"), table.distinct("target"));
    head(out, "System calls per request", &workloads)?;
    for target in &targets {
        write!(out, "| {target} |")?;
        for workload in &workloads {
            let values: Vec<f64> =
                of(table, workload, target, "per_request").iter().map(|pair| pair.1).collect();
            let judged = median(&values).filter(|_| target == SUBJECT && workload == SYSCALLS.0);
            let verdict =
                judged.map(|middle| format!(" (bar {}: {})", SYSCALLS.1, verdict(middle, SYSCALLS.1)));
            write!(out, " {}{} |", summary(values, 2), verdict.unwrap_or_default())?;
        }
        out.push('\n');
    }
    Ok(())
}

fn idle(table: &Table, out: &mut String) -> Result<()> {
    writeln!(out, "\n**Resident memory of idle connections**\n")?;
    writeln!(
        out,
        "| target | connections | fresh, MiB | connected, MiB | after one GET each, MiB | closed, MiB \
                   | bytes/connection connected | bytes/connection after a GET |"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|")?;
    for row in &table.rows {
        let mib = |column| {
            table.number(row, column).map_or_else(String::new, |kib| format!("{:.1}", kib / 1_024.0))
        };
        let target = table.text(row, "target");
        write!(out, "| {target} | {} |", table.text(row, "connections"))?;
        for column in ["fresh_kib", "connected_kib", "after_get_kib", "closed_kib"] {
            write!(out, " {} |", mib(column))?;
        }
        let after = table.number(row, "bytes_after_get").filter(|_| target == SUBJECT);
        let judged = after.map(|bytes| format!(" (bar {IDLE_BYTES}: {})", verdict(bytes, IDLE_BYTES)));
        let (before, after) = (table.text(row, "bytes_connected"), table.text(row, "bytes_after_get"));
        writeln!(out, " {before} | {after}{} |", judged.unwrap_or_default())?;
    }
    Ok(())
}

/// Latency of the connections that use only other nodes, by phase, and as ratios of phases of the same round.
fn frozen(table: &Table, out: &mut String) -> Result<()> {
    const RATIOS: [(&str, &str); 3] = [
        ("frozen", "frozen ÷ before"),
        ("woken", "woken ÷ before"),
        ("after", "after ÷ before (no fault in either)"),
    ];
    let (targets, phases) = (table.distinct("target"), table.distinct("phase"));
    let title = "Connections that use only other nodes, while one node is frozen";
    by_phase(table, out, title, ("late_p99_us", "sent late p99, ms", 1_000.0))?;
    phase_ratios(table, out, &RATIOS, FROZEN_P99)?;
    frozen_replies(table, &targets, &phases, out)
}

/// What others notice of clients that wait.
fn blocked(table: &Table, out: &mut String) -> Result<()> {
    const RATIOS: [(&str, &str); 2] =
        [("blocked", "blocked ÷ before"), ("after", "after ÷ before (nobody waits in either)")];
    let most = table.rows.iter().filter_map(|row| table.number(row, "waiting")).fold(0.0, f64::max);
    let title = format!("Others, while {most:.0} clients wait in BLPOP");
    by_phase(table, out, &title, ("rps", "1,000 requests/s", 1_000.0))?;
    phase_ratios(table, out, &RATIOS, BLOCKED_P99)?;
    writeln!(out, "\nEach of the waiting clients got the element pushed for it afterwards.")?;
    Ok(())
}

const LATENCIES: [&str; 3] = ["p50_us", "p99_us", "p999_us"];

/// Requests and latencies of each phase; `more`: column, title and divisor of one figure more.
fn by_phase(table: &Table, out: &mut String, title: &str, more: (&str, &str, f64)) -> Result<()> {
    let (more, last, divisor) = more;
    writeln!(out, "\n**{title}**\n")?;
    writeln!(out, "| target | phase | requests | p50, ms | p99, ms | p99.9, ms | {last} |")?;
    writeln!(out, "|---|---|--:|--:|--:|--:|--:|")?;
    for target in &table.distinct("target") {
        for phase in &table.distinct("phase") {
            let values = |column| numbers(of_phase(table, phase, target, column));
            write!(out, "| {target} | {phase} | {:.0} |", values("requests").iter().sum::<f64>())?;
            let columns = LATENCIES.iter().map(|column| (*column, 1_000.0));
            for (column, divisor) in columns.chain([(more, divisor)]) {
                let shown = values(column).iter().map(|value| value / divisor).collect();
                write!(out, " {} |", summary(shown, 2))?;
            }
            out.push('\n');
        }
    }
    Ok(())
}

/// Phases divided by the phase `before` of the same round; the p99 of the first ratio is held against `bar`.
fn phase_ratios(table: &Table, out: &mut String, ratios: &[(&str, &str)], bar: f64) -> Result<()> {
    writeln!(
        out,
        "\n**The same as ratios within a round**\n\n| target | ratio | p50 | p99 | p99.9 | rounds |"
    )?;
    writeln!(out, "|---|---|--:|--:|--:|--:|")?;
    let first = ratios.first().map(|(phase, _)| *phase);
    for target in &table.distinct("target") {
        for (phase, title) in ratios {
            let quotients = LATENCIES.map(|column| {
                paired(of_phase(table, phase, target, column), &of_phase(table, "before", target, column))
            });
            write!(out, "| {target} | {title} |")?;
            for (column, quotients) in LATENCIES.iter().zip(&quotients) {
                let judged = median(quotients).filter(|_| first == Some(*phase) && *column == "p99_us");
                let verdict = judged.map(|middle| format!(" (bar {bar}: {})", verdict(middle, bar)));
                write!(out, " {}{} |", summary(quotients.clone(), 2), verdict.unwrap_or_default())?;
            }
            writeln!(out, " {} |", quotients.first().map_or(0, Vec::len))?;
        }
    }
    Ok(())
}

/// What the requests to the node that froze came to; a run with a wrong reply or another error writes no table.
fn frozen_replies(table: &Table, targets: &[String], phases: &[String], out: &mut String) -> Result<()> {
    writeln!(
        out,
        "\nEvery reply was checked against its request: none crossed. The other nodes' connections got no error; those of \
         the node that froze got none but the deadline's (errors of requests, by the phase in which they were due):\n"
    )?;
    writeln!(out, "| target | {} |\n|---|{}", phases.join(" | "), "--:|".repeat(phases.len()))?;
    for target in targets {
        write!(out, "| {target} |")?;
        for phase in phases {
            let sum = |column| numbers(of_phase(table, phase, target, column)).iter().sum::<f64>();
            write!(out, " {:.0} of {:.0} |", sum("deadline_errors"), sum("frozen_requests"))?;
        }
        out.push('\n');
    }
    Ok(())
}

fn head(out: &mut String, title: &str, workloads: &[String]) -> Result<()> {
    writeln!(
        out,
        "\n**{title}**\n\n| target | {} |\n|---|{}",
        workloads.join(" | "),
        "--:|".repeat(workloads.len())
    )?;
    Ok(())
}

/// Round and value of every measurement of a target under a workload.
fn of(table: &Table, workload: &str, target: &str, column: &str) -> Vec<(String, f64)> {
    select(table, [("workload", workload), ("target", target)], column)
}

/// Round and value of every measurement of a target in a phase.
fn of_phase(table: &Table, phase: &str, target: &str, column: &str) -> Vec<(String, f64)> {
    select(table, [("phase", phase), ("target", target)], column)
}

fn select(table: &Table, wanted: [(&str, &str); 2], column: &str) -> Vec<(String, f64)> {
    let is_wanted = |row: &&Row| wanted.iter().all(|(name, text)| table.text(row, name) == *text);
    let rows = table.rows.iter().filter(is_wanted);
    rows.filter_map(|row| Some((table.text(row, "round").to_owned(), table.number(row, column)?))).collect()
}

/// Target ÷ reference of every round that has both.
fn ratios(table: &Table, workload: &str, target: &str, reference: &str, column: &str) -> Vec<f64> {
    paired(of(table, workload, target, column), &of(table, workload, reference, column))
}

/// The quotients of the rounds that both have.
fn paired(values: Vec<(String, f64)>, references: &[(String, f64)]) -> Vec<f64> {
    let quotients = values.into_iter().filter_map(|(round, value)| {
        let reference = references.iter().find(|(other, _)| *other == round)?.1;
        (reference > 0.0).then_some(value / reference)
    });
    quotients.collect()
}

fn numbers(values: Vec<(String, f64)>) -> Vec<f64> {
    values.into_iter().map(|(_, value)| value).collect()
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted.get(low)? + sorted.get(high)?) / 2.0)
}

/// `median [min–max]`, or a dash without values.
fn summary(values: Vec<f64>, decimals: usize) -> String {
    let Some(middle) = median(&values) else { return "–".to_owned() };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{middle:.decimals$} [{least:.decimals$}–{most:.decimals$}]")
}
