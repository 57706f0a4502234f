//! gRPC through the proxy where services and clients do what the well-known libraries never do:
//! scripted at both ends.

#![allow(clippy::unwrap_used, clippy::panic)]

mod answers;
mod pages;
mod retries;
mod reverse;
#[path = "../support/mod.rs"]
mod support;

use support::{http::Service, tollgate::Tollgate};

/// The descriptor set of messages that contain themselves.
const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/protocols/grpc/protos/tree.binpb");

/// A proxy with the listener `rpc` of these settings of gRPC before this service.
fn before(service: &Service, settings: &str) -> Tollgate {
    Tollgate::start(&format!(
        "listeners:\n  rpc: {{ address: \"127.0.0.1:0\", protocol: {{ grpc: {{ {settings} }} }}, \
         cluster: rpc }}\nclusters:\n  rpc: {{ {} }}\n",
        service.endpoints()
    ))
}
