//! The proxy. ARCHITECTURE.md tells an operation's life through these files.

pub mod config;
pub mod demo;
pub mod protocols;
pub mod top;
