//! A limit that machines share holds for all of them together, and a store that fails holds up
//! nobody. Against a real redis-server, and a real service.

#![allow(unreachable_pub, reason = "nothing outside of this test uses it")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod accuracy;
mod encrypted;
mod leases;
mod limiter;
mod machine;
mod proxies;
mod server;
mod service;
#[path = "../support/mod.rs"]
mod support;
mod trouble;
