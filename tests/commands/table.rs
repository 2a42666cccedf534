//! The built-in table is what the server says; asking a server fails with reasons.

use std::net::TcpListener;

use slotway::command::data::{self, File};
use slotway::command::{CommandTable, fetch};

use super::{NOT_IN_SERVER, dump, same_version};
use crate::support::server::Server;

#[test]
fn table_is_what_the_server_says() {
    need_redis!();
    let server = Server::standalone(&[]);
    let json = dump(&server, None);
    if std::env::var_os("SLOTWAY_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/command/commands.json"), &json).unwrap();
    }
    if !same_version(&json) {
        return;
    }
    for (ours, theirs) in data::BUILT_IN.lines().zip(json.lines()) {
        assert_eq!(ours, theirs, "run with SLOTWAY_BLESS=1 to take over what the server says");
    }
    assert_eq!(data::BUILT_IN, json);
    let file: File = serde_json::from_str(&json).unwrap();
    let table = CommandTable::builtin();
    for entry in &file.commands {
        let command = table.by_name(&entry.name).unwrap_or_else(|| panic!("{} is missing", entry.name));
        assert_eq!(command.entry.arity, entry.arity, "{}", entry.name);
        assert_eq!(command.entry.flags, entry.flags, "{}", entry.name);
        assert_eq!(command.entry.keys, entry.keys, "{}", entry.name);
    }
    let added: Vec<&str> = table.iter().filter(|c| c.added).map(|c| c.name).collect();
    assert_eq!(added, NOT_IN_SERVER);
    assert_eq!(table.len(), file.commands.len() + added.len());
}

#[test]
fn fetch_gives_reasons() {
    need_redis!();
    let server = Server::standalone(&["--requirepass", "secret"]);
    let addr = server.addr().to_string();
    assert!(fetch::fetch(&addr, None, None).unwrap_err().contains("NOAUTH"));
    assert!(fetch::fetch(&addr, None, Some("wrong")).unwrap_err().contains("WRONGPASS"));
    assert!(fetch::fetch(&addr, Some("default"), Some("secret")).is_ok());
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    assert!(
        fetch::fetch(&format!("127.0.0.1:{port}"), None, None).unwrap_err().starts_with("cannot connect")
    );
    assert!(fetch::fetch("no port", None, None).unwrap_err().starts_with("cannot connect"));
}
