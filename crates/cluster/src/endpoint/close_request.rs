//! What an endpoint asks of its connections.

use super::{Endpoint, Exclusion};
use operation::Close;
use std::sync::atomic::Ordering::Relaxed;

/// What an endpoint asks of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseRequest {
    /// Stay open.
    None,
    /// Close when idle.
    WhenIdle,
    /// Close when idle, if the connection serves all operations of a client: they need the primary, which
    /// the endpoint is not.
    RoleLost,
    /// Close now: the endpoint is unhealthy, and the cluster is configured so.
    Unhealthy,
    /// Close now: `drain_timeout` is over since the endpoint left the cluster or was drained by an
    /// operator.
    Removed,
    /// Close when idle: the certificate that the connection was opened with is about to expire. Asked
    /// of connections only, as the next one.
    Expiring,
    /// Close now: the certificate expires.
    Expired,
}

impl CloseRequest {
    /// The close reason, if a connection must close even during an operation.
    pub fn close_now(self) -> Option<Close> {
        match self {
            CloseRequest::None
            | CloseRequest::WhenIdle
            | CloseRequest::RoleLost
            | CloseRequest::Expiring => None,
            CloseRequest::Unhealthy => Some(Close::EndpointUnhealthy),
            CloseRequest::Removed => Some(Close::EndpointRemoved),
            CloseRequest::Expired => Some(Close::CertificateExpired),
        }
    }
}

impl Endpoint {
    /// What its connections are asked to do.
    pub fn close_request(&self) -> CloseRequest {
        match self.close_request.load(Relaxed) {
            request if request == CloseRequest::None as u8 => CloseRequest::None,
            request if request == CloseRequest::WhenIdle as u8 => CloseRequest::WhenIdle,
            request if request == CloseRequest::RoleLost as u8 => CloseRequest::RoleLost,
            request if request == CloseRequest::Unhealthy as u8 => CloseRequest::Unhealthy,
            _ => CloseRequest::Removed,
        }
    }

    /// What its connections are asked to do while it is a healthy member of its cluster.
    pub(crate) fn default_close_request(&self) -> CloseRequest {
        if self.is_excluded(Exclusion::Drained) {
            CloseRequest::WhenIdle
        } else {
            CloseRequest::None
        }
    }

    /// Asks its connections to close now. Returns whether that is new.
    pub(crate) fn interrupt_connections(&self) -> bool {
        [CloseRequest::None, CloseRequest::WhenIdle, CloseRequest::RoleLost]
            .into_iter()
            .any(|from| self.compare_set_close_request(from, CloseRequest::Unhealthy))
    }

    /// Ends an [interruption](Endpoint::interrupt_connections).
    pub(crate) fn end_interruption(&self) {
        let usual = self.default_close_request();
        self.compare_set_close_request(CloseRequest::Unhealthy, usual);
    }

    /// Asks its connections to do this. They notice when the cluster notifies them.
    pub(crate) fn set_close_request(&self, request: CloseRequest) {
        self.close_request.store(request as u8, Relaxed);
    }

    /// Asks the connections that need the primary to leave it, or not any more. Returns whether that is
    /// new.
    pub(crate) fn set_role_lost(&self, lost: bool) -> bool {
        let (from, to) = (CloseRequest::None, CloseRequest::RoleLost);
        let (from, to) = if lost { (from, to) } else { (to, from) };
        self.compare_set_close_request(from, to)
    }

    /// Changes the close request from `now` to `request`; `false` if it is another one.
    pub(crate) fn compare_set_close_request(
        &self,
        now: CloseRequest,
        request: CloseRequest,
    ) -> bool {
        self.close_request.compare_exchange(now as u8, request as u8, Relaxed, Relaxed).is_ok()
    }
}
