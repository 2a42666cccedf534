//! The same generated requests to slotway in front of a cluster and to a single redis-server: every
//! command and every option of the table, right and wrong, in RESP2 and in RESP3. Replies must be
//! equal; the only exceptions are those the command table documents.
//!
//! `DIFFERENTIAL_ROUNDS` sets how many rounds run (each has every command in every form),
//! `DIFFERENTIAL_SEED` the first round's seed. A failure prints the shortest requests that show it.

mod arguments;
mod compare;
mod driver;
mod expect;
mod keys;
mod report;
mod sequences;
mod session;
mod sha1;
mod shape;
mod talks;
mod values;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use arguments::Shape;
use driver::Servers;
use report::Report;
use values::Supplies;

fn servers() -> MutexGuard<'static, Servers> {
    static SERVERS: OnceLock<Mutex<Servers>> = OnceLock::new();
    SERVERS.get_or_init(|| Mutex::new(Servers::start())).lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

fn compare_all(resp3: bool) {
    let servers = servers();
    let supplies = Supplies { mark: format!("RESP{}", 2 + u8::from(resp3)), ..servers.supplies() };
    let shapes = Shape::all();
    let first = number("DIFFERENTIAL_SEED", 1);
    let mut report = Report::new(&shapes);
    for seed in first..first + number("DIFFERENTIAL_ROUNDS", 8) {
        for sequence in sequences::round(&shapes, &supplies, seed) {
            let all: Vec<usize> = (0..sequence.requests.len()).collect();
            let outcome = servers.run(&sequence, &all, resp3);
            report.add(&servers, &sequence, outcome, resp3);
        }
    }
    report.finish();
}

#[test]
fn every_command_gets_the_bytes_of_a_single_redis_in_resp2() {
    need_redis!();
    compare_all(false);
}

#[test]
fn every_command_gets_the_bytes_of_a_single_redis_in_resp3() {
    need_redis!();
    compare_all(true);
}

#[test]
fn one_round_has_every_command_and_every_option() {
    let shapes = Shape::all();
    let mut missing: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (index, shape) in shapes.iter().enumerate() {
        missing.extend((0..shape.arguments.max(1)).map(|argument| (index, argument)));
    }
    for sequence in sequences::round(&shapes, &Supplies::default(), 1) {
        for (index, shown) in sequence.requests.iter().filter_map(|request| request.shows.as_ref()) {
            shown.iter().for_each(|argument| {
                missing.remove(&(*index, *argument));
            });
            if shapes[*index].arguments == 0 {
                missing.remove(&(*index, 0));
            }
        }
    }
    let names: Vec<_> = missing.iter().map(|(index, argument)| (shapes[*index].name, argument)).collect();
    assert!(names.is_empty(), "never generated: {names:?}");
}

#[test]
fn a_seed_makes_the_same_sequences_every_time() {
    let shapes = Shape::all();
    let make = || {
        let sequences = sequences::round(&shapes, &Supplies::default(), 7);
        sequences.into_iter().flat_map(|s| s.requests.into_iter().map(|r| r.args)).collect::<Vec<_>>()
    };
    assert_eq!(make(), make());
}
