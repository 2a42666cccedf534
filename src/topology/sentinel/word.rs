//! What one sentinel says: the questions, and its answers as data.

use std::collections::HashMap;
use std::net::SocketAddr;

use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};
use tokio::time::timeout;

use crate::backend::handshake::push_command;
use crate::topology::agreed::Ignored;
use crate::topology::link::{Link, LinkError};
use crate::topology::node::NodeAddr;
use crate::topology::parse::{ParseError, array, no_error};
use crate::topology::settings::{SentinelSettings, TopologyConfig};
use crate::topology::wire::decode_reply;

/// Replies owed for [`questions`].
const ANSWERS: usize = 5;

/// Most replicas and most other sentinels taken from one answer.
const LISTED_MAX: usize = 256;

/// One sentinel's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Where it was reached.
    pub dialled: NodeAddr,
    /// Its own id; its address where it does not tell one (before 6.2).
    pub id: String,
    /// The primary. During a failover the new one, as soon as it was promoted.
    pub primary: NodeAddr,
    /// Config epoch of that.
    pub epoch: u64,
    /// Its replicas; during a failover also the primary that was.
    pub replicas: Vec<Listed>,
    /// The other sentinels.
    pub sentinels: Vec<NodeAddr>,
}

/// A replica, as a sentinel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub addr: NodeAddr,
    /// Flags as the sentinel has them.
    pub flags: String,
    /// Why it is not to be read from, if so.
    pub ignored: Option<Ignored>,
}

/// The questions about the primary called `master`, to be written at once.
pub(super) fn questions(master: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for about in ["GET-MASTER-ADDR-BY-NAME", "MASTER", "REPLICAS", "SENTINELS"] {
        push_command(&mut out, &["SENTINEL", about, master]);
    }
    push_command(&mut out, &["SENTINEL", "MYID"]);
    out
}

/// Makes a word of the answers of the sentinel at `dialled`.
pub(super) fn parse(dialled: &NodeAddr, master: &str, answers: &[OwnedFrame]) -> Result<Word, ParseError> {
    let [address, about, replicas, sentinels, id] = answers else {
        return Err(ParseError::Form("number of answers"));
    };
    let primary = match said(address)? {
        OwnedFrame::Null => return Err(ParseError::UnknownMaster(master.to_owned())),
        OwnedFrame::Array(parts) => match parts.as_slice() {
            [host, port] => addr(host.as_str(), port.as_str()),
            _ => None,
        },
        _ => None,
    };
    let primary = primary.ok_or(ParseError::Form("SENTINEL GET-MASTER-ADDR-BY-NAME"))?;
    let about = pairs(said(about)?);
    let epoch = about.get("config-epoch").and_then(|value| value.parse().ok());
    let each = |frame, what| array(frame).ok_or(ParseError::Form(what));
    let replicas = each(said(replicas)?, "SENTINEL REPLICAS")?.iter().take(LISTED_MAX);
    let sentinels = each(said(sentinels)?, "SENTINEL SENTINELS")?.iter().take(LISTED_MAX);
    let id =
        no_error(id).ok().and_then(OwnedFrame::as_str).map_or_else(|| dialled.to_string(), str::to_owned);
    let rows = replicas.map(pairs).chain([about]);
    Ok(Word {
        dialled: dialled.clone(),
        id,
        epoch: epoch.ok_or(ParseError::Form("SENTINEL MASTER"))?,
        replicas: rows.filter_map(|row| listed(&row)).filter(|r| r.addr != primary).collect(),
        sentinels: sentinels.map(pairs).filter_map(|row| row_addr(&row)).collect(),
        primary,
    })
}

/// An answer, unless it is an error; a server that is no sentinel does not know the command.
fn said(frame: &OwnedFrame) -> Result<&OwnedFrame, ParseError> {
    no_error(frame).map_err(|error| match error {
        ParseError::Refused(text) if text.starts_with("ERR unknown command") => ParseError::NotSentinel,
        error => error,
    })
}

fn listed(row: &HashMap<&str, &str>) -> Option<Listed> {
    let flags = row.get("flags").copied().unwrap_or("slave");
    let has = |flag: &str| flags.split(',').any(|other| other == flag);
    let link = row.get("master-link-status").copied().unwrap_or("ok");
    let ignored = if has("s_down") || has("o_down") {
        Some(Ignored::Fail)
    } else {
        // During a failover the old primary, which is still listed as the one there is; and behind it: the sentinel has
        // not connected to it anew, and does not know how it is.
        let unknown = has("disconnected") || has("master");
        (link != "ok" || unknown).then_some(Ignored::Unhealthy)
    };
    Some(Listed { addr: row_addr(row)?, flags: flags.to_owned(), ignored })
}

fn row_addr(row: &HashMap<&str, &str>) -> Option<NodeAddr> {
    addr(row.get("ip").copied(), row.get("port").copied())
}

fn addr(host: Option<&str>, port: Option<&str>) -> Option<NodeAddr> {
    let host = host.filter(|host| !host.is_empty() && *host != "?")?;
    let port = port?.parse().ok().filter(|port| *port != 0)?;
    Some(NodeAddr { host: host.to_owned(), port })
}

/// Names and values, one behind the other.
fn pairs(frame: &OwnedFrame) -> HashMap<&str, &str> {
    let items = array(frame).unwrap_or(&[]).chunks_exact(2);
    items.filter_map(pair).collect()
}

fn pair(items: &[OwnedFrame]) -> Option<(&str, &str)> {
    Some((items.first()?.as_str()?, items.get(1)?.as_str()?))
}

impl Link {
    /// Asks a sentinel all questions in one write and waits for the answers.
    pub(super) async fn ask_sentinel(
        &mut self,
        dialled: &NodeAddr,
        settings: &SentinelSettings,
        config: &TopologyConfig,
    ) -> Result<Word, LinkError> {
        let answers = timeout(config.connect_timeout, async {
            self.send(&questions(&settings.master)).await?;
            let mut answers = Vec::with_capacity(ANSWERS);
            while answers.len() < ANSWERS {
                answers.push(decode_reply(&self.reply().await?)?);
            }
            Ok::<_, LinkError>(answers)
        });
        let answers = answers.await.map_err(|_| LinkError::Timeout)??;
        Ok(parse(dialled, &settings.master, &answers)?)
    }
}

/// Asks an address once, on a connection of its own. `config` is that of connections to sentinels.
pub(super) async fn ask_address(
    address: SocketAddr,
    settings: &SentinelSettings,
    config: &TopologyConfig,
) -> Result<Word, LinkError> {
    let dialled = NodeAddr { host: address.ip().to_string(), port: address.port() };
    Link::dial_address(address, config).await?.ask_sentinel(&dialled, settings, config).await
}
