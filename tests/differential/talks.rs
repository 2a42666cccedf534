//! Requests written by hand: what chance would hardly come upon.

use fastrand::Rng;

use super::arguments::Shape;
use super::expect::command_of;
use super::sequences::{Request, Role, Sequence};

/// What has no key, or can't be part of a transaction, or is no command.
pub const ODD_IN_MULTI: &[&str] = &[
    "CLIENT GETNAME",
    "CLIENT SETNAME me",
    "CLIENT ID",
    "TIME",
    "DBSIZE",
    "KEYS *",
    "SCAN 0",
    "FLUSHALL",
    "CLIENT LIST",
    "SELECT 0",
    "SELECT abc",
    "UNWATCH",
    "LOLWUT",
    "COMMAND COUNT",
    "COMMAND INFO get",
    "OBJECT HELP",
    "EVAL return{1,'x'} 0",
    "PUBLISH nobody x",
    "SCRIPT EXISTS abc",
];

/// Conversations chance would hardly come upon, or with options the table's server does not document.
const TALKS: &[&str] = &[
    "CLIENT KILL MAXAGE 100000000",
    "HELLO 3|CLIENT TRACKING ON OPTIN|CLIENT CACHING YES|GET Text|CLIENT CACHING NO|CLIENT TRACKINGINFO|\
     CLIENT TRACKING ON BCAST|CLIENT TRACKING OFF|CLIENT CACHING YES|CLIENT TRACKINGINFO",
    "HELLO 3|CLIENT TRACKING ON OPTOUT NOLOOP|CLIENT CACHING NO|GET Text|CLIENT CACHING YES|CLIENT TRACKINGINFO",
    "HELLO 3|CLIENT TRACKING ON BCAST PREFIX ab PREFIX c|CLIENT TRACKING ON BCAST PREFIX abc|CLIENT TRACKINGINFO",
    "CLIENT REPLY SKIP|GET Text|ECHO a|CLIENT REPLY OFF|ECHO b|CLIENT REPLY SKIP|ECHO c|CLIENT REPLY ON|ECHO d",
    "SUBSCRIBE a b a|GET Text|PING|PING x|PSUBSCRIBE p*|UNSUBSCRIBE a|UNSUBSCRIBE|PUNSUBSCRIBE|PING|GET Text",
    "SSUBSCRIBE a b{a}|SUNSUBSCRIBE a|PUBSUB SHARDNUMSUB a|SUNSUBSCRIBE|PUBSUB NUMPAT|RESET|PING",
    "SUBSCRIBE a|RESET|GET Text|HELLO 3|SUBSCRIBE a|GET Text|HELLO 2|GET Text|PING|QUIT",
    "MULTI|SET Text a|INCR Text|GET Text|EXEC|WATCH Text|SET Text b|MULTI|GET Text|EXEC|EXEC|DISCARD|MULTI|EXEC",
    "MULTI|HELLO 3|EXEC",
    "FUNCTION STATS|FUNCTION DUMP|FUNCTION FLUSH|SCRIPT FLUSH|SCRIPT EXISTS a",
];

/// Each conversation on a connection of its own.
pub fn all(shapes: &[Shape], random: &mut Rng) -> Vec<Sequence> {
    let one = |(number, talk): (usize, &&str)| {
        let requests = talk.split('|').map(|line| spoken(shapes, line)).collect();
        let batch = [1, usize::MAX][random.usize(..2)];
        Sequence { name: format!("conversation {number}"), requests, batch }
    };
    TALKS.iter().enumerate().map(one).collect()
}

fn spoken(shapes: &[Shape], line: &str) -> Request {
    let args: Vec<Vec<u8>> = line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
    let name = command_of(&args).map(|command| command.name);
    let shape = shapes.iter().position(|shape| Some(shape.name) == name);
    Request { args, shows: shape.map(|index| (index, Vec::new())), role: Role::Compared }
}
