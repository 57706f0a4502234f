//! HTTP in a test's hands: a scripted service, and clients, of either version.
//!
//! Tests are plain threads that wait; what is spoken here runs on a runtime of its own.

pub mod client;
pub mod content;
pub mod frames;
pub mod origin;
pub mod raw_client;
pub mod reply;
pub mod service;
pub mod test_request;

pub use client::{Client, Pending};
pub use content::{Content, Feed};
pub use origin::origin;
pub use raw_client::RawHttpClient;
pub use reply::{ReceivedRequest, Reply, State};
pub use service::Service;
pub use test_request::{Answer, TestRequest, get, post};

use super::{PATIENCE, tollgate::Tollgate};
use std::{net::SocketAddr, sync::LazyLock};
use tokio::{runtime::Runtime, time::timeout};

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    One,
    /// HTTP/2, known to be spoken before the first byte.
    Two,
}

/// The versions that a client and a service may speak, in every pairing.
pub const PAIRINGS: [(Version, Version); 4] = [
    (Version::One, Version::One),
    (Version::One, Version::Two),
    (Version::Two, Version::One),
    (Version::Two, Version::Two),
];

impl Version {
    /// What a cluster's `http` says of it.
    pub fn number(self) -> u8 {
        match self {
            Version::One => 1,
            Version::Two => 2,
        }
    }
}

/// Where services and clients run.
pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("a runtime")
    });
    &RUNTIME
}

/// Waits for what should happen at once.
pub fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    runtime().block_on(async {
        let waited = timeout(PATIENCE, future).await;
        waited.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
    })
}

/// A proxy whose one listener, `web`, sends everything to this service, the cluster `shop`.
/// `settings` are the keys of `protocol: { http: … }`.
pub fn proxy(service: &Service, settings: &str) -> Tollgate {
    proxy_to(&service.endpoints(), settings, "")
}

/// The same for a cluster of these keys, and with further keys of the listener.
pub fn proxy_to(cluster: &str, settings: &str, listener: &str) -> Tollgate {
    Tollgate::start(&proxy_config(cluster, settings, listener))
}

/// The config of [`proxy_to`], for tests that add to it.
pub fn proxy_config(cluster: &str, settings: &str, listener: &str) -> String {
    format!(
        "workers: 1\nlisteners:\n  web: {{ address: \"127.0.0.1:0\", protocol: {{ http: {{ {settings} }} }}, \
         cluster: shop, {listener} }}\n\
         clusters:\n  shop: {{ {cluster} }}\n"
    )
}

/// The keys of a cluster with these endpoints, which speak HTTP/1.
pub fn endpoints(addresses: &[SocketAddr]) -> String {
    let list: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("endpoints: [{}]", list.join(", "))
}

/// A proxy with these routes (a list's items, each in a line), before clusters by name.
pub fn routed(routes: &[&str], clusters: &[(&str, &Service)]) -> Tollgate {
    Tollgate::start(&routed_config(routes, clusters, ""))
}

/// The config of [`routed`], with further lines.
pub fn routed_config(routes: &[&str], clusters: &[(&str, &Service)], more: &str) -> String {
    let routes: String = routes.iter().map(|route| format!("          - {route}\n")).collect();
    let clusters =
        clusters.iter().map(|(name, it)| format!("  {name}: {{ {} }}\n", it.endpoints()));
    let clusters: String = clusters.collect();
    format!(
        "workers: 1\nlisteners:\n  web:\n    address: \"127.0.0.1:0\"\n    protocol:\n      http:\n        \
         routes:\n{routes}clusters:\n{clusters}{more}"
    )
}

/// The listener's address.
pub fn at(tollgate: &Tollgate) -> SocketAddr {
    tollgate.listener("web")
}
