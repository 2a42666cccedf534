//! A node's small structured reply as a tree, so that several can be merged into one; written out again in the
//! client's version. Only for administrative replies: data is never parsed into trees.

use crate::protocol::encode;
use crate::protocol::reply::{integer, list_elements, string};
use crate::session::state::Resp;

/// Deepest nesting taken: no administrative reply comes near it.
const DEPTH: usize = 8;

/// A reply or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// Anything without parts, as it came.
    Leaf(Vec<u8>),
    /// An array or set.
    List(Vec<Tree>),
    /// A map; in RESP2 it comes as a list, see [`Tree::pairs`].
    Map(Vec<(Tree, Tree)>),
}

impl Tree {
    /// From a whole reply.
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        Self::at_depth(frame, DEPTH)
    }

    fn at_depth(frame: &[u8], depth: usize) -> Option<Self> {
        let mut parts = Vec::new();
        match frame.first()? {
            b'%' => {
                // As a list of twice as many elements.
                let end = memchr::memchr(b'\n', frame)? + 1;
                let count: usize = std::str::from_utf8(frame.get(1..end - 2)?).ok()?.parse().ok()?;
                let mut list = Vec::with_capacity(frame.len() + 2);
                encode::array(&mut list, count.checked_mul(2)?);
                list.extend_from_slice(frame.get(end..)?);
                Self::at_depth(&list, depth)?.pairs().map(Self::Map)
            }
            b'*' | b'~' if frame.get(1) != Some(&b'-') => {
                let depth = depth.checked_sub(1)?;
                list_elements(frame, |_, start, len| {
                    parts.push(frame.get(start..start + len).and_then(|part| Self::at_depth(part, depth)));
                })?;
                parts.into_iter().collect::<Option<Vec<_>>>().map(Self::List)
            }
            _ => Some(Self::Leaf(frame.to_vec())),
        }
    }

    /// The bytes of a string.
    pub(super) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Leaf(frame) => string(frame),
            _ => None,
        }
    }

    /// The value of an integer.
    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Self::Leaf(frame) => integer(frame),
            _ => None,
        }
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> Option<&[Tree]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The names and values of a map, in either version.
    pub(super) fn pairs(self) -> Option<Vec<(Tree, Tree)>> {
        match self {
            Self::Map(pairs) => Some(pairs),
            Self::List(items) if items.len().is_multiple_of(2) => {
                let (mut pairs, mut items) = (Vec::with_capacity(items.len() / 2), items.into_iter());
                while let (Some(name), Some(value)) = (items.next(), items.next()) {
                    pairs.push((name, value));
                }
                Some(pairs)
            }
            _ => None,
        }
    }

    /// An integer.
    pub(super) fn of_number(number: i64) -> Self {
        let mut frame = Vec::new();
        encode::integer(&mut frame, number);
        Self::Leaf(frame)
    }

    /// Writes it in the client's version.
    pub(super) fn write(&self, out: &mut Vec<u8>, resp: Resp) {
        match self {
            Self::Leaf(frame) => out.extend_from_slice(frame),
            Self::List(items) => {
                encode::array(out, items.len());
                items.iter().for_each(|item| item.write(out, resp));
            }
            Self::Map(pairs) => {
                encode::map(out, resp, pairs.len());
                for (name, value) in pairs {
                    name.write(out, resp);
                    value.write(out, resp);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn both_versions_read_alike_and_come_back() {
        let two = b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*2\r\n$-1\r\n*0\r\n";
        let three = b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n~2\r\n_\r\n%0\r\n";
        let pairs = Tree::parse(two).unwrap().pairs().unwrap();
        assert_eq!((pairs[0].0.text(), pairs[0].1.number()), (Some(&b"a"[..]), Some(1)));
        assert_eq!(pairs[1].1.items().unwrap().len(), 2);
        let mut out = Vec::new();
        Tree::Map(pairs).write(&mut out, Resp::V2);
        assert_eq!(out, two);
        let pairs = Tree::parse(three).unwrap().pairs().unwrap();
        assert_eq!(pairs[0].1, Tree::of_number(1));
        let mut out = Vec::new();
        Tree::Map(pairs).write(&mut out, Resp::V3);
        assert_eq!(out, b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*2\r\n_\r\n%0\r\n");
    }

    #[test]
    fn nonsense_and_depth_are_refused() {
        for bad in
            [&b"*2\r\n:1\r\n"[..], b"", b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"]
        {
            assert_eq!(Tree::parse(bad), None);
        }
        assert!(Tree::parse(b"*3\r\n:1\r\n:2\r\n:3\r\n").unwrap().pairs().is_none());
    }
}
