//! How `node-zones` is written and read. What the rules mean stands in `topology::zone`.

use super::value::{TomlKind, Value};
use crate::topology::ZoneRule;

impl Value for Vec<ZoneRule> {
    const EXPECTED: &'static str =
        "a list of CIDR=zone or host=zone, such as 10.0.1.0/24=zone-a or redis-a-*=zone-a";
    const TOML: &'static [TomlKind] = &[TomlKind::List, TomlKind::Text];

    fn parse(text: &str) -> Option<Self> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(ZoneRule::parse).collect()
    }

    fn show(&self) -> String {
        self.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}
