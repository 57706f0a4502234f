//! gRPC.

pub mod probe;
