//! A connection of an endpoint, as the endpoint counts it.

use super::{CloseRequest, Endpoint};
use crate::{
    Cluster,
    breaker::{ConnectionPermit, increment_below},
    certificate_end::CertificateEnd,
    cutover::OwnConnection,
};
use operation::{Outcome, PinChange};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

/// Counts one active connection of an endpoint, until dropped.
#[derive(Debug)]
pub struct Lease {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    /// The endpoint was already unhealthy: it was picked in panic.
    in_panic: bool,
    /// Its place among the cluster's connections, returned with the lease.
    permit: Option<ConnectionPermit>,
    /// The end of the certificate that the connection was opened with.
    certificate_end: Option<CertificateEnd>,
    /// The connection belongs to one client.
    own: Option<OwnConnection>,
    /// The cluster's [`connect_generation`](Cluster::connect_generation) when it was opened.
    connect_generation: u64,
}

impl Lease {
    /// Counts one more connection, whatever the limit.
    #[cfg(test)]
    pub(crate) fn new(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Self {
        endpoint.active_connections.fetch_add(1, Relaxed);
        Self::counted(cluster, endpoint)
    }

    /// Counts one more connection, if the endpoint has fewer than `most`.
    pub(crate) fn try_new(
        cluster: &Arc<Cluster>,
        endpoint: &Arc<Endpoint>,
        most: usize,
    ) -> Option<Self> {
        increment_below(&endpoint.active_connections, most)
            .then(|| Self::counted(cluster, endpoint))
    }

    fn counted(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Self {
        cluster.lb_state.add_load();
        endpoint.metrics.used().active.increment(1.0);
        Self {
            cluster: Arc::clone(cluster),
            endpoint: Arc::clone(endpoint),
            in_panic: endpoint.close_request() == CloseRequest::Unhealthy,
            permit: None,
            certificate_end: None,
            own: None,
            connect_generation: cluster.connect_generation(),
        }
    }

    /// Records that the connection belongs to one client from now on.
    pub fn set_own(&mut self) {
        self.own.get_or_insert_with(|| self.cluster.cutover.own_connections().add());
    }

    /// Keeps the permit as long as the lease.
    pub(crate) fn hold_permit(&mut self, permit: Option<ConnectionPermit>) {
        self.permit = permit;
    }

    /// Bounds the connection by the certificate that it was opened with.
    pub(crate) fn set_certificate_end(&mut self, end: Option<SystemTime>) {
        self.certificate_end = end.and_then(|end| self.cluster.bound_by(end));
    }

    /// The endpoint of the connection.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What the endpoint, or the end of the connection's certificate, asks of the connection.
    pub fn close_request(&self) -> CloseRequest {
        match self.endpoint.close_request() {
            CloseRequest::Unhealthy if self.in_panic => CloseRequest::None,
            CloseRequest::None if self.is_outdated() => CloseRequest::WhenIdle,
            CloseRequest::None => self.certificate_close_request(),
            request => request,
        }
    }

    /// Whether operations share the connection, and new ones are made in another way by now.
    fn is_outdated(&self) -> bool {
        self.own.is_none() && self.connect_generation != self.cluster.connect_generation()
    }

    /// What is asked of a connection that operations share: they may go to any member.
    pub fn shared_close_request(&self) -> CloseRequest {
        match self.close_request() {
            CloseRequest::RoleLost => self.certificate_close_request(),
            request => request,
        }
    }

    fn certificate_close_request(&self) -> CloseRequest {
        let end = self.certificate_end;
        end.map_or(CloseRequest::None, |end| self.cluster.certificate_ends.close_request(end))
    }

    /// Records that the endpoint did not answer the first request of the connection: it closed it, or
    /// sent what can't be read. Servers that expect TLS do that.
    pub fn record_no_answer(&self) {
        self.cluster.hint_at_tls(self.endpoint.name());
    }

    /// Marks the endpoint, which has closed the connection or lost its role: see [`Cluster::doubt`].
    pub fn doubt_endpoint(&self) {
        self.cluster.doubt(&self.endpoint);
    }

    /// Records which endpoint holds what later operations continue.
    pub fn change_pin(&self, change: PinChange) {
        self.cluster.change_pin(change, self.endpoint.address());
    }

    /// Records that an operation goes to the endpoint.
    pub fn operation_started(&self) {
        self.endpoint.active_operations.fetch_add(1, Relaxed);
        self.cluster.lb_state.add_load();
        self.endpoint.metrics.used().operations_active.increment(1.0);
    }

    /// Records the end of an operation that [started](Lease::operation_started), after `took`.
    pub fn operation_ended(&self, outcome: Outcome, took: Duration) {
        self.release_operation();
        self.cluster.observe(&self.endpoint, outcome, took);
    }

    /// Records the end of a connection that is one [started](Lease::operation_started) operation;
    /// `reset` if the endpoint reset it.
    pub fn session_ended(&self, outcome: Outcome, reset: bool, took: Duration) {
        if outcome == Outcome::Lost && !self.cluster.session_counts(reset) {
            self.release_operation();
            return self.endpoint.metrics.record_operation(outcome, took);
        }
        self.operation_ended(outcome, took);
    }

    /// Records a successful operation that says nothing about the endpoint's work, such as a
    /// handshake: it neither ends a run of failures nor counts as a success.
    pub fn handshake_ended(&self, took: Duration) {
        self.release_operation();
        self.endpoint.metrics.record_operation(Outcome::Ok, took);
    }

    fn release_operation(&self) {
        self.endpoint.active_operations.fetch_sub(1, Relaxed);
        self.cluster.lb_state.remove_load();
        self.endpoint.metrics.used().operations_active.decrement(1.0);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.active_connections.fetch_sub(1, Relaxed);
        self.cluster.lb_state.remove_load();
        self.endpoint.metrics.used().active.decrement(1.0);
        self.cluster.breaker.notify_capacity();
    }
}
