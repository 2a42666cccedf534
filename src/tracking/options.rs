//! What CLIENT TRACKING may be asked for, read and checked as Redis does (its words in the errors), and what
//! CLIENT CACHING, GETREDIR and TRACKINGINFO say of it. Pure.

use super::TrackingPlace;
use crate::protocol::encode;
use crate::protocol::request::Args;
use crate::session::state::Resp;

/// What a client has asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackingOptions {
    /// Hear of all keys with one of the prefixes, read or not.
    pub bcast: bool,
    /// Only what was read right after CLIENT CACHING YES.
    pub optin: bool,
    /// All but what was read right after CLIENT CACHING NO.
    pub optout: bool,
    /// Not of what the client itself changed.
    pub noloop: bool,
    /// Prefixes of BCAST.
    pub prefixes: Vec<Vec<u8>>,
    /// The client that gets the invalidations instead.
    pub redirect: Option<u64>,
}

/// A client's tracking.
#[derive(Debug)]
pub struct TrackingState {
    /// What it asked for.
    pub options: TrackingOptions,
    /// CLIENT CACHING, for the next command or transaction.
    pub caching: Option<bool>,
    /// The client that got the invalidations is gone.
    pub broken_redirect: bool,
    /// It was told that tracking is on: from now on what it may have missed is made good.
    pub listens: bool,
    /// Its place among those that may track.
    pub place: TrackingPlace,
}

/// What a CLIENT TRACKING comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum TrackingRequest {
    /// ON, with all that is in force afterwards.
    On(TrackingOptions),
    /// OFF.
    Off,
}

/// Reads CLIENT TRACKING. `exists` says whether a client of this instance has that id.
///
/// # Errors
/// The text of Redis' error.
pub fn parse(
    args: &Args<'_>,
    now: Option<&TrackingOptions>,
    exists: impl Fn(u64) -> bool,
) -> Result<TrackingRequest, String> {
    let asked = parse_options(args, exists)?;
    match args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => Ok(TrackingRequest::On(combine(asked, now)?)),
        b"off" => Ok(TrackingRequest::Off),
        _ => Err("ERR syntax error".to_owned()),
    }
}

fn parse_options(args: &Args<'_>, exists: impl Fn(u64) -> bool) -> Result<TrackingOptions, String> {
    let mut asked = TrackingOptions::default();
    let mut rest = args.iter().skip(3).peekable();
    while let Some(word) = rest.next() {
        match word.to_ascii_lowercase().as_slice() {
            b"redirect" if rest.peek().is_some() => {
                if asked.redirect.is_some() {
                    return Err("ERR A client can only redirect to a single other client".to_owned());
                }
                let id = rest.next().and_then(crate::command::local::integer);
                let id = id.ok_or("ERR value is not an integer or out of range")?;
                let known = u64::try_from(id).ok().filter(|id| exists(*id));
                let unknown = "ERR The client ID you want redirect to does not exist";
                asked.redirect = Some(known.ok_or(unknown)?);
            }
            b"bcast" => asked.bcast = true,
            b"optin" => asked.optin = true,
            b"optout" => asked.optout = true,
            b"noloop" => asked.noloop = true,
            b"prefix" if rest.peek().is_some() => {
                asked.prefixes.extend(rest.next().map(<[u8]>::to_vec));
            }
            _ => return Err("ERR syntax error".to_owned()),
        }
    }
    Ok(asked)
}

fn combine(mut asked: TrackingOptions, now: Option<&TrackingOptions>) -> Result<TrackingOptions, String> {
    if !asked.bcast && !asked.prefixes.is_empty() {
        return Err("ERR PREFIX option requires BCAST mode to be enabled".to_owned());
    }
    if now.is_some_and(|now| now.bcast != asked.bcast) {
        return Err("ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.".to_owned());
    }
    if asked.bcast && (asked.optin || asked.optout) {
        return Err("ERR OPTIN and OPTOUT are not compatible with BCAST".to_owned());
    }
    if asked.optin && asked.optout {
        return Err("ERR You can't specify both OPTIN mode and OPTOUT mode".to_owned());
    }
    if now.is_some_and(|now| (asked.optin && now.optout) || (asked.optout && now.optin)) {
        return Err("ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.".to_owned());
    }
    if asked.bcast {
        let held = now.map_or(&[][..], |now| &now.prefixes);
        no_overlap(&asked.prefixes, held)?;
        if asked.prefixes.is_empty() {
            asked.prefixes.push(Vec::new());
        }
        asked.prefixes.extend(held.iter().filter(|prefix| !prefix.is_empty()).cloned());
        if held.iter().any(Vec::is_empty) && !asked.prefixes.iter().any(Vec::is_empty) {
            asked.prefixes.push(Vec::new());
        }
    }
    Ok(asked)
}

fn no_overlap(asked: &[Vec<u8>], held: &[Vec<u8>]) -> Result<(), String> {
    let overlaps = |a: &[u8], b: &[u8]| a.iter().zip(b).all(|(a, b)| a == b);
    let text = |prefix: &[u8]| String::from_utf8_lossy(prefix).into_owned();
    for (index, prefix) in asked.iter().enumerate() {
        if let Some(other) = held.iter().find(|held| overlaps(prefix, held)) {
            return Err(format!(
                "ERR Prefix '{}' overlaps with an existing prefix '{}'. Prefixes for a single client must not overlap.",
                text(prefix),
                text(other)
            ));
        }
        if let Some(other) = asked.iter().skip(index + 1).find(|other| overlaps(prefix, other)) {
            return Err(format!(
                "ERR Prefix '{}' overlaps with another provided prefix '{}'. Prefixes for a single client must not overlap.",
                text(prefix),
                text(other)
            ));
        }
    }
    Ok(())
}

impl TrackingOptions {
    /// Without RESP3 or a redirection there is nobody to tell: a single Redis tells nobody either.
    pub fn is_heard(&self, resp: Resp) -> bool {
        resp == Resp::V3 || self.redirect.is_some()
    }

    /// The request that switches it on for a connection to a node; `redirect` is a connection of ours.
    pub fn request(&self, redirect: Option<u64>) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> =
            ["CLIENT", "TRACKING", "ON"].map(|word| word.as_bytes().to_vec()).into();
        if let Some(id) = redirect {
            words.extend([b"REDIRECT".to_vec(), id.to_string().into_bytes()]);
        }
        let switches =
            [("BCAST", self.bcast), ("OPTIN", self.optin), ("OPTOUT", self.optout), ("NOLOOP", self.noloop)];
        words.extend(switches.iter().filter(|(_, on)| *on).map(|(word, _)| word.as_bytes().to_vec()));
        for prefix in &self.prefixes {
            words.extend([b"PREFIX".to_vec(), prefix.clone()]);
        }
        let mut request = Vec::new();
        encode::array(&mut request, words.len());
        words.iter().for_each(|word| encode::bulk(&mut request, word));
        request
    }
}

/// CLIENT CACHING.
///
/// # Errors
/// The text of Redis' error.
pub fn caching(state: Option<&mut TrackingState>, word: &[u8]) -> Result<(), &'static str> {
    let Some(state) = state else {
        return Err(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        );
    };
    match word.to_ascii_lowercase().as_slice() {
        b"yes" if state.options.optin => state.caching = Some(true),
        b"yes" => return Err("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."),
        b"no" if state.options.optout => state.caching = Some(false),
        b"no" => return Err("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."),
        _ => return Err("ERR syntax error"),
    }
    Ok(())
}

/// CLIENT GETREDIR: -1 without tracking, 0 without redirection.
pub fn redirection(state: Option<&TrackingState>) -> i64 {
    state.map_or(-1, |state| state.options.redirect.map_or(0, |id| id as i64))
}

/// CLIENT TRACKINGINFO.
pub fn info(state: Option<&TrackingState>, resp: Resp, out: &mut Vec<u8>) {
    let mut flags = Vec::new();
    match state {
        None => flags.push("off"),
        Some(state) => {
            flags.push("on");
            let options = &state.options;
            flags.extend(options.bcast.then_some("bcast"));
            if options.optin {
                flags.push("optin");
                flags.extend((state.caching == Some(true)).then_some("caching-yes"));
            }
            if options.optout {
                flags.push("optout");
                flags.extend((state.caching == Some(false)).then_some("caching-no"));
            }
            flags.extend(options.noloop.then_some("noloop"));
            flags.extend(state.broken_redirect.then_some("broken_redirect"));
        }
    }
    encode::map(out, resp, 3);
    encode::bulk(out, "flags");
    encode::set(out, resp, flags.len());
    flags.iter().for_each(|flag| encode::bulk(out, flag));
    encode::bulk(out, "redirect");
    encode::integer(out, redirection(state));
    encode::bulk(out, "prefixes");
    let mut prefixes = state.map_or_else(Vec::new, |state| state.options.prefixes.clone());
    prefixes.sort();
    encode::array(out, prefixes.len());
    prefixes.iter().for_each(|prefix| encode::bulk(out, prefix));
}
