//! `$` in XREAD: "entries after the last there is now". A try that is repeated would take it for a later
//! "now" and miss what came between, so the node is asked for the id in the same push as the first try, and
//! later tries name it. Pure: makes questions, reads answers.

use crate::command::Command;
use crate::protocol::encode;
use crate::protocol::reply::ReplyScanner;
use crate::protocol::request::Args;

const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";
const NO_SUCH_KEY: &[u8] = b"-ERR no such key";
/// The last id of a stream that does not exist.
const FIRST: &[u8] = b"0-0";

/// The ids a request leaves to the node, and what is known of them.
#[derive(Debug, Default)]
pub struct LastIds(Vec<Place>);

#[derive(Debug)]
struct Place {
    key: usize,
    id: usize,
    known: Option<Vec<u8>>,
}

impl LastIds {
    /// Those of `args`; none for any command but XREAD.
    pub fn of(command: &Command, args: &Args<'_>) -> Self {
        let mut places = Vec::new();
        if command.name == "xread"
            && let Some(streams) = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"STREAMS"))
        {
            let count = (args.len() - streams - 1) / 2;
            for key in streams + 1..=streams + count {
                if args.at(key + count) == b"$" {
                    places.push(Place { key, id: key + count, known: None });
                }
            }
        }
        Self(places)
    }

    /// Appends a question for each id not known yet; says how many replies they have.
    pub fn ask(&self, args: &Args<'_>, asking: bool, push: &mut Vec<u8>) -> usize {
        let mut replies = 0;
        for place in self.0.iter().filter(|place| place.known.is_none()) {
            if asking {
                push.extend_from_slice(ASKING);
                replies += 1;
            }
            encode::array(push, 3);
            for word in [&b"XINFO"[..], b"STREAM", args.at(place.key)] {
                encode::bulk(push, word);
            }
            replies += 1;
        }
        replies
    }

    /// Reads the replies to the questions.
    pub fn learn<'a>(&mut self, replies: impl IntoIterator<Item = &'a [u8]>, asking: bool) {
        let mut replies = replies.into_iter();
        for place in self.0.iter_mut().filter(|place| place.known.is_none()) {
            if asking {
                replies.next();
            }
            let Some(reply) = replies.next() else { return };
            place.known = last_id(reply);
        }
    }

    /// What the request has to say instead of `$`.
    pub fn changes(&self) -> Vec<(usize, Vec<u8>)> {
        self.0.iter().filter_map(|place| Some((place.id, place.known.clone()?))).collect()
    }

    /// True when a repeated try would miss nothing.
    pub fn are_known(&self) -> bool {
        self.0.iter().all(|place| place.known.is_some())
    }
}

/// `last-generated-id` of a reply to XINFO STREAM, in either version of the protocol.
fn last_id(reply: &[u8]) -> Option<Vec<u8>> {
    if reply.starts_with(NO_SUCH_KEY) {
        return Some(FIRST.to_vec());
    }
    if !matches!(reply.first(), Some(b'*' | b'%')) {
        return None;
    }
    let mut rest = after_line(reply)?;
    let mut found = false;
    let mut scanner = ReplyScanner::new();
    while let Ok(Some(len)) = scanner.scan(rest) {
        scanner.reset();
        let (element, after) = rest.split_at_checked(len)?;
        let word = after_line(element).and_then(|word| word.strip_suffix(b"\r\n"));
        if found {
            return word.map(<[u8]>::to_vec);
        }
        found = word == Some(b"last-generated-id") && element.starts_with(b"$");
        rest = after;
    }
    None
}

fn after_line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(memchr::memchr(b'\n', bytes)? + 1..)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::command::CommandTable;
    use crate::command::tests::Request;

    const XINFO: &[u8] = b"*6\r\n$6\r\nlength\r\n:1\r\n$17\r\nlast-generated-id\r\n$3\r\n7-1\r\n$11\r\nfirst-entry\r\n*2\r\n$3\r\n7-1\r\n*2\r\n$17\r\nlast-generated-id\r\n$1\r\nx\r\n";

    #[test]
    fn asks_for_each_and_names_it_afterwards() {
        let request = Request::of("XREAD BLOCK 0 sTREAMs a b c $ 5 $");
        let command = CommandTable::builtin().by_name("xread").unwrap();
        let mut ids = LastIds::of(command, &request.args());
        let mut push = Vec::new();
        assert_eq!((ids.ask(&request.args(), true, &mut push), ids.are_known()), (4, false));
        let question =
            |key: &str| format!("*3\r\n$5\r\nXINFO\r\n$6\r\nSTREAM\r\n$1\r\n{key}\r\n").into_bytes();
        assert_eq!(push, [ASKING, &question("a"), ASKING, &question("c")].concat());
        ids.learn([&b"+OK\r\n"[..], XINFO, b"+OK\r\n", b"-ASK 5 a:1\r\n"], true);
        assert_eq!((ids.changes(), ids.are_known()), (vec![(7, b"7-1".to_vec())], false));
        push.clear();
        assert_eq!(ids.ask(&request.args(), false, &mut push), 1);
        assert_eq!(push, question("c"));
        ids.learn([&b"-ERR no such key\r\n"[..]], false);
        assert_eq!(ids.changes(), [(7, b"7-1".to_vec()), (9, b"0-0".to_vec())]);
        assert!(ids.are_known());
    }

    #[test]
    fn other_commands_and_other_answers() {
        let request = Request::of("XREADGROUP GROUP g c BLOCK 0 STREAMS a $");
        let command = CommandTable::builtin().by_name("xreadgroup").unwrap();
        assert!(LastIds::of(command, &request.args()).are_known());
        for reply in [&b"-NOPERM no\r\n"[..], b"+OK\r\n", b"*0\r\n", b"*2\r\n$1\r\na\r\n:1\r\n", b""] {
            assert_eq!(last_id(reply), None);
        }
        let map = b"%1\r\n$17\r\nlast-generated-id\r\n$3\r\n1-2\r\n";
        assert_eq!(last_id(map).as_deref(), Some(&b"1-2"[..]));
    }
}
