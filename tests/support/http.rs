//! HTTP/1.1 GET over a plain socket, for the admin port, and a reader of its metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Status and body of a GET.
pub fn get(addr: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let text = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { unchunk(body) } else { body.to_owned() }))
}

fn unchunk(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        out.push_str(after.get(..size).unwrap_or(after));
        rest = after.get(size + 2..).unwrap_or("");
    }
    out
}

/// One reading of `/metrics`.
#[derive(Debug)]
pub struct Metrics(Vec<(String, String, f64)>);

impl Metrics {
    /// Reads the Prometheus text format; panics on a line that is none.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no metric line: {line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let value = value.parse().unwrap_or_else(|_| panic!("no metric value: {line}"));
            (name.to_owned(), labels.trim_end_matches('}').to_owned(), value)
        };
        Self(text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(sample).collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _, _)| n == name)
    }

    /// Sum of all series of that name whose label text contains every one of `labels`
    /// (`command="get"`); 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let fits = |l: &str| labels.iter().all(|want| l.contains(want));
        self.0.iter().filter(|(n, l, _)| n == name && fits(l)).map(|(_, _, v)| v).sum()
    }
}
