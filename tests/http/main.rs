//! What HTTP must do through the whole proxy: with clients and services of either version.

#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)]
#![allow(clippy::disallowed_methods, reason = "a client of a test has a runtime of its own")]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod broken;
mod cors;
mod engine;
mod expect;
mod guards;
mod half_closed;
mod headers;
mod heads;
mod lengths;
mod log_lines;
mod own_answers;
mod pool;
mod retries;
mod routes;
mod stopping;
mod upgrades;
