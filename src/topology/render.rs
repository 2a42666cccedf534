//! A snapshot as text for people and as JSON for programs.

use std::fmt::Write;

use super::snapshot::{NodeSnapshot, Snapshot};
use super::table::SLOTS;

/// Slot ranges shown in one line of the table.
const RANGES_PER_LINE: usize = 3;

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
    let mut rows =
        vec![["shard", "slots", "role", "node", "health", "flags", "epoch", "id"].map(str::to_owned)];
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
            let mut row: [String; 8] = Default::default();
            row[1] = more;
            row
        }));
    }
    out.push('\n');
    table(out, &rows);
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

fn node_row(node: &NodeSnapshot, role: &str) -> [String; 8] {
    let (health, flags) = (node.health.clone(), node.flags.clone());
    let epoch = node.config_epoch.to_string();
    [String::new(), String::new(), role.to_owned(), node.addr.clone(), health, flags, epoch, short(&node.id)]
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
fn table<const N: usize>(out: &mut String, rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut text = String::from("  ");
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        line(out, format_args!("{}", text.trim_end()));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}
