//! Finds a command by name in any letter case: open addressing over a hash of the folded name.
//!
//! Built once, then only read. No allocation and no copy of the name on a look-up.

use super::CommandId;

/// No command name is longer; what is longer is not looked up, however long a client makes it.
pub const NAME_BYTES_MAX: usize = 32;

/// Folded names to ids. A subcommand's short name is filed under its container's id.
#[derive(Debug)]
pub struct Index {
    cells: Box<[Cell]>,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    hash: u32,
    id: u16,
    used: bool,
}

impl Index {
    /// Room for `count` names, at most a quarter full so that probes stay short.
    pub fn with_capacity(count: usize) -> Self {
        let size = (count * 4).next_power_of_two().max(4);
        Self { cells: vec![Cell { hash: 0, id: 0, used: false }; size].into() }
    }

    /// Files a name under a container, or at the top level.
    pub fn insert(&mut self, container: Option<CommandId>, name: &str, id: CommandId) {
        let hash = hash(container, name.as_bytes());
        let size = self.cells.len();
        let free = (0..size).map(|step| (hash as usize + step) & (size - 1));
        for at in free {
            match self.cells.get_mut(at) {
                Some(cell) if !cell.used => {
                    *cell = Cell { hash, id: id.0, used: true };
                    return;
                }
                _ => {}
            }
        }
    }

    /// The id whose name `matches`, among those with the same hash as `name`.
    #[inline]
    pub fn find(
        &self,
        container: Option<CommandId>,
        name: &[u8],
        matches: impl Fn(CommandId) -> bool,
    ) -> Option<CommandId> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let hash = hash(container, name);
        let mask = self.cells.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let cell = self.cells.get(at)?;
            if !cell.used {
                return None;
            }
            let id = CommandId(cell.id);
            if cell.hash == hash && matches(id) {
                return Some(id);
            }
            at = (at + 1) & mask;
        }
    }
}

/// Bit 5 set in every byte: `A` becomes `a`. Other bytes may fall together too, which costs a
/// comparison and nothing else.
const FOLD: u64 = 0x2020_2020_2020_2020;

#[inline]
fn hash(container: Option<CommandId>, name: &[u8]) -> u32 {
    let mut state = container.map_or(0, |id| u64::from(id.0) + 1) ^ (name.len() as u64) << 32;
    for chunk in name.chunks(8) {
        let mut word = 0;
        for &byte in chunk {
            word = word << 8 | u64::from(byte);
        }
        state = (state ^ (word | FOLD)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state ^= state >> 32;
    }
    state as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_in_any_case_and_under_its_container() {
        let names = ["get", "getex", "object", "x", "georadiusbymember_ro"];
        let mut index = Index::with_capacity(names.len() + 1);
        for (id, name) in (0u16..).zip(names) {
            index.insert(None, name, CommandId(id));
        }
        index.insert(Some(CommandId(2)), "get", CommandId(5));
        let find = |container, name: &str| {
            let all = ["get", "getex", "object", "x", "georadiusbymember_ro", "get"];
            index.find(container, name.as_bytes(), |id| {
                all.get(usize::from(id.0)).is_some_and(|n| n.eq_ignore_ascii_case(name))
            })
        };
        for (id, name) in (0u16..).zip(names) {
            assert_eq!(find(None, name), Some(CommandId(id)));
            assert_eq!(find(None, &name.to_uppercase()), Some(CommandId(id)));
        }
        assert_eq!(find(Some(CommandId(2)), "GET"), Some(CommandId(5)));
        assert_eq!(find(Some(CommandId(1)), "GET"), None);
        for unknown in ["", "ge", "gets", "\u{7}et", "G\u{5}T", &"g".repeat(10_000)] {
            assert_eq!(find(None, unknown), None);
        }
    }
}
