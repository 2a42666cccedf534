//! CLIENT LIST: every worker describes its clients, the asking one puts the lines together.
use super::{Session, SessionInner};
use crate::command::Command;
use crate::command::local::ListFilter;
use crate::worker::WorkerContext;
use std::rc::Rc;
/// x
pub fn describe(_w: &Rc<WorkerContext>, _f: &ListFilter) -> String {
    String::new()
}
/// x
pub fn start(_s: &Rc<Session>, _i: &mut SessionInner, _c: &'static Command, _f: ListFilter) {}
