//! Prometheus text of what the exporter cannot hold: histograms whose buckets are already counted,
//! series of nodes that come and go, and counters with fractions.

use std::fmt::Write as _;

use super::histogram;
use super::names::Metric;

/// Collects families in the text exposition format.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// Heads a family; its samples follow.
    pub fn family(&mut self, metric: &Metric) {
        // Writing to a String cannot fail.
        let _ =
            writeln!(self.0, "# HELP {0} {1}\n# TYPE {0} {2}", metric.name, metric.help, metric.kind.text());
    }

    /// One sample with the metric's only label, or none.
    pub fn sample(&mut self, metric: &Metric, label: Option<&str>, value: f64) {
        self.0.push_str(metric.name);
        if let (Some(name), Some(value)) = (metric.labels.first(), label) {
            let _ = write!(self.0, "{{{name}=\"{}\"}}", escaped(value));
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// The series of one label value: `words` as `histogram::WORDS` says, in microseconds; `coarse`
    /// leaves out every second bucket.
    pub fn histogram(&mut self, metric: &Metric, label: &str, words: &[u64], coarse: bool) {
        let (name, key) = (metric.name, metric.labels.first().copied().unwrap_or_default());
        let label = escaped(label);
        let mut count = 0u64;
        for (bucket, n) in words.iter().take(histogram::BUCKETS).enumerate() {
            count = count.wrapping_add(*n);
            if coarse && !histogram::is_coarse(bucket) {
                continue;
            }
            let bound =
                histogram::bound(bucket).map_or("+Inf".to_owned(), |micros| seconds(micros).to_string());
            let _ = writeln!(self.0, "{name}_bucket{{{key}=\"{label}\",le=\"{bound}\"}} {count}");
        }
        let sum = seconds(words.get(histogram::BUCKETS).copied().unwrap_or(0));
        let _ = writeln!(
            self.0,
            "{name}_sum{{{key}=\"{label}\"}} {sum}\n{name}_count{{{key}=\"{label}\"}} {count}"
        );
    }

    /// The text so far.
    pub fn finish(self) -> String {
        self.0
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
