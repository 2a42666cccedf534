//! What a server's COMMAND and COMMAND DOCS answer, in the form of `data`.
//!
//! Pure. Takes nothing on trust: whatever a server says becomes an entry or an error, never a panic. How large and
//! how deep an answer may be is the caller's to bound, before it is decoded.

use std::collections::BTreeMap;

use redis_protocol::resp2::types::OwnedFrame;

use super::data::{Argument, Begin, Docs, Entry, Find, KeySpec};

/// All commands of a COMMAND answer, a container followed by its subcommands; names in lower case.
///
/// # Errors
/// What is wrong with the first entry that has not the documented form.
pub fn commands(frame: &OwnedFrame) -> Result<Vec<Entry>, String> {
    let mut all = Vec::new();
    for item in items(frame)? {
        entry(item, &mut all)?;
    }
    all.iter_mut().for_each(|entry| entry.name.make_ascii_lowercase());
    Ok(all)
}

/// As [`commands`], but names stand as the server spells them, and entries that have not the documented form are left out, each with its subcommands; the
/// number says how many.
///
/// # Errors
/// The answer is not an array at all.
pub fn fit_commands(frame: &OwnedFrame) -> Result<(Vec<Entry>, usize), String> {
    let (mut all, mut unfit) = (Vec::new(), 0);
    for item in items(frame)? {
        let before = all.len();
        if entry(item, &mut all).is_err() {
            all.truncate(before);
            unfit += 1;
        }
    }
    Ok((all, unfit))
}

fn entry(frame: &OwnedFrame, out: &mut Vec<Entry>) -> Result<(), String> {
    let fields = items(frame)?;
    let at = |index: usize| fields.get(index).ok_or("COMMAND: an entry is too short");
    let number = |index: usize| int32(at(index)?);
    let range = (number(3)?, number(4)?, number(5)?);
    let list = |index: usize| fields.get(index).map_or(Ok(Vec::new()), strings);
    let keys = match fields.get(8) {
        Some(specs) => items(specs)?.iter().map(key_spec).collect::<Result<_, _>>()?,
        None => range_spec(range)?.into_iter().collect(),
    };
    out.push(Entry {
        name: text(at(0)?)?,
        arity: number(1)?,
        flags: strings(at(2)?)?,
        range,
        acl: list(6)?,
        tips: list(7)?,
        keys,
        docs: None,
    });
    for subcommand in fields.get(9).map_or(Ok(&[][..]), items)? {
        entry(subcommand, out)?;
    }
    Ok(())
}

/// The key specification that says what first key, last key and step say.
fn range_spec((first, last, step): (i32, i32, i32)) -> Result<Option<KeySpec>, String> {
    let last = if last < 0 { Some(last) } else { last.checked_sub(first) };
    let find = Find::Range(last.ok_or("COMMAND: impossible key range")?, step, 0);
    let flags = vec!["RW".into(), "access".into()];
    Ok((first > 0).then_some(KeySpec { notes: None, flags, begin: Begin::Index(first), find }))
}

fn key_spec(frame: &OwnedFrame) -> Result<KeySpec, String> {
    let spec = map(frame)?;
    let parts = |name: &str| -> Result<(String, BTreeMap<String, &OwnedFrame>), String> {
        let part = map(spec.get(name).ok_or("COMMAND: incomplete key specification")?)?;
        let kind = text(part.get("type").ok_or("COMMAND: key specification without type")?)?;
        Ok((kind, map(part.get("spec").ok_or("COMMAND: key specification without spec")?)?))
    };
    let number = |fields: &BTreeMap<String, &OwnedFrame>, name: &str| {
        int32(fields.get(name).ok_or_else(|| format!("COMMAND: key specification without {name}"))?)
    };
    let (kind, fields) = parts("begin_search")?;
    let begin = match kind.as_str() {
        "index" => Begin::Index(number(&fields, "index")?),
        "keyword" => {
            let word = text(fields.get("keyword").ok_or("COMMAND: key specification without keyword")?)?;
            Begin::Keyword(word, number(&fields, "startfrom")?)
        }
        _ => Begin::Unknown,
    };
    let (kind, fields) = parts("find_keys")?;
    let find = match kind.as_str() {
        "range" => {
            Find::Range(number(&fields, "lastkey")?, number(&fields, "keystep")?, number(&fields, "limit")?)
        }
        "keynum" => Find::Keynum(
            number(&fields, "keynumidx")?,
            number(&fields, "firstkey")?,
            number(&fields, "keystep")?,
        ),
        _ => Find::Unknown,
    };
    let notes = spec.get("notes").map(|n| text(n)).transpose()?;
    let flags = spec.get("flags").map_or(Ok(Vec::new()), |f| strings(f))?;
    Ok(KeySpec { notes, flags, begin, find })
}

/// Documentation by full name in lower case, subcommands included.
///
/// # Errors
/// What is wrong with the answer.
pub fn collect_docs(frame: &OwnedFrame, out: &mut BTreeMap<String, Docs>) -> Result<(), String> {
    for (name, value) in map(frame)? {
        let fields = map(value)?;
        if let Some(subcommands) = fields.get("subcommands") {
            collect_docs(subcommands, out)?;
        }
        out.insert(name.to_ascii_lowercase(), docs(&fields)?);
    }
    Ok(())
}

fn docs(fields: &BTreeMap<String, &OwnedFrame>) -> Result<Docs, String> {
    let mut history = Vec::new();
    for change in fields.get("history").map_or(Ok(&[][..]), |f| items(f))? {
        if let [version, what] = items(change)? {
            history.push((text(version)?, text(what)?));
        }
    }
    Ok(Docs {
        summary: word(fields, "summary")?.unwrap_or_default(),
        since: word(fields, "since")?.unwrap_or_default(),
        group: word(fields, "group")?.unwrap_or_default(),
        complexity: word(fields, "complexity")?,
        module: word(fields, "module")?,
        doc_flags: fields.get("doc_flags").map_or(Ok(Vec::new()), |f| strings(f))?,
        deprecated_since: word(fields, "deprecated_since")?,
        replaced_by: word(fields, "replaced_by")?,
        history,
        arguments: arguments(fields)?,
    })
}

fn arguments(fields: &BTreeMap<String, &OwnedFrame>) -> Result<Vec<Argument>, String> {
    let mut out = Vec::new();
    for argument in fields.get("arguments").map_or(Ok(&[][..]), |f| items(f))? {
        let fields = map(argument)?;
        out.push(Argument {
            name: word(&fields, "name")?.unwrap_or_default(),
            kind: word(&fields, "type")?.unwrap_or_default(),
            display_text: word(&fields, "display_text")?,
            key_spec_index: fields.get("key_spec_index").map(|f| int(f)).transpose()?,
            token: word(&fields, "token")?,
            summary: word(&fields, "summary")?,
            since: word(&fields, "since")?,
            deprecated_since: word(&fields, "deprecated_since")?,
            flags: fields.get("flags").map_or(Ok(Vec::new()), |f| strings(f))?,
            arguments: arguments(&fields)?,
        });
    }
    Ok(out)
}

fn word(fields: &BTreeMap<String, &OwnedFrame>, name: &str) -> Result<Option<String>, String> {
    fields.get(name).map(|f| text(f)).transpose()
}

fn items(frame: &OwnedFrame) -> Result<&[OwnedFrame], String> {
    match frame {
        OwnedFrame::Array(items) => Ok(items),
        _ => Err("expected an array in the server's reply".into()),
    }
}

/// RESP2 sends a map as a flat array of names and values.
fn map(frame: &OwnedFrame) -> Result<BTreeMap<String, &OwnedFrame>, String> {
    let mut out = BTreeMap::new();
    for pair in items(frame)?.chunks_exact(2) {
        if let [name, value] = pair {
            out.insert(text(name)?, value);
        }
    }
    Ok(out)
}

fn strings(frame: &OwnedFrame) -> Result<Vec<String>, String> {
    items(frame)?.iter().map(text).collect()
}

/// A simple or bulk string.
///
/// # Errors
/// It is something else, or not UTF-8.
pub fn text(frame: &OwnedFrame) -> Result<String, String> {
    match frame {
        OwnedFrame::SimpleString(bytes) | OwnedFrame::BulkString(bytes) => {
            String::from_utf8(bytes.clone()).map_err(|e| e.to_string())
        }
        _ => Err("expected a text in the server's reply".into()),
    }
}

fn int(frame: &OwnedFrame) -> Result<i64, String> {
    match frame {
        OwnedFrame::Integer(number) => Ok(*number),
        _ => Err("expected a number in the server's reply".into()),
    }
}

fn int32(frame: &OwnedFrame) -> Result<i32, String> {
    i32::try_from(int(frame)?).map_err(|_| "a number in the server's reply is out of range".into())
}
