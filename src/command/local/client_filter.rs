//! Which clients CLIENT LIST shows and CLIENT KILL closes.

use super::{SYNTAX_ERROR, integer, quoted};
use crate::protocol::request::Args;
use crate::session::state::ClientState;

/// Which clients CLIENT LIST shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFilter {
    /// Every one.
    All,
    /// Those of a kind.
    Kind(ClientKind),
    /// Those with these ids.
    Ids {
        /// As they were asked for; one asked for twice is shown twice.
        asked: Vec<u64>,
        /// The same, sorted.
        sorted: Vec<u64>,
    },
}

/// Kinds of clients, as Redis tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// Any but the others.
    Normal,
    /// Subscribed to something.
    PubSub,
    /// A replication link; the proxy has none.
    Replication,
}

/// Which clients CLIENT KILL closes: those that all of it fits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KillFilter {
    /// The form with nothing but an address: answered with OK or an error instead of a number.
    pub old_form: bool,
    /// ID.
    pub id: Option<u64>,
    /// TYPE.
    pub kind: Option<ClientKind>,
    /// ADDR, as CLIENT LIST shows it.
    pub addr: Option<Vec<u8>>,
    /// LADDR, as CLIENT LIST shows it.
    pub laddr: Option<Vec<u8>>,
    /// MAXAGE: connected for at least so many seconds.
    pub min_age: Option<u64>,
    /// The asking client, where SKIPME spares it.
    pub spare: Option<u64>,
}

// === impl ClientKind ===

impl ClientKind {
    fn parse(name: &[u8]) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(ClientKind::Normal),
            b"pubsub" => Ok(ClientKind::PubSub),
            b"master" | b"replica" | b"slave" => Ok(ClientKind::Replication),
            _ => Err(format!("ERR Unknown client type '{}'", quoted(name))),
        }
    }

    fn of(client: &ClientState) -> Self {
        if client.subscribed { ClientKind::PubSub } else { ClientKind::Normal }
    }
}

// === impl ClientFilter ===

impl ClientFilter {
    pub(super) fn parse(args: &Args) -> Result<Self, String> {
        let option = args.at(2);
        if args.len() == 2 {
            return Ok(Self::All);
        }
        if args.len() == 4 && option.eq_ignore_ascii_case(b"TYPE") {
            return ClientKind::parse(args.at(3)).map(Self::Kind);
        }
        if args.len() > 3 && option.eq_ignore_ascii_case(b"ID") {
            let ids: Option<Vec<i64>> = args.iter().skip(3).map(integer).collect();
            let ids = ids.ok_or("ERR Invalid client ID")?;
            let asked: Vec<u64> = ids.into_iter().filter_map(|id| id.try_into().ok()).collect();
            let mut sorted = asked.clone();
            sorted.sort_unstable();
            return Ok(Self::Ids { asked, sorted });
        }
        Err(SYNTAX_ERROR.into())
    }

    /// Whether this client is to be shown.
    pub fn matches(&self, client: &ClientState) -> bool {
        match self {
            Self::All => true,
            Self::Ids { sorted, .. } => sorted.binary_search(&client.id).is_ok(),
            Self::Kind(kind) => *kind == ClientKind::of(client),
        }
    }
}

// === impl KillFilter ===

impl KillFilter {
    /// `me` is the asking client. Of an option given twice the last one counts, as in Redis.
    pub(super) fn parse(args: &Args, me: u64) -> Result<Self, String> {
        let mut filter = Self::default();
        if args.len() == 3 {
            filter.old_form = true;
            filter.addr = Some(args.at(2).to_owned());
            return Ok(filter);
        }
        filter.spare = Some(me);
        for index in (2..args.len()).step_by(2) {
            let value = args.get(index + 1).ok_or(SYNTAX_ERROR)?;
            match args.at(index).to_ascii_lowercase().as_slice() {
                b"id" => filter.id = Some(positive(value, "client-id should be greater than 0")?),
                b"type" => filter.kind = Some(ClientKind::parse(value)?),
                b"addr" => filter.addr = Some(value.to_owned()),
                b"laddr" => filter.laddr = Some(value.to_owned()),
                // There is one user, and everybody is it.
                b"user" if value == super::USER => {}
                b"user" => return Err(format!("ERR No such user '{}'", quoted(value))),
                b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.spare = Some(me),
                b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.spare = None,
                b"maxage" => filter.min_age = Some(positive(value, "maxage should be greater than 0")?),
                _ => return Err(SYNTAX_ERROR.into()),
            }
        }
        Ok(filter)
    }

    /// Whether this client, shown with these addresses, is to be closed.
    pub fn matches(&self, client: &ClientState, addr: &str, laddr: &str) -> bool {
        self.spare != Some(client.id)
            && self.id.is_none_or(|id| id == client.id)
            && self.kind.is_none_or(|kind| kind == ClientKind::of(client))
            && self.addr.as_ref().is_none_or(|wanted| wanted == addr.as_bytes())
            && self.laddr.as_ref().is_none_or(|wanted| wanted == laddr.as_bytes())
            && self.min_age.is_none_or(|seconds| client.connected.elapsed().as_secs() >= seconds)
    }
}

fn positive(text: &[u8], otherwise: &str) -> Result<u64, String> {
    let number = integer(text).and_then(|number| u64::try_from(number).ok()).filter(|&number| number > 0);
    number.ok_or_else(|| format!("ERR {otherwise}"))
}
