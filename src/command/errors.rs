//! The errors Redis gives for a request it cannot dispatch, to the byte. Texts are without `-` and line
//! end; they quote the client, so they are bytes and go through `encode::error`, which drops line breaks.

use super::Command;
use crate::protocol::request::Args;

/// Redis quotes this many bytes of a name, and of all arguments together.
const QUOTE_BYTES_MAX: usize = 128;

/// No command of that name. Redis checks this before it asks for a password.
pub fn unknown_command(args: &Args) -> Vec<u8> {
    let mut quoted = Vec::new();
    for arg in args.iter().skip(1) {
        if quoted.len() >= QUOTE_BYTES_MAX {
            break;
        }
        let room = QUOTE_BYTES_MAX - quoted.len();
        quoted.push(b'\'');
        quoted.extend_from_slice(c_text(arg, room));
        quoted.extend_from_slice(b"' ");
    }
    let name = c_text(args.at(0), QUOTE_BYTES_MAX);
    [b"ERR unknown command '", name, b"', with args beginning with: ", quoted.as_slice()].concat()
}

/// The container exists, the subcommand does not.
pub fn unknown_subcommand(container: &Command, args: &Args) -> Vec<u8> {
    let name = container.name.to_ascii_uppercase();
    let subcommand = c_text(args.at(1), QUOTE_BYTES_MAX);
    [b"ERR unknown subcommand '", subcommand, b"'. Try ", name.as_bytes(), b" HELP."].concat()
}

/// Too few or too many arguments. EXEC gives up its transaction with it.
pub fn wrong_arity(command: &Command) -> String {
    let code = if command.name == "exec" { "EXECABORT Transaction discarded because of:" } else { "ERR" };
    format!("{code} wrong number of arguments for '{}' command", command.entry.name)
}

/// What C's `%.*s` prints: up to the first NUL, at most `max` bytes.
fn c_text(bytes: &[u8], max: usize) -> &[u8] {
    let bytes = bytes.get(..max).unwrap_or(bytes);
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::Request;

    #[test]
    fn quotes_what_redis_quotes() {
        let text = |words: &[&[u8]]| unknown_command(&Request::new(words).args());
        assert_eq!(text(&[b"foo"]), b"ERR unknown command 'foo', with args beginning with: ");
        assert_eq!(
            text(&[b"foo", b"a", b"b\0c"]),
            b"ERR unknown command 'foo', with args beginning with: 'a' 'b' "
        );
        let long = [b'x'; 300];
        let expected =
            [b"ERR unknown command '", &long[..128], b"', with args beginning with: '", &long[..128], b"' "];
        assert_eq!(text(&[&long, &long, b"y"]), expected.concat());
    }
}
