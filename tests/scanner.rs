//! The scanners against `redis-protocol` as the oracle: whatever the bytes and however they arrive,
//! requests and replies are cut where the oracle cuts them. What needs a look inside (that no byte is
//! read twice) is tested beside the scanners in src/protocol.

use proptest::prelude::*;

mod generate;
mod hostile;
mod replies;
mod requests;

/// Cases of a property test: always the same ones, and no file is written when one fails.
fn cases(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    Config { rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::with_cases(cases) }
}

/// Cuts `data` behind each of these bytes.
fn pieces<'a>(data: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (data.len() + 1)).collect();
    cuts.sort_unstable();
    let ends = cuts.iter().copied().chain([data.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    starts.zip(ends).map(|(start, end)| &data[start..end]).collect()
}

/// A byte at a time.
fn bytes_of(data: &[u8]) -> Vec<&[u8]> {
    data.chunks(1).collect()
}

/// Every way to cut `data` in two.
fn halves(data: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    (0..=data.len()).map(|at| vec![&data[..at], &data[at..]])
}

/// Every way to cut `data` at all: 2^(n-1) of them.
fn all_splits(data: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    assert!(data.len() <= 16, "too many ways to cut {} bytes", data.len());
    (0..1_usize << (data.len() - 1)).map(|mask| {
        let cuts: Vec<usize> = (1..data.len()).filter(|at| mask >> (at - 1) & 1 == 1).collect();
        pieces(data, &cuts)
    })
}

/// Some places to cut at.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(any::<usize>(), 0..12)
}

#[test]
fn the_ways_to_cut_are_what_they_say() {
    assert_eq!(pieces(b"abcd", &[3, 1]), [&b"a"[..], b"bc", b"d"]);
    assert_eq!(all_splits(b"abc").count(), 4);
    assert!(all_splits(b"abcdef").all(|split| split.concat() == b"abcdef"));
    assert_eq!(halves(b"ab").count(), 3);
    assert_eq!(bytes_of(b"ab"), [b"a", b"b"]);
}
