//! A snapshot as text for people and as JSON for programs.

use std::fmt::Write;

use super::snapshot::{NodeSnapshot, Snapshot};
use super::table::SLOTS;

/// Slot ranges shown in one line of the table.
const RANGES_PER_LINE: usize = 3;

/// Columns of the widest table.
const COLUMNS: usize = 11;

/// The snapshot as JSON, for `/topology` and `slotway topology --json`.
pub fn render_json(snapshot: &Snapshot) -> String {
    // A tree of strings and numbers: it cannot fail to serialise.
    serde_json::to_string_pretty(snapshot).unwrap_or_default()
}

/// The snapshot as aligned text.
pub fn render_text(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    head(&mut out, snapshot);
    shards(&mut out, snapshot);
    rest(&mut out, snapshot);
    out
}

fn head(out: &mut String, s: &Snapshot) {
    let server = match (&s.server, &s.server_version) {
        (Some(name), Some(version)) => format!("{name} {version}"),
        _ => "unknown server".to_owned(),
    };
    let nodes: usize = s.shards.iter().map(|shard| 1 + shard.replicas.len()).sum();
    line(
        out,
        format_args!("cluster    state {}, current epoch {}, {server}", s.cluster_state, s.current_epoch),
    );
    let covered = format!("{} of {SLOTS} slots covered", s.slots_covered);
    line(
        out,
        format_args!(
            "coverage   {covered}, {}, {}",
            counted(s.shards.len(), "shard"),
            counted(nodes, "node")
        ),
    );
    if let Some(why) = &s.not_ready_reason {
        line(out, format_args!("not ready  {why}"));
    }
    if let Some(from) = &s.taken_from {
        let age = s.age_seconds.map_or(String::new(), |age| format!(", {age:.1} s ago"));
        let epoch = if s.table_epoch > 0 { format!(", table {}", s.table_epoch) } else { String::new() };
        line(out, format_args!("taken from {from}, {} compared{epoch}{age}", counted(s.views.len(), "view")));
    }
}

fn shards(out: &mut String, s: &Snapshot) {
    let mut rows = vec![
        ["shard", "slots", "role", "node", "health", "zone", "reads", "lag", "flags", "epoch", "id"]
            .map(str::to_owned),
    ];
    for (index, shard) in s.shards.iter().enumerate() {
        let ranges: Vec<String> = shard.slots.iter().map(|[first, last]| range(*first, *last)).collect();
        let mut slots =
            ranges.chunks(RANGES_PER_LINE).map(|part| part.join(" ")).collect::<Vec<_>>().into_iter();
        let mut row = node_row(&shard.primary, "primary");
        row[0] = index.to_string();
        row[1] = slots.next().unwrap_or_default();
        rows.push(row);
        for replica in &shard.replicas {
            let mut row = node_row(replica, "replica");
            row[1] = slots.next().unwrap_or_default();
            rows.push(row);
        }
        rows.extend(slots.map(|more| {
            let mut row: [String; COLUMNS] = Default::default();
            row[1] = more;
            row
        }));
    }
    out.push('\n');
    table(out, &without_empty_columns(rows));
}

/// Zones and what is known of replicas are not everywhere: a heading with nothing below it is left out.
fn without_empty_columns(rows: Vec<[String; COLUMNS]>) -> Vec<Vec<String>> {
    let is_used: Vec<bool> = (0..COLUMNS)
        .map(|column| rows.iter().skip(1).any(|row| row.get(column).is_some_and(|cell| !cell.is_empty())))
        .collect();
    let kept = |row: [String; COLUMNS]| {
        let cells = row.into_iter().zip(&is_used).filter(|(_, used)| **used);
        cells.map(|(cell, _)| cell).collect::<Vec<_>>()
    };
    rows.into_iter().map(kept).collect()
}

fn rest(out: &mut String, s: &Snapshot) {
    if !s.uncovered.is_empty() {
        let _ = writeln!(out, "\nuncovered (no owner that gets traffic)");
        let rows: Vec<_> = s
            .uncovered
            .iter()
            .map(|u| {
                let slots: Vec<String> = u.slots.iter().map(|[first, last]| range(*first, *last)).collect();
                let owner = u.owner.clone().unwrap_or_else(|| "nobody".to_owned());
                let replicas = if u.replicas.is_empty() { "none".to_owned() } else { u.replicas.join(", ") };
                [slots.join(" "), format!("owner {owner}"), format!("healthy replicas {replicas}")]
            })
            .collect();
        table(out, &rows);
    }
    if !s.migrations.is_empty() {
        let _ = writeln!(out, "\nopen migrations");
        let rows: Vec<_> =
            s.migrations.iter().map(|m| [m.slot.to_string(), format!("{} -> {}", m.from, m.to)]).collect();
        table(out, &rows);
    }
    if !s.ignored.is_empty() {
        let _ = writeln!(out, "\nignored (listed by the cluster, no traffic)");
        let addr = |addr: &Option<String>| addr.clone().unwrap_or_else(|| "-".to_owned());
        let rows: Vec<_> = s
            .ignored
            .iter()
            .map(|i| [addr(&i.addr), i.reason.clone(), i.flags.clone(), short(&i.id)])
            .collect();
        table(out, &rows);
    }
    let _ = writeln!(out, "\nasked");
    let views = s
        .views
        .iter()
        .map(|v| [v.addr.clone(), v.verdict.clone(), format!("epoch {}", v.current_epoch), short(&v.id)]);
    let failed = s.failures.iter().map(|f| [f.addr.clone(), f.error.clone(), String::new(), String::new()]);
    table(out, &views.chain(failed).collect::<Vec<_>>());
}

fn node_row(node: &NodeSnapshot, role: &str) -> [String; COLUMNS] {
    let (role, addr, health) = (role.to_owned(), node.addr.clone(), node.health.clone());
    let (zone, reads) = (node.zone.clone().unwrap_or_default(), node.reads.clone().unwrap_or_default());
    let (flags, epoch) = (node.flags.clone(), node.config_epoch.to_string());
    let (none, id) = (String::new, short(&node.id));
    [none(), none(), role, addr, health, zone, reads, lag(node), flags, epoch, id]
}

/// How old a replica's data may be, and how much it lacked.
fn lag(node: &NodeSnapshot) -> String {
    let age = node.lag_seconds.map(|seconds| format!("{seconds:.1} s"));
    let behind = node.lag_bytes.map(|bytes| format!("{bytes} B"));
    age.into_iter().chain(behind).collect::<Vec<_>>().join(", ")
}

fn range(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// As much of a cluster id as tells nodes apart.
fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

/// Columns as wide as their widest cell, two spaces apart, no trailing spaces.
fn table<R: AsRef<[String]>>(out: &mut String, rows: &[R]) {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut text = String::from("  ");
        for (width, cell) in widths.iter().zip(row.as_ref()) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        line(out, format_args!("{}", text.trim_end()));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}
