//! Every version of HTTP at the client's side with every version at the service's.

use crate::support::{
    origin::{self, Speaks},
    tollgate::Tollgate,
};
use std::net::SocketAddr;

/// A proxy with the listener `web`, before a hyper service.
pub(crate) struct Pair {
    pub(crate) tollgate: Tollgate,
    /// What curl is told to speak.
    pub(crate) flag: &'static str,
    /// What clients and the service speak, as the log has it.
    pub(crate) versions: (&'static str, &'static str),
}

impl Pair {
    /// Where something is.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.tollgate.listener("web"))
    }
}

/// Tries something with each pair.
pub(crate) fn each(tried: impl Fn(&Pair)) {
    for (speaks, down) in [(Speaks::Http1, "1.1"), (Speaks::Http2, "2")] {
        let service = origin::start(speaks);
        for (flag, up) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
            let tollgate = before(service, speaks, "");
            tried(&Pair { tollgate, flag, versions: (up, down) });
        }
    }
}

/// A proxy before this service; `routes` are what its listener says beside.
pub(crate) fn before(service: SocketAddr, speaks: Speaks, routes: &str) -> Tollgate {
    let version = if speaks == Speaks::Http2 { 2 } else { 1 };
    Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: {{ http: {{ {routes} }} }}, \
         cluster: web }}\n\
         clusters:\n  web: {{ endpoints: [\"{service}\"], http: {{ version: {version} }} }}\n"
    ))
}
