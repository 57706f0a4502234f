//! The proxy. ARCHITECTURE.md tells an operation's life through these files.

pub mod admin;
pub mod cli;
pub mod config;
pub mod connection;
pub mod demo;
pub mod gate;
pub mod handover;
pub mod held;
pub mod listener;
pub mod own_log;
pub mod policy;
pub mod protocols;
pub mod proxy;
pub mod rate_limit_service;
pub mod relay;
pub mod series;
pub mod threads;
pub mod top;
pub mod worker;
