//! A client that caches what it reads and forgets what it is told to forget, in any mode of CLIENT TRACKING:
//! what it then still believes must be true. Knows nothing of faults.

use std::collections::{HashMap, HashSet};

use crate::support::client::{Client, words};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{check, eventually};

/// How it tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Default,
    /// By prefix; it need not have read a key to be told of it.
    Bcast,
    /// CLIENT CACHING YES in front of every read.
    OptIn,
    OptOut,
    /// It writes, too.
    NoLoop,
    /// In RESP2, with a second connection that is told.
    Redirect,
    /// In RESP3, with a second connection in RESP3.
    Redirect3,
}

pub const MODES: [Mode; 7] =
    [Mode::Default, Mode::Bcast, Mode::OptIn, Mode::OptOut, Mode::NoLoop, Mode::Redirect, Mode::Redirect3];

/// What every key begins with.
pub const PREFIX: &str = "cached:";

pub struct Cacher {
    pub mode: Mode,
    client: Client,
    /// Who is told instead.
    told: Option<Client>,
    cache: HashMap<String, Value>,
    /// Asked for, not answered, and not called invalid since: with two connections one may overtake the other.
    asked: HashSet<String>,
    random: fastrand::Rng,
}

impl Cacher {
    #[track_caller]
    pub fn connect(proxy: &Proxy, mode: Mode) -> Self {
        let mut client = if mode == Mode::Redirect { proxy.client() } else { proxy.client_resp3() };
        let told = match mode {
            Mode::Redirect => {
                let mut told = proxy.client();
                told.ok(&words("SUBSCRIBE __redis__:invalidate"));
                Some((told, "CLIENT ID"))
            }
            Mode::Redirect3 => Some((proxy.client_resp3(), "CLIENT ID")),
            _ => None,
        };
        let told = told.map(|(mut told, ask)| {
            // A RESP2 subscriber may not say CLIENT ID.
            let id = match mode {
                Mode::Redirect => subscriber_id(proxy, &told),
                _ => told.ok(&words(ask)).int(),
            };
            (told, id)
        });
        let options = match (mode, &told) {
            (Mode::Default, _) => String::new(),
            (Mode::Bcast, _) => format!(" BCAST PREFIX {PREFIX} PREFIX other:"),
            (Mode::OptIn, _) => " OPTIN".to_owned(),
            (Mode::OptOut, _) => " OPTOUT".to_owned(),
            (Mode::NoLoop, _) => " NOLOOP".to_owned(),
            (_, Some((_, id))) => format!(" REDIRECT {id}"),
            (_, None) => unreachable!("whom to redirect to"),
        };
        client.ok(&words(&format!("CLIENT TRACKING ON{options}")));
        let told = told.map(|(told, _)| told);
        let (cache, asked, random) = (HashMap::new(), HashSet::new(), fastrand::Rng::with_seed(mode as u64));
        Self { mode, client, told, cache, asked, random }
    }

    /// Reads some of `keys` in one packet, keeps what comes, and forgets what is called invalid.
    #[track_caller]
    pub fn read_some(&mut self, keys: &[String]) {
        let mut replies = Vec::new();
        let mut packet = Vec::new();
        for _ in 0..self.random.usize(1..=12) {
            let key = self.random.choice(keys).expect("keys").clone();
            if self.mode == Mode::OptIn {
                packet.extend(words("CLIENT CACHING YES"));
                replies.push((Vec::new(), None));
            }
            let read = match self.random.usize(0..8) {
                0 => {
                    let other = self.random.choice(keys).expect("keys").clone();
                    packet.extend(cmd!["MGET", key, other]);
                    vec![key, other]
                }
                1 if self.mode == Mode::NoLoop => {
                    packet.extend(cmd!["SET", key, format!("own {}", self.random.u64(..))]);
                    replies.push((Vec::new(), Some(key)));
                    continue;
                }
                _ => {
                    packet.extend(cmd!["GET", key]);
                    vec![key]
                }
            };
            self.asked.extend(read.iter().cloned());
            replies.push((read, None));
        }
        self.client.send(&packet);
        for (read, written) in replies {
            let reply = self.reply();
            // What it changes itself it is not told, and no longer believes.
            written.inspect(|key| drop(self.cache.remove(key)));
            let values = match &reply {
                Value::Array(values) if read.len() == 2 => values.clone(),
                // Not kept; that a request fails while a node is lost is no lie.
                Value::Error(_) => continue,
                value => vec![value.clone()],
            };
            for (key, value) in read.iter().zip(values) {
                if self.told.is_none() || self.asked.contains(key) {
                    self.cache.insert(key.clone(), value);
                }
            }
        }
        self.hear_told();
        if self.told.is_none() {
            self.asked.clear();
        }
    }

    /// The next reply; pushes before it are taken in.
    #[track_caller]
    fn reply(&mut self) -> Value {
        loop {
            match self.client.value() {
                Value::Push(items) => self.hear(&items),
                reply => return reply,
            }
        }
    }

    /// Takes in what the other connection was told so far.
    #[track_caller]
    fn hear_told(&mut self) {
        let Some(mut told) = self.told.take() else { return };
        told.send(&words("PING heard"));
        loop {
            match told.value() {
                Value::Bulk(_) => break,
                Value::Push(items) => self.hear(&items),
                Value::Array(items) if items[0].text() == "pong" => break,
                Value::Array(items) => {
                    assert_eq!(items[1].text(), "__redis__:invalidate");
                    self.invalid(&items[2]);
                }
                other => panic!("{other:?}"),
            }
        }
        self.told = Some(told);
    }

    #[track_caller]
    fn hear(&mut self, push: &[Value]) {
        assert_eq!(push[0].text(), "invalidate", "{push:?}");
        self.invalid(&push[1]);
    }

    fn invalid(&mut self, keys: &Value) {
        match keys {
            Value::Null | Value::NullArray | Value::NullBulk => {
                self.cache.clear();
                self.asked.clear();
            }
            keys => {
                for key in keys.items() {
                    self.cache.remove(&key.text());
                    self.asked.remove(&key.text());
                }
            }
        }
    }

    /// Takes in what was pushed, without reading anything.
    #[track_caller]
    pub fn listen(&mut self) {
        self.client.send(&words("PING still"));
        while self.reply() != Value::Bulk(b"still".to_vec()) {}
        self.hear_told();
    }

    pub fn believes(&self) -> usize {
        self.cache.len()
    }

    pub fn knows(&self, key: &str) -> bool {
        self.cache.contains_key(key)
    }

    /// Reads one key and keeps it.
    #[track_caller]
    pub fn read(&mut self, key: &str) -> Value {
        if self.mode == Mode::OptIn {
            self.client.send(&words("CLIENT CACHING YES"));
            assert_eq!(self.reply(), Value::Simple("OK".into()));
        }
        self.asked.insert(key.to_owned());
        self.client.send(&cmd!["GET", key]);
        let value = self.reply();
        self.hear_told();
        if self.asked.remove(key) {
            self.cache.insert(key.to_owned(), value.clone());
        }
        value
    }

    /// Nobody writes any more: after what is still on its way nothing it believes is wrong.
    #[track_caller]
    pub fn is_right(&mut self, truth: &mut Client, after: &str) {
        eventually(&format!("{:?}: what is cached is true after {after}", self.mode), || {
            self.listen();
            let wrong: Vec<String> = self
                .cache
                .iter()
                .filter_map(|(key, value)| {
                    let real = truth.ok(&cmd!["GET", key]);
                    let same = match (&real, value) {
                        (Value::NullBulk | Value::Null, Value::NullBulk | Value::Null) => true,
                        (real, value) => real == value,
                    };
                    (!same).then(|| format!("{key}: {value:?}, truly {real:?}"))
                })
                .collect();
            check(wrong.is_empty(), wrong)
        });
    }
}

/// The id of a connection that can't say it: by its address.
#[track_caller]
fn subscriber_id(proxy: &Proxy, client: &Client) -> i64 {
    let addr = client.stream().local_addr().expect("an address").to_string();
    let list = proxy.client().ok(&words("CLIENT LIST")).text();
    let line = list.lines().find(|line| line.contains(&format!(" addr={addr} "))).expect("its line");
    let id = line.split(' ').find_map(|field| field.strip_prefix("id=")).expect("an id");
    id.parse().expect("a number")
}
