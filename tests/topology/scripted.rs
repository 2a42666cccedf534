//! Scripted cluster nodes inside the test's own runtime: they tell one shared book, and have moods.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use slotway::topology::node::NodeAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use super::running::listen_again;

/// How a scripted node behaves; changed while it runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mood {
    Fine,
    /// Accepts, reads, answers nothing.
    Frozen,
    Loading,
    Busy,
    /// Wants a password.
    Locked,
    NoCluster,
}

pub struct Member {
    pub port: u16,
    pub flags: &'static str,
    pub primary: Option<usize>,
    pub epoch: u64,
    pub slots: Option<(u16, u16)>,
    pub listed: bool,
}

/// What the nodes tell about their cluster, all the same.
pub struct Book {
    pub prefix: &'static str,
    pub state: &'static str,
    pub epoch: u64,
    pub members: Vec<Member>,
}

impl Book {
    pub fn id(&self, node: usize) -> String {
        format!("{}{node:039}", self.prefix)
    }

    pub fn nodes(&self, me: usize) -> String {
        let listed = self.members.iter().enumerate().filter(|(_, m)| m.listed);
        let lines = listed.map(|(i, m)| {
            let myself = if i == me { "myself," } else { "" };
            let primary = m.primary.map_or("-".to_owned(), |p| self.id(p));
            let slots = m.slots.map_or(String::new(), |(a, b)| format!(" {a}-{b}"));
            let (id, port, flags, epoch) = (self.id(i), m.port, m.flags, m.epoch);
            format!("{id} 127.0.0.1:{port}@1 {myself}{flags} {primary} 0 0 {epoch} connected{slots}\n")
        });
        lines.collect()
    }

    pub fn slots(&self) -> String {
        let owners = self.members.iter().enumerate().filter(|(_, m)| m.listed && m.slots.is_some());
        let rows: Vec<String> = owners
            .map(|(i, m)| {
                let (a, b) = m.slots.unwrap();
                let id = self.id(i);
                format!("*3\r\n:{a}\r\n:{b}\r\n*4\r\n$9\r\n127.0.0.1\r\n:{}\r\n{}*0\r\n", m.port, bulk(&id))
            })
            .collect();
        format!("*{}\r\n{}", rows.len(), rows.concat())
    }

    pub fn info(&self) -> String {
        let (state, epoch) = (self.state, self.epoch);
        bulk(&format!(
            "cluster_state:{state}\r\ncluster_slots_assigned:16384\r\ncluster_current_epoch:{epoch}\r\n"
        ))
    }
}

pub fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

pub struct ScriptedNode {
    pub mood: Rc<Cell<Mood>>,
    pub dials: Rc<Cell<u32>>,
    pub task: JoinHandle<()>,
    pub connections: Rc<RefCell<Vec<JoinHandle<()>>>>,
}

impl ScriptedNode {
    /// The process dies: nothing listens, every connection breaks.
    pub fn kill(&self) {
        self.task.abort();
        self.connections.borrow_mut().drain(..).for_each(|c| c.abort());
    }
}

impl Drop for ScriptedNode {
    fn drop(&mut self) {
        self.kill();
    }
}

pub struct Cluster {
    pub book: Rc<RefCell<Book>>,
    pub nodes: Vec<ScriptedNode>,
}

impl Cluster {
    /// `primaries` primaries, then one replica for each.
    pub async fn start(prefix: &'static str, primaries: usize) -> Self {
        let book = Rc::new(RefCell::new(Book { prefix, state: "ok", epoch: 10, members: Vec::new() }));
        let mut nodes = Vec::new();
        for i in 0..primaries * 2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let bound = |i: usize| (16384 * i / primaries) as u16;
            let slots = (i < primaries).then(|| (bound(i), bound(i + 1) - 1));
            let primary = (i >= primaries).then(|| i - primaries);
            let flags = if slots.is_some() { "master" } else { "slave" };
            let epoch = (i % primaries) as u64 + 1;
            book.borrow_mut().members.push(Member { port, flags, primary, epoch, slots, listed: true });
            nodes.push(start_node(listener, i, book.clone()));
        }
        Self { book, nodes }
    }

    pub fn port(&self, node: usize) -> u16 {
        self.book.borrow().members[node].port
    }

    pub fn seeds(&self, nodes: &[usize]) -> Vec<NodeAddr> {
        nodes.iter().map(|n| NodeAddr { host: "127.0.0.1".into(), port: self.port(*n) }).collect()
    }

    /// The cluster promotes the replica of a dead primary.
    pub fn fail_over(&self, dead: usize, to: usize) {
        let mut book = self.book.borrow_mut();
        book.epoch += 1;
        let epoch = book.epoch;
        let slots = book.members[dead].slots.take();
        book.members[dead].flags = "master,fail";
        let new = &mut book.members[to];
        (new.slots, new.flags, new.primary, new.epoch) = (slots, "master", None, epoch);
    }

    /// Listens again on a new port, which the book tells from now on.
    pub async fn move_node(&mut self, node: usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.book.borrow_mut().members[node].port = listener.local_addr().unwrap().port();
        self.nodes[node] = start_node(listener, node, self.book.clone());
    }

    pub async fn revive(&mut self, node: usize) {
        let listener = listen_again(self.port(node)).await;
        self.nodes[node] = start_node(listener, node, self.book.clone());
    }
}

pub fn start_node(listener: TcpListener, me: usize, book: Rc<RefCell<Book>>) -> ScriptedNode {
    let (mood, dials) = (Rc::new(Cell::new(Mood::Fine)), Rc::new(Cell::new(0)));
    let connections = Rc::new(RefCell::new(Vec::new()));
    let task = {
        let (mood, dials, connections) = (mood.clone(), dials.clone(), connections.clone());
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                dials.set(dials.get() + 1);
                let serve = spawn_local(serve(stream, me, book.clone(), mood.clone()));
                connections.borrow_mut().push(serve);
            }
        })
    };
    ScriptedNode { mood, dials, task, connections }
}

pub async fn serve(mut stream: TcpStream, me: usize, book: Rc<RefCell<Book>>, mood: Rc<Cell<Mood>>) {
    let mut input = Vec::new();
    while let Ok(n @ 1..) = stream.read_buf(&mut input).await {
        while let Some(args) = take_command(&mut input) {
            let reply = match mood.get() {
                Mood::Frozen => {
                    while mood.get() == Mood::Frozen {
                        sleep(Duration::from_millis(10)).await;
                    }
                    answer(&args, me, &book.borrow())
                }
                Mood::Busy => "-BUSY Redis is busy running a script.\r\n".to_owned(),
                Mood::Locked => "-NOAUTH Authentication required.\r\n".to_owned(),
                Mood::Loading if args[0] == "PING" => {
                    "-LOADING Redis is loading the dataset in memory\r\n".to_owned()
                }
                Mood::NoCluster if args[0] == "CLUSTER" => {
                    "-ERR This instance has cluster support disabled\r\n".to_owned()
                }
                _ => answer(&args, me, &book.borrow()),
            };
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
        let _ = n;
    }
}

pub fn answer(args: &[String], me: usize, book: &Book) -> String {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["PING"] => "+PONG\r\n".to_owned(),
        ["AUTH", .., password] if *password != "right" => {
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n".to_owned()
        }
        ["CLUSTER", "SLOTS"] => book.slots(),
        ["CLUSTER", "NODES"] => bulk(&book.nodes(me)),
        ["CLUSTER", "INFO"] => book.info(),
        ["CLUSTER", "MYID"] => bulk(&book.id(me)),
        ["INFO", ..] => bulk("redis_version:7.0.15\r\n"),
        _ => "+OK\r\n".to_owned(),
    }
}

pub fn take_command(input: &mut Vec<u8>) -> Option<Vec<String>> {
    let text = String::from_utf8(input.clone()).unwrap();
    let mut lines = text.split_inclusive("\r\n");
    let head = lines.next().filter(|l| l.ends_with("\r\n"))?;
    let count: usize = head.strip_prefix('*').unwrap().trim_end().parse().unwrap();
    let (mut args, mut used) = (Vec::new(), head.len());
    for _ in 0..count {
        let (length, word) = (lines.next()?, lines.next().filter(|l| l.ends_with("\r\n"))?);
        used += length.len() + word.len();
        args.push(word.trim_end().to_owned());
    }
    input.drain(..used);
    Some(args)
}
