//! gRPC through the proxy, with clients and services of other projects: grpcio at both ends,
//! and before the bridges Python's HTTP clients, PHP and a browser.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod browser;
mod calls;
mod others;
mod policies;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use support::{
    python::{self, Service},
    tollgate::Tollgate,
};

/// The grpcio service, and a proxy with the listener `rpc` before it.
struct Stage {
    service: Service,
    tollgate: Tollgate,
}

impl Stage {
    /// With these settings of gRPC, and this at the end of the config. `None` where there is no
    /// grpcio.
    fn new(settings: &str, more: &str) -> Option<Self> {
        let service = Service::start("grpc_service.py", &[])?;
        let tollgate = before(service.address(), settings, more);
        Some(Self { service, tollgate })
    }

    /// Runs a scenario of grpcio's client.
    fn plays(&self, scenario: &str) {
        python::run("grpc_scenarios.py", &[scenario, &self.address()]);
    }

    /// Runs a scenario of clients that speak less.
    fn is_called(&self, scenario: &str) {
        python::run("grpc_others.py", &[scenario, &self.address()]);
    }

    fn address(&self) -> String {
        self.tollgate.listener("rpc").to_string()
    }
}

/// A proxy before this service.
fn before(service: SocketAddr, settings: &str, more: &str) -> Tollgate {
    Tollgate::start(&format!(
        "listeners:\n  rpc: {{ address: \"127.0.0.1:0\", protocol: {{ grpc: {{ {settings} }} }}, \
         cluster: rpc }}\n\
         clusters:\n  rpc: {{ endpoints: [\"{service}\"] }}\n{more}"
    ))
}
