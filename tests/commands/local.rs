//! The proxy's own replies are Redis' replies, said in one conversation to both.

use std::time::Instant;

use slotway::command::local::config::Heard;
use slotway::command::local::{self, After, ClientIo, ClientsRequest, Facts, Gauges, LocalEnv};
use slotway::command::{CommandTable, Handling, LearnedTable, Lookup};
use slotway::config::Config;
use slotway::error::ProxyError;
use slotway::protocol::encode;
use slotway::session::state::{ClientSettings, ClientState, Resp, SessionMode};

use super::{Cut, dispatch_error, dump, request, same_version, words};
use crate::support::resp::show;
use crate::support::server::Server;

const PASSWORD: &[u8] = b"secret";

/// Our side of a conversation.
struct Ours {
    client: ClientState,
    password: Option<&'static [u8]>,
    version: String,
}

/// What our side says of itself.
pub(super) struct FixedFacts(pub(super) String);

impl Facts for FixedFacts {
    fn redis_version(&self) -> String {
        self.0.clone()
    }

    fn run_id(&self) -> String {
        "0123456789".repeat(4)
    }

    fn started(&self) -> Instant {
        Instant::now()
    }

    fn tcp_port(&self) -> u16 {
        6379
    }

    fn gauges(&self) -> Gauges {
        Gauges { connected_clients: 7, slots_covered: 16384, ..Gauges::default() }
    }

    fn command_calls(&self) -> Vec<u64> {
        vec![1; CommandTable::builtin().len()]
    }

    fn error_counts(&self) -> Vec<u64> {
        vec![1; ProxyError::ALL.len()]
    }
}

impl Ours {
    fn new(id: u64, version: &str, password: Option<&'static [u8]>) -> Self {
        let address = "127.0.0.1:1".parse().unwrap();
        let client = ClientState {
            id,
            peer: Some(address),
            local: Some(address),
            connected: Instant::now(),
            resp: Resp::V2,
            authenticated: password.is_none(),
            mode: SessionMode::Normal,
            settings: ClientSettings::default(),
            subscribed: false,
            tracking: None,
            names: None,
            commands: 0,
            last_command: None,
            last_active_ms: 0,
        };
        Self { client, password, version: version.to_owned() }
    }

    /// What a session does with a local command.
    fn answer<T: AsRef<[u8]>>(&mut self, words: &[T]) -> (Vec<u8>, After) {
        let cut = Cut::new(words);
        let args = cut.args();
        let table = CommandTable::builtin();
        let mut out = Vec::new();
        if let Some(error) = dispatch_error(&args) {
            encode::error(&mut out, error);
            return (out, After::Continue);
        }
        let Lookup::Found(command) = table.lookup(&args) else { panic!("checked above") };
        let Handling::Local(local) = command.handling_for(&args) else {
            panic!("{} is not local", command.name)
        };
        self.client.last_command = Some(command);
        let facts = FixedFacts(self.version.clone());
        let (config, learned) = (Config::default(), LearnedTable::default());
        let env =
            LocalEnv { table, learned: &learned, config: &config, password: self.password, facts: &facts };
        let after = local::reply(&env, &mut self.client, local, &args, &mut out);
        let shown = match &after {
            After::Inform => {
                local::inform(&env, self.client.resp, &args, None, &mut out);
                return (out, after);
            }
            After::Configure => {
                let error = local::config::reply(&env, self.client.resp, &args, Heard::Told(&[]), &mut out);
                assert_eq!(error, None);
                return (out, after);
            }
            After::Describe => true,
            After::Clients(ClientsRequest::List(filter)) => filter.matches(&self.client),
            _ => return (out, after),
        };
        let line = local::client_line(&self.client, &ClientIo::default(), 0);
        encode::verbatim(&mut out, self.client.resp, if shown { &line } else { "" });
        (out, after)
    }
}

/// Says the same to both, a request per line, in one conversation, and compares every byte.
fn converse(server: &Server, password: Option<&'static [u8]>, lines: &str) {
    let mut client = server.client();
    let id = client.ok(&request(&["CLIENT", "ID"])).int();
    if password.is_some() {
        client.ok(&request(&["RESET"]));
    }
    let mut ours = Ours::new(id as u64, &CommandTable::builtin().source().version, password);
    for line in lines.lines() {
        let words = words(line);
        let (expected, _) = ours.answer(&words);
        let theirs = client.raw(&request(&words));
        assert_eq!(show(&expected), show(&theirs), "{line}");
        assert_eq!(expected, theirs, "{line}");
    }
    assert_eq!(client.rest(), b"");
}

/// Said in both protocol versions; `!` stands for the HELLO of the version.
const CONVERSATION: &str = "\
!
HELLO
PING
ping hi
PING a b
ECHO x
ECHO
SELECT 0
SELECT x
SELECT 00
SELECT 99999999999
CLIENT ID
CLIENT ID x
CLIENT GETNAME
CLIENT SETNAME me
CLIENT GETNAME
CLIENT SETNAME \nCLIENT GETNAME
CLIENT SETNAME a\tb
CLIENT NOSUCH
CLIENT LIST TYPE replica
CLIENT LIST TYPE foo
CLIENT LIST TYPE normal x
CLIENT LIST ID
CLIENT LIST ID 0 -1
CLIENT LIST ID 1 x
CLIENT LIST FOO
INFO nosuch
HELLO 4
HELLO x
HELLO 3 FOO
HELLO 3 SETNAME
HELLO 2 SETNAME a\tb
HELLO 3 AUTH a b
HELLO 3 AUTH a
HELLO 2 AUTH default any SETNAME you
CLIENT GETNAME
!
AUTH x
AUTH default y
AUTH foo y
AUTH a b c
AUTH
COMMAND COUNT x
COMMAND LIST X
COMMAND LIST FILTERBY FOO x
COMMAND LIST FILTERBY MODULE x
COMMAND LIST FILTERBY ACLCAT nosuch
COMMAND LIST FILTERBY PATTERN [G-g]ET
COMMAND INFO nosuch get nosuch|x
COMMAND DOCS nosuch get get
COMMAND GETKEYS
COMMAND GETKEYS ping
COMMAND GETKEYS mset a 1 b 2
COMMAND GETKEYS get a b
COMMAND GETKEYS nosuch a
COMMAND GETKEYSANDFLAGS sort a STORE b
COMMAND GETKEYSANDFLAGS ping a
RESET
HELLO
CLIENT GETNAME
QUIT";

#[test]
fn own_replies_are_redis_replies() {
    need_redis!();
    let server = Server::standalone(&[]);
    if !same_version(&dump(&server, None)) {
        return;
    }
    for hello in ["HELLO 2", "HELLO 3"] {
        converse(&server, None, &CONVERSATION.replace('!', hello));
    }
}

#[test]
fn passwords_are_asked_as_redis_asks() {
    need_redis!();
    let server = Server::standalone(&["--requirepass", "secret"]);
    if !same_version(&dump(&server, Some("secret"))) {
        return;
    }
    let lines = "\
HELLO
HELLO 3
HELLO 3 SETNAME x
AUTH wrong
AUTH default wrong
AUTH foo secret
AUTH a b c
HELLO 3 AUTH default wrong
HELLO 2 AUTH foo secret
AUTH secret
CLIENT GETNAME
AUTH wrong
CLIENT ID
RESET
HELLO 2
HELLO 3 AUTH default secret SETNAME y
CLIENT GETNAME
AUTH default secret
HELLO
RESET
QUIT";
    converse(&server, Some(PASSWORD), lines);
}

#[test]
fn cluster_replies_are_a_cluster_nodes() {
    need_redis!();
    let server = Server::standalone(&["--cluster-enabled", "yes"]);
    let lines = "\
SELECT 0
SELECT 1
SELECT -1
SELECT x
CLUSTER KEYSLOT a
CLUSTER KEYSLOT {a}b
CLUSTER KEYSLOT {}b
CLUSTER KEYSLOT
CLUSTER NOSUCH x
QUIT";
    converse(&server, None, lines);
}

#[test]
fn command_info_and_docs_are_the_servers() {
    need_redis!();
    let server = Server::standalone(&[]);
    if !same_version(&dump(&server, None)) {
        return;
    }
    // Subcommands come in no particular order; that of one line each can be compared sorted.
    let sorted = |bytes: &[u8]| {
        let mut lines: Vec<String> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for hello in ["2", "3"] {
        let mut client = server.client();
        let mut ours = Ours::new(0, "", None);
        ours.answer(&["HELLO", hello]);
        client.ok(&request(&["HELLO", hello]));
        // Three containers have subcommands of later versions.
        let comparable = |name: &str| !["client", "cluster", "script"].contains(&name);
        for command in CommandTable::builtin().iter().filter(|c| !c.added && comparable(c.name)) {
            for subcommand in ["INFO", "DOCS"] {
                let words = ["COMMAND", subcommand, command.name];
                let (expected, _) = ours.answer(&words);
                let theirs = client.raw(&request(&words));
                if command.subcommands.is_empty() {
                    assert_eq!(
                        String::from_utf8_lossy(&expected),
                        String::from_utf8_lossy(&theirs),
                        "{words:?}"
                    );
                } else {
                    assert_eq!(sorted(&expected), sorted(&theirs), "{words:?}");
                }
            }
        }
    }
}

#[test]
fn client_info_has_the_servers_fields() {
    need_redis!();
    let server = Server::standalone(&[]);
    let fields = |bytes: Vec<u8>| -> Vec<String> {
        let text = String::from_utf8(bytes).unwrap();
        let line = text.lines().find(|line| line.contains("id=")).unwrap().to_owned();
        line.trim_start_matches("txt:")
            .split(' ')
            .map(|field| field.split('=').next().unwrap().to_owned())
            .collect()
    };
    let mut ours = Ours::new(5, "7.0.15", None);
    let mut client = server.client();
    for line in ["CLIENT INFO", "CLIENT LIST"] {
        let theirs = fields(client.raw(&request(&words(line))));
        let mine = fields(ours.answer(&words(line)).0);
        assert_eq!(&mine[..mine.len().min(theirs.len())], &theirs[..mine.len().min(theirs.len())], "{line}");
        assert_eq!(&mine[mine.len() - 2..], ["lib-name", "lib-ver"]);
    }
    for (line, reply) in [
        ("CLIENT SETINFO LIB-NAME redis-py", "+OK\r\n"),
        ("CLIENT SETINFO lib-ver 5.0", "+OK\r\n"),
        (
            "CLIENT SETINFO lib-ver a\nb",
            "-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n",
        ),
        ("CLIENT SETINFO foo x", "-ERR Unrecognized option 'foo'\r\n"),
        ("CLIENT SETINFO foo", "-ERR wrong number of arguments for 'client|setinfo' command\r\n"),
    ] {
        assert_eq!(String::from_utf8(ours.answer(&words(line)).0).unwrap(), reply);
    }
    let (line, _) = ours.answer(&["CLIENT", "INFO"]);
    assert!(String::from_utf8(line).unwrap().ends_with(" resp=2 lib-name=redis-py lib-ver=5.0\n\r\n"));
}

#[test]
fn info_reads_as_a_standalone_server() {
    let mut ours = Ours::new(5, "7.0.15", None);
    let all = String::from_utf8(ours.answer(&["INFO"]).0).unwrap();
    for field in [
        "redis_version:7.0.15",
        "redis_mode:standalone",
        "arch_bits:64",
        "loading:0",
        "cluster_enabled:0",
        "role:master",
        "connected_clients:7",
        "tcp_port:6379",
        "# Keyspace",
    ] {
        assert!(all.contains(&format!("{field}\r\n")), "{field}\n{all}");
    }
    let two = String::from_utf8(ours.answer(&["INFO", "cluster", "REPLICATION"]).0).unwrap();
    assert!(
        two.contains("# Replication\r\nrole:master")
            && two.ends_with("\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n")
    );
    assert_eq!(ours.answer(&["INFO", "nosuch"]).0, b"$0\r\n\r\n");
    let (default, every) = (ours.answer(&["INFO", "Default", "x"]).0, ours.answer(&["INFO", "Everything"]).0);
    assert_eq!(default.len(), all.len());
    let every = String::from_utf8(every).unwrap();
    assert!(
        every.contains("\r\n\r\n# Commandstats\r\ncmdstat_acl:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0\r\n") && !all.contains("Commandstats")
    );
    assert!(every.contains("\r\nerrorstat_SLOTWAY_CROSS_SLOT:count=1\r\n"));
}

#[test]
fn every_local_command_answers() {
    for command in CommandTable::builtin().iter().filter(|c| matches!(c.handling, Handling::Local(_))) {
        let mut form: Vec<&str> = command.name.split('|').collect();
        form.resize(form.len().max(command.entry.arity.unsigned_abs() as usize), "0");
        let (reply, after) = Ours::new(1, "7.0.15", None).answer(&form);
        assert!(reply.ends_with(b"\r\n") || matches!(after, After::Clients(_)), "{form:?}");
    }
}
