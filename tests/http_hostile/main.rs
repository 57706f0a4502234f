//! Clients that lie, flood or wait: refused, counted and bounded, and no one else notices.

#![allow(clippy::unwrap_used, clippy::panic)]

mod frames;
mod slow;
#[path = "../support/mod.rs"]
mod support;

use support::{hearing::Hearing, tollgate::Tollgate};

/// A proxy before this service, of whatever version; `settings` are the listener's further keys,
/// and `http` those of its protocol.
fn proxy(service: &Hearing, settings: &str, http: &str) -> Tollgate {
    Tollgate::start(&format!(
        "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: {{ http: {{ {http} }} }}, \
         cluster: web, {settings} }}\nclusters:\n  web: {{ endpoints: [\"{}\"] }}\n",
        service.address()
    ))
}

/// Waits until so many connections have ended for this reason.
fn closes(tollgate: &Tollgate, reason: &str, count: f64) {
    let labels = [("listener", "web"), ("reason", reason)];
    tollgate.metric_becomes("tollgate_connection_close_total", &labels, count);
}
