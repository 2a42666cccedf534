//! Keys for slots: the tests' own idea of where a key belongs, from a crate the proxy's slot code
//! does not use.

use std::sync::OnceLock;

pub const SLOTS: u16 = 16384;

/// The slot of a key, by the cluster specification.
pub fn slot(key: &[u8]) -> u16 {
    redis_protocol::redis_keyslot(key)
}

/// A short hash tag (without braces) for every slot.
pub fn tag(slot_wanted: u16) -> &'static str {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    let tags = TAGS.get_or_init(|| {
        let mut tags = vec![String::new(); usize::from(SLOTS)];
        let mut missing = tags.len();
        let mut n = 0u32;
        while missing > 0 {
            let candidate = format!("{n:x}");
            let place = &mut tags[usize::from(slot(candidate.as_bytes()))];
            if place.is_empty() {
                *place = candidate;
                missing -= 1;
            }
            n += 1;
        }
        tags
    });
    &tags[usize::from(slot_wanted)]
}

/// A key in `slot`, distinguishable by `name`.
pub fn key_in(slot_wanted: u16, name: &str) -> String {
    format!("{name}{{{}}}", tag(slot_wanted))
}
