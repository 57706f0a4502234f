//! The connection to the endpoint.

use cluster::{CloseRequest, Lease};
use net::Stream;

/// The connection to the endpoint.
pub(super) struct Upstream {
    pub(super) stream: Stream,
    /// Counts the connection at its endpoint, until the server is done with.
    pub(super) lease: Option<Lease>,
}

impl Upstream {
    /// What the endpoint asks of the connection.
    pub(super) fn close_request(&self) -> CloseRequest {
        self.lease.as_ref().map_or(CloseRequest::None, Lease::close_request)
    }
}
