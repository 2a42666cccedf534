//! What is said first on an upstream connection, as bytes: authentication, protocol version, client
//! name, replica reads. Used by lanes and by control connections alike.
//!
//! Pure: it makes the one push that opens a connection and judges each reply to it. It must never
//! do I/O and never show a password (no `Debug` prints one, no error text carries one).
//!
//! # The least ACL a node must grant
//!
//! `AUTH` and `HELLO` need no permission. What the proxy uses besides the commands and keys of its clients stands in
//! README ("What a node must allow"), and a test serves under exactly that rule.

use std::fmt;

use crate::session::state::Resp;

/// User and password for the nodes. `Debug` masks the password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// ACL user; `None` is the default user.
    pub username: Option<String>,
    /// Its password; `None` together with no user name means no authentication at all.
    pub password: Option<String>,
}

impl Credentials {
    /// User name and password to send, if anything is to be sent. A user without a password is an
    /// ACL user with `nopass`, which takes any.
    fn to_send(&self) -> Option<(Option<&str>, &str)> {
        match (&self.username, &self.password) {
            (None, None) => None,
            (user, password) => Some((user.as_deref(), password.as_deref().unwrap_or(""))),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("Credentials").field("username", &self.username).field("password", &password).finish()
    }
}

/// What the handshake leads to after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeStep {
    /// More replies are expected.
    More,
    /// That was the last one; the connection can be used.
    Done,
}

/// Why a connection cannot be used. The texts are the node's own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The node refuses the user or password, or wants one and none is configured.
    #[error("the node refuses the upstream user or password: {0}")]
    WrongPassword(String),
    /// The node does not speak the protocol version asked for.
    #[error("the node does not speak RESP3")]
    NoProto,
    /// The node is loading its data set: alive, not usable yet.
    #[error("the node is loading its data set")]
    Loading,
    /// The node is a replica, and a primary is needed.
    #[error("the node is a replica")]
    Replica,
    /// Anything else, for example the node's `maxclients` reached.
    #[error("the node refused the connection: {0}")]
    Other(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hello,
    Auth,
    SetName,
    ReadOnly,
    Role,
}

/// The opening of one connection: send [`bytes`](Self::bytes) in one push, then give every reply to
/// [`accept`](Self::accept) in order. With no replies expected the connection is usable at once.
#[derive(Clone, PartialEq, Eq)]
pub struct Handshake {
    bytes: Vec<u8>,
    steps: Vec<Step>,
}

impl Handshake {
    /// V2 says no HELLO and works with every server. `client_name` empty: no name is set. `read_only` lets a replica answer reads.
    pub fn new(resp: Resp, credentials: &Credentials, client_name: &str, read_only: bool) -> Self {
        let mut shake = Self { bytes: Vec::new(), steps: Vec::with_capacity(3) };
        match resp {
            Resp::V2 => shake.push_resp2(credentials, client_name),
            Resp::V3 => shake.push_hello(credentials, client_name),
        }
        if read_only {
            shake.push(Step::ReadOnly, &["READONLY"]);
        }
        shake
    }

    /// Asks for the node's role besides: only a primary will do. For servers that are no cluster nodes, which
    /// take requests for any key in either role.
    pub fn with_role(mut self) -> Self {
        self.push(Step::Role, &["ROLE"]);
        self
    }

    /// All commands, to be written at once.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many replies the node owes for [`bytes`](Self::bytes).
    pub fn replies(&self) -> usize {
        self.steps.len()
    }

    /// Judges reply number `index` (from 0), given as the whole raw frame.
    ///
    /// A refused `CLIENT SETNAME` is not an error unless the node thereby says that it wants
    /// authentication.
    pub fn accept(&self, index: usize, reply: &[u8]) -> Result<HandshakeStep, HandshakeError> {
        let Some(step) = self.steps.get(index) else {
            return Err(HandshakeError::Other("a reply that nothing was asked for".to_owned()));
        };
        match reply.first() {
            Some(b'-') => judge_error(*step, &line(reply))?,
            Some(b'!') => judge_error(*step, &blob(reply))?,
            Some(b'*') if *step == Step::Role && is_replica(reply) => return Err(HandshakeError::Replica),
            Some(b'+' | b'*' | b'%' | b'$' | b':' | b'_') => {}
            _ => return Err(HandshakeError::Other("the answer is not RESP".to_owned())),
        }
        Ok(if index + 1 == self.steps.len() { HandshakeStep::Done } else { HandshakeStep::More })
    }

    fn push_resp2(&mut self, credentials: &Credentials, client_name: &str) {
        match credentials.to_send() {
            Some((Some(user), password)) => self.push(Step::Auth, &["AUTH", user, password]),
            Some((None, password)) => self.push(Step::Auth, &["AUTH", password]),
            None => {}
        }
        if !client_name.is_empty() {
            self.push(Step::SetName, &["CLIENT", "SETNAME", client_name]);
        }
    }

    /// One command for all three, so that a node that wants authentication does not answer the
    /// version first. The name goes separately: HELLO … SETNAME would make a bad name fatal.
    fn push_hello(&mut self, credentials: &Credentials, client_name: &str) {
        match credentials.to_send() {
            Some((user, password)) => {
                self.push(Step::Hello, &["HELLO", "3", "AUTH", user.unwrap_or("default"), password]);
            }
            None => self.push(Step::Hello, &["HELLO", "3"]),
        }
        if !client_name.is_empty() {
            self.push(Step::SetName, &["CLIENT", "SETNAME", client_name]);
        }
    }

    fn push(&mut self, step: Step, args: &[&str]) {
        push_command(&mut self.bytes, args);
        self.steps.push(step);
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// Appends one command as an array of bulk strings.
pub(crate) fn push_command(out: &mut Vec<u8>, args: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n{arg}\r\n", arg.len()).as_bytes());
    }
}

fn line(reply: &[u8]) -> String {
    let text = reply.get(1..).unwrap_or(&[]);
    let end = memchr::memchr(b'\r', text).unwrap_or(text.len());
    String::from_utf8_lossy(text.get(..end).unwrap_or(text)).into_owned()
}

/// Text of a RESP3 blob error (`!<len>\r\n<text>\r\n`).
fn blob(reply: &[u8]) -> String {
    let start = memchr::memchr(b'\n', reply).map_or(reply.len(), |i| i + 1);
    let text = String::from_utf8_lossy(reply.get(start..).unwrap_or(&[]));
    text.trim_end_matches("\r\n").to_owned()
}

/// Whether a reply to ROLE is a replica's: its first element says so.
fn is_replica(reply: &[u8]) -> bool {
    let first = reply.split(|&byte| byte == b'\n').nth(2).unwrap_or(&[]);
    matches!(first.strip_suffix(b"\r"), Some(b"slave" | b"replica"))
}

/// `Ok` where an error of this step does not matter.
fn judge_error(step: Step, text: &str) -> Result<(), HandshakeError> {
    let code = text.split(' ').next().unwrap_or("");
    match code {
        "WRONGPASS" | "NOAUTH" => Err(HandshakeError::WrongPassword(text.to_owned())),
        "NOPROTO" => Err(HandshakeError::NoProto),
        _ if text.starts_with("ERR max number of clients") => Err(HandshakeError::Other(text.to_owned())),
        _ if step == Step::SetName => Ok(()),
        "LOADING" => Err(HandshakeError::Loading),
        // A narrow ACL: the topology service asks, too.
        _ if step == Step::Role => Ok(()),
        // Redis before 6 says "invalid password"; Redis 6 without a password says "called without
        // any password configured": in both cases what is configured here does not fit the node.
        "ERR" if step == Step::Auth && text.to_ascii_lowercase().contains("password") => {
            Err(HandshakeError::WrongPassword(text.to_owned()))
        }
        "ERR" if step == Step::Hello && text.starts_with("ERR unknown command") => {
            Err(HandshakeError::NoProto)
        }
        _ => Err(HandshakeError::Other(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn credentials(user: Option<&str>, password: Option<&str>) -> Credentials {
        Credentials { username: user.map(str::to_owned), password: password.map(str::to_owned) }
    }

    fn resp2(user: Option<&str>, password: Option<&str>, name: &str, read_only: bool) -> Handshake {
        Handshake::new(Resp::V2, &credentials(user, password), name, read_only)
    }

    #[test]
    fn nothing_to_say() {
        let shake = resp2(None, None, "", false);
        assert!(shake.bytes().is_empty());
        assert_eq!(shake.replies(), 0);
    }

    #[test]
    fn resp2_bytes() {
        let shake = resp2(Some("app"), Some("pw"), "slotway", true);
        let expected = "*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$2\r\npw\r\n\
                        *3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$7\r\nslotway\r\n*1\r\n$8\r\nREADONLY\r\n";
        assert_eq!(std::str::from_utf8(shake.bytes()).unwrap(), expected);
        assert_eq!(shake.accept(0, b"+OK\r\n"), Ok(HandshakeStep::More));
        assert_eq!(shake.accept(1, b"+OK\r\n"), Ok(HandshakeStep::More));
        assert_eq!(shake.accept(2, b"+OK\r\n"), Ok(HandshakeStep::Done));
        assert!(shake.accept(3, b"+OK\r\n").is_err());
        let default_user = resp2(None, Some("pw"), "", false);
        assert_eq!(default_user.bytes(), b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n");
    }

    #[test]
    fn resp3_bytes() {
        let shake = Handshake::new(Resp::V3, &credentials(None, Some("pw")), "", false);
        let expected = "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$2\r\npw\r\n";
        assert_eq!(std::str::from_utf8(shake.bytes()).unwrap(), expected);
        assert_eq!(shake.accept(0, b"%1\r\n$5\r\nproto\r\n:3\r\n"), Ok(HandshakeStep::Done));
        let plain = Handshake::new(Resp::V3, &credentials(None, None), "n", false);
        assert_eq!(plain.replies(), 2);
    }

    #[test]
    fn refusals() {
        let shake = resp2(None, Some("pw"), "slotway", true);
        let wrong = |text: &str| HandshakeError::WrongPassword(text.to_owned());
        for text in [
            "WRONGPASS invalid username-password pair or user is disabled.",
            "ERR invalid password",
            "ERR AUTH <password> called without any password configured for the default user.",
        ] {
            assert_eq!(shake.accept(0, format!("-{text}\r\n").as_bytes()), Err(wrong(text)));
        }
        let noauth = "NOAUTH Authentication required.";
        assert_eq!(shake.accept(1, format!("-{noauth}\r\n").as_bytes()), Err(wrong(noauth)));
        assert_eq!(shake.accept(1, b"-NOPERM no permission\r\n"), Ok(HandshakeStep::More));
        assert_eq!(shake.accept(1, b"-BUSY Redis is busy\r\n"), Ok(HandshakeStep::More));
        assert_eq!(shake.accept(2, b"-LOADING Redis is loading\r\n"), Err(HandshakeError::Loading));
        let full = "ERR max number of clients reached";
        assert_eq!(
            shake.accept(1, b"-ERR max number of clients reached\r\n"),
            Err(HandshakeError::Other(full.into()))
        );
        assert!(matches!(shake.accept(0, b"HTTP/1.1 400\r\n"), Err(HandshakeError::Other(_))));
        assert!(matches!(shake.accept(0, b""), Err(HandshakeError::Other(_))));
    }

    #[test]
    fn servers_without_resp3() {
        let shake = Handshake::new(Resp::V3, &credentials(None, None), "", false);
        assert_eq!(
            shake.accept(0, b"-NOPROTO unsupported protocol version\r\n"),
            Err(HandshakeError::NoProto)
        );
        assert_eq!(
            shake.accept(0, b"-ERR unknown command `HELLO`, with args\r\n"),
            Err(HandshakeError::NoProto)
        );
        let blob = b"!29\r\nNOAUTH HELLO must be called..\r\n";
        assert!(matches!(shake.accept(0, blob), Err(HandshakeError::WrongPassword(_))));
    }

    #[test]
    fn only_a_primary_will_do() {
        let shake = resp2(None, None, "", false).with_role();
        assert_eq!(shake.bytes(), b"*1\r\n$4\r\nROLE\r\n");
        assert_eq!(shake.accept(0, b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"), Ok(HandshakeStep::Done));
        let replica = b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:1\r\n";
        assert_eq!(shake.accept(0, replica), Err(HandshakeError::Replica));
        assert_eq!(shake.accept(0, b"-NOPERM no permission\r\n"), Ok(HandshakeStep::Done));
        assert_eq!(shake.accept(0, b"*0\r\n"), Ok(HandshakeStep::Done));
    }

    #[test]
    fn no_password_in_debug() {
        let credentials = credentials(Some("app"), Some("hush"));
        let shake = Handshake::new(Resp::V3, &credentials, "", false);
        assert!(!format!("{credentials:?} {shake:?}").contains("hush"));
    }
}
