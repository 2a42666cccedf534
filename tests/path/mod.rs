//! Promises about answers, on a cluster that stays as it is.

mod harness;
