//! gRPC: what differs from plain HTTP, and translators for clients and services that do not speak it.
//!
//! A call is one operation. Its name is `package.Service/Method`, its outcome follows `grpc-status` in
//! headers or trailers. [`tollgate_http`] serves the connection and the HTTP messages;
//! [`Grpc`] is the dialect. This crate knows nothing of policies, clusters or how a proxy is run.
//!
//! - `dialect`, `listener`, `settings`: the dialect, a listener's configured state, its settings.
//! - `frame`, `status`, `timeout`, `metadata`, `path`, `media`: the parts of the protocol.
//! - `bridge`: HTTP/1.1 clients; `reverse`: plain HTTP services; `grpc_web`, `web_text`, `cors`:
//!   browsers; `transcode`: JSON clients; `translator_chain`: two of them in sequence.
//! - `body`, `message_budget`, `service_response`, `rejection`: what the translators share.
//! - `probe`: health checks.

mod body;
mod bridge;
mod cors;
mod dialect;
pub mod frame;
mod grpc_web;
mod listener;
mod media;
mod message_budget;
mod metadata;
mod operation_names;
mod path;
pub mod probe;
mod rejection;
mod reverse;
mod service_response;
pub mod settings;
pub mod status;
#[cfg(test)]
mod testing;
pub mod timeout;
mod transcode;
mod translator_chain;
pub mod web_text;

pub use dialect::Grpc;
pub use listener::GrpcListener;
pub use operation_names::no_operation;
pub use settings::Settings;
