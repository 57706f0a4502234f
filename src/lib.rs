//! The proxy. ARCHITECTURE.md tells an operation's life through these files.

pub mod admin;
pub mod cluster;
pub mod config;
pub mod metrics;
pub mod protocols;
