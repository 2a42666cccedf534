//! Asks a live server what commands it has and brings the answer into the form of `commands.json`.
//!
//! Blocking, for the command line and for tests; never part of serving a client.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

use super::answers::{collect_docs, commands, text};
use super::data::{File, Source};
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
    let mut commands = commands(&server.ask(&["COMMAND"])?)?;
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
