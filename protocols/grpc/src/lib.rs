//! gRPC: what it does differently from plain HTTP, and the translators for who speaks less of it.
//!
//! A call is one operation: its name is `package.Service/Method`, its outcome what `grpc-status`
//! says, in headers or in trailers. What travels is HTTP/2 and is served as such by [`tollgate_http`];
//! [`Grpc`] is the dialect.

mod body;
mod bridge;
mod browser;
mod chain;
mod cors;
mod dialect;
pub mod frame;
mod listener;
mod media;
mod metadata;
mod path;
pub mod probe;
mod refusal;
mod reverse;
mod room;
mod service;
pub mod settings;
pub mod status;
#[cfg(test)]
mod testing;
pub mod timeout;
mod transcode;
pub mod web_text;

pub use dialect::Grpc;
pub use listener::Listener;
pub use settings::Settings;
