//! A node that comes back is not stormed: hundreds of clients that had connections of their own to it get new ones
//! a few at a time, the workers' shared ones do not wait behind them, and in the end everybody is served.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::client::Client;
use crate::support::keys::key_in;
use crate::support::node::{Answer, FakeCluster, Gate};
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::{allow_files, check, eventually, heavy};

/// Node 0 owns it, of three.
const SLOT: u16 = 100;
/// Node 1 owns it.
const ELSEWHERE: u16 = 8000;
const WORKERS: usize = 4;
/// `node-connects-max`.
const MOST: usize = 5;
/// What the workers' clients share at one node, both versions of the protocol, and the control connection.
const SHARED: usize = 2 * WORKERS + 1;

/// Nodes of which the first holds up every handshake from some moment on.
struct Door {
    nodes: FakeCluster,
    shut: Arc<AtomicBool>,
    held: Arc<Mutex<Vec<Gate>>>,
    /// The most that ever stood before the door.
    most: Cell<usize>,
}

impl Door {
    fn new() -> Self {
        let nodes = FakeCluster::start(3);
        let (shut, held) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (closed, queue) = (Arc::clone(&shut), Arc::clone(&held));
        nodes.script(move |seen| match (seen.name().as_str(), seen.arg(1).as_str()) {
            // Every handshake says it once.
            ("CLIENT", "SETNAME") if seen.node == 0 && closed.load(Ordering::SeqCst) => {
                let gate = Gate::default();
                queue.lock().expect("gates").push(gate.clone());
                Answer::Hold(gate, b"+OK\r\n".to_vec())
            }
            ("BLPOP", _) => Answer::Never,
            _ => Answer::Standard,
        });
        Self { nodes, shut, held, most: Cell::new(0) }
    }

    fn proxy(&self) -> Proxy {
        let limits = [("node-connects-max", MOST.to_string()), ("workers", WORKERS.to_string())];
        let times = ["connect-timeout", "owner-wait", "request-deadline", "node-silence-timeout"];
        let mut keys: Vec<(&str, &str)> = limits.iter().map(|(key, value)| (*key, value.as_str())).collect();
        keys.extend(times.map(|key| (key, "60s")));
        Proxy::start(self.nodes.addrs(), &keys)
    }

    /// The node goes, and is back at once, but slow to shake hands.
    fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
        self.nodes.disconnect(0);
    }

    fn waiting(&self) -> usize {
        self.held.lock().expect("gates").len()
    }

    /// Lets connections in one by one until `done`.
    #[track_caller]
    fn let_in_until(&self, what: &str, done: impl Fn() -> bool) {
        eventually(what, || {
            let mut held = self.held.lock().expect("gates");
            self.most.set(self.most.get().max(held.len()));
            if !held.is_empty() {
                held.remove(0).open();
            }
            drop(held);
            check(done(), (self.waiting(), self.most.get()))
        });
    }
}

#[test]
fn clients_that_wait_come_back_a_few_at_a_time_and_all_of_them() {
    const CLIENTS: usize = 300;
    let _one_at_a_time = heavy();
    allow_files(4096);
    let door = Door::new();
    let proxy = door.proxy();
    let wait = cmd!["BLPOP", key_in(SLOT, "queue"), "0"];
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| proxy.client()).collect();
    let waits = |nodes: &FakeCluster| nodes.seen_named("BLPOP").len();
    for client in &mut clients {
        client.send(&wait);
    }
    eventually("all wait", || check(waits(&door.nodes) == CLIENTS, waits(&door.nodes)));
    door.shut();
    for client in &mut clients {
        assert!(client.value().error().contains("may have been executed"));
        client.send(&wait);
    }
    // What they share is dialled beside them.
    let mut others: Vec<Client> = (0..2 * WORKERS).map(|_| proxy.client()).collect();
    for client in &mut others {
        client.send(&cmd!["GET", key_in(SLOT, "k")]);
    }
    eventually("the first are at the door", || check(door.waiting() >= MOST + WORKERS, door.waiting()));
    let mut bystander = proxy.client();
    for _ in 0..500 {
        assert!(!bystander.call(&cmd!["GET", key_in(ELSEWHERE, "k")]).is_error());
    }
    door.let_in_until("all wait again", || waits(&door.nodes) == 2 * CLIENTS);
    assert!(door.most.get() <= MOST + SHARED, "{:?} connections were being made at a time", door.most);
    door.let_in_until("shared connections stand", || door.waiting() == 0);
    for client in &mut others {
        assert_eq!(client.value(), Value::Simple("OK".into()));
    }
}

#[test]
fn the_shared_connections_do_not_wait_behind_those_of_single_clients() {
    let door = Door::new();
    let proxy = door.proxy();
    door.shut();
    let mut waiting: Vec<Client> = (0..3 * MOST).map(|_| proxy.client()).collect();
    for client in &mut waiting {
        client.send(&cmd!["BLPOP", key_in(SLOT, "queue"), "0"]);
    }
    eventually("they fill the door", || check(door.waiting() >= MOST, door.waiting()));
    // On every worker. Never more than MOST of the others are at the door.
    let mut others: Vec<Client> = (0..2 * WORKERS).map(|_| proxy.client()).collect();
    for client in &mut others {
        client.send(&cmd!["GET", key_in(SLOT, "k")]);
    }
    let beside = MOST + WORKERS;
    eventually("shared ones are at the door", || check(door.waiting() >= beside, door.waiting()));
    door.let_in_until("they are served", || door.nodes.seen_named("GET").len() == 2 * WORKERS);
    for client in &mut others {
        assert_eq!(client.value(), Value::Simple("OK".into()));
    }
}

#[test]
fn clients_that_track_come_back_a_few_at_a_time_with_their_listeners() {
    const CLIENTS: usize = 40;
    let door = Door::new();
    let proxy = door.proxy();
    let mut hears = proxy.client();
    let id = hears.call(&cmd!["CLIENT", "ID"]).int().to_string();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|n| {
            // In RESP2 another connection listens beside the client's own: two for one turn.
            let mut client = if n % 2 == 0 { proxy.client_resp3() } else { proxy.client() };
            match n % 2 {
                0 => client.ok(&cmd!["CLIENT", "TRACKING", "ON"]),
                _ => client.ok(&cmd!["CLIENT", "TRACKING", "ON", "REDIRECT", id]),
            };
            client
        })
        .collect();
    let get = cmd!["GET", key_in(SLOT, "k")];
    for client in &mut clients {
        client.ok(&get);
    }
    door.shut();
    let before = door.nodes.seen_named("GET").len();
    for client in &mut clients {
        client.send(&get);
    }
    door.let_in_until("all read again", || door.nodes.seen_named("GET").len() == before + CLIENTS);
    assert!(door.most.get() <= MOST + SHARED, "{:?} connections were being made at a time", door.most);
}
