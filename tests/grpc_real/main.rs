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
    certificates::Certificates,
    python::{self, Service},
    tollgate::Tollgate,
};

/// The grpcio service, and a proxy with the listener `rpc` before it.
struct Stage {
    service: Service,
    tollgate: Tollgate,
    /// Client, proxy and service are inside TLS, and demand certificates of each other.
    encrypted: bool,
}

impl Stage {
    /// With these settings of gRPC, and this at the end of the config. `None` where there is no
    /// grpcio.
    fn new(settings: &str, more: &str) -> Option<Self> {
        let service = Service::start("grpc_service.py", &[])?;
        let tollgate = before(service.address(), settings, more);
        Some(Self { service, tollgate, encrypted: false })
    }

    /// The same, and one inside TLS. None where there is no grpcio.
    fn plain_and_encrypted(settings: &str, more: &str) -> impl Iterator<Item = Self> {
        Self::new(settings, more).into_iter().chain(Self::encrypted(settings, more))
    }

    fn encrypted(settings: &str, more: &str) -> Option<Self> {
        let certificates = Certificates::shared();
        let directory = certificates.directory().to_str().unwrap();
        let service = Service::start("grpc_service.py", &[directory])?;
        let (server, client) = (certificates.pair("server"), certificates.pair("client"));
        let listener = format!("tls: {{ certificates: {server}, client_ca: {directory}/ca.crt }}");
        let cluster = format!("tls: {{ ca: {directory}/ca.crt, certificate: {client} }}");
        let config = config(service.address(), settings, &listener, &cluster);
        let tollgate = Tollgate::start(&format!("{config}{more}"));
        Some(Self { service, tollgate, encrypted: true })
    }

    /// Runs a scenario of grpcio's client.
    fn plays(&self, scenario: &str) {
        play(scenario, &self.address(), self.encrypted);
    }

    /// Runs a scenario of clients that speak less.
    fn is_called(&self, scenario: &str) {
        python::run("grpc_others.py", &[scenario, &self.address()]);
    }

    fn address(&self) -> String {
        self.tollgate.listener("rpc").to_string()
    }
}

/// Runs a scenario of grpcio's client before this address.
fn play(scenario: &str, address: &str, encrypted: bool) {
    let directory = encrypted.then(|| Certificates::shared().directory().to_str().unwrap());
    let arguments: Vec<&str> = [scenario, address].into_iter().chain(directory).collect();
    python::run("grpc_scenarios.py", &arguments);
}

/// A proxy before this service.
fn before(service: SocketAddr, settings: &str, more: &str) -> Tollgate {
    Tollgate::start(&format!("{}{more}", config(service, settings, "", "")))
}

/// A config with more keys of the listener and of its cluster.
fn config(service: SocketAddr, settings: &str, listener: &str, cluster: &str) -> String {
    format!(
        "listeners:\n  rpc: {{ address: \"127.0.0.1:0\", protocol: {{ grpc: {{ {settings} }} }}, \
         cluster: rpc, {listener} }}\n\
         clusters:\n  rpc: {{ endpoints: [\"{service}\"], {cluster} }}\n"
    )
}
