//! Limits how many operations there may be in a time.

pub mod shared;
