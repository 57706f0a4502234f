//! HTTP through the proxy, with clients and services of other projects: nginx and hyper behind
//! it; curl, Python's `requests`, `httpx` and `websockets`, wrk and h2load before it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod curl;
mod load;
mod pairs;
mod python;
#[path = "../support/mod.rs"]
mod support;

use pairs::{Pair, each};
