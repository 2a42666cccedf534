//! The checker held against histories with a planted violation of each kind, and without any: a checker that cannot
//! fail proves nothing. And one short run of the whole bench.

mod conn;
mod keep;
mod models;
mod short;
mod verdict;
