//! Scripted sentinels before real servers: each says what the test wants, at once, where real ones take seconds to
//! agree.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::node::{Answer, FakeCluster, Seen};
use super::resp::frame;

/// What one sentinel says.
#[derive(Clone, Debug, Default)]
struct Word {
    /// Its own id.
    id: String,
    primary: Option<SocketAddr>,
    epoch: u64,
    /// Replicas and their flags.
    replicas: Vec<(SocketAddr, &'static str)>,
    /// The other sentinels.
    fellows: Vec<SocketAddr>,
    /// It hangs up at the first question.
    mute: bool,
}

/// Sentinels of one master, all of one mind until told otherwise.
pub struct FakeSentinels {
    nodes: FakeCluster,
    words: Arc<Mutex<Vec<Word>>>,
    servers: Vec<SocketAddr>,
}

impl FakeSentinels {
    /// They name the first of `servers` under epoch 5, and the others as its replicas.
    pub fn start(count: usize, servers: &[SocketAddr]) -> Self {
        let nodes = FakeCluster::start(count);
        let words: Vec<Word> = (0..count)
            .map(|index| {
                let fellows = nodes.addrs().iter().filter(|addr| **addr != nodes.addrs()[index]);
                Word { id: format!("{index:040}"), fellows: fellows.copied().collect(), ..Word::default() }
            })
            .collect();
        let words = Arc::new(Mutex::new(words));
        let said = Arc::clone(&words);
        nodes.script(move |seen| answer(seen, &lock(&said)[seen.node]));
        let all = Self { nodes, words, servers: servers.to_vec() };
        (0..count).for_each(|index| all.say(index, servers[0], 5));
        all
    }

    pub fn addrs(&self) -> &[SocketAddr] {
        self.nodes.addrs()
    }

    /// Sentinel `index` names this primary from now on; of the others those in `down` are down for it.
    pub fn say_with(&self, index: usize, primary: SocketAddr, epoch: u64, down: &[SocketAddr]) {
        let others = self.servers.iter().filter(|addr| **addr != primary);
        let flags = |addr| if down.contains(addr) { "s_down,slave,disconnected" } else { "slave" };
        let mut words = lock(&self.words);
        words[index].replicas = others.map(|addr| (*addr, flags(addr))).collect();
        (words[index].primary, words[index].epoch) = (Some(primary), epoch);
    }

    /// The same with none down.
    pub fn say(&self, index: usize, primary: SocketAddr, epoch: u64) {
        self.say_with(index, primary, epoch, &[]);
    }

    /// Where sentinel `index` was there is one of another deployment, which has this primary.
    pub fn replace(&self, index: usize, primary: SocketAddr, epoch: u64) {
        let id = format!("f{index:039}");
        lock(&self.words)[index] = Word { id, primary: Some(primary), epoch, ..Word::default() };
    }

    /// Whether sentinel `index` says nothing. Connections that stand break at the next question.
    pub fn mute(&self, index: usize, mute: bool) {
        lock(&self.words)[index].mute = mute;
    }

    /// Breaks all connections to sentinel `index`. Who connects again asks again, as after an announcement.
    pub fn cut(&self, index: usize) {
        self.nodes.disconnect(index);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(seen: &Seen, word: &Word) -> Answer {
    let Some(primary) = word.primary.filter(|_| !word.mute) else { return Answer::Close(Vec::new()) };
    let reply = match (seen.name().as_str(), seen.arg(1).to_uppercase().as_str()) {
        ("SENTINEL", "GET-MASTER-ADDR-BY-NAME") => {
            frame(&[primary.ip().to_string().as_bytes(), primary.port().to_string().as_bytes()])
        }
        ("SENTINEL", "MASTER") => {
            let epoch = word.epoch.to_string();
            row(primary, &["flags", "master", "config-epoch", &epoch])
        }
        ("SENTINEL", "REPLICAS") => {
            let rows = word.replicas.iter();
            rows_of(
                rows.map(|(addr, flags)| row(*addr, &["flags", flags, "master-link-status", "ok"])).collect(),
            )
        }
        ("SENTINEL", "SENTINELS") => rows_of(word.fellows.iter().map(|addr| row(*addr, &[])).collect()),
        ("SENTINEL", "MYID") => super::resp::bulk(word.id.as_bytes()),
        ("SUBSCRIBE", _) => {
            let each = seen.args.iter().skip(1).enumerate();
            let confirmed = each.map(|(index, channel)| {
                let mut reply = b"*3\r\n$9\r\nsubscribe\r\n".to_vec();
                reply.extend(super::resp::bulk(channel));
                reply.extend(format!(":{}\r\n", index + 1).into_bytes());
                reply
            });
            confirmed.collect::<Vec<_>>().concat()
        }
        _ => return Answer::Standard,
    };
    Answer::Reply(reply)
}

fn row(addr: SocketAddr, more: &[&str]) -> Vec<u8> {
    let (host, port) = (addr.ip().to_string(), addr.port().to_string());
    let fields = [&["name", "x", "ip", &host, "port", &port], more].concat();
    frame(&fields.iter().map(|field| field.as_bytes()).collect::<Vec<_>>())
}

fn rows_of(rows: Vec<Vec<u8>>) -> Vec<u8> {
    [format!("*{}\r\n", rows.len()).into_bytes(), rows.concat()].concat()
}
