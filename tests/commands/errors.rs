//! Unknown commands, unknown subcommands and wrong numbers of arguments: Redis' errors to the byte.

use slotway::command::CommandTable;
use slotway::protocol::encode;

use super::{Cut, dispatch_error, dump, request, same_version};
use crate::support::client::Client;
use crate::support::resp::show;
use crate::support::server::Server;

/// Says a request that cannot be dispatched to both and compares the errors.
fn check(client: &mut Client, form: &[&[u8]]) {
    let cut = Cut::new(form);
    let mut expected = Vec::new();
    encode::error(&mut expected, dispatch_error(&cut.args()).unwrap());
    let theirs = client.raw(&request(form));
    assert_eq!(show(&expected), show(&theirs));
    assert_eq!(expected, theirs);
}

fn connect(server: &Server) -> Option<Client> {
    same_version(&dump(server, None)).then(|| server.client())
}

#[test]
fn unknown_names_are_quoted_as_redis_quotes_them() {
    need_redis!();
    let server = Server::standalone(&[]);
    let Some(mut client) = connect(&server) else { return };
    let lines = "foo|FOO a b|foo  |GETT x|object FOO|OBJECT nosuch a b|xinfo x|Client SetInf x|mset a 1 b";
    for line in lines.split('|') {
        check(&mut client, &line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    }
    let long = "x".repeat(200);
    let long = long.as_bytes();
    let bytes: &[u8] = b"\xff\x00tail\r\n'quote";
    for form in [
        &[&b"foo"[..], long] as &[&[u8]],
        &[b"foo", &long[..100], &long[..100], b"z"],
        &[b"foo", &long[..124], b"y", b"z"],
        &[b"foo", &long[..125], b"y", b"z"],
        &[long, b"a"],
        &[b"foo", bytes, b"a\r\nb"],
        &[bytes, b"a"],
        &[b"a\r\nb"],
        &[b"object", bytes],
        &[b"object", long],
        &[b"object", b"a\r\nb"],
        &[b"", b""],
    ] {
        check(&mut client, form);
    }
}

#[test]
fn wrong_numbers_of_arguments_are_refused_as_redis_does() {
    need_redis!();
    let server = Server::standalone(&[]);
    let Some(mut client) = connect(&server) else { return };
    for command in CommandTable::builtin().iter().filter(|c| !c.added) {
        let name: Vec<&[u8]> = command.name.split('|').map(str::as_bytes).collect();
        let arity = command.entry.arity;
        if let Ok(arity) = usize::try_from(arity) {
            let mut form = name.clone();
            form.resize(arity + 1, b"x");
            check(&mut client, &form);
        }
        if arity.unsigned_abs() as usize > name.len() {
            check(&mut client, &name);
        }
    }
}
