//! Clients that lie, flood or wait: refused, counted and bounded, and no one else notices.

#![allow(clippy::unwrap_used, clippy::panic)]

mod frames;
mod slow;
mod slow_streams;
#[path = "../support/mod.rs"]
mod support;

use support::{
    http::{Reply, Service, Version, proxy_to},
    tollgate::Tollgate,
};

/// How long the answer to `/large` is.
const LARGE: usize = 16 << 20;

/// A service that reads whole bodies, and answers `hello`, or much where `/large` is asked for.
fn service() -> Service {
    let large = bytes::Bytes::from(vec![b'x'; LARGE]);
    Service::start(Version::One, move |asked| match asked.target.as_str() {
        "/large" => Reply::ok(large.clone()),
        _ => Reply::ok("hello"),
    })
}

/// A proxy before this service; `settings` are the listener's further keys, and `http` those of
/// its protocol.
fn proxy(service: &Service, settings: &str, http: &str) -> Tollgate {
    proxy_to(&service.endpoints(), http, settings)
}

/// Waits until this many connections have ended for this reason.
fn closes(tollgate: &Tollgate, reason: &str, count: f64) {
    let labels = [("listener", "web"), ("reason", reason)];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, count);
}
