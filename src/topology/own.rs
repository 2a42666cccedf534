//! A node's own word about itself: its line of CLUSTER NODES, or its ROLE where there is no cluster. What it owns, under which config epoch, and which
//! of its slots are leaving it. Unlike anything another node says, this is never behind.

use super::table::SLOTS;

/// CLUSTER NODES as a request.
pub const CLUSTER_NODES: &[u8] = b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nNODES\r\n";

/// ROLE as a request: the same where the node is no cluster node.
pub const ROLE: &[u8] = b"*1\r\n$4\r\nROLE\r\n";

/// What one node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnWord {
    /// Its cluster id.
    pub id: String,
    /// False for a replica, which owns nothing.
    pub primary: bool,
    /// Its config epoch.
    pub epoch: u64,
    /// What it owns; bounds inclusive.
    pub slots: Vec<(u16, u16)>,
    /// Slots under way from it, and the cluster id they go to.
    pub leaving: Vec<(u16, String)>,
}

impl OwnWord {
    /// From a whole reply to CLUSTER NODES, in either protocol version. `None` if it is anything else.
    pub fn parse(reply: &[u8]) -> Option<Self> {
        let start = memchr::memchr(b'\n', reply)? + 1;
        let text = std::str::from_utf8(reply.get(start..)?).ok()?;
        let text = if reply.first() == Some(&b'=') { text.strip_prefix("txt:")? } else { text };
        let is_mine =
            |line: &&str| line.split(' ').nth(2).is_some_and(|f| f.split(',').any(|f| f == "myself"));
        Self::line(text.lines().find(is_mine)?)
    }

    /// From a whole reply to ROLE: a primary owns all slots. It tells no id. `None` if it is anything else.
    pub fn of_role(reply: &[u8]) -> Option<Self> {
        let mut lines =
            reply.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        lines.next().filter(|line| line.starts_with(b"*"))?;
        let slots = vec![(0, SLOTS as u16 - 1)];
        match lines.nth(1)? {
            b"master" => Some(Self { primary: true, slots, ..Self::default() }),
            b"slave" | b"replica" => Some(Self::default()),
            _ => None,
        }
    }

    /// `<id> <address> <flags> <primary> <ping> <pong> <epoch> <link> <slot>…`
    fn line(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let id = fields.next()?.to_owned();
        let flags = fields.nth(1)?;
        let epoch = fields.nth(3)?.parse().ok()?;
        fields.next()?;
        let mut word =
            Self { id, primary: flags.split(',').any(|f| f == "master"), epoch, ..Self::default() };
        for field in fields {
            match field.strip_prefix('[') {
                None => word.slots.push(range(field)?),
                Some(open) => {
                    if let Some((slot, to)) = open.strip_suffix(']').and_then(|open| open.split_once("->-")) {
                        word.leaving.push((slot_number(slot)?, to.to_owned()));
                    }
                }
            }
        }
        Some(word)
    }

    /// True when it owns `slot`.
    pub fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

/// True when every slot is owned by one of `words`.
pub fn all_covered<'a>(words: impl IntoIterator<Item = &'a OwnWord>) -> bool {
    let mut covered = vec![false; SLOTS];
    for &(first, last) in words.into_iter().flat_map(|word| &word.slots) {
        if let Some(range) = covered.get_mut(usize::from(first)..=usize::from(last)) {
            range.fill(true);
        }
    }
    covered.into_iter().all(|slot| slot)
}

fn range(field: &str) -> Option<(u16, u16)> {
    let (first, last) = field.split_once('-').unwrap_or((field, field));
    let (first, last) = (slot_number(first)?, slot_number(last)?);
    (first <= last).then_some((first, last))
}

fn slot_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|slot| usize::from(*slot) < SLOTS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const NODES: &str = "07c3 127.0.0.1:1@11 slave e7d1 0 142 4 connected\n\
        e7d1 127.0.0.1:2@12,host myself,master - 0 0 17 connected 0-4 9 [93-<-67ed] [77->-2925]\n\
        67ed 127.0.0.1:3@13 master - 0 142 2 connected 5-8 10-16383\n";

    #[test]
    fn own_line_in_both_versions() {
        let expected = OwnWord {
            id: "e7d1".into(),
            primary: true,
            epoch: 17,
            slots: vec![(0, 4), (9, 9)],
            leaving: vec![(77, "2925".into())],
        };
        let bulk = format!("${}\r\n{NODES}\r\n", NODES.len());
        assert_eq!(OwnWord::parse(bulk.as_bytes()), Some(expected.clone()));
        let verbatim = format!("={}\r\ntxt:{NODES}\r\n", NODES.len() + 4);
        assert_eq!(OwnWord::parse(verbatim.as_bytes()), Some(expected.clone()));
        assert!(expected.owns(9) && !expected.owns(8));
    }

    #[test]
    fn roles() {
        let primary = OwnWord::of_role(b"*3\r\n$6\r\nmaster\r\n:9\r\n*0\r\n").unwrap();
        assert!(primary.primary && all_covered([&primary]));
        let replica = b"*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:9\r\n";
        assert_eq!(OwnWord::of_role(replica), Some(OwnWord::default()));
    }

    #[test]
    fn anything_else_is_no_word() {
        for reply in ["-ERR no\r\n", "$0\r\n\r\n", "+OK\r\n", "", "$20\r\na b myself,master - 0\r\n"] {
            assert_eq!(OwnWord::parse(reply.as_bytes()), None, "{reply:?}");
        }
        for reply in [&b"*-1\r\n"[..], b"-NOPERM\r\n", b"*2\r\n$8\r\nsentinel\r\n*0\r\n", b""] {
            assert_eq!(OwnWord::of_role(reply), None);
        }
        let wrong = "$9\r\na b myself,master - 0 0 1 connected 5-2\n\r\n";
        assert_eq!(OwnWord::parse(wrong.as_bytes()), None);
    }

    #[test]
    fn cover() {
        let word = |slots: &[(u16, u16)]| OwnWord { slots: slots.to_vec(), ..OwnWord::default() };
        let halves = [word(&[(0, 8000)]), word(&[(8001, 16383)])];
        assert!(all_covered(&halves));
        assert!(!all_covered(&[word(&[(0, 7999)]), word(&[(8001, 16383)])]));
        assert!(!all_covered(&[]));
    }
}
