//! The command table, key finding, error texts and the proxy's own replies, compared with a real
//! redis-server. No proxy runs here: the library is asked directly.

mod errors;
mod forms;
mod info;
mod keys;
mod local;
mod table;

use slotway::command::data::File;
use slotway::command::errors::{unknown_command, unknown_subcommand, wrong_arity};
use slotway::command::{CommandTable, Lookup, fetch};
use slotway::protocol::request::{Args, Span};

use crate::support::resp::frame;
use crate::support::server::Server;

/// Commands of the table that the server the table comes from cannot be asked about: not in 7.0.
const NOT_IN_SERVER: &[&str] =
    &["client|no-touch", "client|setinfo", "cluster|myshardid", "script|show", "waitaof"];

/// A request as the scanner would hand it over.
struct Cut {
    frame: Vec<u8>,
    spans: Vec<Span>,
}

impl Cut {
    fn new<T: AsRef<[u8]>>(words: &[T]) -> Self {
        let mut cut = Self { frame: Vec::new(), spans: Vec::new() };
        for word in words {
            let word = word.as_ref();
            cut.spans.push(Span { start: cut.frame.len() as u32, len: word.len() as u32 });
            cut.frame.extend_from_slice(word);
        }
        cut
    }

    fn args(&self) -> Args<'_> {
        Args::new(&self.frame, &self.spans)
    }
}

/// Words parted by single blanks; two in a row make an empty word.
fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn request<T: AsRef<[u8]>>(words: &[T]) -> Vec<u8> {
    frame(&words.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

/// What `slotway commands --from` would print for this server.
fn dump(server: &Server, password: Option<&str>) -> String {
    fetch::fetch(&server.addr().to_string(), None, password).unwrap()
}

/// True if the server is the version the table was made from; otherwise comparing makes no sense.
fn same_version(json: &str) -> bool {
    let file: File = serde_json::from_str(json).unwrap();
    let source = CommandTable::builtin().source();
    let same = file.source == *source;
    if !same {
        let (ours, theirs) = (&source.version, &file.source.version);
        eprintln!("\n*** SKIPPED, NOT PROVEN: the command table is of {ours}, this server is {theirs} ***\n");
    }
    same
}

/// What a session answers to a request it cannot dispatch.
fn dispatch_error(args: &Args) -> Option<Vec<u8>> {
    match CommandTable::builtin().lookup(args) {
        Lookup::UnknownCommand => Some(unknown_command(args)),
        Lookup::UnknownSubcommand(container) => Some(unknown_subcommand(container, args)),
        Lookup::Found(command) if command.arity_ok(args.len()) => None,
        Lookup::Found(command) => Some(wrong_arity(command).into_bytes()),
    }
}
