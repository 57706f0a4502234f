//! Clients of gRPC's translators that lie, flood or spell names strangely: refused in their own
//! words, within a stated memory, and no one else notices.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod json;
mod limits;
mod names;
#[path = "../support/mod.rs"]
mod support;

use support::{
    http::{Content, Reply, Service, Version},
    tollgate::Tollgate,
};

/// The descriptor set of messages that contain themselves.
const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/protocols/grpc/protos/tree.binpb");

/// A gRPC service that answers everything with an empty message.
fn service() -> Service {
    Service::start(Version::Two, |_| {
        let empty = Content::from(&[0; 5][..]).trailers(&[("grpc-status", "0")]);
        Reply::ok(empty).header("content-type", "application/grpc")
    })
}

/// A proxy with one worker, and the listener `rpc` with these settings of gRPC before a cluster of
/// these keys.
fn before(cluster: &str, settings: &str, more: &str) -> Tollgate {
    Tollgate::start(&format!(
        "workers: 1\nlisteners:\n  rpc: {{ address: \"127.0.0.1:0\", protocol: {{ grpc: {{ {settings} }} \
         }}, cluster: rpc }}\nclusters:\n  rpc: {{ {cluster} }}\n{more}"
    ))
}
