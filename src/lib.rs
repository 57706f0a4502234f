//! The proxy: the runtime around the protocol crates. ARCHITECTURE.md follows an operation through it.
//!
//! - `cli`: the command line; `proxy`: a running proxy, its threads and its drain; `threads`: essential
//!   threads; `handover`: listening sockets passed to the next process; `own_log`: the log on stderr.
//! - `worker`: one thread's connections; `listener`: sockets, limits, dispatch; `connection`: one client
//!   connection.
//! - `service_manager`: readiness, watchdog and sockets of systemd.
//! - `reload`: requests to reload the config. `admin`: the admin interface; `top`: the live table; `demo`: the demonstration.

pub mod admin;
pub mod certificates;
pub mod cli;
pub mod connection;
pub mod demo;
pub mod handover;
pub mod listener;
pub mod own_log;
pub mod proxy;
pub mod reload;
pub mod service_manager;
pub mod threads;
pub mod top;
pub mod worker;
