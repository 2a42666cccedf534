//! Scripted nodes that pose as a cluster: they answer handshakes and topology questions truthfully
//! for a made-up slot map, hand everything else to a script, and keep every byte they received.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::node_topology::{Map, standard_answer};
use super::resp::show;

/// One request as a node received it.
#[derive(Clone)]
pub struct Seen {
    /// Which node.
    pub node: usize,
    /// Which connection; unique in the whole fake cluster.
    pub connection: usize,
    /// The request's arguments.
    pub args: Vec<Vec<u8>>,
    /// The request's bytes on the wire.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[node {} connection {}] {}", self.node, self.connection, show(&self.bytes))
    }
}

impl Seen {
    /// The command's name in capitals.
    pub fn name(&self) -> String {
        self.args.first().map(|a| String::from_utf8_lossy(a).to_uppercase()).unwrap_or_default()
    }

    /// Argument `index` as text, empty where there is none.
    pub fn arg(&self, index: usize) -> String {
        self.args.get(index).map(|a| String::from_utf8_lossy(a).into_owned()).unwrap_or_default()
    }
}

/// What a script makes a node do with a request.
pub enum Answer {
    /// What a well-behaved node would say (`+OK` to any data command).
    Standard,
    /// These bytes.
    Reply(Vec<u8>),
    /// These bytes, then the connection is closed.
    Close(Vec<u8>),
    /// These bytes, in pieces with a pause after each: a reply that keeps moving, slowly.
    Trickle(Vec<u8>, usize, Duration),
    /// Nothing, ever; the connection goes on.
    Never,
    /// These bytes once the gate is open; later requests of the connection wait too.
    Hold(Gate, Vec<u8>),
}

impl Answer {
    pub fn text(line: &str) -> Self {
        Answer::Reply(format!("{line}\r\n").into_bytes())
    }
}

/// Closed until `open` is called.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    fn wait(&self, stop: &AtomicBool) {
        let mut open = lock(&self.0.0);
        while !*open && !stop.load(Ordering::Relaxed) {
            open = self
                .0
                .1
                .wait_timeout(open, Duration::from_millis(20))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

struct Shared {
    map: Mutex<Map>,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    open: Mutex<Vec<(usize, TcpStream)>>,
    connections: AtomicUsize,
    stop: AtomicBool,
}

/// Several fake nodes with one slot map.
pub struct FakeCluster {
    shared: Arc<Shared>,
    addrs: Vec<SocketAddr>,
}

impl FakeCluster {
    /// `count` primaries that share the slots evenly; all data commands are answered `+OK`.
    pub fn start(count: usize) -> Self {
        Self::with_replicas(count, 0)
    }

    /// The same, then `per` replicas of each: node `primaries + i` is the first of primary `i`, and so on. The
    /// primaries listen at 127.0.0.1, first replicas at 127.0.0.2, second ones at 127.0.0.3.
    pub fn with_replicas(primaries: usize, per: usize) -> Self {
        let bind = |node: usize| {
            let ip = IpAddr::from([127, 0, 0, (node / primaries + 1) as u8]);
            TcpListener::bind(SocketAddr::new(ip, 0)).expect("a port")
        };
        let listeners: Vec<TcpListener> = (0..primaries * (1 + per)).map(bind).collect();
        let addrs: Vec<SocketAddr> = listeners.iter().map(|l| l.local_addr().expect("an address")).collect();
        let shared = Arc::new(Shared {
            map: Mutex::new(Map::with_replicas(&addrs, primaries)),
            script: Mutex::new(Arc::new(|_| Answer::Standard)),
            seen: Mutex::default(),
            open: Mutex::default(),
            connections: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        for (node, listener) in listeners.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&shared, node, &listener));
        }
        Self { shared, addrs }
    }

    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Replaces the script; it is asked first about every request, handshakes included.
    pub fn script(&self, script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// Changes the slot map all nodes tell.
    pub fn change_map(&self, change: impl FnOnce(&mut Map)) {
        change(&mut lock(&self.shared.map));
    }

    /// The node that owns `slot` by the map told now.
    pub fn owner(&self, slot: u16) -> usize {
        lock(&self.shared.map).owner(slot)
    }

    /// Everything received, in order of arrival per connection.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Requests of that command name, in order of arrival.
    pub fn seen_named(&self, name: &str) -> Vec<Seen> {
        lock(&self.shared.seen).iter().filter(|s| s.name() == name).cloned().collect()
    }

    /// Breaks every connection to a node (it goes on listening).
    pub fn disconnect(&self, node: usize) {
        for (_, stream) in lock(&self.shared.open).iter().filter(|(n, _)| *n == node) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for (_, stream) in lock(&self.shared.open).iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for addr in &self.addrs {
            // Wakes the accept loop, which then sees that it is over.
            let _ = TcpStream::connect(addr);
        }
    }
}

fn accept(shared: &Arc<Shared>, node: usize, listener: &TcpListener) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
        if let Ok(copy) = stream.try_clone() {
            lock(&shared.open).push((node, copy));
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let _ = serve(&shared, node, connection, &stream);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

/// Serves one connection until it breaks or a script closes it.
fn serve(shared: &Shared, node: usize, connection: usize, mut stream: &TcpStream) -> std::io::Result<()> {
    let mut got = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut resp3 = false;
    loop {
        let mut at = 0;
        while let Some((args, length)) = request(&got[at..]) {
            let seen = Seen { node, connection, args, bytes: got[at..at + length].to_vec() };
            at += length;
            lock(&shared.seen).push(seen.clone());
            let script = Arc::clone(&lock(&shared.script));
            match script(&seen) {
                Answer::Standard => {
                    let reply = standard_answer(&seen, &lock(&shared.map), &mut resp3);
                    stream.write_all(&reply)?;
                }
                Answer::Reply(bytes) => stream.write_all(&bytes)?,
                Answer::Close(bytes) => return stream.write_all(&bytes),
                Answer::Trickle(bytes, piece, pause) => {
                    for piece in bytes.chunks(piece) {
                        stream.write_all(piece)?;
                        std::thread::sleep(pause);
                    }
                }
                Answer::Never => {}
                Answer::Hold(gate, bytes) => {
                    gate.wait(&shared.stop);
                    stream.write_all(&bytes)?;
                }
            }
        }
        got.drain(..at);
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        got.extend_from_slice(&chunk[..length]);
    }
}

/// The first complete request and its length. The proxy sends arrays of bulk strings only.
fn request(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut at = 0;
    let count = header(bytes, &mut at, b'*')?;
    let mut args = Vec::with_capacity(count.min(4096));
    for _ in 0..count {
        let length = header(bytes, &mut at, b'$')?;
        args.push(bytes.get(at..at + length)?.to_vec());
        bytes.get(at + length..at + length + 2)?;
        at += length + 2;
    }
    Some((args, at))
}

fn header(bytes: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    let rest = bytes.get(*at..)?;
    let end = rest.windows(2).position(|w| w == b"\r\n")?;
    assert_eq!(rest.first(), Some(&kind), "the proxy sent {}", show(rest));
    *at += end + 2;
    Some(std::str::from_utf8(&rest[1..end]).expect("ASCII").parse().expect("a length"))
}
