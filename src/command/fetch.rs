//! Asks a live server what commands it has and brings the answer into the form of `commands.json`.
//!
//! Blocking, for the command line and for tests; never part of serving a client.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

use super::data::{Argument, Begin, Docs, Entry, File, Find, KeySpec, Source};
use crate::protocol::encode;

/// How long the server may take to connect, and to send anything.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No server's COMMAND DOCS comes near this many bytes; more is refused.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// Asks the server at `addr` (`host:port`) for COMMAND, COMMAND DOCS and INFO, and returns
/// `commands.json` for it. Servers before 7.0 have neither DOCS nor key specifications: their
/// key ranges are written as such.
///
/// # Errors
/// A sentence for people: cannot connect, refused by the server, or an answer of unknown form.
pub fn fetch(addr: &str, username: Option<&str>, password: Option<&str>) -> Result<String, String> {
    let mut server = Server::connect(addr)?;
    if let Some(password) = password {
        match username {
            Some(user) => server.ask(&["AUTH", user, password])?,
            None => server.ask(&["AUTH", password])?,
        };
    }
    let source = source(&text(&server.ask(&["INFO", "server"])?)?);
    let mut commands = Vec::new();
    for frame in items(&server.ask(&["COMMAND"])?)? {
        entry(frame, &mut commands)?;
    }
    if let Ok(reply) = server.ask(&["COMMAND", "DOCS"]) {
        let mut docs = BTreeMap::new();
        collect_docs(&reply, &mut docs)?;
        for entry in &mut commands {
            entry.docs = docs.remove(&entry.name);
        }
    }
    commands.sort_by(|a, b| a.name.split('|').cmp(b.name.split('|')));
    File { source, commands }.to_json().map_err(|e| e.to_string())
}

/// One blocking connection.
struct Server {
    stream: TcpStream,
}

impl Server {
    fn connect(addr: &str) -> Result<Self, String> {
        let fail = |e: std::io::Error| format!("cannot connect to {addr}: {e}");
        let mut last = std::io::Error::other("the name has no address");
        for resolved in addr.to_socket_addrs().map_err(fail)? {
            match TcpStream::connect_timeout(&resolved, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT)).map_err(fail)?;
                    stream.set_write_timeout(Some(TIMEOUT)).map_err(fail)?;
                    return Ok(Self { stream });
                }
                Err(error) => last = error,
            }
        }
        Err(fail(last))
    }

    fn ask(&mut self, args: &[&str]) -> Result<OwnedFrame, String> {
        let name = args.first().copied().unwrap_or_default();
        let mut request = Vec::new();
        encode::array(&mut request, args.len());
        for arg in args {
            encode::bulk(&mut request, arg.as_bytes());
        }
        self.stream.write_all(&request).map_err(|e| format!("{name}: {e}"))?;
        let mut buffer = Vec::new();
        let mut chunk = vec![0; 1 << 16];
        loop {
            let count = self.stream.read(&mut chunk).map_err(|e| format!("{name}: {e}"))?;
            buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if count == 0 {
                return Err(format!("{name}: the server closed the connection"));
            }
            match decode(&buffer).map_err(|e| format!("{name}: {e}"))? {
                Some((OwnedFrame::Error(error), _)) => return Err(format!("{name}: {error}")),
                Some((frame, _)) => return Ok(frame),
                None if buffer.len() > REPLY_BYTES_MAX => {
                    return Err(format!("{name}: the reply is too large"));
                }
                None => {}
            }
        }
    }
}

// === reading replies ===

/// Which server this is, from INFO. Redis' texts are under the BSD licence up to 7.2.
fn source(info: &str) -> Source {
    let field =
        |name: &str| info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let (server, version) = match field("valkey_version") {
        Some(version) => ("valkey", version),
        None => ("redis", field("redis_version").unwrap_or("unknown")),
    };
    let number = |part: Option<&str>| part.and_then(|p| p.parse::<u32>().ok()).unwrap_or(u32::MAX);
    let mut parts = version.split('.');
    let bsd = server == "valkey" || (number(parts.next()), number(parts.next())) < (7, 4);
    let licence = if bsd { "BSD-3-Clause" } else { "not BSD: do not build these texts in" };
    Source { server: server.into(), version: version.into(), licence: licence.into() }
}

fn entry(frame: &OwnedFrame, out: &mut Vec<Entry>) -> Result<(), String> {
    let fields = items(frame)?;
    let at = |index: usize| fields.get(index).ok_or("COMMAND: an entry is too short");
    let number = |index: usize| int(at(index)?).map(|n| n as i32);
    let range = (number(3)?, number(4)?, number(5)?);
    let list = |index: usize| fields.get(index).map_or(Ok(Vec::new()), strings);
    let keys = match fields.get(8) {
        Some(specs) => items(specs)?.iter().map(key_spec).collect::<Result<_, _>>()?,
        None => range_spec(range).into_iter().collect(),
    };
    out.push(Entry {
        name: text(at(0)?)?.to_ascii_lowercase(),
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
fn range_spec((first, last, step): (i32, i32, i32)) -> Option<KeySpec> {
    let last = if last < 0 { last } else { last - first };
    let (begin, find) = (Begin::Index(first), Find::Range(last, step, 0));
    (first > 0).then(|| KeySpec { notes: None, flags: vec!["RW".into(), "access".into()], begin, find })
}

fn key_spec(frame: &OwnedFrame) -> Result<KeySpec, String> {
    let spec = map(frame)?;
    let parts = |name: &str| -> Result<(String, BTreeMap<String, &OwnedFrame>), String> {
        let part = map(spec.get(name).ok_or("COMMAND: incomplete key specification")?)?;
        let kind = text(part.get("type").ok_or("COMMAND: key specification without type")?)?;
        Ok((kind, map(part.get("spec").ok_or("COMMAND: key specification without spec")?)?))
    };
    let number = |fields: &BTreeMap<String, &OwnedFrame>, name: &str| {
        int(fields.get(name).ok_or_else(|| format!("COMMAND: key specification without {name}"))?)
            .map(|n| n as i32)
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

fn collect_docs(frame: &OwnedFrame, out: &mut BTreeMap<String, Docs>) -> Result<(), String> {
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

fn text(frame: &OwnedFrame) -> Result<String, String> {
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
