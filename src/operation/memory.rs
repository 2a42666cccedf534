//! MEMORY STATS of all shards as one reply: sizes and counts are added, ratios computed from the sums as Redis
//! does it. Pure: it is given what the nodes said.

use std::collections::BTreeMap;

use super::tree::Tree;
use crate::protocol::encode;
use crate::session::state::Resp;

/// A field of the reply.
#[derive(Clone, Debug)]
enum Field {
    Sum(i64),
    Ratio(f64),
    Fields(Vec<(Tree, Field)>),
}

/// Sums by field name.
type Sums = BTreeMap<Vec<u8>, f64>;

/// One reply of several.
pub(super) fn stats(replies: Vec<Tree>, resp: Resp) -> Option<Tree> {
    let mut all: Vec<(Tree, Field)> = Vec::new();
    for reply in replies {
        add(&mut all, fields(reply)?)?;
    }
    let mut sums: Sums = BTreeMap::new();
    for (name, field) in &all {
        if let Field::Sum(sum) = field {
            sums.insert(name.text()?.to_vec(), *sum as f64);
        }
    }
    for (name, field) in &mut all {
        let name = std::str::from_utf8(name.text()?).ok()?;
        match field {
            Field::Ratio(ratio) => *ratio = computed(name, &sums).unwrap_or(*ratio),
            Field::Sum(sum) if name == "keys.bytes-per-key" => {
                *sum = computed(name, &sums).unwrap_or(0.0) as i64;
            }
            _ => {}
        }
    }
    Some(Tree::Map(written(all, resp)))
}

/// How Redis computes what cannot be added. `None`: no such field, or nothing to divide by.
fn computed(name: &str, sums: &Sums) -> Option<f64> {
    let sum = |name: &str| sums.get(name.as_bytes()).copied();
    let process = || Some(sum("allocator.resident")? + sum("rss-overhead.bytes")?);
    let (part, whole) = match name {
        "peak.percentage" => (sum("total.allocated")? * 100.0, sum("peak.allocated")?),
        "dataset.percentage" => {
            (sum("dataset.bytes")? * 100.0, sum("total.allocated")? - sum("startup.allocated")?)
        }
        "keys.bytes-per-key" => (sum("total.allocated")? - sum("startup.allocated")?, sum("keys.count")?),
        "allocator-fragmentation.ratio" => (sum("allocator.active")?, sum("allocator.allocated")?),
        "allocator-rss.ratio" => (sum("allocator.resident")?, sum("allocator.active")?),
        "rss-overhead.ratio" => (process()?, sum("allocator.resident")?),
        "fragmentation" => (process()?, process()? - sum("fragmentation.bytes")?),
        _ => return None,
    };
    (whole > 0.0).then(|| part / whole)
}

fn fields(reply: Tree) -> Option<Vec<(Tree, Field)>> {
    let field = |(name, value): (Tree, Tree)| {
        let field = match &value {
            Tree::Leaf(frame) => match (value.number(), frame.strip_prefix(b",")) {
                (Some(number), _) => Field::Sum(number),
                (None, Some(double)) => Field::Ratio(ratio(double.strip_suffix(b"\r\n")?)?),
                (None, None) => Field::Ratio(ratio(value.text()?)?),
            },
            Tree::List(_) | Tree::Map(_) => Field::Fields(fields(value)?),
        };
        Some((name, field))
    };
    reply.pairs()?.into_iter().map(field).collect()
}

fn ratio(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn add(all: &mut Vec<(Tree, Field)>, more: Vec<(Tree, Field)>) -> Option<()> {
    for (name, field) in more {
        match (all.iter_mut().find(|(known, _)| *known == name).map(|(_, field)| field), field) {
            (None, field) => all.push((name, field)),
            (Some(Field::Sum(sum)), Field::Sum(more)) => *sum = sum.saturating_add(more),
            // Computed from the sums afterwards; of one we do not know how, the largest stands.
            (Some(Field::Ratio(ratio)), Field::Ratio(more)) => *ratio = ratio.max(more),
            (Some(Field::Fields(fields)), Field::Fields(more)) => add(fields, more)?,
            _ => return None,
        }
    }
    Some(())
}

fn written(fields: Vec<(Tree, Field)>, resp: Resp) -> Vec<(Tree, Tree)> {
    let value = |field| match field {
        Field::Sum(sum) => Tree::of_number(sum),
        Field::Fields(fields) => Tree::Map(written(fields, resp)),
        Field::Ratio(ratio) => {
            let (mut frame, text) = (Vec::new(), ratio.to_string());
            match resp {
                Resp::V2 => encode::bulk(&mut frame, text),
                Resp::V3 => frame.extend_from_slice(format!(",{text}\r\n").as_bytes()),
            }
            Tree::Leaf(frame)
        }
    };
    fields.into_iter().map(|(name, field)| (name, value(field))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn reply(fields: &[(&str, &str)]) -> Tree {
        let mut frame = Vec::new();
        encode::array(&mut frame, fields.len() * 2);
        for (name, value) in fields {
            encode::bulk(&mut frame, name);
            frame.extend_from_slice(value.as_bytes());
        }
        Tree::parse(&frame).unwrap()
    }

    #[test]
    fn sums_and_ratios_from_sums() {
        let node = |allocated: &str, keys: &str, db: &str| {
            reply(&[
                ("peak.allocated", ":400\r\n"),
                ("total.allocated", allocated),
                ("startup.allocated", ":100\r\n"),
                ("db.0", db),
                ("keys.count", keys),
                ("keys.bytes-per-key", ":77\r\n"),
                ("peak.percentage", "$2\r\n50\r\n"),
                ("new.ratio", "$3\r\n1.5\r\n"),
            ])
        };
        let db = "*2\r\n$8\r\noverhead\r\n:7\r\n";
        let replies = vec![node(":200\r\n", ":10\r\n", db), node(":400\r\n", ":30\r\n", db)];
        let merged = stats(replies, Resp::V3).unwrap();
        let mut out = Vec::new();
        merged.write(&mut out, Resp::V3);
        let expected = "%8\r\n$14\r\npeak.allocated\r\n:800\r\n$15\r\ntotal.allocated\r\n:600\r\n\
            $17\r\nstartup.allocated\r\n:200\r\n$4\r\ndb.0\r\n%1\r\n$8\r\noverhead\r\n:14\r\n\
            $10\r\nkeys.count\r\n:40\r\n$18\r\nkeys.bytes-per-key\r\n:10\r\n\
            $15\r\npeak.percentage\r\n,75\r\n$9\r\nnew.ratio\r\n,1.5\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_is_no_map_is_refused() {
        assert!(stats(vec![Tree::of_number(1)], Resp::V2).is_none());
        let (a, b) = (reply(&[("x", ":1\r\n")]), reply(&[("x", "$1\r\n1\r\n")]));
        assert!(stats(vec![a, b], Resp::V2).is_none(), "a field of two types");
    }
}
