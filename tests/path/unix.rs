//! Clients on a Unix socket: the same answers, the same stop, and no file left behind.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::support::process::scratch_dir;
use crate::support::proxy::Proxy;
use crate::support::shared;

#[test]
fn a_unix_socket_serves_clients_and_is_removed_at_the_end() {
    need_redis!();
    let dir = scratch_dir("unix");
    let path = dir.join("proxy.sock");
    // A file of a process that is gone is in the way.
    drop(UnixListener::bind(&path).expect("bind"));
    assert!(path.exists());
    let path_text = path.to_str().expect("text").to_owned();
    let seeds = shared::seeds(shared::cluster());
    let mut proxy = Proxy::start(&seeds, &[("listen-unix", &path_text)]);
    let mut client = UnixStream::connect(&path).expect("connect");
    let key = shared::unique("unix");
    client.write_all(&cmd!["SET", key, "v"]).expect("write");
    client.write_all(&cmd!["GET", key]).expect("write");
    let mut got = [0; 12];
    client.read_exact(&mut got).expect("read");
    assert_eq!(&got, b"+OK\r\n$1\r\nv\r\n");
    assert_eq!(proxy.client().call(&cmd!["GET", key]).text(), "v");
    let shown = format!(" addr={path_text}:0 laddr={path_text}:0 ");
    let list = proxy.client().call(&cmd!["CLIENT", "LIST"]).text();
    let line = list.lines().find(|line| line.contains(&shown)).unwrap_or_else(|| panic!("{shown} in {list}"));
    assert!(line.contains(" flags=U "), "{line}");
    assert_eq!(proxy.terminate(), Some(0));
    assert_eq!(client.read(&mut got).expect("the end"), 0);
    assert!(!path.exists(), "the socket's file is left behind");
}
