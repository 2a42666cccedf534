//! What a reply that differs as documented must still be: its types, its fields, and as much of its content as both
//! servers can have in common. A reply of any other form is a bug, documented or not.

use crate::support::resp::Value;

/// The form of a reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// All that a single Redis has, in any order, and perhaps more at any level.
    Contains,
    /// A help text: the same headline and the same end; in between lines of text.
    Help,
    /// Lines of `name=value`, with the same names in the same order; as many as none only if there are none.
    Fields,
    /// How many clients were closed, or that one was, or that there is none.
    Killed,
    /// Names and values in turns; no name that a single Redis does not have.
    Settings,
    /// Entries of the slow log.
    SlowLog,
    /// A status, or that it cannot be now.
    Status,
    /// Done.
    Done,
    /// A number of these, both counted.
    Number(i64, i64),
    /// Strings.
    Strings,
    /// Any error, in the place of an error.
    Refusal,
    /// An id of 40 hexadecimal digits.
    Id,
    /// CLUSTER INFO of a cluster in good order.
    ClusterInfo,
    /// CLUSTER NODES of one node with all slots.
    ClusterNodes,
    /// CLUSTER SLOTS of the same.
    ClusterSlots,
    /// CLUSTER SHARDS of the same.
    ClusterShards,
    /// An array, or that there is no such node.
    OfNode,
    /// No elements.
    Nothing,
}

impl Shape {
    /// True if `got` has this form, beside the single server's `want`.
    pub fn fits(self, want: &Value, got: &Value) -> bool {
        match self {
            Shape::Contains => contains(want, got),
            Shape::Help => help(want, got),
            Shape::Fields => fields(want, got),
            Shape::Killed => {
                matches!(got, Value::Int(0..)) && matches!(want, Value::Int(_) | Value::Error(_))
                    || matches!((want, got), (Value::Simple(want), Value::Simple(got)) if want == got)
                    || matches!(got, Value::Error(text) if text.starts_with("ERR No such client"))
            }
            Shape::Settings => settings(want, got),
            Shape::SlowLog => array(got).is_some_and(|entries| entries.iter().all(slow)),
            Shape::Status => matches!(got, Value::Simple(_) | Value::Error(_)),
            Shape::Done => matches!(got, Value::Simple(text) if text == "OK"),
            Shape::Number(least, most) => {
                matches!(got, Value::Int(number) if (least..=most).contains(number))
            }
            Shape::Strings => {
                array(got).is_some_and(|all| all.iter().all(|one| matches!(one, Value::Bulk(_))))
            }
            Shape::Refusal => want.is_error() && got.is_error(),
            Shape::Id => text(got).is_some_and(|id| is_id(&id)),
            Shape::ClusterInfo => cluster_info(got),
            Shape::ClusterNodes => cluster_nodes(got),
            Shape::ClusterSlots => cluster_slots(got),
            Shape::ClusterShards => cluster_shards(got),
            Shape::OfNode => {
                array(got).is_some_and(<[Value]>::is_empty)
                    || *got == Value::Int(0)
                    || matches!(got, Value::Error(text) if text.starts_with("ERR Unknown node "))
            }
            Shape::Nothing => array(got).is_some_and(<[Value]>::is_empty),
        }
    }
}

fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

/// The text of a string; what says the kind of a verbatim one is left out.
fn text(value: &Value) -> Option<String> {
    let bytes = match value {
        Value::Bulk(bytes) => bytes.as_slice(),
        Value::Verbatim(bytes) => bytes.strip_prefix(b"txt:")?,
        _ => return None,
    };
    String::from_utf8(bytes.to_vec()).ok()
}

/// Names and values of a map, or of an array that stands for one.
fn pairs(value: &Value) -> Option<Vec<(&Value, &Value)>> {
    match value {
        Value::Map(pairs) => Some(pairs.iter().map(|(name, value)| (name, value)).collect()),
        Value::Array(items) if items.len().is_multiple_of(2) => {
            Some(items.chunks(2).map(|pair| (&pair[0], &pair[1])).collect())
        }
        _ => None,
    }
}

fn contains(want: &Value, got: &Value) -> bool {
    let (all, some) = match (want, got) {
        (Value::Array(want), Value::Array(got)) | (Value::Set(want), Value::Set(got)) => (want, got),
        (Value::Map(want), Value::Map(got)) => {
            return want.iter().all(|(name, value)| {
                got.iter().any(|(other, theirs)| other == name && contains(value, theirs))
            });
        }
        _ => return want == got,
    };
    let same = all.len() == some.len() && all.iter().zip(some).all(|(want, got)| contains(want, got));
    // The fields of one entry have their places; what has more is a list.
    same || (some.len() > all.len() && all.iter().all(|want| some.iter().any(|got| contains(want, got))))
}

fn lines_of(value: &Value) -> Option<Vec<&str>> {
    fn line(line: &Value) -> Option<&str> {
        match line {
            Value::Simple(text) => Some(text.as_str()),
            _ => None,
        }
    }
    array(value)?.iter().map(line).collect()
}

fn help(want: &Value, got: &Value) -> bool {
    let Some(lines) = lines_of(got).filter(|lines| lines.len() >= 3) else { return false };
    let whole = lines[0].contains(" <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
        && lines[lines.len() - 2] == "HELP"
        && lines[1..]
            .iter()
            .all(|line| line.starts_with("    ") || line.starts_with(|c: char| c.is_uppercase()));
    match lines_of(want) {
        // CLUSTER HELP is an error where there is no cluster.
        None => whole && want.is_error(),
        Some(other) => {
            whole && lines[0] == other[0] && other.last().is_some_and(|last| last.contains("help"))
        }
    }
}

fn names(line: &str) -> Vec<&str> {
    line.split(' ')
        .filter(|field| !field.is_empty())
        .map(|field| field.split('=').next().unwrap_or_default())
        .collect()
}

fn fields(want: &Value, got: &Value) -> bool {
    let (Some(want_text), Some(got_text)) = (text(want), text(got)) else { return false };
    if std::mem::discriminant(want) != std::mem::discriminant(got) {
        return false;
    }
    match want_text.lines().next() {
        None => got_text.is_empty(),
        Some(first) => {
            let expected = names(first);
            !got_text.is_empty()
                && got_text.lines().all(|line| names(line) == expected && line.starts_with("id="))
        }
    }
}

fn settings(want: &Value, got: &Value) -> bool {
    let (Some(want), Some(got_pairs)) = (pairs(want), pairs(got)) else { return false };
    let known = |name: &Value| {
        let same = |other: &Value| matches!((text(other), text(name)), (Some(a), Some(b)) if a.eq_ignore_ascii_case(&b));
        want.iter().any(|(other, _)| same(other))
    };
    got_pairs.iter().all(|(name, value)| known(name) && matches!(value, Value::Bulk(_)))
}

fn slow(entry: &Value) -> bool {
    use Value::{Array, Bulk, Int};
    matches!(array(entry), Some([Int(_), Int(_), Int(_), Array(words), Bulk(_), Bulk(_)])
        if words.iter().all(|word| matches!(word, Bulk(_))))
}

fn is_id(id: &str) -> bool {
    id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn cluster_info(got: &Value) -> bool {
    let Some(told) = text(got) else { return false };
    let field = |name: &str| {
        told.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned))
    };
    let numbers = ["cluster_known_nodes", "cluster_size", "cluster_current_epoch", "cluster_my_epoch"];
    field("cluster_state").as_deref() == Some("ok")
        && ["assigned", "ok"]
            .iter()
            .all(|what| field(&format!("cluster_slots_{what}")).as_deref() == Some("16384"))
        && ["pfail", "fail"]
            .iter()
            .all(|what| field(&format!("cluster_slots_{what}")).as_deref() == Some("0"))
        && numbers.iter().all(|name| field(name).is_some_and(|number| number.parse::<u64>().is_ok()))
}

fn cluster_nodes(got: &Value) -> bool {
    let Some(told) = text(got) else { return false };
    let rows: Vec<Vec<&str>> = told.lines().map(|line| line.split(' ').collect()).collect();
    matches!(rows.as_slice(), [row] if row.len() == 9
        && is_id(row[0]) && row[1].contains(":") && row[1].contains('@') && row[2] == "myself,master"
        && row[3] == "-" && row[7] == "connected" && row[8] == "0-16383")
}

fn cluster_slots(got: &Value) -> bool {
    let Some([row]) = array(got) else { return false };
    let Some([Value::Int(0), Value::Int(16383), node]) = array(row) else { return false };
    let Some([Value::Bulk(host), Value::Int(1..=65535), id, meta]) = array(node) else { return false };
    !host.is_empty()
        && text(id).is_some_and(|id| is_id(&id))
        && pairs(meta).is_some_and(|meta| meta.is_empty())
}

fn cluster_shards(got: &Value) -> bool {
    let field = |of: &Value, name: &str| -> Option<Value> {
        pairs(of)?
            .into_iter()
            .find(|(key, _)| text(key).as_deref() == Some(name))
            .map(|(_, value)| value.clone())
    };
    let Some([shard]) = array(got) else { return false };
    let slots = Value::Array(vec![Value::Int(0), Value::Int(16383)]);
    let nodes = field(shard, "nodes");
    let Some([node]) = nodes.as_ref().and_then(array) else { return false };
    let has = |name: &str, is: fn(&Value) -> bool| field(node, name).is_some_and(|value| is(&value));
    let word = |value: &Value| text(value).is_some_and(|text| !text.is_empty());
    field(shard, "slots") == Some(slots)
        && has("id", |id| text(id).is_some_and(|id| is_id(&id)))
        && has("port", |port| matches!(port, Value::Int(1..=65535)))
        && ["ip", "endpoint"].iter().all(|name| field(node, name).is_some_and(|value| word(&value)))
        && has("role", |role| text(role).as_deref() == Some("master"))
        && has("replication-offset", |offset| matches!(offset, Value::Int(0..)))
        && has("health", |health| text(health).as_deref() == Some("online"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::resp::parse;

    #[track_caller]
    fn check(shape: Shape, want: &str, got: &str, expected: bool) {
        let value = |text: &str| parse(text.as_bytes());
        assert_eq!(shape.fits(&value(want), &value(got)), expected, "{shape:?}: {want} beside {got}");
    }

    #[test]
    fn what_is_missing_or_of_another_type_does_not_fit() {
        let entry = "*2\r\n*3\r\n$3\r\nget\r\n:2\r\n*1\r\n+fast\r\n";
        let whole = format!("{entry}*3\r\n$3\r\nset\r\n:-3\r\n*1\r\n+write\r\n");
        let more = whole.replacen("*2", "*3", 1) + "*3\r\n$3\r\nnew\r\n:1\r\n*0\r\n";
        check(Shape::Contains, &whole, &more, true);
        check(Shape::Contains, &whole, &more.replace(":2", ":3"), false);
        check(Shape::Contains, &more, &whole, false);
        check(Shape::Contains, &whole, ":3\r\n", false);
        check(Shape::Fields, "$12\r\nid=1 addr=x\n\r\n", "$13\r\nid=77 addr=\nx\r\n", false);
        check(Shape::Fields, "$12\r\nid=1 addr=x\n\r\n", "$13\r\nid=77 addr=y\n\r\n", true);
        check(Shape::Fields, "$12\r\nid=1 addr=x\n\r\n", "$13\r\naddr=y id=77\n\r\n", false);
        check(Shape::Fields, "$12\r\nid=1 addr=x\n\r\n", "$0\r\n\r\n", false);
        check(Shape::Settings, "*2\r\n$4\r\nport\r\n$1\r\n1\r\n", "*2\r\n$4\r\nPORT\r\n$1\r\n2\r\n", true);
        check(Shape::Settings, "*2\r\n$4\r\nport\r\n$1\r\n1\r\n", "*2\r\n$4\r\nnone\r\n$1\r\n2\r\n", false);
        check(Shape::Settings, "*2\r\n$4\r\nport\r\n$1\r\n1\r\n", "*1\r\n$4\r\nport\r\n", false);
        check(Shape::Number(0, 16383), "-ERR x\r\n", ":16384\r\n", false);
        check(Shape::Killed, ":1\r\n", ":0\r\n", true);
        check(Shape::Killed, ":1\r\n", ":-1\r\n", false);
        check(Shape::Killed, ":1\r\n", "$2\r\nOK\r\n", false);
        let slow = "*1\r\n*6\r\n:1\r\n:2\r\n:3\r\n*1\r\n$3\r\nGET\r\n$1\r\na\r\n$0\r\n\r\n";
        check(Shape::SlowLog, "*0\r\n", slow, true);
        check(Shape::SlowLog, "*0\r\n", &slow.replace(":3", "$1\r\n3"), false);
    }

    #[test]
    fn a_cluster_is_described_as_a_whole() {
        let (none, id) = ("-ERR x\r\n", "0123456789".repeat(4));
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        check(Shape::Id, none, &bulk(&id), true);
        check(Shape::Id, none, &bulk(&id[1..]), false);
        let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n{}:6379\r\n{}*0\r\n", bulk("::1"), bulk(&id));
        check(Shape::ClusterSlots, none, &slots, true);
        check(Shape::ClusterSlots, none, &slots.replace("16383", "16382"), false);
        let row = format!("{id} 127.0.0.1:1@0 myself,master - 0 0 0 connected 0-16383\n");
        check(Shape::ClusterNodes, none, &bulk(&row), true);
        check(Shape::ClusterNodes, none, &bulk(&row.replace("connected ", "")), false);
        check(Shape::ClusterNodes, none, &bulk(&row.repeat(2)), false);
        check(Shape::ClusterInfo, none, &bulk("cluster_state:ok\r\n"), false);
        check(Shape::OfNode, none, "-ERR Unknown node x\r\n", true);
        check(Shape::OfNode, none, "-ERR y\r\n", false);
    }
}
