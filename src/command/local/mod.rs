//! TEMPORARY
use super::LocalCommand;
use crate::protocol::{encode, request::Args};
use crate::session::state::ClientState;
#[derive(Debug, Clone, Default)]
pub struct ListFilter;
pub enum After {
    Continue,
    Close,
    ListClients(ListFilter),
}
pub struct LocalEnv;
pub fn reply(_: &LocalEnv, _: &mut ClientState, c: LocalCommand, a: &Args, out: &mut Vec<u8>) -> After {
    match c {
        LocalCommand::Ping => {
            if a.len() > 1 {
                encode::bulk(out, a.at(1))
            } else {
                encode::simple(out, "PONG")
            }
            After::Continue
        }
        LocalCommand::Quit => {
            encode::simple(out, "OK");
            After::Close
        }
        _ => {
            encode::simple(out, "OK");
            After::Continue
        }
    }
}
