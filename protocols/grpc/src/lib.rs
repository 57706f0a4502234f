//! gRPC: what it does differently from plain HTTP, and the translators for who speaks less of it.
//!
//! A call is one operation: its name is `package.Service/Method`, its outcome what `grpc-status`
//! says, in headers or in trailers. What travels is HTTP/2 and is served as such by [`web`];
//! [`Grpc`] is the dialect.

pub mod frame;
pub mod status;
pub mod timeout;
