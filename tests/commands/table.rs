//! The built-in table is what the server says; asking a server fails with reasons.

use std::net::TcpListener;

use slotway::command::data::{self, File};
use slotway::command::{CommandTable, KeyRule, fetch};

use super::{NOT_IN_SERVER, dump, same_version};
use crate::support::resp::Value;
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

/// Reads by their flags that mean something at one node only.
const AT_THE_PRIMARY: &[&str] = &["hscan", "object|freq", "object|idletime", "sscan", "touch", "zscan"];

#[test]
fn replicas_are_asked_only_what_the_server_calls_a_read() {
    need_redis!();
    let server = Server::standalone(&[]);
    let mut client = server.client();
    let mut left = Vec::new();
    for command in CommandTable::builtin().iter().filter(|command| !command.added) {
        let info = client.call(&cmd!["COMMAND", "INFO", command.name]);
        // A server of another version may not have it.
        let Some(flags) = info.items().first().and_then(|info| info.items().get(2)) else { continue };
        let flags: Vec<String> = flags.items().iter().map(Value::text).collect();
        let has = |flag: &str| flags.iter().any(|f| f == flag);
        let reads = has("readonly") && !has("write");
        assert!(reads || !command.reads_at_replicas, "{} is no read: {flags:?}", command.name);
        assert!(command.key_rule != KeyRule::None || !command.reads_at_replicas, "{}", command.name);
        if reads && command.key_rule != KeyRule::None && !command.reads_at_replicas {
            assert!(command.decision.at_primary.is_some(), "{}: without a reason", command.name);
            left.push(command.name);
        }
    }
    left.sort_unstable();
    assert_eq!(left, AT_THE_PRIMARY);
    for write in
        ["eval", "evalsha", "fcall", "xadd", "getset", "getex", "sort", "georadius", "publish", "blpop"]
    {
        assert!(!CommandTable::builtin().by_name(write).unwrap().reads_at_replicas, "{write}");
    }
    for read in ["eval_ro", "evalsha_ro", "fcall_ro", "get", "mget", "sort_ro", "xread", "zunion", "pfcount"]
    {
        assert!(CommandTable::builtin().by_name(read).unwrap().reads_at_replicas, "{read}");
    }
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
