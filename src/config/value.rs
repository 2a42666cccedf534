//! What a config value may look like: for each type, how it is read from text, written as text, and
//! which TOML types it accepts. Owns units (`500ms`, `64MiB`). Must never print a secret.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::topology::node::NodeAddr;

/// Port of a seed given as a host alone.
pub const DEFAULT_REDIS_PORT: u16 = 6379;

/// TOML types a key accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TomlKind {
    /// A string.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An array of strings.
    List,
}

/// A type a config key can have.
pub trait Value: Sized {
    /// What is expected, for messages: "expected …".
    const EXPECTED: &'static str;
    /// TOML types it may be written as.
    const TOML: &'static [TomlKind];

    /// Reads the value; `None` when the text is not of the form `EXPECTED` says.
    fn parse(text: &str) -> Option<Self>;

    /// The text that `parse` reads back; never called for a secret that is shown to people.
    fn show(&self) -> String;

    /// True for the value a `positive` key refuses.
    fn is_zero(&self) -> bool {
        false
    }

    /// True when there is nothing to write into a file (an optional key without a value).
    fn is_unset(&self) -> bool {
        false
    }
}

/// A password: printed only as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the bytes as they are.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The password itself; must reach nothing but a comparison or a handshake.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Value for Duration {
    const EXPECTED: &'static str = "a duration with a unit, such as 500ms, 5s or 2m";
    const TOML: &'static [TomlKind] = &[TomlKind::Text];

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        // Far beyond any sane deadline, and small enough that adding one to an `Instant` is safe.
        number.checked_mul(millis).filter(|&ms| ms <= 1_000_000_000_000).map(Duration::from_millis)
    }

    fn show(&self) -> String {
        let ms = self.as_millis();
        if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
    }

    fn is_zero(&self) -> bool {
        Duration::is_zero(self)
    }
}

/// Sizes in bytes.
impl Value for u64 {
    const EXPECTED: &'static str = "a size in bytes, such as 65536, 64KiB, 32MiB or 1GiB";
    const TOML: &'static [TomlKind] = &[TomlKind::Text, TomlKind::Integer];

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let factor = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        number.checked_mul(factor)
    }

    fn show(&self) -> String {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if *self != 0 && self.is_multiple_of(1 << shift) {
                return format!("{}{unit}", self >> shift);
            }
        }
        self.to_string()
    }

    fn is_zero(&self) -> bool {
        *self == 0
    }
}

/// Counts.
impl Value for usize {
    const EXPECTED: &'static str = "a whole number, 0 or more";
    const TOML: &'static [TomlKind] = &[TomlKind::Integer];

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn is_zero(&self) -> bool {
        *self == 0
    }
}

/// Switches.
impl Value for bool {
    const EXPECTED: &'static str = "on or off";
    const TOML: &'static [TomlKind] = &[TomlKind::Text, TomlKind::Boolean];

    fn parse(text: &str) -> Option<Self> {
        match text {
            "on" | "true" | "yes" => Some(true),
            "off" | "false" | "no" => Some(false),
            _ => None,
        }
    }

    fn show(&self) -> String {
        if *self { "on" } else { "off" }.to_owned()
    }
}

impl Value for SocketAddr {
    const EXPECTED: &'static str = "an address and port, such as 0.0.0.0:6379 or [::]:6379";
    const TOML: &'static [TomlKind] = &[TomlKind::Text];

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a text";
    const TOML: &'static [TomlKind] = &[TomlKind::Text];

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "a path";
    const TOML: &'static [TomlKind] = &[TomlKind::Text];

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for Secret {
    const EXPECTED: &'static str = "a password that is not empty";
    const TOML: &'static [TomlKind] = &[TomlKind::Text];

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Secret::new(text.as_bytes()))
    }

    fn show(&self) -> String {
        "***".to_owned()
    }
}

impl<T: Value> Value for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const TOML: &'static [TomlKind] = T::TOML;

    fn parse(text: &str) -> Option<Self> {
        T::parse(text).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }

    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

/// A type with a fixed list of values.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $expected:literal { $($variant:ident = $text:literal, $what:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $(#[doc = $what] $variant,)* }

        impl Value for $name {
            const EXPECTED: &'static str = $expected;
            const TOML: &'static [TomlKind] = &[TomlKind::Text];

            fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }

            fn show(&self) -> String {
                match self { $(Self::$variant => $text,)* }.to_owned()
            }
        }
    };
}

choice! {
    /// How log lines look.
    LogFormat, "text or json" {
        Text = "text", "One line of text per event.";
        Json = "json", "One JSON object per event.";
    }
}

choice! {
    /// What the seeds lead to.
    Upstream, "cluster, sentinel or standalone" {
        Cluster = "cluster", "Nodes of a Redis Cluster.";
        Sentinel = "sentinel", "Sentinels, which know the one primary.";
        Standalone = "standalone", "One server.";
    }
}

choice! {
    /// The least severe log line that is written.
    LogLevel, "error, warn, info or debug" {
        Error = "error", "Our own faults.";
        Warn = "warn", "Nodes' faults too.";
        Info = "info", "What an operator wants to see of a healthy process.";
        Debug = "debug", "Clients' faults and single connections.";
    }
}

impl Value for NodeAddr {
    const EXPECTED: &'static str = "host:port, [IPv6]:port or host (port 6379)";
    const TOML: &'static [TomlKind] = &[TomlKind::Text];

    fn parse(text: &str) -> Option<Self> {
        parse_node_addr(text)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Vec<NodeAddr> {
    const EXPECTED: &'static str = "a list of host:port, [IPv6]:port or host (port 6379)";
    const TOML: &'static [TomlKind] = &[TomlKind::List, TomlKind::Text];

    fn parse(text: &str) -> Option<Self> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(parse_node_addr).collect()
    }

    fn show(&self) -> String {
        self.iter().map(NodeAddr::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Reads `host:port`, `[IPv6]:port`, a bare IPv6 address or a host alone, whose port is then 6379.
pub fn parse_node_addr(text: &str) -> Option<NodeAddr> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
    } else {
        match text.matches(':').count() {
            0 => (text, None),
            1 => text.split_once(':').map(|(host, port)| (host, Some(port)))?,
            _ => {
                text.parse::<std::net::Ipv6Addr>().ok()?;
                (text, None)
            }
        }
    };
    let port = match port {
        None => DEFAULT_REDIS_PORT,
        Some(digits) => digits.parse().ok().filter(|&port| port != 0)?,
    };
    let valid = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'@');
    valid.then(|| NodeAddr { host: host.to_owned(), port })
}

/// Splits `64KiB` into 64 and `KiB`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
