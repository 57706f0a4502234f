//! What the load program and the scripted server share: messages, and what a process costs.

pub mod client;
pub mod cost;
pub mod honest;
pub mod tls;
pub mod web;
pub mod wire;
